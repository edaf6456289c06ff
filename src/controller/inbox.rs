//! What was said to a task: which messages the agent gets, in which order, and what their senders are told.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;

use super::observed::{Observed, TaskId};
use crate::api::attempt::InboxMessage;
use crate::api::conditions::{self, ConditionStatus};
use crate::api::message::MessageKind;
use crate::api::{AgentMessage, AgentTask};

/// Messages that the agent has not acknowledged, at most: the object they stand in stays small.
const MAX_UNACKNOWLEDGED: usize = 16;

/// What the sender of a message is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The message.
    pub message: Arc<AgentMessage>,
    /// Status of its condition Accepted.
    pub status: ConditionStatus,
    /// Reason of the condition.
    pub reason: &'static str,
    /// A sentence.
    pub text: &'static str,
}

/// The inbox as it shall be, and what the senders are told once it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbox {
    /// Unacknowledged messages, in order.
    pub entries: Vec<InboxMessage>,
    /// Answers to give.
    pub answers: Vec<Answer>,
    /// Whether an entry goes because its message seems to be deleted. A watch that lags shows the same.
    pub presumes: bool,
}

/// The inbox of an attempt that has its pod.
#[must_use]
pub fn deliver(observed: &Observed) -> Inbox {
    let spec = observed.attempt.as_ref().map(|attempt| &attempt.spec);
    let present = spec.map(|spec| spec.inbox.clone()).unwrap_or_default();
    let acknowledged = observed.report().map_or(0, |report| report.inbox_seq);
    let messages = in_order(observed);
    let highest = present.iter().map(|entry| entry.seq).max().unwrap_or(0).max(acknowledged);
    let mut presumes = false;
    // An entry goes when the agent has it *and* its sender was told: until then it is the only record of that.
    let mut entries: Vec<InboxMessage> = present
        .into_iter()
        .filter(|entry| {
            let message = messages.iter().find(|message| uid(message) == Some(&entry.uid));
            let stays = entry.seq > acknowledged || message.is_some_and(|message| is_open(message));
            presumes |= !stays && message.is_none();
            stays
        })
        .collect();
    let mut next = highest.saturating_add(1);
    let mut answers = Vec::new();
    for message in messages.into_iter().filter(|message| is_open(message)) {
        let Some(uid) = uid(&message).map(str::to_owned) else { continue };
        if !entries.iter().any(|entry| entry.uid == uid) {
            let AgentMessage { spec, .. } = message.as_ref();
            // One place is kept free of prompts, or enough of them would keep a cancellation out.
            let places = match spec.kind {
                MessageKind::Prompt => MAX_UNACKNOWLEDGED - 1,
                MessageKind::Cancel => MAX_UNACKNOWLEDGED,
            };
            if entries.len() >= places {
                continue;
            }
            entries.push(InboxMessage { uid, seq: next, kind: spec.kind, text: spec.text.clone() });
            next = next.saturating_add(1);
        }
        answers.push(handed_over(message));
    }
    Inbox { entries, answers, presumes }
}

/// Answers while there is no pod: a prompt waits.
#[must_use]
pub fn before_the_pod(observed: &Observed) -> Vec<Answer> {
    let open = in_order(observed).into_iter().filter(|message| is_open(message));
    open.filter(|message| message.spec.kind == MessageKind::Prompt && accepted(message).is_none())
        .map(|message| Answer {
            message,
            status: ConditionStatus::Unknown,
            reason: "NoPodYet",
            text: "the task has no pod yet; the message is handed over when it has one",
        })
        .collect()
}

/// Answers once the task has ended. A message that the agent was given, or that ended the task, was accepted.
#[must_use]
pub fn after_the_end(observed: &Observed, cancelled: bool) -> Vec<Answer> {
    let given = observed.attempt.as_ref().map(|attempt| attempt.spec.inbox.as_slice()).unwrap_or_default();
    let open = in_order(observed).into_iter().filter(|message| is_open(message));
    open.map(|message| {
        let handed = given.iter().any(|entry| uid(&message) == Some(&entry.uid));
        if handed || cancelled && message.spec.kind == MessageKind::Cancel {
            handed_over(message)
        } else {
            Answer {
                message,
                status: ConditionStatus::False,
                reason: "TaskEnded",
                text: "the task has ended; create a new AgentTask",
            }
        }
    })
    .collect()
}

/// The cancellation of the task, when somebody asked for it, with the moment in which the agent was told.
#[must_use]
pub fn cancellation(observed: &Observed) -> Option<Cancellation> {
    let messages = in_order(observed);
    // One that was turned down was meant for an earlier task of the name.
    let turned_down = |message: &AgentMessage| {
        accepted(message).is_some_and(|condition| condition.status == ConditionStatus::False.as_str())
    };
    let mut cancels = messages.iter().filter(|message| message.spec.kind == MessageKind::Cancel);
    let first = cancels.find(|message| !turned_down(message))?;
    let told = accepted(first).filter(|condition| condition.status == ConditionStatus::True.as_str());
    Some(Cancellation { told: told.map(|condition| condition.last_transition_time.0) })
}

/// A cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// When the agent was given it.
    pub told: Option<jiff::Timestamp>,
}

/// Whether a message is for this task, and not for an earlier one of the same name.
#[must_use]
pub fn is_for(message: &AgentMessage, id: &TaskId) -> bool {
    let metadata = &message.metadata;
    let kind = AgentTask::kind(&());
    let mut owners = metadata.owner_references.iter().flatten().filter(|owner| owner.kind == kind);
    message.spec.task_name == id.name
        && metadata.namespace.as_deref() == Some(&id.namespace)
        && owners.all(|owner| owner.uid == id.uid)
}

/// Whether the sender has not been told yet how it ends.
#[must_use]
pub fn is_open(message: &AgentMessage) -> bool {
    accepted(message).is_none_or(|condition| condition.status == ConditionStatus::Unknown.as_str())
}

fn in_order(observed: &Observed) -> Vec<Arc<AgentMessage>> {
    let mut messages: Vec<_> =
        observed.messages.iter().filter(|message| is_for(message, &observed.id)).cloned().collect();
    // Times of creation are whole seconds; the name settles the rest, the same way at every replay.
    messages.sort_by(|a, b| {
        let key = |m: &AgentMessage| (m.metadata.creation_timestamp.clone(), m.metadata.name.clone());
        key(a).cmp(&key(b))
    });
    messages
}

fn handed_over(message: Arc<AgentMessage>) -> Answer {
    Answer {
        message,
        status: ConditionStatus::True,
        reason: "HandedOver",
        text: "the message was handed to the agent",
    }
}

fn accepted(message: &AgentMessage) -> Option<&Condition> {
    conditions::find(&message.status.as_ref()?.conditions, conditions::ACCEPTED)
}

fn uid(message: &AgentMessage) -> Option<&str> {
    message.metadata.uid.as_deref()
}
