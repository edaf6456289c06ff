//! `AgentMessage`: something said to a running task.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// AgentMessage says something to a task: a further prompt while its pod is there, that it is cancelled, or which of
/// its attempts counts.
/// It is an object of its own so that the right to talk to a task is a right of its own, and so that a GitOps
/// tool that owns the task never takes a message back.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "podwright.dev",
    version = "v1alpha1",
    kind = "AgentMessage",
    plural = "agentmessages",
    shortname = "amsg",
    category = "podwright",
    namespaced,
    status = "AgentMessageStatus",
    derive = "PartialEq",
    doc = "AgentMessage says something to a task: a further prompt while its pod is there, that it is cancelled, or which of its attempts counts.",
    selectable = ".spec.taskName",
    printcolumn(name = "Task", type_ = "string", json_path = ".spec.taskName"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].reason"#
    ),
    printcolumn(name = "Sender", type_ = "string", json_path = ".spec.sender"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a message can't be changed once it is said; create another AgentMessage"),
    validation = Rule::new("self.kind != 'Prompt' || (has(self.text) && self.text.size() > 0)").message("a message of kind Prompt needs text").field_path(".text"),
    validation = Rule::new("self.kind != 'SelectAttempt' || has(self.attempt)").message("a message of kind SelectAttempt needs attempt: the number of the attempt whose result the task shall have").field_path(".attempt"),
)]
#[serde(rename_all = "camelCase")]
pub struct AgentMessageSpec {
    /// The AgentTask of the same namespace that is spoken to.
    #[schemars(length(min = 1, max = 63))]
    pub task_name: String,
    /// Which attempt is spoken to, from 1. Unset: all of them.
    #[schemars(range(min = 1, max = 4))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// What is asked: Prompt says something more, which begins a further turn when the agent has answered and joins
    /// the present one after its current step when it still works; Cancel ends the attempt (without attempt: the task)
    /// and keeps the patch so far; SelectAttempt makes an attempt's result that of the task, once all attempts have
    /// ended and unless one is selected already.
    pub kind: MessageKind,
    /// Who says it, as the API server knows them (`kubectl auth whoami`). The chart's admission policy takes a name only
    /// from whom it belongs to; without that policy it is what the writer claims.
    #[schemars(length(min = 1, max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The prompt. At most 16 KiB.
    #[schemars(length(max = 16384))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// What a message asks.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum MessageKind {
    /// A further turn, or more words for the one that goes on.
    Prompt,
    /// The end of the task, with the patch so far.
    Cancel,
    /// The choice of the attempt whose result is the task's.
    SelectAttempt,
}

/// What became of a message.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentMessageStatus {
    /// Accepted is True when the agent has taken the message in, False when it never will: its message says
    /// why.
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
