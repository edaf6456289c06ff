//! The status of a task: the whole of it, computed afresh from what was seen.

mod attempts;
mod bound;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::build::attempt::generations;
use super::observed::Observed;
use super::plan::Situation;
use super::{pod_state, selection};
use crate::api::AgentTaskStatus;
use crate::api::attempt::Phase;
use crate::api::conditions::{self, ConditionStatus, Wanted, plain};
use crate::api::reasons::{Reason, Verdict};
use crate::api::task::{AttemptSummary, Resolved};

/// Why the condition ModelAvailable is True again.
const MODEL_ANSWERS: &str = "ModelAnswers";

/// How much a new status differs from the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all: nothing is written.
    None,
    /// In figures and words only: it may wait a little.
    Progress,
    /// In what people and programs act on: it is written at once.
    Milestone,
}

/// The status of a task in a situation, with its attempts as they are after the pass and in these situations, in their
/// order. `selected` is the attempt that a person has selected after the end.
#[must_use]
pub fn next(
    observed: &Observed,
    situation: &Situation,
    attempts: &[Situation],
    selected: Option<i32>,
    now: Timestamp,
) -> AgentTaskStatus {
    let stored = observed.task.status.clone().unwrap_or_default();
    let generation = observed.task.metadata.generation;
    let (reason, message) = match situation {
        Situation::Deleted => return stored,
        Situation::Finished => return select(seen(stored, generation), observed, selected),
        Situation::Waiting { reason, message, .. } | Situation::Working { reason, message, .. } => {
            (*reason, message.as_str())
        }
        Situation::Start => (Reason::Preparing, "the pod is made"),
        Situation::Ended(ending) => (ending.reason, ending.message.as_str()),
    };
    let wanted =
        conditions(reason, message).into_iter().chain(model_available(reason, message, &stored.conditions));
    let has_ended = matches!(situation, Situation::Ended(_));
    let summaries = attempts::summaries(observed, attempts);
    let spent = attempts::spent(observed);
    let status = AgentTaskStatus {
        observed_generation: generation.unwrap_or(stored.observed_generation),
        conditions: wanted.map(|wanted| wanted.merge(&stored.conditions, generation, now)).collect(),
        resolved: resolved(observed, stored.resolved, &summaries),
        attempts: summaries,
        selected_attempt: None,
        usage: spent.usage,
        cost: spent.cost,
        active_seconds: spent.active_seconds,
        start_time: stored.start_time.or(Some(Time(now))),
        completion_time: has_ended.then_some(Time(now)),
        result: None,
    };
    let selected = if has_ended { selection::at_the_end(observed, attempts) } else { None };
    select(status, observed, selected)
}

/// The status with the result of a selected attempt, if it left one.
fn select(status: AgentTaskStatus, observed: &Observed, selected: Option<i32>) -> AgentTaskStatus {
    let result = selected.and_then(|index| {
        let summary = status.attempts.iter().find(|summary| summary.index == index)?;
        attempts::result(observed.attempt(index)?, summary.reason?, summary)
    });
    // Without a result there is nothing that could be left out.
    let Some(result) = result else { return status };
    let mut status =
        AgentTaskStatus { selected_attempt: Some(result.attempt), result: Some(result), ..status };
    bound::shrink(&mut status);
    status
}

/// How much a status differs from the stored one.
#[must_use]
pub fn change(stored: Option<&AgentTaskStatus>, next: &AgentTaskStatus) -> Change {
    let Some(stored) = stored else { return Change::Milestone };
    if stored == next {
        return Change::None;
    }
    if milestones(stored) == milestones(next) { Change::Progress } else { Change::Milestone }
}

/// The stored status of a task that has ended, which stays as it is but for the generation it has seen: a
/// retention that was changed must not leave the object looking unobserved for ever.
fn seen(stored: AgentTaskStatus, generation: Option<i64>) -> AgentTaskStatus {
    let mut status = stored;
    status.observed_generation = generation.unwrap_or(status.observed_generation);
    for condition in &mut status.conditions {
        condition.observed_generation = generation.or(condition.observed_generation);
    }
    status
}

/// The conditions of a task with a reason.
pub(super) fn conditions(reason: Reason, message: &str) -> [Wanted; 3] {
    let verdict = reason.verdict();
    let succeeded = match verdict {
        Verdict::Working => ConditionStatus::Unknown,
        Verdict::Succeeded => ConditionStatus::True,
        Verdict::Failed => ConditionStatus::False,
    };
    let holds = |yes| if yes { ConditionStatus::True } else { ConditionStatus::False };
    let reason = reason.as_str();
    // Generic tools have no use for the sentence a second and a third time.
    let brief = |type_, status| Wanted { type_, status, reason, message: String::new() };
    [
        Wanted { type_: conditions::SUCCEEDED, status: succeeded, reason, message: message.to_owned() },
        brief(conditions::RECONCILING, holds(verdict == Verdict::Working)),
        brief(conditions::STALLED, holds(verdict == Verdict::Failed)),
    ]
}

/// Whether the model can be used, from the first time on that it could not. What neither proves nor disproves it leaves
/// the condition as it is.
fn model_available(reason: Reason, message: &str, stored: &[Condition]) -> Option<Wanted> {
    let type_ = conditions::MODEL_AVAILABLE;
    if reason == Reason::ModelUnavailable {
        let (reason, message) = (reason.as_str(), message.to_owned());
        return Some(Wanted { type_, status: ConditionStatus::False, reason, message });
    }
    let before = conditions::find(stored, type_)?;
    let answers = matches!(reason, Reason::Running | Reason::Idle | Reason::Verifying | Reason::Completed);
    let is_out = before.status == ConditionStatus::False.as_str() && !answers;
    Some(if is_out {
        let (reason, message) = (Reason::ModelUnavailable.as_str(), before.message.clone());
        Wanted { type_, status: ConditionStatus::False, reason, message }
    } else {
        Wanted { type_, status: ConditionStatus::True, reason: MODEL_ANSWERS, message: String::new() }
    })
}

/// Filled once an attempt has its pod, and from then on never emptied.
fn resolved(observed: &Observed, stored: Option<Resolved>, summaries: &[AttemptSummary]) -> Option<Resolved> {
    if stored.is_none() && summaries.iter().all(|summary| summary.epoch == 0) {
        return None;
    }
    let mut resolved = stored.unwrap_or_default();
    // The first attempt that says something: all are made from the same references.
    for seen in &observed.attempts {
        let (environment, provider) = seen.attempt.as_deref().map(generations).unwrap_or_default();
        let workspace = seen.report().and_then(|report| report.workspace.as_ref());
        let base =
            workspace.map(|workspace| bound::hex(&workspace.base_commit)).filter(|commit| !commit.is_empty());
        resolved.environment_generation = resolved.environment_generation.or(environment);
        resolved.provider_generation = resolved.provider_generation.or(provider);
        resolved.base_commit = resolved.base_commit.or(base);
        let image = seen.pod.as_deref().and_then(pod_state::sandbox_image);
        resolved.image_digest = resolved.image_digest.or(image.map(|image| plain(&image, bound::MAX_IMAGE)));
    }
    Some(resolved)
}

/// What people and programs act on.
#[derive(PartialEq)]
struct Milestones<'a> {
    observed_generation: i64,
    conditions: Vec<[&'a str; 3]>,
    attempts: Vec<(i32, Option<Phase>, i32, Option<Reason>)>,
    selected: Option<i32>,
    has_pod: bool,
    has_begun: bool,
    has_ended: bool,
}

fn milestones(status: &AgentTaskStatus) -> Milestones<'_> {
    let conditions = status.conditions.iter();
    Milestones {
        observed_generation: status.observed_generation,
        conditions: conditions
            .map(|condition| [&condition.type_, &condition.status, &condition.reason].map(String::as_str))
            .collect(),
        attempts: status
            .attempts
            .iter()
            .map(|attempt| (attempt.index, attempt.state, attempt.epoch, attempt.reason))
            .collect(),
        selected: status.selected_attempt,
        has_pod: status.resolved.is_some(),
        has_begun: status.start_time.is_some(),
        has_ended: status.completion_time.is_some(),
    }
}

#[cfg(test)]
mod tests;
