//! Which attempt's result becomes the task's: by its verification when the task ends, or by a person afterwards.

use std::sync::Arc;

use super::inbox::{self, Answer};
use super::observed::{ArtifactCheck, Observed, SeenAttempt};
use super::plan::Situation;
use crate::api::conditions::ConditionStatus;
use crate::api::message::MessageKind;
use crate::api::reasons::{Reason, Verdict};
use crate::api::task::SelectionPolicy;
use crate::api::{AgentMessage, AgentTask};

/// What people's choices come to once the task has ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// The attempt to select now.
    pub selected: Option<i32>,
    /// What the senders are told, after that.
    pub answers: Vec<Answer>,
}

/// The attempt whose result a task has at its end, when its attempts are in these situations.
#[must_use]
pub fn at_the_end(observed: &Observed, situations: &[Situation]) -> Option<i32> {
    if let [seen] = observed.attempts.as_slice() {
        return Some(seen.index);
    }
    match observed.task.spec.attempts.selection.policy {
        SelectionPolicy::Manual => None,
        SelectionPolicy::FirstVerified => {
            let attempts = observed.attempts.iter().zip(situations);
            // One whose AgentAttempt was deleted meanwhile has no result any more.
            let sound = attempts.filter(|(seen, _)| {
                seen.attempt.is_some() && !matches!(seen.patch, Some(ArtifactCheck::Wrong(_)))
            });
            sound
                .filter(|(seen, situation)| verified(seen, situation) == Some(true))
                .map(|(seen, _)| seen.index)
                .min()
        }
    }
}

/// Whether an attempt's verification passed; none when it did not run to its end.
#[must_use]
pub fn verified(seen: &SeenAttempt, situation: &Situation) -> Option<bool> {
    let Situation::Ended(ending) = situation else {
        return seen.summary.as_ref().and_then(|summary| summary.verified);
    };
    if ending.reason == Reason::VerificationFailed {
        return Some(false);
    }
    // That a Completed attempt has passed every command was checked before it counted as ended.
    (seen.has_verification() && ending.reason == Reason::Completed).then_some(true)
}

/// The attempt whose result is a task's that has ended: the only one, or the one that was selected.
#[must_use]
pub fn of(task: &AgentTask) -> Option<i32> {
    if task.spec.attempts.count == 1 { Some(1) } else { selected(task) }
}

fn selected(task: &AgentTask) -> Option<i32> {
    let status = task.status.as_ref()?;
    status.selected_attempt.or_else(|| status.result.as_ref().map(|result| result.attempt))
}

/// What people's choices come to once the task has ended. The first that can be followed is, and no other ever.
#[must_use]
pub fn by_message(observed: &Observed) -> Choice {
    let stored = selected(&observed.task);
    let mut selected = stored;
    let mut answers = Vec::new();
    for message in inbox::open(observed, MessageKind::SelectAttempt) {
        let index = message.spec.attempt.unwrap_or_default();
        let seen = observed.attempt(index);
        let answer = if seen.is_none() {
            inbox::no_such_attempt(message)
        } else if selected == Some(index) {
            chosen(message)
        } else if selected.is_some() {
            inbox::turned_down(
                message,
                "AlreadySelected",
                "another attempt is selected already, and that is for good; its own results are in its AgentAttempt",
            )
        } else if !observed.live {
            // Whether there is a result to copy is looked at first.
            return Choice { selected: Some(index), answers: Vec::new() };
        } else if seen.is_some_and(has_result) {
            selected = Some(index);
            chosen(message)
        } else {
            inbox::turned_down(
                message,
                "NoResult",
                "the attempt left no result that could be selected, or its retention is over",
            )
        };
        answers.push(answer);
    }
    Choice { selected: selected.filter(|_| stored.is_none()), answers }
}

/// What the senders of choices are told while the task has not ended.
#[must_use]
pub fn before_the_end(observed: &Observed) -> Vec<Answer> {
    let open = inbox::open(observed, MessageKind::SelectAttempt).into_iter();
    open.filter_map(|message| {
        let index = message.spec.attempt.unwrap_or_default();
        if observed.attempt(index).is_none() {
            return Some(inbox::no_such_attempt(message));
        }
        inbox::is_unanswered(&message).then_some(Answer {
            message,
            status: ConditionStatus::Unknown,
            reason: "NotEndedYet",
            text: "not all attempts have ended; the attempt is selected when they have",
        })
    })
    .collect()
}

/// Whether a person may still select an attempt of a task that has ended.
#[must_use]
pub fn is_open(observed: &Observed) -> bool {
    let status = observed.task.status.as_ref();
    observed.ended().is_some()
        && status.is_some_and(|status| status.selected_attempt.is_none() && status.result.is_none())
        && !inbox::open(observed, MessageKind::SelectAttempt).is_empty()
}

fn chosen(message: Arc<AgentMessage>) -> Answer {
    Answer {
        message,
        status: ConditionStatus::True,
        reason: "Selected",
        text: "the attempt's result is the task's",
    }
}

/// Whether an attempt that has ended left something to select.
fn has_result(seen: &SeenAttempt) -> bool {
    let succeeded = seen.ended().is_some_and(|reason| reason.verdict() == Verdict::Succeeded);
    seen.report().is_some()
        && match &seen.patch {
            Some(ArtifactCheck::Good(_)) => true,
            Some(ArtifactCheck::Wrong(_)) => false,
            None => succeeded,
        }
}
