//! What was said to a task: which messages the agent gets, in which order, and what their senders are told.

use std::sync::Arc;

use jiff::Timestamp;
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

/// The cancellation of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// Somebody asked for it, and nobody knows yet.
    Asked,
    /// It lies in the agent's inbox since this moment.
    Delivered(Timestamp),
    /// The agent has taken it in: at this moment, if its sender was told already.
    Taken(Option<Timestamp>),
}

/// The inbox of an attempt that has its pod.
#[must_use]
pub fn deliver(observed: &Observed) -> Inbox {
    let spec = observed.attempt.as_ref().map(|attempt| &attempt.spec);
    let present = spec.map(|spec| spec.inbox.clone()).unwrap_or_default();
    let acknowledged = acknowledged(observed);
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
    let mut answers = of_earlier_tasks(observed);
    for message in messages.into_iter().filter(|message| is_open(message)) {
        let Some(uid) = uid(&message).map(str::to_owned) else { continue };
        match entries.iter().find(|entry| entry.uid == uid) {
            Some(entry) if entry.seq <= acknowledged => answers.push(taken(message)),
            Some(_) => answers.extend(delivered(message)),
            None => {
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
                answers.extend(delivered(message));
            }
        }
    }
    Inbox { entries, answers, presumes }
}

/// Answers while there is no pod: a prompt waits.
#[must_use]
pub fn before_the_pod(observed: &Observed) -> Vec<Answer> {
    let open = in_order(observed).into_iter().filter(|message| is_open(message));
    let waiting = open
        .filter(|message| message.spec.kind == MessageKind::Prompt && accepted(message).is_none())
        .map(|message| Answer {
            message,
            status: ConditionStatus::Unknown,
            reason: "NoPodYet",
            text: "the task has no pod yet; the message is handed over when it has one",
        });
    of_earlier_tasks(observed).into_iter().chain(waiting).collect()
}

/// Answers once the task has ended, or is about to. What the agent has taken in, or what ended the task, was accepted;
/// `cancelled` says that a cancellation did.
#[must_use]
pub fn after_the_end(observed: &Observed, cancelled: bool) -> Vec<Answer> {
    let inbox = observed.attempt.as_ref().map(|attempt| attempt.spec.inbox.as_slice()).unwrap_or_default();
    let acknowledged = acknowledged(observed);
    let end = observed.task.status.as_ref().and_then(|status| status.completion_time.as_ref());
    let open = in_order(observed).into_iter().filter(|message| is_open(message));
    let answers = open.map(|message| {
        let entry = inbox.iter().find(|entry| uid(&message) == Some(&entry.uid));
        let is_late = end.is_some_and(|end| created(&message).is_some_and(|created| created >= end.0));
        if entry.is_some_and(|entry| entry.seq <= acknowledged) {
            taken(message)
        } else if entry.is_none() && is_late {
            turned_down(message, "TaskEnded", "the task had ended; create a new AgentTask")
        } else if cancelled && message.spec.kind == MessageKind::Cancel {
            taken(message)
        } else {
            let text = "the task ended before its agent took the message in; create a new AgentTask";
            turned_down(message, "NotTaken", text)
        }
    });
    of_earlier_tasks(observed).into_iter().chain(answers).collect()
}

/// The cancellation of the task, when somebody asked for it.
#[must_use]
pub fn cancellation(observed: &Observed) -> Option<Cancellation> {
    let messages = in_order(observed);
    // One that was turned down was meant for an earlier task of the name.
    let counts = |message: &&Arc<AgentMessage>| {
        message.spec.kind == MessageKind::Cancel && !has_status(message, ConditionStatus::False)
    };
    let message = messages.iter().find(counts)?;
    let since = accepted(message).map(|condition| condition.last_transition_time.0);
    if has_status(message, ConditionStatus::True) {
        return Some(Cancellation::Taken(since));
    }
    let mut inbox = observed.attempt.iter().flat_map(|attempt| &attempt.spec.inbox);
    let entry = inbox.find(|entry| uid(message) == Some(&entry.uid));
    if entry.is_some_and(|entry| entry.seq <= acknowledged(observed)) {
        return Some(Cancellation::Taken(None));
    }
    Some(since.map_or(Cancellation::Asked, Cancellation::Delivered))
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

/// The highest number that the agent has taken in.
fn acknowledged(observed: &Observed) -> i64 {
    observed.report().map_or(0, |report| report.inbox_seq)
}

/// The messages that are for this task, in the order of their creation.
///
/// The API keeps that time in whole seconds. Within one, messages that were seen before (and so belong to the task
/// already) come first, then the lower resource version: a message that nobody has written to since still has
/// that of its creation. This decides only which number of the inbox a message gets; from then on that number counts.
fn in_order(observed: &Observed) -> Vec<Arc<AgentMessage>> {
    let own = observed.messages.iter().filter(|message| is_for(message, &observed.id));
    let mut messages: Vec<_> =
        own.filter(|message| !is_of_earlier_task(message, observed)).cloned().collect();
    messages.sort_by_cached_key(|message| {
        let metadata = &message.metadata;
        let is_seen = metadata.owner_references.iter().flatten().any(|owner| owner.uid == observed.id.uid);
        let version = metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
        (created(message), !is_seen, version, metadata.name.clone())
    });
    messages
}

/// Whether a cancellation is older than the task, so that it was meant for an earlier task of the name. A prompt may
/// come before its task: tools apply files in any order.
fn is_of_earlier_task(message: &AgentMessage, observed: &Observed) -> bool {
    let task = observed.task.metadata.creation_timestamp.as_ref();
    let is_older = task.is_some_and(|task| created(message).is_some_and(|created| created < task.0));
    message.spec.kind == MessageKind::Cancel && is_older
}

fn of_earlier_tasks(observed: &Observed) -> Vec<Answer> {
    let own = observed.messages.iter().filter(|message| is_for(message, &observed.id) && is_open(message));
    let text = "it is older than the task of this name, so it was meant for an earlier one; create it again to cancel this one";
    own.filter(|message| is_of_earlier_task(message, observed))
        .map(|message| turned_down(message.clone(), "EarlierTask", text))
        .collect()
}

/// None when the sender was told already.
fn delivered(message: Arc<AgentMessage>) -> Option<Answer> {
    const REASON: &str = "Delivered";
    let is_news = accepted(&message).is_none_or(|condition| condition.reason != REASON);
    is_news.then(|| Answer {
        message,
        status: ConditionStatus::Unknown,
        reason: REASON,
        text: "the message lies in the agent's inbox; the agent has not taken it in yet",
    })
}

fn taken(message: Arc<AgentMessage>) -> Answer {
    Answer {
        message,
        status: ConditionStatus::True,
        reason: "HandedOver",
        text: "the agent has taken the message in",
    }
}

fn turned_down(message: Arc<AgentMessage>, reason: &'static str, text: &'static str) -> Answer {
    Answer { message, status: ConditionStatus::False, reason, text }
}

fn has_status(message: &AgentMessage, status: ConditionStatus) -> bool {
    accepted(message).is_some_and(|condition| condition.status == status.as_str())
}

fn accepted(message: &AgentMessage) -> Option<&Condition> {
    conditions::find(&message.status.as_ref()?.conditions, conditions::ACCEPTED)
}

fn created(message: &AgentMessage) -> Option<Timestamp> {
    message.metadata.creation_timestamp.as_ref().map(|created| created.0)
}

fn uid(message: &AgentMessage) -> Option<&str> {
    message.metadata.uid.as_deref()
}
