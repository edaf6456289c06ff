//! What became of an AgentTask.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::attempt::{PatchSummary, Phase, Usage, any_json};
use crate::api::money::Money;
use crate::api::reasons;

/// What became of an AgentTask. Written by the controller alone; at most 32 KiB.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentTaskStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller has seen the task.
    #[serde(default)]
    pub observed_generation: i64,

    /// Succeeded is Unknown while there is work, then True or False for good; its reason says more.
    /// Reconciling is True until the end. Stalled is True when the task failed. ModelAvailable is False while the model
    /// can't be used; it is missing on a task whose model was never out.
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

    /// The attempt whose result is the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_attempt: Option<i32>,

    /// Tokens and requests so far, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,

    /// What the tokens have cost so far, over all attempts, by the prices of the ModelProvider and in their currency.
    /// Missing without prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,

    /// Active seconds so far, over all attempts: waiting of every kind and verification left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_seconds: Option<i64>,

    /// When the controller first saw the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the task ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// What came out of it: the result of the selected attempt. Empty when several attempts were made and none is
    /// selected yet.
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
    /// Number of its newest pod: 0 before it has one, from 2 on for those in which its patch is verified.
    #[serde(default)]
    pub epoch: i32,
    /// What the attempt is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Phase>,
    /// Turns begun.
    #[serde(default)]
    pub turn: i32,
    /// Model requests made.
    #[serde(default)]
    pub step: i64,
    /// What the attempt does, or why it waits or has failed, or at a good end what the agent said last; shortened.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_message: String,
    /// Why the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<reasons::Reason>,
    /// How it ended, in a sentence, shortened to 256 bytes.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether the commands of spec.verification passed. Missing when they did not run to their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// Where its patch and its transcript are in the object store. Empty without one: the AgentAttempt's status then
    /// says in which ConfigMaps they are.
    #[schemars(length(max = 2), inner(length(max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
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
    /// Whether the commands of spec.verification passed on a clean checkout with the patch. Missing when there are
    /// none, or when they did not run to their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// The final answer as JSON, when the task has a schema for it (spec.output, or mode Review); at most 8 KiB. Numbers
    /// that JSON programs can't hold are rounded here; message has them as they were written.
    #[schemars(schema_with = "any_json")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The change to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchSummary>,
}
