//! `AgentAttempt`: one independent run of a task. The controller writes its spec, the agent its status.

mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub(super) use self::status::any_json;
pub use self::status::{
    AgentAttemptStatus, ArtifactRef, EMPTY_REPLY, NetworkStatus, Outcome, PatchFlag, PatchFlagKind,
    PatchSummary, Phase, PlanStep, PlanStepStatus, SkippedPath, Usage, VerificationResult, VerificationState,
    WorkspaceStatus,
};
use super::environment::{
    EnvVar, LocalReference, NetworkMode, PodSettings, ResourceRequirements, Setup, TranscriptPolicy,
};
use super::mcp::McpServer;
use super::message::MessageKind;
use super::money::Prices;
use super::network::{Methods, Preset};
use super::provider::{Capabilities, Header, ModelApi, ProviderRetry, Surface};
use super::quantity::ResourceQuantity;
use super::task::{
    ConfigMapKeyRef, Idle, Input, Limits, Mode, ReasoningEffort, Repository, Review, VerificationCommand,
    default_outage_seconds,
};

/// AgentAttempt is one independent run of an AgentTask. Podwright makes it; do not create one yourself.
/// Its spec is the job with every reference resolved, its status is written by the attempt's agent.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "podwright.dev",
    version = "v1alpha1",
    kind = "AgentAttempt",
    plural = "agentattempts",
    shortname = "aatt",
    category = "podwright",
    namespaced,
    status = "AgentAttemptStatus",
    derive = "PartialEq",
    doc = "AgentAttempt is one independent run of an AgentTask, made by Podwright: its spec is the resolved job, its status is written by the attempt's agent.",
    selectable = ".spec.taskName",
    printcolumn(name = "Task", type_ = "string", json_path = ".spec.taskName"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome.reason"),
    printcolumn(name = "Step", type_ = "integer", json_path = ".status.step"),
    printcolumn(name = "Doing", type_ = "string", json_path = ".status.doing"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.taskName == oldSelf.taskName && self.taskUID == oldSelf.taskUID && self.index == oldSelf.index && self.job == oldSelf.job").message("only inbox and suspend of an AgentAttempt can change, and only Podwright changes them"),
    // Lists with keys are equal in whatever order.
    validation = Rule::new("!has(self.job.inputs) || !has(oldSelf.job.inputs) || self.job.inputs.map(x, x.name) == oldSelf.job.inputs.map(x, x.name)").message("only inbox and suspend of an AgentAttempt can change, and only Podwright changes them"),
    validation = Rule::new("!has(self.job.verification) || !has(oldSelf.job.verification) || self.job.verification.commands.map(x, x.name) == oldSelf.job.verification.commands.map(x, x.name)").message("only inbox and suspend of an AgentAttempt can change, and only Podwright changes them"),
)]
#[serde(rename_all = "camelCase")]
pub struct AgentAttemptSpec {
    /// Name of the AgentTask.
    #[schemars(length(max = 63))]
    pub task_name: String,
    /// UID of the AgentTask.
    #[schemars(length(max = 63))]
    #[serde(rename = "taskUID")]
    pub task_uid: String,
    /// Number of the attempt, from 1.
    #[schemars(range(min = 1, max = 4))]
    pub index: i32,
    /// The work, with every reference resolved.
    pub job: Job,
    /// Stops the agent before its next model request, while true.
    #[serde(default)]
    pub suspend: bool,
    /// Messages to the agent, in order, which it has not acknowledged yet.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["uid".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbox: Vec<InboxMessage>,
}

/// The work, with every reference resolved. It holds names of Secrets, never their values.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// What the agent is asked to do.
    #[schemars(length(max = 32768))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Where the prompt is, when it is not inline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_from: Option<ConfigMapKeyRef>,
    /// Images and files that come with the prompt.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// What kind of work it is.
    #[serde(default)]
    pub mode: Mode,
    /// What a review compares with; set with mode Review alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// The attempt whose thread and workspace this one goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_from: Option<Continuation>,
    /// Where the JSON schema of the final answer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema_from: Option<ConfigMapKeyRef>,
    /// Instructions that rank above the prompt.
    #[schemars(length(max = 16384))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instructions: String,
    /// The repository.
    pub repository: Repository,
    /// What the AgentEnvironment said.
    pub environment: JobEnvironment,
    /// The model and how it is reached.
    pub model: JobModel,
    /// Bounds on the work.
    pub limits: Limits,
    /// What happens after the final answer.
    #[serde(default)]
    pub idle: Idle,
    /// The ConfigMap that takes the patch.
    #[schemars(length(max = 253))]
    pub patch_artifact_name: String,
    /// The ConfigMap that takes the transcript.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript_artifact_name: Option<String>,
    /// How the patch is verified; missing when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<JobVerification>,
}

impl Job {
    /// The commands that verify the patch, in their order; none when it is not verified.
    #[must_use]
    pub fn verification_commands(&self) -> &[VerificationCommand] {
        self.verification.as_ref().map(|verification| verification.commands.as_slice()).unwrap_or_default()
    }
}

/// How a patch is verified.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobVerification {
    /// What is run, in this order.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub commands: Vec<VerificationCommand>,
    /// What the pod is made of. It is kept here so that the pod that verifies is like the agent's, whatever has
    /// become of the AgentEnvironment meanwhile.
    pub pod: JobPod,
}

/// What an AgentEnvironment said about the pod.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobPod {
    /// Image of the sandbox.
    #[schemars(length(max = 512))]
    pub image: String,
    /// Secrets for pulling it.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalReference>,
    /// Resources of the sandbox.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Size of the workspace volume.
    pub workspace_size: ResourceQuantity,
    /// Labels, placement and the like.
    #[serde(default)]
    pub settings: PodSettings,
}

/// An attempt that has ended, and what another one needs to go on with it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Continuation {
    /// Name of the AgentTask.
    #[schemars(length(max = 63))]
    pub task_name: String,
    /// Its transcript.
    pub transcript: ArtifactRef,
    /// Its patch; missing when it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<ArtifactRef>,
}

/// The part of an AgentEnvironment that the agent acts on; the pod has the rest.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobEnvironment {
    /// Environment variables of every command.
    #[schemars(length(max = 128))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// What runs before the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
    /// What commands may connect to.
    #[serde(default)]
    pub network: NetworkMode,
    /// Which hosts and requests that means; missing in mode None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<JobEgress>,
    /// Whether a transcript is kept.
    #[serde(default)]
    pub transcript: TranscriptPolicy,
    /// Untracked paths that never enter the patch.
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patch_excludes: Vec<String>,
    /// Certificates that the agent trusts besides the image's own when its git fetches the repository and when it calls
    /// MCP servers. Commands in the sandbox do not get them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ConfigMapKeyRef>,
    /// MCP servers whose tools the model is offered.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServer>,
}

/// What commands may reach through the proxy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobEgress {
    /// Hosts, in mode Allowlist.
    #[schemars(length(max = 64), inner(length(max = 260)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Lists of hosts, in mode Allowlist.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<Preset>,
    /// Which requests.
    #[serde(default)]
    pub methods: Methods,
}

/// The model and how it is reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobModel {
    /// Name of the ModelProvider, for messages.
    #[schemars(length(max = 63))]
    pub provider_name: String,
    /// Name of the model at the provider.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Which API the endpoint speaks.
    pub api: ModelApi,
    /// Address of the API.
    #[schemars(length(max = 2048))]
    #[serde(rename = "baseURL")]
    pub base_url: String,
    /// The Secret with the key apiKey.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_name: Option<String>,
    /// Headers sent with every request.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// Certificates that the endpoint's are checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ConfigMapKeyRef>,
    /// How often and how long a failing request is repeated.
    #[serde(default)]
    pub retry: ProviderRetry,
    /// Seconds for which a model that can't be used is waited for.
    #[schemars(range(min = 0, max = 86400))]
    #[serde(default = "default_outage_seconds")]
    pub outage_seconds: i64,
    /// How much the model is asked to reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<ReasoningEffort>,
    /// Tokens that the model's context window holds.
    #[schemars(range(min = 4096, max = 100_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<i64>,
    /// What the endpoint can do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What a million tokens cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// Which tools the model is offered.
    #[serde(default)]
    pub surface: Surface,
}

/// A message to the agent.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InboxMessage {
    /// UID of the AgentMessage.
    #[schemars(length(max = 63))]
    pub uid: String,
    /// Number in the order of delivery, from 1.
    // Twice the bound of status.inboxSeq, after which it goes on: no word of an agent's makes the next entry invalid.
    #[schemars(range(min = 1, max = 2_000_000_000))]
    pub seq: i64,
    /// What is asked.
    pub kind: MessageKind,
    /// What is said.
    #[schemars(length(max = 16384))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}
