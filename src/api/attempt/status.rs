//! What an attempt's agent says: its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::money::Money;
use crate::api::reasons;

/// What an attempt is doing. Written by the attempt's agent alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentAttemptStatus {
    /// What the agent is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Number of the pod that writes this, from 1.
    #[serde(default)]
    pub epoch: i32,
    /// How the attempt ended. Set together with phase Ended; of an attempt whose patch is verified, by the pod that
    /// verifies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The highest seq of the inbox that the agent has taken in.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    #[serde(default)]
    pub inbox_seq: i64,
    /// Whether the agent has stopped because of spec.suspend.
    #[serde(default)]
    pub suspended: bool,
    /// Turns begun.
    #[serde(default)]
    pub turn: i32,
    /// Model requests made.
    #[serde(default)]
    pub step: i64,
    /// The agent's own plan.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
    /// The end of the log, at most 1 KiB. `kubectl logs` of the pod's container agent has all of it.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// What goes on at this moment, in a few words, at most 256 bytes; empty at the end.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doing: String,
    /// Why the model can't be used, in the phase Parked: the provider's newest failure, at most 1 KiB.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_failure: String,
    /// The agent's newest words, at most 4 KiB. Before its first ones, what goes on.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_message: String,
    /// The final answer as JSON, when the job has a schema for it; at most 8 KiB.
    #[schemars(schema_with = "any_json")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Tokens and requests so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What the tokens have cost so far, by the prices of the ModelProvider. Missing without prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Active seconds so far.
    #[serde(default)]
    pub active_seconds: i64,
    /// The workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceStatus>,
    /// What the network proxy did for commands; missing in network mode None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStatus>,
    /// The change to the repository, as of the end of the last turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchSummary>,
    /// The transcript, when one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<ArtifactRef>,
    /// What the commands of the verification came to, in their order.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verification: Vec<VerificationResult>,
    /// When this status last said something new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Time>,
}

/// Any JSON, kept as it is.
pub(in crate::api) fn any_json(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// What an attempt is doing.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Phase {
    /// The repository is fetched, the setup script runs.
    Preparing,
    /// The agent works.
    Running,
    /// The turn waits for a model that can't be used for now; modelFailure says why.
    Parked,
    /// The agent has answered and waits for a further message.
    Idle,
    /// The agent is done; its patch is verified in a pod of its own, or is about to be.
    Verifying,
    /// The agent is done; outcome says how.
    Ended,
}

/// How an attempt ended.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Why.
    pub reason: reasons::Reason,
    /// A sentence for people, which says what to do when something is to be done. At most 4 KiB.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// What a command of the verification came to.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationResult {
    /// Name of the command.
    #[schemars(length(max = 40))]
    pub name: String,
    /// What became of it.
    pub state: VerificationState,
    /// Its exit code; 128 + n when signal n ended it. Missing when it has not ended, or when its time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Seconds that it ran.
    #[serde(default)]
    pub seconds: i64,
    /// The end of its output, at most 2 KiB.
    #[schemars(length(max = 2048))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// What became of a command of the verification.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum VerificationState {
    /// It has not begun.
    Pending,
    /// It runs.
    Running,
    /// It ended with exit code 0.
    Passed,
    /// It ended otherwise.
    Failed,
    /// It was killed after its timeoutSeconds.
    TimedOut,
    /// It was cut off with the sandbox, or was never begun, because the verification itself broke off.
    Interrupted,
}

/// The message of an attempt whose model ended its turn without an answer. The controller makes a Warning event
/// `EmptyReply` of it.
pub const EMPTY_REPLY: &str = "EmptyReply: the model ended its turn without an answer. Look at the patch, and at the \
     transcript for what it did; if there is nothing, try another model or a clearer prompt.";

/// A step of the agent's plan.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// What is to be done, shortened to 256 characters.
    #[schemars(length(max = 256))]
    pub step: String,
    /// How far it is.
    pub status: PlanStepStatus,
}

/// How far a step of the plan is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum PlanStepStatus {
    /// Not begun.
    Pending,
    /// Under way.
    InProgress,
    /// Done.
    Completed,
}

/// Tokens and requests.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Model requests begun.
    #[serde(default)]
    pub requests: i64,
    /// Input tokens in total, cached ones included.
    #[serde(default)]
    pub input_tokens: i64,
    /// Those of the input tokens that the provider served from its cache.
    #[serde(default)]
    pub cached_input_tokens: i64,
    /// Those of the input tokens that the provider wrote to its cache at a price of their own.
    #[serde(default)]
    pub cache_write_input_tokens: i64,
    /// Output tokens in total, reasoning included.
    #[serde(default)]
    pub output_tokens: i64,
    /// Those of the output tokens that were reasoning.
    #[serde(default)]
    pub reasoning_tokens: i64,
    /// Commands run in the sandbox.
    #[serde(default)]
    pub commands: i64,
    /// Calls that failed in a row, up to now.
    #[serde(default)]
    pub consecutive_failures: i64,
    /// Whether some of the tokens are estimates, because a response broke off before its usage came.
    #[serde(default)]
    pub estimated: bool,
}

/// The workspace of an attempt.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// The commit that the ref named.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base_commit: String,
    /// How commands are confined: Strict or Reduced, by what the node's kernel offers.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub confinement: String,
}

/// What the network proxy did for commands.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Requests and connections that it refused. The model was told of each.
    #[serde(default)]
    pub refused: i64,
    /// The newest of them: host, port and why.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_refused: String,
}

/// The change to the repository.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchSummary {
    /// The patch itself, when it takes at most 12 KiB here and has nothing in it that steers a terminal or does not show.
    /// `git apply` takes it as it is.
    #[schemars(length(max = 12288))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// Files changed.
    #[serde(default)]
    pub files: i64,
    /// Lines added.
    #[serde(default)]
    pub insertions: i64,
    /// Lines removed.
    #[serde(default)]
    pub deletions: i64,
    /// Bytes of the patch.
    #[serde(default)]
    pub bytes: i64,
    /// SHA-256 of the patch, in hex.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// The commit that the patch applies to.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base_commit: String,
    /// Where the whole patch is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactRef>,
    /// What a reviewer should look at first: paths whose change does more than it seems to. At most 16 that the setup
    /// script had changed as well or that were dropped, and of each other kind the first 4 paths.
    #[schemars(length(max = 52))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<PatchFlag>,
    /// How many flags there are in all.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub flag_count: i64,
    /// Paths of the workspace that could not be read and so are not in the patch, at most 32 of them.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedPath>,
    /// How many paths were skipped in all.
    #[serde(default)]
    pub skipped_count: i64,
    /// Changed paths, at most 64 of them, kept only for a patch that was too large to keep.
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// Something about a path that a reviewer should look at.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchFlag {
    /// What it is.
    pub kind: PatchFlagKind,
    /// Where. At most 256 bytes are shown.
    #[schemars(length(max = 256))]
    pub path: String,
}

/// What a flag says.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum PatchFlagKind {
    /// The setup script had changed the file before the agent did: the patch has both changes.
    TouchedBySetup,
    /// The agent changed the file although the task's mode (Ask, Review) leaves the repository alone: the change was
    /// dropped and is not in the patch.
    Dropped,
    /// What a CI system runs, or who has to review: workflows, pipelines, CODEOWNERS.
    CiFile,
    /// What a tool runs or takes settings from by itself when somebody opens, commits, installs or builds.
    Hook,
    /// What agents are told by the repository: AGENTS.md, skills, their settings.
    Instructions,
    /// What git is told by the repository: .gitattributes, .gitmodules, .lfsconfig.
    GitConfiguration,
    /// Another repository's commit.
    Submodule,
    /// A symbolic link that is new or leads elsewhere than before.
    Symlink,
    /// The executable bit or the kind of the file changed.
    ModeChange,
    /// Lines were added with characters that steer a terminal, turn the direction of writing or do not show.
    HiddenCharacters,
    /// The versions and digests of dependencies.
    Lockfile,
}

/// A path that is not in the patch.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SkippedPath {
    /// The path. At most 256 bytes are shown.
    #[schemars(length(max = 256))]
    pub path: String,
    /// Why.
    #[schemars(length(max = 128))]
    pub reason: String,
}

/// An artifact, compressed with zstd: a key of a ConfigMap, or an object in the object store.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRef {
    /// Name of the ConfigMap. Missing when the artifact is in the object store.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_map_name: String,
    /// Key in its binaryData.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Where it is in the object store, for example s3://bucket/team/…/patch-….zst. Only the controller puts artifacts
    /// there: what an agent says here counts for nothing.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// SHA-256 of the content before compression, in hex.
    #[schemars(length(max = 64))]
    pub sha256: String,
    /// Bytes before compression.
    // A tebibyte: no agent has as much memory.
    #[schemars(range(min = 0, max = 1_099_511_627_776_i64))]
    pub bytes: i64,
}
