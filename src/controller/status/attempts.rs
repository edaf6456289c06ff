//! What of its attempts stands in the status of a task: a summary of each, what they have spent together, and the
//! result of the one that counts.

use super::bound;
use crate::api::AgentAttemptStatus;
use crate::api::attempt::{ArtifactRef, PatchSummary, Phase, Usage};
use crate::api::conditions::{MAX_MESSAGE, plain, plain_json};
use crate::api::money::Money;
use crate::api::reasons::{Reason, Verdict};
use crate::api::task::{AttemptSummary, TaskResult};
use crate::controller::observed::{ArtifactCheck, Observed, SeenAttempt};
use crate::controller::plan::{Ending, Situation};
use crate::controller::selection;
use crate::names::ArtifactKind;

/// The longest text of the agent's newest words in the task's status; the AgentAttempt has more of it.
const MAX_LAST_MESSAGE: usize = 80;

/// The longest sentence about an attempt's end in the task's status.
const MAX_ENDING: usize = 256;

/// What all attempts have spent together.
#[derive(Default)]
pub(super) struct Spent {
    pub(super) usage: Option<Usage>,
    pub(super) cost: Option<Money>,
    pub(super) active_seconds: Option<i64>,
}

/// A summary of each attempt that is there, or was.
pub(super) fn summaries(observed: &Observed, situations: &[Situation]) -> Vec<AttemptSummary> {
    let attempts = observed.attempts.iter().zip(situations);
    attempts.filter_map(|(seen, situation)| summary(observed, seen, situation)).collect()
}

fn summary(observed: &Observed, seen: &SeenAttempt, situation: &Situation) -> Option<AttemptSummary> {
    let stored = seen.summary.as_ref();
    let (has_pod, ending) = match situation {
        Situation::Finished | Situation::Deleted => return stored.cloned(),
        Situation::Ended(ending) => (seen.pod_was_made(), Some(ending)),
        Situation::Working { .. } => (true, None),
        Situation::Waiting { .. } | Situation::Start => (false, None),
    };
    // An attempt that ends before it was made is told of only where others go on.
    let is_alone = observed.attempts.len() == 1;
    if seen.attempt.is_none() && stored.is_none() && (is_alone || ending.is_none()) {
        return None;
    }
    let report = seen.report();
    // An attempt that has not spoken yet is on its way in: its first word alone is worth no write.
    let reported = report.and_then(|report| report.phase).unwrap_or(Phase::Preparing);
    let recorded = stored.map_or(0, |summary| summary.epoch);
    Some(AttemptSummary {
        index: seen.index,
        name: observed.id.attempt_name(seen.index),
        epoch: if has_pod { recorded.max(seen.epoch().number()) } else { recorded },
        state: Some(if ending.is_some() { Phase::Ended } else { reported }),
        turn: report.map_or(0, |report| report.turn),
        step: report.map_or(0, |report| report.step),
        last_message: one_line(newest(report, situation)),
        reason: ending.map(|ending| ending.reason),
        message: ending.map(|ending| plain(&ending.message, MAX_ENDING)).unwrap_or_default(),
        verified: selection::verified(seen, situation),
        artifacts: seen.stored.clone(),
    })
}

/// What an attempt does, or why it waits or has failed, or at a good end what it said last.
fn newest<'a>(report: Option<&'a AgentAttemptStatus>, situation: &'a Situation) -> &'a str {
    let said = |report: &'a AgentAttemptStatus| report.last_message.as_str();
    let does = |report: &'a AgentAttemptStatus| match report.doing.as_str() {
        "" => said(report),
        doing => doing,
    };
    match situation {
        Situation::Ended(Ending { reason, message, .. }) => match reason.verdict() {
            Verdict::Failed => message,
            Verdict::Succeeded | Verdict::Working => report.map_or("", said),
        },
        Situation::Waiting { message, .. } => message,
        Situation::Working { reason, message, .. } => match (reason, report) {
            // What the agent of a task that was resumed has said of itself is over.
            (Reason::Running, Some(report)) if report.suspended => message,
            (Reason::Running | Reason::Idle | Reason::Preparing | Reason::Verifying, report) => {
                report.map_or("", does)
            }
            _ => message,
        },
        Situation::Start | Situation::Deleted | Situation::Finished => report.map_or("", does),
    }
}

/// The first line, as much of it as a column can bear.
fn one_line(text: &str) -> String {
    let line = plain(text.lines().next().unwrap_or_default(), MAX_LAST_MESSAGE + 1);
    if line.len() <= MAX_LAST_MESSAGE { line } else { format!("{}…", plain(&line, MAX_LAST_MESSAGE - 3)) }
}

/// The sums over all attempts that have reported something.
pub(super) fn spent(observed: &Observed) -> Spent {
    let reports = observed.attempts.iter().filter_map(SeenAttempt::report);
    reports.fold(Spent::default(), |sum, report| Spent {
        usage: match (sum.usage, &report.usage) {
            (Some(sum), Some(more)) => Some(together(&sum, more)),
            (sum, more) => sum.or_else(|| more.clone()),
        },
        cost: match (sum.cost, report.cost) {
            (Some(sum), Some(more)) => Some(Money::from_micros(sum.micros().saturating_add(more.micros()))),
            (sum, more) => sum.or(more),
        },
        active_seconds: Some(sum.active_seconds.unwrap_or(0).saturating_add(report.active_seconds)),
    })
}

fn together(a: &Usage, b: &Usage) -> Usage {
    Usage {
        requests: a.requests.saturating_add(b.requests),
        input_tokens: a.input_tokens.saturating_add(b.input_tokens),
        cached_input_tokens: a.cached_input_tokens.saturating_add(b.cached_input_tokens),
        cache_write_input_tokens: a.cache_write_input_tokens.saturating_add(b.cache_write_input_tokens),
        output_tokens: a.output_tokens.saturating_add(b.output_tokens),
        reasoning_tokens: a.reasoning_tokens.saturating_add(b.reasoning_tokens),
        commands: a.commands.saturating_add(b.commands),
        // In a row: those of different attempts are not.
        consecutive_failures: a.consecutive_failures.max(b.consecutive_failures),
        estimated: a.estimated || b.estimated,
    }
}

/// The result of an attempt that ended with this reason.
pub(super) fn result(seen: &SeenAttempt, reason: Reason, summary: &AttemptSummary) -> Option<TaskResult> {
    let report = seen.report()?;
    // A patch that is not what it says is not passed on, and neither is one that nobody has checked.
    let patch = match (&report.patch, &seen.patch) {
        (Some(patch), Some(ArtifactCheck::Good(found))) => Some(bound::patch(patch, found.as_ref())),
        (Some(_) | None, _) => None,
    };
    let patch = patch.map(|patch| in_store(patch, &summary.artifacts));
    // Without an answer and without a patch, the newest words are only about what was going on.
    let has_result = reason.verdict() == Verdict::Succeeded || patch.is_some();
    has_result.then(|| TaskResult {
        attempt: seen.index,
        message: plain(&report.last_message, MAX_MESSAGE),
        verified: summary.verified,
        output: report.output.clone().filter(bound::fits).map(plain_json),
        patch,
    })
}

/// A patch that says where the object store has it, if it was carried there.
fn in_store(patch: PatchSummary, urls: &[String]) -> PatchSummary {
    let Some(url) = ArtifactKind::Patch.find(urls, &patch.sha256) else { return patch };
    let artifact = patch.artifact.map(|artifact| ArtifactRef {
        config_map_name: String::new(),
        key: String::new(),
        url: url.to_owned(),
        ..artifact
    });
    PatchSummary { artifact, ..patch }
}
