//! What was said to a task: which messages the agent gets, in which order, and what their senders are told.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;

use super::observed::{Epoch, Observed, SeenAttempt, TaskId};
use super::plan::Situation;
use crate::api::attempt::InboxMessage;
use crate::api::conditions::{self, ConditionStatus};
use crate::api::message::MessageKind;
use crate::api::reasons::Reason;
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

/// The inbox of an attempt as it shall be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbox {
    /// Unacknowledged messages, in order.
    pub entries: Vec<InboxMessage>,
    /// Whether an entry comes, or goes because its message seems to be deleted. A watch of messages that lags shows
    /// the same of a message that the agent has taken in, or that was made a moment ago.
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
pub fn deliver(observed: &Observed, seen: &SeenAttempt) -> Inbox {
    let spec = seen.attempt.as_ref().map(|attempt| &attempt.spec);
    let present = spec.map(|spec| spec.inbox.clone()).unwrap_or_default();
    let acknowledged = acknowledged(seen);
    let messages = in_order(observed, |_| true);
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
    for message in messages.into_iter().filter(|message| is_open(message) && is_to(message, seen)) {
        let Some(uid) = uid(&message).map(str::to_owned) else { continue };
        if entries.iter().any(|entry| entry.uid == uid) {
            continue;
        }
        let AgentMessage { spec, .. } = message.as_ref();
        let places = match spec.kind {
            // Nobody reads prompts any more.
            MessageKind::Prompt if seen.epoch().is_verification() => 0,
            // One place is kept free of prompts, or enough of them would keep a cancellation out.
            MessageKind::Prompt => MAX_UNACKNOWLEDGED - 1,
            MessageKind::Cancel => MAX_UNACKNOWLEDGED,
            // That is the controller's own affair.
            MessageKind::SelectAttempt => 0,
        };
        if entries.len() < places {
            entries.push(InboxMessage { uid, seq: next, kind: spec.kind, text: spec.text.clone() });
            next = next.saturating_add(1);
            // It may have been here before: its sender was told, the entry went, and only the latter is seen.
            presumes = true;
        }
    }
    Inbox { entries, presumes }
}

/// What has become of a message at one of the attempts that it is meant for.
enum Fate {
    /// There is no pod yet.
    NoPod,
    /// The inbox is full.
    NoPlace,
    /// It lies in the inbox.
    Delivered,
    /// The agent has it, or it ended the attempt.
    Taken,
    /// The attempt ended without it.
    Missed {
        /// It came after the end of the task.
        is_late: bool,
    },
}

/// What the senders of messages are told when the attempts are in these situations and have these inboxes; without
/// inboxes, the ones that they have now.
#[must_use]
pub fn answers(observed: &Observed, situations: &[Situation], inboxes: &[&[InboxMessage]]) -> Vec<Answer> {
    let mut answers = of_earlier_tasks(observed);
    for message in in_order(observed, is_open) {
        let fate = |(place, seen): (usize, &SeenAttempt)| {
            let present =
                seen.attempt.as_ref().map(|attempt| attempt.spec.inbox.as_slice()).unwrap_or_default();
            let inbox = inboxes.get(place).copied().unwrap_or(present);
            let situation = situations.get(place).unwrap_or(&Situation::Finished);
            fate(observed, seen, situation, inbox, &message)
        };
        let addressed = observed.attempts.iter().enumerate().filter(|(_, seen)| is_to(&message, seen));
        let fates: Vec<Fate> = addressed.map(fate).collect();
        match message.spec.kind {
            MessageKind::SelectAttempt => {}
            MessageKind::Prompt | MessageKind::Cancel => answers.extend(answer(message, &fates)),
        }
    }
    answers
}

fn fate(
    observed: &Observed,
    seen: &SeenAttempt,
    situation: &Situation,
    inbox: &[InboxMessage],
    message: &AgentMessage,
) -> Fate {
    let entry = inbox.iter().find(|entry| uid(message) == Some(&entry.uid));
    if entry.is_some_and(|entry| entry.seq <= acknowledged(seen)) {
        return Fate::Taken;
    }
    let reason = match situation {
        Situation::Waiting { .. } | Situation::Start if seen.epoch() == Epoch::Work => return Fate::NoPod,
        Situation::Waiting { .. } | Situation::Start | Situation::Working { .. } => {
            return if message.spec.kind == MessageKind::Prompt && seen.epoch().is_verification() {
                Fate::Missed { is_late: false }
            } else if entry.is_some() {
                Fate::Delivered
            } else {
                Fate::NoPlace
            };
        }
        Situation::Ended(ending) => Some(ending.reason),
        Situation::Finished | Situation::Deleted => {
            let of_task = || super::observed::reason(&observed.task).filter(|_| observed.ended().is_some());
            seen.ended().or_else(of_task)
        }
    };
    let end = observed.task.status.as_ref().and_then(|status| status.completion_time.as_ref());
    let is_late = entry.is_none() && end.is_some_and(|end| created(message).is_some_and(|at| at >= end.0));
    // A Cancel message that is still open at a cancelled end, and is not younger, was its cause.
    let is_cause = message.spec.kind == MessageKind::Cancel && reason == Some(Reason::Cancelled);
    if is_cause && !is_late { Fate::Taken } else { Fate::Missed { is_late } }
}

/// What a sender is told; none when it was told already, or when there is nothing to tell.
fn answer(message: Arc<AgentMessage>, fates: &[Fate]) -> Option<Answer> {
    let has = |wanted: fn(&Fate) -> bool| fates.iter().any(wanted);
    if fates.is_empty() {
        return Some(no_such_attempt(message));
    }
    if has(|fate| matches!(fate, Fate::Delivered)) {
        return delivered(message);
    }
    if has(|fate| matches!(fate, Fate::NoPod)) {
        return (message.spec.kind == MessageKind::Prompt && is_unanswered(&message)).then_some(Answer {
            message,
            status: ConditionStatus::Unknown,
            reason: "NoPodYet",
            text: "the task has no pod yet; the message is handed over when it has one",
        });
    }
    if has(|fate| matches!(fate, Fate::NoPlace)) {
        return None;
    }
    if has(|fate| matches!(fate, Fate::Taken)) {
        return Some(taken(message));
    }
    let is_late = has(|fate| matches!(fate, Fate::Missed { is_late: true }));
    Some(if is_late {
        turned_down(message, "TaskEnded", "the task had ended; create a new AgentTask")
    } else {
        let text = "the task ended before its agent took the message in; create a new AgentTask";
        turned_down(message, "NotTaken", text)
    })
}

/// The cancellation of an attempt, when somebody asked for it.
#[must_use]
pub fn cancellation(observed: &Observed, seen: &SeenAttempt) -> Option<Cancellation> {
    // One that was turned down was meant for an earlier task of the name.
    let counts = |message: &AgentMessage| {
        message.spec.kind == MessageKind::Cancel
            && is_to(message, seen)
            && !has_status(message, ConditionStatus::False)
    };
    let messages = in_order(observed, counts);
    let message = messages.first()?;
    let since = accepted(message).map(|condition| condition.last_transition_time.0);
    if has_status(message, ConditionStatus::True) {
        return Some(Cancellation::Taken(since));
    }
    let mut inbox = seen.attempt.iter().flat_map(|attempt| &attempt.spec.inbox);
    let entry = inbox.find(|entry| uid(message) == Some(&entry.uid));
    if entry.is_some_and(|entry| entry.seq <= acknowledged(seen)) {
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

/// Whether nobody has told the sender anything yet.
pub(super) fn is_unanswered(message: &AgentMessage) -> bool {
    accepted(message).is_none()
}

/// The messages of a kind that are for this task and whose senders wait for an answer, in order.
pub(super) fn open(observed: &Observed, kind: MessageKind) -> Vec<Arc<AgentMessage>> {
    in_order(observed, |message| message.spec.kind == kind && is_open(message))
}

/// Whether a message is meant for an attempt.
fn is_to(message: &AgentMessage, seen: &SeenAttempt) -> bool {
    message.spec.attempt.is_none_or(|index| index == seen.index)
}

/// The highest number that the agent has taken in.
fn acknowledged(seen: &SeenAttempt) -> i64 {
    seen.report().map_or(0, |report| report.inbox_seq)
}

/// Those of the messages for this task that count, in the order of their creation.
///
/// The API keeps that time in whole seconds. Within one, messages that were seen before (and so belong to the task
/// already) come first, then the lower resource version: a message that nobody has written to since still has
/// that of its creation. This decides only which number of the inbox a message gets; from then on that number counts.
fn in_order(observed: &Observed, counts: impl Fn(&AgentMessage) -> bool) -> Vec<Arc<AgentMessage>> {
    let own = observed.messages.iter().filter(|message| is_for(message, &observed.id));
    let own = own.filter(|message| !is_of_earlier_task(message, observed) && counts(message));
    let mut messages: Vec<_> = own.cloned().collect();
    messages.sort_by_cached_key(|message| {
        let metadata = &message.metadata;
        let is_seen = metadata.owner_references.iter().flatten().any(|owner| owner.uid == observed.id.uid);
        let version = metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
        (created(message), !is_seen, version, metadata.name.clone())
    });
    messages
}

/// Whether a cancellation or a choice is older than the task, so that it was meant for an earlier task of the name. A
/// prompt may come before its task: tools apply files in any order.
fn is_of_earlier_task(message: &AgentMessage, observed: &Observed) -> bool {
    let task = observed.task.metadata.creation_timestamp.as_ref();
    let is_older = task.is_some_and(|task| created(message).is_some_and(|created| created < task.0));
    message.spec.kind != MessageKind::Prompt && is_older
}

fn of_earlier_tasks(observed: &Observed) -> Vec<Answer> {
    let own = observed.messages.iter().filter(|message| is_for(message, &observed.id) && is_open(message));
    let text = "it is older than the task of this name, so it was meant for an earlier one; create it again for this one";
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

pub(super) fn no_such_attempt(message: Arc<AgentMessage>) -> Answer {
    turned_down(
        message,
        "NoSuchAttempt",
        "the task has no attempt of that number; see spec.attempts.count of the task",
    )
}

pub(super) fn turned_down(message: Arc<AgentMessage>, reason: &'static str, text: &'static str) -> Answer {
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
