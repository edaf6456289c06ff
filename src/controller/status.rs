//! The status of a task: the whole of it, computed afresh from what was seen.

mod bound;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::build::attempt::generations;
use super::observed::{ArtifactCheck, INDEX, Observed};
use super::plan::{Ending, Situation};
use super::pod_state;
use crate::api::attempt::Phase;
use crate::api::conditions::{self, ConditionStatus, MAX_MESSAGE, Wanted, plain};
use crate::api::reasons::{Reason, Verdict};
use crate::api::task::{AttemptSummary, Resolved, TaskResult};
use crate::api::{AgentAttempt, AgentAttemptStatus, AgentTaskStatus};

/// The longest text of the agent's newest words in the task's status; the AgentAttempt has more of it.
const MAX_LAST_MESSAGE: usize = 80;

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

/// The status of a task in a situation. `attempt` is the AgentAttempt as it is after the pass.
#[must_use]
pub fn next(
    observed: &Observed,
    situation: &Situation,
    attempt: Option<&AgentAttempt>,
    now: Timestamp,
) -> AgentTaskStatus {
    let stored = observed.task.status.clone().unwrap_or_default();
    let generation = observed.task.metadata.generation;
    let (reason, message) = match situation {
        Situation::Deleted => return stored,
        Situation::Finished => return seen(stored, generation),
        Situation::Waiting { reason, message, .. } | Situation::Working { reason, message, .. } => {
            (*reason, message.as_str())
        }
        Situation::Start => (Reason::Preparing, "the pod is made"),
        Situation::Ended(ending) => (ending.reason, ending.message.as_str()),
    };
    let wanted =
        conditions(reason, message).into_iter().chain(model_available(reason, message, &stored.conditions));
    let report = observed.report();
    let ending = match situation {
        Situation::Ended(ending) => Some(ending),
        Situation::Deleted
        | Situation::Finished
        | Situation::Waiting { .. }
        | Situation::Start
        | Situation::Working { .. } => None,
    };
    let had_pod = matches!(situation, Situation::Working { .. }) || observed.pod_was_made();
    let mut status = AgentTaskStatus {
        observed_generation: generation.unwrap_or(stored.observed_generation),
        conditions: wanted.map(|wanted| wanted.merge(&stored.conditions, generation, now)).collect(),
        resolved: resolved(observed, stored.resolved, attempt, had_pod),
        attempts: attempt.and_then(|attempt| summary(attempt, report, ending)).into_iter().collect(),
        usage: report.and_then(|report| report.usage.clone()),
        cost: report.and_then(|report| report.cost),
        active_seconds: report.map(|report| report.active_seconds),
        start_time: stored.start_time.or(Some(Time(now))),
        completion_time: ending.map(|_| Time(now)),
        result: ending.and_then(|ending| result(observed, ending, report)),
    };
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
    let answers = matches!(reason, Reason::Running | Reason::Idle | Reason::Completed);
    let is_out = before.status == ConditionStatus::False.as_str() && !answers;
    Some(if is_out {
        let (reason, message) = (Reason::ModelUnavailable.as_str(), before.message.clone());
        Wanted { type_, status: ConditionStatus::False, reason, message }
    } else {
        Wanted { type_, status: ConditionStatus::True, reason: MODEL_ANSWERS, message: String::new() }
    })
}

/// Filled once the task has its pod, and from then on never emptied: that it is there is also the record that
/// the pod was made.
fn resolved(
    observed: &Observed,
    stored: Option<Resolved>,
    attempt: Option<&AgentAttempt>,
    had_pod: bool,
) -> Option<Resolved> {
    if stored.is_none() && !had_pod {
        return None;
    }
    let mut resolved = stored.unwrap_or_default();
    let (environment, provider) = attempt.map(generations).unwrap_or_default();
    let workspace = observed.report().and_then(|report| report.workspace.as_ref());
    let base =
        workspace.map(|workspace| bound::hex(&workspace.base_commit)).filter(|commit| !commit.is_empty());
    resolved.environment_generation = resolved.environment_generation.or(environment);
    resolved.provider_generation = resolved.provider_generation.or(provider);
    resolved.base_commit = resolved.base_commit.or(base);
    let image = observed.pod.as_deref().and_then(pod_state::sandbox_image);
    resolved.image_digest = resolved.image_digest.or(image.map(|image| plain(&image, bound::MAX_IMAGE)));
    Some(resolved)
}

fn summary(
    attempt: &AgentAttempt,
    report: Option<&AgentAttemptStatus>,
    ending: Option<&Ending>,
) -> Option<AttemptSummary> {
    // An attempt that has not spoken yet is on its way in: its first word alone is worth no write.
    let reported = report.and_then(|report| report.phase).unwrap_or(Phase::Preparing);
    let state = if ending.is_some() { Phase::Ended } else { reported };
    Some(AttemptSummary {
        index: INDEX,
        name: attempt.metadata.name.clone()?,
        state: Some(state),
        turn: report.map_or(0, |report| report.turn),
        step: report.map_or(0, |report| report.step),
        last_message: report.map(|report| newest(report, ending.is_some())).unwrap_or_default(),
        reason: ending.map(|ending| ending.reason),
    })
}

/// What an attempt does, or at its end what it said last.
fn newest(report: &AgentAttemptStatus, has_ended: bool) -> String {
    let text = if has_ended || report.doing.is_empty() { &report.last_message } else { &report.doing };
    plain(text.lines().next().unwrap_or_default(), MAX_LAST_MESSAGE)
}

fn result(observed: &Observed, ending: &Ending, report: Option<&AgentAttemptStatus>) -> Option<TaskResult> {
    let report = report?;
    // A patch that is not what it says is not passed on, and neither is one that nobody has checked.
    let is_good = observed.patch == Some(ArtifactCheck::Good);
    let patch = report.patch.as_ref().filter(|_| is_good).map(bound::patch);
    // Without an answer and without a patch, the newest words are only about what was going on.
    let has_result = ending.reason.verdict() == Verdict::Succeeded || patch.is_some();
    has_result.then(|| TaskResult {
        attempt: INDEX,
        message: plain(&report.last_message, MAX_MESSAGE),
        output: report.output.clone().filter(bound::fits),
        patch,
    })
}

/// What people and programs act on.
#[derive(PartialEq)]
struct Milestones<'a> {
    observed_generation: i64,
    conditions: Vec<[&'a str; 3]>,
    state: Option<Phase>,
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
        state: status.attempts.first().and_then(|attempt| attempt.state),
        has_pod: status.resolved.is_some(),
        has_begun: status.start_time.is_some(),
        has_ended: status.completion_time.is_some(),
    }
}

#[cfg(test)]
mod tests;
