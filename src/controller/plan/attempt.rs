//! One attempt: where it stands, and the objects that it asks for.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::report::{at_work, deadline, reported_end, work_is_sound};
use super::situation::{in_the_way, starting};
use super::{COUNT_AGAIN, EndedBy, Ending, LOOK_AGAIN, Situation, Validity, ended};
use crate::api::AgentAttempt;
use crate::api::attempt::{InboxMessage, JobPod};
use crate::api::reasons::Reason;
use crate::controller::build;
use crate::controller::inbox::{self, Cancellation};
use crate::controller::observed::{Epoch, Observed, SeenAttempt, Try};
use crate::controller::pod_state::{self, PodState};
use crate::controller::queue::Turn;

/// How long a cancellation may lie in the inbox of an agent that works before the agent is taken for broken: it
/// watches its inbox and takes a message in within seconds, and a restart of its container takes up to a minute.
const INBOX_PATIENCE: SignedDuration = SignedDuration::from_secs(120);

/// How long an agent may take to end after it has taken a cancellation in. It gives the supervisor up to a minute to
/// stop every command, then reads a workspace of any size for the patch, packs and uploads it and the transcript,
/// all on a node that may be busy: what would be lost is the person's result.
const CANCEL_PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// What is to be done for an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptPlan {
    /// Where it stands.
    pub situation: Situation,
    /// The AgentAttempt to apply; none when it is as it shall be.
    pub attempt: Option<Box<AgentAttempt>>,
    /// An AgentAttempt to delete, because its job is no longer what the task's references say and no agent has
    /// seen it yet: its name and UID.
    pub obsolete: Option<(String, String)>,
    /// The pod that this is about: the newest one, or the one in place of that.
    pub epoch: Epoch,
    /// What that pod is made of, when it is to be made. Those before it and their rights are taken away first.
    pub pod: Option<Box<JobPod>>,
    /// Whether it must be seen to that the rights of a pod that is there are there too: a pass that broke off may have
    /// made the one without the other.
    pub rights: bool,
    /// The inbox as it shall be.
    pub inbox: Vec<InboxMessage>,
    /// Whether the plan rests on something that a watch which lags would show as well.
    pub presumes: bool,
}

impl AttemptPlan {
    /// Whether the plan does what can't be taken back.
    #[must_use]
    pub(super) fn is_irrevocable(&self) -> bool {
        match self.situation {
            Situation::Start | Situation::Ended(_) => true,
            Situation::Deleted
            | Situation::Finished
            | Situation::Waiting { .. }
            | Situation::Working { .. } => self.presumes || self.rights,
        }
    }
}

/// Decides about one attempt of a task that has not ended.
pub(super) fn plan(
    observed: &Observed,
    seen: &SeenAttempt,
    validity: Option<&Validity>,
    now: Timestamp,
) -> AttemptPlan {
    if seen.ended().is_some() {
        return nothing(seen, Situation::Finished);
    }
    if let Some(ending) = reported_end(seen) {
        return nothing(seen, Situation::Ended(ending));
    }
    if let Some(plan) = again(observed, seen, now) {
        return plan;
    }
    match (&seen.pod, &seen.attempt) {
        (Some(pod), Some(_)) if was_taken_back(seen, pod, now) => {
            let (reason, _) = starting(seen.epoch());
            let message = "its pod is deleted before it was on record; when it is gone, another one is made";
            nothing(seen, Situation::Waiting { reason, message: message.into(), again: Some(LOOK_AGAIN) })
        }
        (Some(pod), Some(attempt)) => {
            let situation = with_pod(observed, seen, pod, attempt, now);
            if matches!(situation, Situation::Ended(_)) {
                return nothing(seen, situation);
            }
            let inbox::Inbox { entries, presumes } = inbox::deliver(observed, seen);
            let amended = build::attempt::amended(attempt, observed.task.spec.suspend, entries.clone());
            AttemptPlan {
                attempt: amended.map(Box::new),
                inbox: entries,
                rights: !seen.pod_was_made(),
                presumes,
                ..nothing(seen, situation)
            }
        }
        _ if seen.pod_was_made() => nothing(seen, lost(seen.epoch(), pod_state::GONE)),
        (None, Some(attempt)) if seen.epoch().is_verification() => {
            before_verification(observed, seen, attempt)
        }
        _ => before_pod(observed, seen, validity),
    }
}

fn before_pod(observed: &Observed, seen: &SeenAttempt, validity: Option<&Validity>) -> AttemptPlan {
    if inbox::cancellation(observed, seen).is_some() {
        return nothing(seen, ended(Reason::Cancelled, "cancelled before it had a pod".into()));
    }
    let waiting = |reason, message, again| nothing(seen, Situation::Waiting { reason, message, again });
    if observed.task.spec.suspend {
        let message = "held back before it has a pod; set spec.suspend to false to start it".into();
        return waiting(Reason::Suspended, message, None);
    }
    if let Some(foreign) = &seen.foreign {
        return nothing(seen, in_the_way(foreign));
    }
    let valid = match validity {
        None => return nothing(seen, Situation::Start),
        Some(Validity::Waiting(sentence)) => {
            return waiting(Reason::WaitingForReference, sentence.clone(), Some(LOOK_AGAIN));
        }
        Some(Validity::Invalid(sentence)) => {
            return nothing(seen, ended(Reason::InvalidSpec, sentence.clone()));
        }
        Some(Validity::Ready(_)) if observed.turn != Turn::Free => {
            return nothing(seen, held_back(&observed.turn));
        }
        Some(Validity::Ready(valid)) => valid,
    };
    let start = AttemptPlan { pod: Some(Box::new(valid.pod.clone())), ..nothing(seen, Situation::Start) };
    match &seen.attempt {
        Some(attempt) if attempt.spec.job != valid.job(&observed.id, seen.index) => AttemptPlan {
            obsolete: build::attempt::identity(attempt),
            ..waiting(
                Reason::Preparing,
                "what the task names has changed before it had a pod; it begins anew".into(),
                Some(std::time::Duration::from_secs(1)),
            )
        },
        Some(_) => start,
        None => {
            let attempt = build::attempt::attempt(&observed.id, seen.index, valid);
            AttemptPlan { attempt: Some(Box::new(attempt)), ..start }
        }
    }
}

/// A task that could have its pods, and has to let others end first.
fn held_back(turn: &Turn) -> Situation {
    let (message, again) = match turn {
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
    Situation::Waiting { reason: Reason::Queued, message, again }
}

/// In place of a pod that verifies and is lost another one is made.
fn again(observed: &Observed, seen: &SeenAttempt, now: Timestamp) -> Option<AttemptPlan> {
    let attempt = seen.attempt.as_ref()?;
    let next = seen.epoch().again()?;
    let is_lost = match &seen.pod {
        Some(pod) => matches!(pod_state::assess(pod, now), PodState::Lost { .. }),
        None => seen.pod_was_made(),
    };
    is_lost.then(|| before_verification(observed, &seen.clone().at(next), attempt))
}

/// The agent is done, and its patch is to be verified in the next pod.
fn before_verification(observed: &Observed, seen: &SeenAttempt, attempt: &AgentAttempt) -> AttemptPlan {
    let by_agent = |reason, message: &str| {
        Situation::Ended(Ending { reason, message: message.to_owned(), by: EndedBy::Agent })
    };
    if let Err(fault) = work_is_sound(seen) {
        return nothing(seen, by_agent(Reason::InternalError, &fault));
    }
    if inbox::cancellation(observed, seen).is_some() {
        return nothing(seen, by_agent(Reason::Cancelled, "cancelled before its patch was verified"));
    }
    if observed.task.spec.suspend {
        let message = "the agent is done; set spec.suspend to false to have its patch verified".into();
        return nothing(seen, Situation::Waiting { reason: Reason::Suspended, message, again: None });
    }
    let pod = attempt.spec.job.verification.as_ref().map(|verification| Box::new(verification.pod.clone()));
    AttemptPlan { pod, ..nothing(seen, Situation::Start) }
}

fn with_pod(
    observed: &Observed,
    seen: &SeenAttempt,
    pod: &Pod,
    attempt: &AgentAttempt,
    now: Timestamp,
) -> Situation {
    let epoch = seen.epoch();
    let cancellation = inbox::cancellation(observed, seen);
    if cancellation.is_some() && !seen.has_spoken() && !pod_state::agent_runs(pod) {
        let message = match epoch {
            Epoch::Work => "cancelled before its agent began to work",
            Epoch::Verification(_) => "cancelled before its patch was verified",
        };
        return ended(Reason::Cancelled, message.into());
    }
    let cancelled_by = cancellation.and_then(ends_by);
    if cancelled_by.is_some_and(|limit| now >= limit) {
        let message = match epoch {
            Epoch::Work => {
                "cancelled; the agent did not end by itself, so its pod was deleted and there is no patch"
            }
            Epoch::Verification(_) => {
                "cancelled; the verification did not end by itself, so its pod was deleted"
            }
        };
        return ended(Reason::Cancelled, message.into());
    }
    let deadline = deadline(seen, pod, attempt);
    if let Some(deadline) = deadline.as_ref().filter(|deadline| now >= deadline.at) {
        return ended(deadline.reason, deadline.message.clone());
    }
    let own = [cancelled_by, deadline.map(|deadline| deadline.at)].into_iter().flatten().min();
    match pod_state::assess(pod, now) {
        PodState::Lost { message } => lost(epoch, &message),
        PodState::Broken { reason, message } => ended(reason, told_of(epoch, message)),
        PodState::HeldUp { reason, message, until } => {
            let reason = if epoch.is_verification() && reason == Reason::Preparing {
                Reason::Verifying
            } else {
                reason
            };
            Situation::Working { reason, message, until: earlier(until, own) }
        }
        PodState::Well { until } => {
            let (reason, message) = at_work(observed.task.spec.suspend, seen);
            Situation::Working { reason, message, until: earlier(until, own) }
        }
    }
}

/// A pod that is on its way out and of which nobody knows but by its name, since the quota had no room for its rights.
/// There is still to be one.
fn was_taken_back(seen: &SeenAttempt, pod: &Pod, now: Timestamp) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && !seen.pod_was_made()
        && matches!(pod_state::assess(pod, now), PodState::Well { .. })
}

/// A pod that is gone.
fn lost(epoch: Epoch, message: &str) -> Situation {
    let message = match epoch {
        Epoch::Verification(Try::Third) => format!("three pods were lost one after the other; {message}"),
        Epoch::Work | Epoch::Verification(Try::First | Try::Second) => message.to_owned(),
    };
    ended(Reason::SandboxLost, told_of(epoch, message))
}

/// What befell the pod that verifies says nothing about the patch, and must not read as if it did.
fn told_of(epoch: Epoch, message: String) -> String {
    match epoch {
        Epoch::Work => message,
        Epoch::Verification(_) => {
            format!("the agent is done and its patch is kept, but it could not be verified: {message}")
        }
    }
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

fn nothing(seen: &SeenAttempt, situation: Situation) -> AttemptPlan {
    let attempt = seen.attempt.as_ref();
    AttemptPlan {
        situation,
        attempt: None,
        obsolete: None,
        epoch: seen.epoch(),
        pod: None,
        rights: false,
        inbox: attempt.map(|attempt| attempt.spec.inbox.clone()).unwrap_or_default(),
        presumes: false,
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}
