//! Where a task stands, from where its attempts stand.

use super::{EndedBy, Ending, Situation};
use crate::api::conditions::cut;
use crate::api::reasons::{Reason, Verdict};
use crate::controller::observed::{Observed, SeenAttempt};
use crate::controller::selection;

/// The longest text of one attempt's end in the sentence about all of them: four of them fit a condition.
const MAX_PART: usize = 512;

/// The situation of a task whose attempts are in these, in the order of what was seen.
#[must_use]
pub fn overall(observed: &Observed, situations: &[Situation]) -> Situation {
    let attempts: Vec<_> = observed.attempts.iter().zip(situations).collect();
    let endings: Vec<_> = attempts
        .iter()
        .filter_map(|(seen, situation)| Some((seen.index, ending(seen, situation)?)))
        .collect();
    if endings.len() == attempts.len() {
        return Situation::Ended(of_all(observed, situations, endings));
    }
    let working = attempts.iter().filter(|(seen, situation)| ending(seen, situation).is_none());
    // The earliest of those that are equally far.
    let Some((_, most)) = working.min_by_key(|(_, situation)| rank(reason(situation))) else {
        return Situation::Start;
    };
    if attempts.len() == 1 {
        return (*most).clone();
    }
    let states: Vec<String> = attempts.iter().map(|(seen, situation)| state(seen, situation)).collect();
    let told = |message: &str| format!("{message} ({})", states.join(", "));
    match most {
        Situation::Waiting { reason, message, again } => {
            Situation::Waiting { reason: *reason, message: told(message), again: *again }
        }
        Situation::Working { reason, message, until } => {
            Situation::Working { reason: *reason, message: told(message), until: *until }
        }
        Situation::Deleted | Situation::Finished | Situation::Start | Situation::Ended(_) => (*most).clone(),
    }
}

/// How an attempt ended, now or before.
pub(super) fn ending(seen: &SeenAttempt, situation: &Situation) -> Option<Ending> {
    match situation {
        Situation::Ended(ending) => Some(ending.clone()),
        Situation::Finished => {
            let summary = seen.summary.as_ref()?;
            Some(Ending { reason: summary.reason?, message: summary.message.clone(), by: EndedBy::Agent })
        }
        Situation::Deleted | Situation::Waiting { .. } | Situation::Start | Situation::Working { .. } => None,
    }
}

/// How a task ends whose attempts have all ended.
fn of_all(observed: &Observed, situations: &[Situation], mut endings: Vec<(i32, Ending)>) -> Ending {
    let count = endings.len();
    let is_same = endings.windows(2).all(|pair| match pair {
        [(_, a), (_, b)] => a.reason == b.reason && a.message == b.message,
        _ => true,
    });
    let by_controller = endings.iter().any(|(_, ending)| ending.by == EndedBy::Controller);
    let by = if by_controller { EndedBy::Controller } else { EndedBy::Agent };
    let succeeded: Vec<String> = endings
        .iter()
        .filter(|(_, ending)| ending.reason.verdict() == Verdict::Succeeded)
        .map(|(index, _)| index.to_string())
        .collect();
    if count > 1 && !succeeded.is_empty() {
        let next = match selection::at_the_end(observed, situations) {
            Some(index) => format!("attempt {index} is selected, the lowest that was verified"),
            None => "select one with an AgentMessage of kind SelectAttempt".to_owned(),
        };
        let message =
            format!("{} of {count} attempts succeeded ({}); {next}", succeeded.len(), succeeded.join(", "));
        return Ending { reason: Reason::Completed, message, by };
    }
    if count > 1 && !is_same {
        let parts: Vec<String> = endings
            .iter()
            .map(|(index, ending)| {
                format!("attempt {index} {}: {}", ending.reason.as_str(), cut(&ending.message, MAX_PART))
            })
            .collect();
        let reason = endings.first().map_or(Reason::InternalError, |(_, ending)| ending.reason);
        return Ending { reason, message: format!("no attempt succeeded. {}", parts.join("; ")), by };
    }
    if endings.is_empty() {
        let message = "the task has no attempt; please report it".to_owned();
        return Ending { reason: Reason::InternalError, message, by };
    }
    let (_, first) = endings.swap_remove(0);
    Ending { by, ..first }
}

/// What one attempt does, in a word.
fn state(seen: &SeenAttempt, situation: &Situation) -> String {
    let reason = ending(seen, situation).map_or_else(|| reason(situation), |ending| ending.reason);
    format!("attempt {} {}", seen.index, reason.as_str())
}

fn reason(situation: &Situation) -> Reason {
    match situation {
        Situation::Waiting { reason, .. } | Situation::Working { reason, .. } => *reason,
        Situation::Deleted | Situation::Finished | Situation::Start => Reason::Preparing,
        Situation::Ended(ending) => ending.reason,
    }
}

/// Lower comes first: of several attempts the one that is furthest at work stands for all.
const fn rank(reason: Reason) -> u8 {
    match reason {
        Reason::Running => 0,
        Reason::Verifying => 1,
        Reason::Idle => 2,
        Reason::ModelUnavailable => 3,
        Reason::Preparing => 4,
        Reason::Suspended => 5,
        Reason::Unschedulable => 6,
        Reason::Queued => 7,
        Reason::WaitingForReference => 8,
        Reason::Completed
        | Reason::InvalidSpec
        | Reason::Refused
        | Reason::CloneFailed
        | Reason::SetupFailed
        | Reason::ImagePullFailed
        | Reason::SandboxLost
        | Reason::OutOfMemory
        | Reason::ModelFailed
        | Reason::ModelRefused
        | Reason::ModelMisconfigured
        | Reason::BudgetExceeded
        | Reason::DeadlineExceeded
        | Reason::PatchTooLarge
        | Reason::VerificationFailed
        | Reason::Cancelled
        | Reason::InternalError => 9,
    }
}
