//! From what was seen to what is to be done: the situation of the task and of each of its attempts, and the objects
//! that they ask for.

mod attempt;
mod overall;
mod report;
mod situation;

use std::time::Duration;

use jiff::Timestamp;

pub use self::attempt::AttemptPlan;
pub use self::overall::overall;
pub use self::situation::{EndedBy, Ending, PodOutcome, Situation};
use super::inbox::{self, Answer};
use super::observed::Observed;
use super::selection;
use super::validate::{Validity, validate};
use crate::api::reasons::Reason;

/// How soon a missing Secret or ConfigMap is looked for again. They are not watched: that would take the right
/// to list every Secret of the namespace.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How soon it is counted again how many tasks run: the first lists of all watches take a second or two.
const COUNT_AGAIN: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where the task stands.
    pub situation: Situation,
    /// What is to be done for each attempt, in the order of what was seen. Empty when nothing is to be done any more.
    pub attempts: Vec<AttemptPlan>,
    /// The attempt that a person has selected after the end.
    pub selected: Option<i32>,
    /// What the senders of messages are told, after everything above.
    pub answers: Vec<Answer>,
}

impl Plan {
    /// Whether the plan does what can't be taken back, so that it may not rest on a watch that lags.
    #[must_use]
    pub fn is_irrevocable(&self) -> bool {
        self.selected.is_some() || self.attempts.iter().any(AttemptPlan::is_irrevocable)
    }
}

/// Decides.
#[must_use]
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    if observed.task.metadata.deletion_timestamp.is_some() {
        return nothing(Situation::Deleted);
    }
    if observed.ended().is_some() {
        let situations = vec![Situation::Finished; observed.attempts.len()];
        let mut answers = inbox::answers(observed, &situations, &[]);
        let selection::Choice { selected, answers: told } = selection::by_message(observed);
        answers.extend(told);
        return Plan { selected, answers, ..nothing(Situation::Finished) };
    }
    let validity = observed.references.as_ref().map(|found| validate(&observed.task, &observed.id, found));
    let attempts: Vec<AttemptPlan> =
        observed.attempts.iter().map(|seen| attempt::plan(observed, seen, validity.as_ref(), now)).collect();
    let situations: Vec<Situation> = attempts.iter().map(|attempt| attempt.situation.clone()).collect();
    let inboxes: Vec<_> = attempts.iter().map(|attempt| attempt.inbox.as_slice()).collect();
    let mut answers = inbox::answers(observed, &situations, &inboxes);
    answers.extend(selection::before_the_end(observed));
    Plan { situation: overall(observed, &situations), attempts, selected: None, answers }
}

fn nothing(situation: Situation) -> Plan {
    Plan { situation, attempts: Vec::new(), selected: None, answers: Vec::new() }
}

fn ended(reason: Reason, message: String) -> Situation {
    Situation::Ended(Ending { reason, message, by: EndedBy::Controller })
}

#[cfg(test)]
mod tests;
