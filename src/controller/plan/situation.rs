//! Where a task stands, and what becomes of that once its pod was asked for.

use std::time::Duration;

use jiff::Timestamp;

use super::{LOOK_AGAIN, ended};
use crate::api::conditions::cut;
use crate::api::reasons::Reason;
use crate::controller::error::Foreign;
use crate::controller::observed::{Epoch, Try};
use crate::controller::refusal::Refusal;

/// How soon a pod that the quota refused is tried again.
const QUOTA_AGAIN: Duration = Duration::from_secs(15);

/// A running task is looked at again after this time even if nothing was heard: a watch may have lost an event.
pub(super) const SAFETY: Duration = Duration::from_secs(300);

/// The longest text taken from elsewhere into a sentence of ours.
const MAX_QUOTE: usize = 2048;

/// Where a task stands, or one of its attempts.
#[derive(Clone, Debug, PartialEq)]
pub enum Situation {
    /// It is being deleted: the garbage collector does the rest.
    Deleted,
    /// Its status says how it ended. Only cleaning up is left.
    Finished,
    /// It has no pod and can't have one yet.
    Waiting {
        /// Why.
        reason: Reason,
        /// A sentence for people.
        message: String,
        /// When to look again, when no watch will tell.
        again: Option<Duration>,
    },
    /// It can have its pod now.
    Start,
    /// It has a pod.
    Working {
        /// Why it is not over.
        reason: Reason,
        /// A sentence for people.
        message: String,
        /// When to look again at the latest.
        until: Option<Timestamp>,
    },
    /// It is over.
    Ended(Ending),
}

/// How a task ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// Who said so.
    pub by: EndedBy,
}

/// Who ended a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// Its agent: the pod may stay for spec.retention.podSeconds.
    Agent,
    /// The controller: the pod goes at once.
    Controller,
}

/// What became of the pod that a plan asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodOutcome {
    /// The plan asked for none.
    Unasked,
    /// It was made.
    Made,
    /// It was there already.
    There,
    /// The API server refused it.
    Refused(Refusal),
    /// An object that belongs to it is there already, and is somebody else's.
    InTheWay(Foreign),
    /// What it goes on with can't be fetched from the object store; the sentence says why.
    Unfetched(String),
}

impl Situation {
    /// The situation once the pod was asked for.
    #[must_use]
    pub fn after(self, pod: &PodOutcome, epoch: Epoch) -> Self {
        match pod {
            PodOutcome::Unasked => self,
            PodOutcome::Made | PodOutcome::There => {
                let (reason, message) = starting(epoch);
                Self::Working { reason, message: message.into(), until: None }
            }
            PodOutcome::InTheWay(foreign) => in_the_way(foreign),
            PodOutcome::Unfetched(message) => Self::Waiting {
                reason: Reason::WaitingForReference,
                message: message.clone(),
                again: Some(LOOK_AGAIN),
            },
            PodOutcome::Refused(Refusal::Quota(text)) => Self::Waiting {
                reason: Reason::Queued,
                message: format!(
                    "the namespace's quota has no room for the pod and what belongs to it: {}; it is tried again: end other \
                     work in the namespace, or raise the ResourceQuota",
                    quote(text)
                ),
                again: Some(QUOTA_AGAIN),
            },
            PodOutcome::Refused(Refusal::Admission(text)) => ended(
                Reason::Refused,
                format!(
                    "the API server refused the pod: {}; change the AgentEnvironment or the policy and create the task again",
                    quote(text)
                ),
            ),
            PodOutcome::Refused(Refusal::Invalid(text)) => ended(
                Reason::InvalidSpec,
                format!(
                    "the AgentEnvironment makes no valid pod: {}; change it and create the task again",
                    quote(text)
                ),
            ),
        }
    }

    /// When to look again although nothing was heard; none means that only a change matters. `spread` lies in
    /// `0.0 ..= 1.0` and keeps many tasks from being looked at together.
    #[must_use]
    pub fn again(&self, now: Timestamp, spread: f64) -> Option<Duration> {
        let safety = SAFETY.mul_f64(1.0 + spread / 2.0);
        match self {
            Self::Deleted | Self::Finished | Self::Ended(_) => None,
            Self::Waiting { again, .. } => {
                Some(again.map_or(safety, |again| again.mul_f64(1.0 + spread / 2.0)))
            }
            Self::Start => Some(safety),
            Self::Working { until, .. } => {
                let exact =
                    until.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
                // A second later than the moment itself, so that it is past by every clock involved.
                Some(exact.map_or(safety, |exact| (exact + Duration::from_secs(1)).min(safety)))
            }
        }
    }
}

/// What is going on between the making of a pod and the first report of its agent.
pub(super) const fn starting(epoch: Epoch) -> (Reason, &'static str) {
    match epoch {
        Epoch::Work => (Reason::Preparing, "the pod starts"),
        Epoch::Verification(Try::First) => {
            (Reason::Verifying, "the agent is done; the pod in which its patch is verified starts")
        }
        Epoch::Verification(Try::Second | Try::Third) => (
            Reason::Verifying,
            "the agent is done; the pod in which its patch was verified is lost, and another one starts",
        ),
    }
}

/// It is waited for: the garbage collector may be about to take it, and people can.
pub(super) fn in_the_way(foreign: &Foreign) -> Situation {
    Situation::Waiting {
        reason: Reason::WaitingForReference,
        message: foreign.to_string(),
        again: Some(LOOK_AGAIN),
    }
}

fn quote(text: &str) -> &str {
    cut(text, MAX_QUOTE)
}
