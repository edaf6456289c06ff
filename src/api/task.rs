//! `AgentTask`: one piece of work for a coding agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attempt::{PatchSummary, Phase, Usage};
use super::reasons;

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
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.resolved.baseCommit", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be at most 40 characters of a-z, 0-9 and '-', because the names of the task's pods are made from it"),
)]
#[x_kube(
    validation = Rule::new("has(self.prompt) != has(self.promptFrom)").message("exactly one of prompt and promptFrom must be set"),
    validation = Rule::new("has(self.prompt) == has(oldSelf.prompt) && (!has(self.prompt) || self.prompt == oldSelf.prompt)").message("prompt can't be changed: a task runs once; create a new AgentTask").field_path(".prompt"),
    validation = Rule::new("has(self.promptFrom) == has(oldSelf.promptFrom) && (!has(self.promptFrom) || self.promptFrom == oldSelf.promptFrom)").message("promptFrom can't be changed: a task runs once; create a new AgentTask").field_path(".promptFrom"),
    validation = Rule::new("has(self.repositories) == has(oldSelf.repositories) && (!has(self.repositories) || self.repositories == oldSelf.repositories)").message("repositories can't be changed: a task runs once; create a new AgentTask").field_path(".repositories"),
    validation = Rule::new("has(self.environmentName) == has(oldSelf.environmentName) && (!has(self.environmentName) || self.environmentName == oldSelf.environmentName)").message("environmentName can't be changed: a task runs once; create a new AgentTask").field_path(".environmentName"),
    validation = Rule::new("has(self.model) == has(oldSelf.model) && (!has(self.model) || self.model == oldSelf.model)").message("model can't be changed: a task runs once; create a new AgentTask").field_path(".model"),
    validation = Rule::new("has(self.instructions) == has(oldSelf.instructions) && (!has(self.instructions) || self.instructions == oldSelf.instructions)").message("instructions can't be changed: a task runs once; create a new AgentTask").field_path(".instructions"),
    validation = Rule::new("has(self.idle) == has(oldSelf.idle) && (!has(self.idle) || self.idle == oldSelf.idle)").message("idle can't be changed: a task runs once; create a new AgentTask").field_path(".idle"),
    validation = Rule::new("has(self.limits) == has(oldSelf.limits) && (!has(self.limits) || self.limits == oldSelf.limits)").message("limits can't be changed: a task runs once; create a new AgentTask").field_path(".limits"),
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

    /// What happens after the agent's final answer.
    #[serde(default)]
    pub idle: Idle,

    /// Bounds on the work. A task that reaches one ends with reason BudgetExceeded (DeadlineExceeded for
    /// activeSeconds, PatchTooLarge for patchBytes) and keeps the patch so far.
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
}

impl Default for ModelSelection {
    fn default() -> Self {
        Self { provider_name: default_name(), name: None, reasoning_effort: None }
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
    /// 0 ends the task with the first answer.
    #[schemars(range(min = 0, max = 86400))]
    #[serde(default)]
    pub keep_seconds: i64,
}

/// Bounds on one task. Waiting (for a quota, a reference, a suspended task) is not active time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Model requests with the tool calls they lead to.
    #[schemars(range(min = 1, max = 100000))]
    #[serde(default = "default_steps")]
    pub steps: i64,

    /// Input tokens that the provider did not serve from its cache.
    #[schemars(range(min = 1, max = 1000000000))]
    #[serde(default = "default_uncached_input_tokens")]
    pub uncached_input_tokens: i64,

    /// Output tokens, reasoning included.
    #[schemars(range(min = 1, max = 1000000000))]
    #[serde(default = "default_output_tokens")]
    pub output_tokens: i64,

    /// Commands run in the sandbox.
    #[schemars(range(min = 1, max = 1000000))]
    #[serde(default = "default_commands")]
    pub commands: i64,

    /// Seconds of active time, from the start of the pod on.
    #[schemars(range(min = 1, max = 604800))]
    #[serde(default = "default_active_seconds")]
    pub active_seconds: i64,

    /// Seconds that a single command may run before it is killed. The agent is told, and goes on.
    #[schemars(range(min = 1, max = 86400))]
    #[serde(default = "default_command_seconds")]
    pub command_seconds: i64,

    /// Bytes of the patch.
    #[schemars(range(min = 0, max = 104857600))]
    #[serde(default = "default_patch_bytes")]
    pub patch_bytes: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: default_steps(),
            uncached_input_tokens: default_uncached_input_tokens(),
            output_tokens: default_output_tokens(),
            commands: default_commands(),
            active_seconds: default_active_seconds(),
            command_seconds: default_command_seconds(),
            patch_bytes: default_patch_bytes(),
        }
    }
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

/// What became of an AgentTask. Written by the controller alone; at most 32 KiB.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentTaskStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller has seen the task.
    #[serde(default)]
    pub observed_generation: i64,

    /// Succeeded is Unknown while there is work, then True or False for good; its reason says more.
    /// Reconciling is True until the end. Stalled is True when the task failed.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,

    /// What the task's references meant when its pod was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,

    /// The attempts at the task, by index.
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["index".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptSummary>,

    /// Tokens and requests so far, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,

    /// Active seconds so far: waiting of every kind left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_seconds: Option<i64>,

    /// When the controller first saw the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the task ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// What came out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
}

/// What a task's references meant when its pod was made, so that a run can be understood later.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The commit that the ref named.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
    /// Digest of the sandbox image that ran, as the container runtime reports it. Missing when the work was
    /// over before the node had told of the container, which takes it up to a second.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// metadata.generation of the AgentEnvironment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_generation: Option<i64>,
    /// metadata.generation of the ModelProvider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_generation: Option<i64>,
}

/// One attempt, as far as the task's readers need it; the AgentAttempt of that name says more.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptSummary {
    /// Number of the attempt, from 1.
    pub index: i32,
    /// Name of the AgentAttempt.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What the attempt is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Phase>,
    /// Turns begun.
    #[serde(default)]
    pub turn: i32,
    /// Model requests made.
    #[serde(default)]
    pub step: i64,
    /// The newest words of the agent, shortened.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_message: String,
    /// Why the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<reasons::Reason>,
}

/// What came out of a task.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// The attempt whose result this is.
    pub attempt: i32,
    /// The agent's final answer, shortened to 4 KiB.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The change to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchSummary>,
}

fn default_name() -> String {
    "default".into()
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

fn default_steps() -> i64 {
    200
}

fn default_uncached_input_tokens() -> i64 {
    5_000_000
}

fn default_output_tokens() -> i64 {
    500_000
}

fn default_commands() -> i64 {
    2_000
}

fn default_active_seconds() -> i64 {
    7_200
}

fn default_command_seconds() -> i64 {
    1_800
}

fn default_patch_bytes() -> i64 {
    10 * 1024 * 1024
}

fn default_artifact_seconds() -> i64 {
    30 * 24 * 3600
}
