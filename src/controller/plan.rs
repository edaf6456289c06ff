//! From what was seen to what is to be done: the situation of the task, and the objects it asks for.

mod situation;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use self::situation::in_the_way;
pub use self::situation::{EndedBy, Ending, PodOutcome, Situation};
use super::build;
use super::inbox::{self, Answer, Cancellation};
use super::observed::{ArtifactCheck, Observed};
use super::pod_state::{self, PodState};
use super::queue::Turn;
use super::validate::{PodParts, Validity, validate};
use crate::api::attempt::Phase;
use crate::api::conditions::plain;
use crate::api::reasons::{Reason, Verdict};
use crate::api::{AgentAttempt, AgentAttemptStatus};

/// How soon a missing Secret or ConfigMap is looked for again. They are not watched: that would take the right
/// to list every Secret of the namespace.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How soon it is counted again how many tasks run: the first lists of all watches take a second or two.
const COUNT_AGAIN: Duration = Duration::from_secs(1);

/// How long a cancellation may lie in the inbox of an agent that works before the agent is taken for broken: it
/// watches its inbox and takes a message in within seconds, and a restart of its container takes up to a minute.
const INBOX_PATIENCE: SignedDuration = SignedDuration::from_secs(120);

/// How long an agent may take to end after it has taken a cancellation in. It gives the supervisor up to a minute to
/// stop every command, then reads a workspace of any size for the patch, packs and uploads it and the transcript,
/// all on a node that may be busy: what would be lost is the person's result.
const CANCEL_PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// How far past limits.activeSeconds an agent may be before it is taken for broken: it counts and ends by itself.
const DEADLINE_PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// The longest text of a provider's failure in a condition.
const MAX_FAILURE: usize = 1024;

/// What a task is doing between the making of its pod and the first report of its agent.
const POD_STARTS: &str = "the pod starts";

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where the task stands.
    pub situation: Situation,
    /// The AgentAttempt to apply; none when it is as it shall be.
    pub attempt: Option<Box<AgentAttempt>>,
    /// An AgentAttempt to delete, because its job is no longer what the task's references say and no agent has
    /// seen it yet: its name and UID.
    pub obsolete: Option<(String, String)>,
    /// What the pod is made of, when it is to be made.
    pub pod: Option<Box<PodParts>>,
    /// Whether it must be seen to that the rights of a pod that is there are there too: a pass that broke off may have
    /// made the one without the other.
    pub rights: bool,
    /// What the senders of messages are told, after everything above.
    pub answers: Vec<Answer>,
    /// Whether the plan rests on something not being there.
    pub presumes: bool,
}

impl Plan {
    /// Whether the plan does what can't be taken back, so that it may not rest on a watch that lags.
    #[must_use]
    pub const fn is_irrevocable(&self) -> bool {
        match self.situation {
            Situation::Start | Situation::Ended(_) => true,
            Situation::Deleted
            | Situation::Finished
            | Situation::Waiting { .. }
            | Situation::Working { .. } => self.presumes || self.rights,
        }
    }
}

/// Decides.
#[must_use]
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    if observed.task.metadata.deletion_timestamp.is_some() {
        return nothing(Situation::Deleted);
    }
    if observed.ended().is_some() {
        // A Cancel message that is still open then, and is not younger than the end, was its cause.
        let cancelled = super::observed::reason(&observed.task) == Some(Reason::Cancelled);
        let answers = inbox::after_the_end(observed, cancelled);
        return Plan { answers, ..nothing(Situation::Finished) };
    }
    if let Some(ending) = reported_end(observed) {
        let answers = inbox::after_the_end(observed, ending.reason == Reason::Cancelled);
        return Plan { answers, ..nothing(Situation::Ended(ending)) };
    }
    match (&observed.pod, &observed.attempt) {
        (Some(pod), Some(attempt)) => {
            let situation = with_pod(observed, pod, attempt, now);
            if let Situation::Ended(ending) = &situation {
                let answers = inbox::after_the_end(observed, ending.reason == Reason::Cancelled);
                return Plan { answers, ..nothing(situation) };
            }
            let inbox::Inbox { entries, answers, presumes } = inbox::deliver(observed);
            let attempt = build::attempt::amended(attempt, observed.task.spec.suspend, entries);
            let rights = !observed.pod_was_made();
            Plan { attempt: attempt.map(Box::new), rights, answers, presumes, ..nothing(situation) }
        }
        _ if observed.pod_was_made() => {
            let situation = ended(
                Reason::SandboxLost,
                "the pod was lost: it was deleted; create the task again to start over".into(),
            );
            Plan { answers: inbox::after_the_end(observed, false), ..nothing(situation) }
        }
        _ => before_pod(observed),
    }
}

fn before_pod(observed: &Observed) -> Plan {
    if inbox::cancellation(observed).is_some() {
        let situation = ended(Reason::Cancelled, "cancelled before it had a pod".into());
        return Plan { answers: inbox::after_the_end(observed, true), ..nothing(situation) };
    }
    let waiting = |reason, message, again| Plan {
        answers: inbox::before_the_pod(observed),
        ..nothing(Situation::Waiting { reason, message, again })
    };
    if observed.task.spec.suspend {
        let message = "held back before it has a pod; set spec.suspend to false to start it".into();
        return waiting(Reason::Suspended, message, None);
    }
    if let Some(foreign) = &observed.foreign {
        return Plan { answers: inbox::before_the_pod(observed), ..nothing(in_the_way(foreign)) };
    }
    let Some(references) = &observed.references else {
        return nothing(Situation::Start);
    };
    match validate(&observed.task, &observed.id, references) {
        Validity::Waiting(sentence) => waiting(Reason::WaitingForReference, sentence, Some(LOOK_AGAIN)),
        Validity::Invalid(sentence) => Plan {
            answers: inbox::after_the_end(observed, false),
            ..nothing(ended(Reason::InvalidSpec, sentence))
        },
        Validity::Ready(_) if observed.turn != Turn::Free => held_back(observed),
        Validity::Ready(valid) => match &observed.attempt {
            Some(attempt) if attempt.spec.job != valid.job => Plan {
                obsolete: build::attempt::identity(attempt),
                ..waiting(
                    Reason::Preparing,
                    "what the task names has changed before it had a pod; it begins anew".into(),
                    Some(Duration::from_secs(1)),
                )
            },
            Some(_) => Plan { pod: Some(Box::new(valid.pod)), ..nothing(Situation::Start) },
            None => Plan {
                attempt: Some(Box::new(build::attempt::attempt(&observed.id, &valid))),
                pod: Some(Box::new(valid.pod)),
                ..nothing(Situation::Start)
            },
        },
    }
}

/// A task that could have its pod, and has to let others end first.
fn held_back(observed: &Observed) -> Plan {
    let (message, again) = match &observed.turn {
        Turn::Waits { provider, limit } => {
            let message = format!(
                "waits for its turn: ModelProvider {provider} lets {limit} tasks run beside each other (limits.concurrentTasks), and as many run; older tasks go first"
            );
            (message, None)
        }
        Turn::Free | Turn::Counting => {
            ("waits for its turn: the tasks that run are being counted".to_owned(), Some(COUNT_AGAIN))
        }
    };
    Plan {
        answers: inbox::before_the_pod(observed),
        ..nothing(Situation::Waiting { reason: Reason::Queued, message, again })
    }
}

fn with_pod(observed: &Observed, pod: &Pod, attempt: &AgentAttempt, now: Timestamp) -> Situation {
    let report = observed.report();
    let cancellation = inbox::cancellation(observed);
    if cancellation.is_some() && report.is_none() && !pod_state::agent_runs(pod) {
        return ended(Reason::Cancelled, "cancelled before its agent began to work".into());
    }
    let cancelled_by = cancellation.and_then(ends_by);
    if cancelled_by.is_some_and(|limit| now >= limit) {
        let message =
            "cancelled; the agent did not end by itself, so its pod was deleted and there is no patch";
        return ended(Reason::Cancelled, message.into());
    }
    let deadline = deadline(pod, attempt, report);
    if deadline.is_some_and(|limit| now >= limit) {
        let message = format!(
            "the agent is {} minutes past limits.activeSeconds ({}) and did not end by itself; its pod was deleted",
            DEADLINE_PATIENCE.as_mins(),
            attempt.spec.job.limits.active_seconds
        );
        return ended(Reason::DeadlineExceeded, message);
    }
    let own = [cancelled_by, deadline].into_iter().flatten().min();
    match pod_state::assess(pod, now) {
        PodState::Broken { reason, message } => ended(reason, message),
        PodState::HeldUp { reason, message, until } => {
            Situation::Working { reason, message, until: earlier(until, own) }
        }
        PodState::Well { until } => {
            let (reason, message) = at_work(observed.task.spec.suspend, report);
            Situation::Working { reason, message, until: earlier(until, own) }
        }
    }
}

/// The end that the agent reports, checked.
fn reported_end(observed: &Observed) -> Option<Ending> {
    let report = observed.report().filter(|report| report.phase == Some(Phase::Ended))?;
    let fault = |message: String| Ending { reason: Reason::InternalError, message, by: EndedBy::Agent };
    let Some(outcome) = &report.outcome else {
        return Some(fault("the agent ended without saying how; please report it".into()));
    };
    if outcome.reason.verdict() == Verdict::Working {
        let reason = outcome.reason.as_str();
        return Some(fault(format!("the agent ended with {reason}, which is no end; please report it")));
    }
    let has_artifact = report.patch.as_ref().is_some_and(|patch| patch.artifact.is_some());
    if outcome.reason.verdict() == Verdict::Succeeded && !has_artifact {
        return Some(fault(format!(
            "the agent reported {} without the artifact of its patch, which every finished work has, be the patch empty; please report it",
            outcome.reason.as_str()
        )));
    }
    if let Some(ArtifactCheck::Wrong(sentence)) = &observed.patch {
        return Some(fault(format!(
            "the agent reported {}, but {sentence}; its result is not passed on",
            outcome.reason.as_str()
        )));
    }
    Some(Ending { reason: outcome.reason, message: outcome.message.clone(), by: EndedBy::Agent })
}

/// The moment by which a cancelled agent has to have ended.
fn ends_by(cancellation: Cancellation) -> Option<Timestamp> {
    match cancellation {
        // Before it counts, its sender is told, and with that the moment is known.
        Cancellation::Asked | Cancellation::Taken(None) => None,
        Cancellation::Delivered(since) => since.checked_add(INBOX_PATIENCE).ok(),
        Cancellation::Taken(Some(since)) => since.checked_add(CANCEL_PATIENCE).ok(),
    }
}

/// What a task with a sound pod is doing.
fn at_work(suspend: bool, report: Option<&AgentAttemptStatus>) -> (Reason, String) {
    let Some(report) = report else { return (Reason::Preparing, POD_STARTS.into()) };
    if suspend && report.suspended {
        return (Reason::Suspended, "the agent has stopped; set spec.suspend to false to go on".into());
    }
    match report.phase {
        None | Some(Phase::Preparing) => {
            (Reason::Preparing, "the repository is fetched and the environment is set up".into())
        }
        // An agent that has ended is not seen here.
        Some(Phase::Running | Phase::Ended) => (Reason::Running, "the agent works".into()),
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
fn deadline(pod: &Pod, attempt: &AgentAttempt, report: Option<&AgentAttemptStatus>) -> Option<Timestamp> {
    let limit = SignedDuration::from_secs(attempt.spec.job.limits.active_seconds) + DEADLINE_PATIENCE;
    let taken = pod_state::taken_at(pod)?;
    let Some(report) = report else { return taken.checked_add(limit).ok() };
    if report.suspended || matches!(report.phase, Some(Phase::Idle | Phase::Parked)) {
        return None;
    }
    let since = report.last_progress_time.as_ref().map_or(taken, |time| time.0);
    let used = SignedDuration::from_secs(report.active_seconds.max(0));
    since.checked_add(limit.saturating_sub(used)).ok()
}

fn ended(reason: Reason, message: String) -> Situation {
    Situation::Ended(Ending { reason, message, by: EndedBy::Controller })
}

fn nothing(situation: Situation) -> Plan {
    Plan {
        situation,
        attempt: None,
        obsolete: None,
        pod: None,
        rights: false,
        answers: Vec::new(),
        presumes: false,
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
