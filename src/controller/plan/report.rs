//! What an agent's report is taken for: its end, checked; what it is doing; and when it is too late.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::situation::starting;
use super::{EndedBy, Ending};
use crate::api::attempt::{Job, Phase, VerificationState};
use crate::api::conditions::plain;
use crate::api::reasons::{Reason, Verdict};
use crate::api::task::VerificationCommand;
use crate::api::{AgentAttempt, AgentAttemptStatus};
use crate::controller::observed::{ArtifactCheck, Epoch, SeenAttempt};
use crate::controller::pod_state;

/// How far past limits.activeSeconds an agent may be before it is taken for broken: it counts and ends by itself.
const DEADLINE_PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// The same for an agent that says that it is on its way in, of which little is active time: the fetch alone may take an
/// hour, the first start of a sandbox half of one.
const PREPARATION_PATIENCE: SignedDuration = SignedDuration::from_mins(100);

/// How long a verification may take beside its commands and the setup script before its pod is taken for broken: its way
/// in is as long.
const VERIFICATION_PATIENCE: SignedDuration = PREPARATION_PATIENCE;

/// The longest text of a provider's failure in a condition.
const MAX_FAILURE: usize = 1024;

/// The moment from which an agent counts as broken, and how its attempt ends then.
pub(super) struct Deadline {
    pub(super) at: Timestamp,
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// The end that the agent reports, checked.
pub(super) fn reported_end(seen: &SeenAttempt) -> Option<Ending> {
    let report = seen.newest_report().filter(|report| has_ended(seen, report))?;
    Some(match end(seen, report) {
        Ok(ending) => ending,
        Err(message) => Ending { reason: Reason::InternalError, message, by: EndedBy::Agent },
    })
}

/// An agent that asks for a verification of which its job says nothing is at its end as well.
fn has_ended(seen: &SeenAttempt, report: &AgentAttemptStatus) -> bool {
    match report.phase {
        Some(Phase::Ended) => true,
        Some(Phase::Verifying) => seen.epoch() == Epoch::Work,
        None | Some(Phase::Preparing | Phase::Running | Phase::Parked | Phase::Idle) => false,
    }
}

fn end(seen: &SeenAttempt, report: &AgentAttemptStatus) -> Result<Ending, String> {
    let Some(outcome) = &report.outcome else {
        return Err("the agent ended without saying how; please report it".into());
    };
    let reason = outcome.reason.as_str();
    if outcome.reason.verdict() == Verdict::Working {
        return Err(format!("the agent ended with {reason}, which is no end; please report it"));
    }
    let succeeded = outcome.reason.verdict() == Verdict::Succeeded;
    if succeeded && !has_artifact(report) {
        return Err(format!(
            "the agent reported {reason} without the artifact of its patch, which every finished work has, be the patch empty; please report it"
        ));
    }
    if let Some(ArtifactCheck::Wrong(sentence)) = &seen.patch {
        return Err(format!("the agent reported {reason}, but {sentence}; its result is not passed on"));
    }
    let is_verified = match seen.epoch() {
        Epoch::Work => !seen.has_verification(),
        Epoch::Verification(_) => {
            seen.attempt.as_ref().is_some_and(|attempt| every_command_passed(&attempt.spec.job, report))
        }
    };
    if succeeded && !is_verified {
        return Err(format!(
            "the agent reported {reason}, but not every command of spec.verification is reported as passed; please report it"
        ));
    }
    if outcome.reason == Reason::VerificationFailed && seen.epoch() == Epoch::Work {
        return Err(format!("the agent reported {reason} without a verification; please report it"));
    }
    Ok(Ending { reason: outcome.reason, message: outcome.message.clone(), by: EndedBy::Agent })
}

/// Whether what the agent left can be verified; the sentence says why not.
pub(super) fn work_is_sound(seen: &SeenAttempt) -> Result<(), String> {
    if !seen.report().is_some_and(has_artifact) {
        return Err(
            "the agent asked for the verification of a patch without its artifact; please report it".into()
        );
    }
    match &seen.patch {
        Some(ArtifactCheck::Wrong(sentence)) => Err(format!(
            "the agent asked for the verification of its patch, but {sentence}; it is not passed on"
        )),
        Some(ArtifactCheck::Good(_)) | None => Ok(()),
    }
}

/// What an attempt with a sound pod is doing.
pub(super) fn at_work(suspend: bool, seen: &SeenAttempt) -> (Reason, String) {
    let epoch = seen.epoch();
    let Some(report) = seen.newest_report() else {
        let (reason, message) = starting(epoch);
        return (reason, message.into());
    };
    if suspend && report.suspended {
        return (Reason::Suspended, "the agent has stopped; set spec.suspend to false to go on".into());
    }
    if epoch.is_verification() {
        return (Reason::Verifying, "the agent is done; its patch is verified in a pod of its own".into());
    }
    match report.phase {
        None | Some(Phase::Preparing) => {
            (Reason::Preparing, "the repository is fetched and the environment is set up".into())
        }
        // An agent that has ended is not seen here, nor one that has asked for the verification.
        Some(Phase::Running | Phase::Verifying | Phase::Ended) => (Reason::Running, "the agent works".into()),
        Some(Phase::Parked) => {
            let failure = plain(&report.model_failure, MAX_FAILURE);
            (
                Reason::ModelUnavailable,
                format!("the model is waited for, up to model.outageSeconds: {failure}"),
            )
        }
        Some(Phase::Idle) => (
            Reason::Idle,
            "the agent has answered and waits for a further AgentMessage of kind Prompt".into(),
        ),
    }
}

/// The moment from which an agent counts as broken; none while something is awaited.
pub(super) fn deadline(seen: &SeenAttempt, pod: &Pod, attempt: &AgentAttempt) -> Option<Deadline> {
    let job = &attempt.spec.job;
    let taken = pod_state::taken_at(pod)?;
    let report = seen.newest_report();
    if report.is_some_and(|report| report.suspended) {
        return None;
    }
    let since = report.and_then(|report| report.last_progress_time.as_ref()).map_or(taken, |time| time.0);
    match seen.epoch() {
        Epoch::Work => {
            if report.is_some_and(|report| matches!(report.phase, Some(Phase::Idle | Phase::Parked))) {
                return None;
            }
            let prepares = report.is_some_and(|report| report.phase == Some(Phase::Preparing));
            let patience = if prepares { PREPARATION_PATIENCE } else { DEADLINE_PATIENCE };
            let limit = SignedDuration::from_secs(job.limits.active_seconds) + patience;
            let used = SignedDuration::from_secs(report.map_or(0, |report| report.active_seconds.max(0)));
            Some(Deadline {
                at: since.checked_add(limit.saturating_sub(used)).ok()?,
                reason: Reason::DeadlineExceeded,
                message: format!(
                    "the agent is {} minutes past limits.activeSeconds ({}) and did not end by itself; its pod was deleted",
                    patience.as_mins(),
                    job.limits.active_seconds
                ),
            })
        }
        Epoch::Verification(_) => Some(Deadline {
            at: since.checked_add(longest_verification(job)).ok()?,
            reason: Reason::SandboxLost,
            message: "the agent is done and its patch is kept, but it could not be verified: the pod that verifies it is far past the time of all commands together and did not end by itself; it was deleted"
                .into(),
        }),
    }
}

fn longest_verification(job: &Job) -> SignedDuration {
    let commands = job.verification_commands().iter().map(|command| command.timeout_seconds);
    let setup = job.environment.setup.iter().map(|setup| setup.timeout_seconds);
    let seconds: i64 = commands.chain(setup).map(|it| it.max(0)).sum();
    SignedDuration::from_secs(seconds) + VERIFICATION_PATIENCE
}

fn has_artifact(report: &AgentAttemptStatus) -> bool {
    report.patch.as_ref().is_some_and(|patch| patch.artifact.is_some())
}

fn every_command_passed(job: &Job, report: &AgentAttemptStatus) -> bool {
    let commands = job.verification_commands();
    let has_passed = |command: &VerificationCommand| {
        let mut results = report.verification.iter();
        results.any(|result| result.name == command.name && result.state == VerificationState::Passed)
    };
    !commands.is_empty() && commands.iter().all(has_passed)
}
