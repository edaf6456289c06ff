//! `AgentTask`: one piece of work for a coding agent.

mod attempts;
mod continuation;
mod inputs;
mod limits;
mod mode;
mod output;
mod status;
mod verification;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::attempts::{Attempts, Selection, SelectionPolicy};
pub use self::continuation::ContinueFrom;
pub use self::inputs::{Input, Shown};
pub use self::limits::Limits;
pub use self::mode::{Mode, Review};
pub use self::output::{Output, SchemaSource};
pub use self::status::{AgentTaskStatus, AttemptSummary, Resolved, TaskResult};
pub use self::verification::VerificationCommand;
pub use super::mcp::Tools;

/// AgentTask is one piece of work for a coding agent, run once in an isolated sandbox pod with the
/// repository already in it. The spec can't be changed afterwards, but for suspend, retention and
/// ttlSecondsAfterFinished; more work is a new AgentTask.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "podwright.dev",
    version = "v1alpha1",
    kind = "AgentTask",
    plural = "agenttasks",
    shortname = "atask",
    category = "podwright",
    namespaced,
    status = "AgentTaskStatus",
    derive = "PartialEq",
    doc = "AgentTask is one piece of work for a coding agent, run once in an isolated sandbox pod with the repository already in it.",
    selectable = ".spec.environmentName",
    printcolumn(name = "Succeeded", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].reason"#),
    printcolumn(name = "Step", type_ = "integer", json_path = ".status.attempts[0].step"),
    printcolumn(name = "Doing", type_ = "string", json_path = ".status.attempts[0].lastMessage"),
    printcolumn(name = "Files", type_ = "integer", json_path = ".status.result.patch.files"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Input", type_ = "integer", json_path = ".status.usage.inputTokens", priority = 1),
    printcolumn(name = "Output", type_ = "integer", json_path = ".status.usage.outputTokens", priority = 1),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.result.verified", priority = 1),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".status.selectedAttempt", priority = 1),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.resolved.baseCommit", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be at most 40 characters of a-z, 0-9 and '-', because the names of the task's pods are made from it"),
    validation = Rule::new("has(self.status) && has(self.status.conditions) || !has(self.spec.continueFrom) || self.spec.continueFrom.taskName != self.metadata.name").message("continueFrom names the task itself, which would wait for its own end; name another task, whose work is to go on").field_path(".spec.continueFrom.taskName"),
)]
#[x_kube(
    validation = Rule::new("has(self.prompt) != has(self.promptFrom)").message("exactly one of prompt and promptFrom must be set"),
    validation = Rule::new("has(self.prompt) == has(oldSelf.prompt) && (!has(self.prompt) || self.prompt == oldSelf.prompt)").message("prompt can't be changed: a task runs once; create a new AgentTask").field_path(".prompt"),
    validation = Rule::new("has(self.promptFrom) == has(oldSelf.promptFrom) && (!has(self.promptFrom) || self.promptFrom == oldSelf.promptFrom)").message("promptFrom can't be changed: a task runs once; create a new AgentTask").field_path(".promptFrom"),
    validation = Rule::new("!has(self.review) || has(self.mode) && self.mode == 'Review'").message("review is for mode Review alone; set mode: Review, or leave review out"),
    // Lists with keys are equal in whatever order, so where the order means something the keys are compared as well.
    validation = Rule::new("has(self.inputs) == has(oldSelf.inputs) && (!has(self.inputs) || self.inputs == oldSelf.inputs && self.inputs.map(x, x.name) == oldSelf.inputs.map(x, x.name))").message("inputs can't be changed: a task runs once; create a new AgentTask").field_path(".inputs"),
    validation = Rule::new("has(self.mode) == has(oldSelf.mode) && (!has(self.mode) || self.mode == oldSelf.mode)").message("mode can't be changed: a task runs once; create a new AgentTask").field_path(".mode"),
    validation = Rule::new("has(self.review) == has(oldSelf.review) && (!has(self.review) || self.review == oldSelf.review)").message("review can't be changed: a task runs once; create a new AgentTask").field_path(".review"),
    validation = Rule::new("has(self.output) == has(oldSelf.output) && (!has(self.output) || self.output == oldSelf.output)").message("output can't be changed: a task runs once; create a new AgentTask").field_path(".output"),
    validation = Rule::new("has(self.continueFrom) == has(oldSelf.continueFrom) && (!has(self.continueFrom) || self.continueFrom == oldSelf.continueFrom)").message("continueFrom can't be changed: a task runs once; create a new AgentTask").field_path(".continueFrom"),
    validation = Rule::new("has(self.repositories) == has(oldSelf.repositories) && (!has(self.repositories) || self.repositories == oldSelf.repositories)").message("repositories can't be changed: a task runs once; create a new AgentTask").field_path(".repositories"),
    validation = Rule::new("has(self.environmentName) == has(oldSelf.environmentName) && (!has(self.environmentName) || self.environmentName == oldSelf.environmentName)").message("environmentName can't be changed: a task runs once; create a new AgentTask").field_path(".environmentName"),
    validation = Rule::new("has(self.model) == has(oldSelf.model) && (!has(self.model) || self.model == oldSelf.model)").message("model can't be changed: a task runs once; create a new AgentTask").field_path(".model"),
    validation = Rule::new("has(self.instructions) == has(oldSelf.instructions) && (!has(self.instructions) || self.instructions == oldSelf.instructions)").message("instructions can't be changed: a task runs once; create a new AgentTask").field_path(".instructions"),
    validation = Rule::new("has(self.tools) == has(oldSelf.tools) && (!has(self.tools) || self.tools == oldSelf.tools)").message("tools can't be changed: a task runs once; create a new AgentTask").field_path(".tools"),
    validation = Rule::new("has(self.idle) == has(oldSelf.idle) && (!has(self.idle) || self.idle == oldSelf.idle)").message("idle can't be changed: a task runs once; create a new AgentTask").field_path(".idle"),
    validation = Rule::new("has(self.limits) == has(oldSelf.limits) && (!has(self.limits) || self.limits == oldSelf.limits)").message("limits can't be changed: a task runs once; create a new AgentTask").field_path(".limits"),
    validation = Rule::new("has(self.attempts) == has(oldSelf.attempts) && (!has(self.attempts) || self.attempts == oldSelf.attempts)").message("attempts can't be changed: a task runs once; create a new AgentTask").field_path(".attempts"),
    validation = Rule::new("has(self.verification) == has(oldSelf.verification) && (!has(self.verification) || self.verification == oldSelf.verification && self.verification.map(x, x.name) == oldSelf.verification.map(x, x.name))").message("verification can't be changed: a task runs once; create a new AgentTask").field_path(".verification"),
    validation = Rule::new("!has(self.verification) || self.verification.size() == 0 || !has(self.mode) || self.mode == 'Change'").message("verification runs on a patch, and in mode Ask and Review there is none; leave it out, or choose mode Change").field_path(".verification"),
    validation = Rule::new("!has(self.attempts) || !has(self.attempts.selection) || !has(self.attempts.selection.policy) || self.attempts.selection.policy != 'FirstVerified' || (has(self.verification) && self.verification.size() > 0)").message("attempts.selection.policy FirstVerified needs verification: without a command no attempt can be verified; add one, or choose Manual").field_path(".attempts"),
)]
#[serde(rename_all = "camelCase")]
pub struct AgentTaskSpec {
    /// What the agent is asked to do, as you would write it to a colleague. At most 32 KiB; for more, use
    /// promptFrom.
    #[schemars(length(min = 1, max = 32768))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,

    /// Takes the prompt from a ConfigMap of the same namespace instead. Exactly one of prompt and
    /// promptFrom must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_from: Option<PromptSource>,

    /// Images and files that come with the prompt, at most 8, in the order in which the model sees them. They are files at
    /// /home/agent/inputs/<name> for its commands, outside of the repository.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,

    /// What kind of work it is: Change, Ask or Review. Ask and Review leave the repository alone: their patch is empty,
    /// and files that the model changed all the same are dropped and named in status.result.patch.flags.
    #[serde(default)]
    pub mode: Mode,

    /// With mode Review: what repositories[].ref is compared with. Unset: the branch main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,

    /// What the final answer has to look like. Unset: it is text, but for mode Review, whose answer has the findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,

    /// Goes on with the thread and the workspace of another task that has ended: the model has the whole conversation
    /// before it, and the repository is the former base commit with the former patch, whatever ref names by now. The patch of
    /// this task has the former one's changes too. The task waits for the end of the other one. It needs the
    /// other one's transcript and patch, so it has to come before retention.artifactSeconds are over. Several tasks may go
    /// on with the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_from: Option<ContinueFrom>,

    /// The repository that the agent works on. One entry for now. It is checked out at
    /// /workspace/<name> in the sandbox.
    #[schemars(length(min = 1, max = 1))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub repositories: Vec<Repository>,

    /// The AgentEnvironment of the same namespace in which the work is done: image, setup, resources,
    /// network. The task waits for it when it does not exist yet.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default = "default_name")]
    pub environment_name: String,

    /// Which model does the work.
    #[serde(default)]
    pub model: ModelSelection,

    /// Instructions that rank above the prompt and above the repository's AGENTS.md files, for example
    /// house rules of the team. At most 16 KiB.
    #[schemars(length(max = 16384))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instructions: String,

    /// Which tools besides Podwright's own the model is offered.
    #[serde(default)]
    pub tools: Tools,

    /// What happens after the agent's final answer.
    #[serde(default)]
    pub idle: Idle,

    /// How many independent attempts are made side by side, and which one's result is the task's.
    #[serde(default)]
    pub attempts: Attempts,

    /// Commands that decide whether the work is good. When the agent is done, they run one after the other in the
    /// repository's directory of a new pod: same image and setup script, a clean checkout of the base commit, and the
    /// patch applied and staged. An empty patch is verified as well. The task completes only when each ends with exit
    /// code 0; otherwise it ends with VerificationFailed and keeps the patch. At most 8.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verification: Vec<VerificationCommand>,

    /// Bounds on the work of each attempt. One that reaches a bound ends with reason BudgetExceeded (DeadlineExceeded
    /// for activeSeconds, PatchTooLarge for patchBytes) and keeps the patch so far.
    #[serde(default)]
    pub limits: Limits,

    /// Holds the task back: one that has no pod yet gets none, one that runs stops before its next model
    /// request and keeps its pod. Set it to false to go on. Can be changed at any time.
    #[serde(default)]
    pub suspend: bool,

    /// How long the task's children outlive its end. Can be changed at any time.
    #[serde(default)]
    pub retention: Retention,

    /// Deletes the task itself, with everything it owns, this many seconds after its end. Unset: never.
    /// Do not set it on tasks that a GitOps tool applies: the tool would create the deleted task again, which
    /// runs, and costs, again. Can be changed at any time.
    #[schemars(range(min = 0, max = 31536000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// Where a prompt is taken from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptSource {
    /// A key of a ConfigMap. The task waits while the ConfigMap or the key does not exist.
    pub config_map_key_ref: ConfigMapKeyRef,
}

/// A key of a ConfigMap of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A repository and what of it is fetched.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Name of the entry, and of the directory under /workspace.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[serde(default = "default_repository_name")]
    pub name: String,

    /// Address of the repository, https:// or http:// without user info. Credentials go into a Secret
    /// (credentialsSecretName) and are sent over plain http only to services of this cluster.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@?# ]+(/[^? #]*)?$')").message("url must be https:// or http:// without user info, query or fragment, for example https://git.example.com/team/app.git; put credentials into a Secret and name it in credentialsSecretName"))]
    pub url: String,

    /// Branch, tag or full commit id to start from.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[^-\x00-\x20~^:?*\[\\][^\x00-\x20~^:?*\[\\]*$")
    )]
    #[serde(rename = "ref", default = "default_ref")]
    pub reference: String,

    /// How much history is fetched: Shallow takes the last depth commits, Full takes all of it.
    #[serde(default)]
    pub fetch: FetchMode,

    /// Number of commits with fetch Shallow.
    #[schemars(range(min = 1, max = 100000))]
    #[serde(default = "default_depth")]
    pub depth: i32,

    /// A Secret of the same namespace with the keys username and password, or token alone. It must carry the
    /// annotation podwright.dev/hosts with the host of url, and is sent to those hosts only.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_name: Option<String>,
}

/// How much of a repository's history is fetched.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum FetchMode {
    /// The last `depth` commits.
    #[default]
    Shallow,
    /// All commits that lead to the ref.
    Full,
}

/// Which model does the work.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSelection {
    /// The ModelProvider of the same namespace. The task waits for it when it does not exist yet.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default = "default_name")]
    pub provider_name: String,

    /// Name of the model at the provider. Unset: the first one that the ModelProvider lists.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// How much the model is asked to reason, where it supports that. Unset: the model's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<ReasoningEffort>,

    /// Seconds for which the task waits for a model that can't be used (no connection, overload, rate limit, 5xx)
    /// after the provider's own retries. This is no active time. After it the task ends with ModelFailed; with 0 it
    /// does so at once.
    #[schemars(range(min = 0, max = 86400))]
    #[serde(default = "default_outage_seconds")]
    pub outage_seconds: i64,
}

impl Default for ModelSelection {
    fn default() -> Self {
        Self {
            provider_name: default_name(),
            name: None,
            reasoning_effort: None,
            outage_seconds: default_outage_seconds(),
        }
    }
}

/// How much a model is asked to reason before it answers.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReasoningEffort {
    /// As little as the model can.
    Minimal,
    /// Little.
    Low,
    /// The usual amount.
    Medium,
    /// Much.
    High,
}

/// What happens after the agent's final answer.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// How many seconds the pod stays after a final answer, ready for a further AgentMessage of kind Prompt.
    /// 0 ends the task with the first answer. The time stands still while the task is suspended.
    #[schemars(range(min = 0, max = 86400))]
    #[serde(default)]
    pub keep_seconds: i64,
}

/// How long a task's children outlive its end.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Seconds for which the pod is kept after its end, so that its logs can be read. It keeps its resources
    /// for that long.
    #[schemars(range(min = 0, max = 86400))]
    #[serde(default)]
    pub pod_seconds: i64,

    /// Seconds for which the patch and transcript artifacts (ConfigMaps) are kept after the end.
    #[schemars(range(min = 0, max = 31536000))]
    #[serde(default = "default_artifact_seconds")]
    pub artifact_seconds: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { pod_seconds: 0, artifact_seconds: default_artifact_seconds() }
    }
}

fn default_name() -> String {
    "default".into()
}

/// Half an hour: most providers are back by then.
pub(super) fn default_outage_seconds() -> i64 {
    1_800
}

fn default_repository_name() -> String {
    "main".into()
}

fn default_ref() -> String {
    "main".into()
}

fn default_depth() -> i32 {
    50
}

fn default_artifact_seconds() -> i64 {
    30 * 24 * 3600
}
