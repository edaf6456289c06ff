//! What one pass has seen: plain values, so that everything after it can be decided without asking again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::error::Foreign;
use super::queue::Turn;
use crate::api::attempt::Phase;
use crate::api::reasons::{Reason, Verdict};
use crate::api::task::AttemptSummary;
use crate::api::{
    AgentAttempt, AgentAttemptStatus, AgentEnvironment, AgentMessage, AgentTask, ModelProvider, conditions,
};
use crate::names;
use crate::patch::Flags;

/// The pods of an attempt, in their order. There is at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Epoch {
    /// The agent works in it. With a lost one the work is lost.
    Work,
    /// The patch is verified in it. A lost one says nothing about the patch, which is there to be verified again.
    Verification(Try),
}

/// Which of the pods that verify. Two may be lost: a third loss in a row is no accident of a node's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Try {
    /// The one that is made when the agent is done.
    First,
    /// The one in place of the first.
    Second,
    /// The last one.
    Third,
}

impl Epoch {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Work,
        Self::Verification(Try::First),
        Self::Verification(Try::Second),
        Self::Verification(Try::Third),
    ];

    /// The pod's number among the attempt's pods.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Work => 1,
            Self::Verification(Try::First) => 2,
            Self::Verification(Try::Second) => 3,
            Self::Verification(Try::Third) => 4,
        }
    }

    /// The pod of a number; none of 0, which is that of an attempt without a pod.
    #[must_use]
    pub fn numbered(number: i32) -> Option<Self> {
        Self::ALL.into_iter().rfind(|epoch| epoch.number() <= number)
    }

    /// Whether the patch is verified in it.
    #[must_use]
    pub const fn is_verification(self) -> bool {
        match self {
            Self::Work => false,
            Self::Verification(_) => true,
        }
    }

    /// The pod that would be made after it.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Work => Some(Self::Verification(Try::First)),
            Self::Verification(_) => self.again(),
        }
    }

    /// The pod that takes its place when it is lost.
    #[must_use]
    pub const fn again(self) -> Option<Self> {
        match self {
            Self::Work | Self::Verification(Try::Third) => None,
            Self::Verification(Try::First) => Some(Self::Verification(Try::Second)),
            Self::Verification(Try::Second) => Some(Self::Verification(Try::Third)),
        }
    }
}

/// Attempts of one task, at most: the schema's bound.
const MAX_ATTEMPTS: i32 = 4;

/// Which task a pass is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID. A task of the same name and another UID is another task.
    pub uid: String,
}

impl TaskId {
    /// The identity of a stored task; none when it lacks what every stored object has.
    #[must_use]
    pub fn of(task: &AgentTask) -> Option<Self> {
        let metadata = &task.metadata;
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
        })
    }

    /// Name of one of the task's AgentAttempts, by its number.
    #[must_use]
    pub fn attempt_name(&self, index: i32) -> String {
        names::attempt(&self.name, &self.uid, index)
    }

    /// Name of one of its pods, and of the pod's ServiceAccount, Role and RoleBinding.
    #[must_use]
    pub fn pod_name(&self, index: i32, epoch: Epoch) -> String {
        names::pod(&self.name, &self.uid, index, epoch.number())
    }
}

/// The world around one task.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Which task.
    pub id: TaskId,
    /// The task.
    pub task: Arc<AgentTask>,
    /// Its attempts, by number: one for each that the spec asks for.
    pub attempts: Vec<SeenAttempt>,
    /// What was said to the task, in no order.
    pub messages: Vec<Arc<AgentMessage>>,
    /// What the task's spec names. Read only while an attempt has had no pod.
    pub references: Option<References>,
    /// Whether it is the task's turn to have its pods.
    pub turn: Turn,
    /// Whether all this was read from the API server in this pass, and not from a watch that may lag.
    pub live: bool,
}

/// The world around one attempt.
#[derive(Clone, Debug, Default)]
pub struct SeenAttempt {
    /// Its number, from 1.
    pub index: i32,
    /// What the task's status says of it: what was decided before, and the record of the pods that were made.
    pub summary: Option<AttemptSummary>,
    /// The AgentAttempt.
    pub attempt: Option<Arc<AgentAttempt>>,
    /// Somebody else's object under its name.
    pub foreign: Option<Foreign>,
    /// Its newest pod.
    pub pod: Option<Arc<Pod>>,
    /// Which of its pods is the newest that is there, or is made in this pass.
    pub pod_epoch: Option<Epoch>,
    /// Whether the patch is what the attempt's status says of it. Read only together with everything else, live.
    pub patch: Option<ArtifactCheck>,
    /// URLs of its artifacts in the object store, once they were carried there in this pass.
    pub stored: Vec<String>,
}

/// What a task's spec names.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// The AgentEnvironment, when it exists.
    pub environment: Option<AgentEnvironment>,
    /// The ModelProvider, when it exists.
    pub provider: Option<ModelProvider>,
    /// The named ConfigMaps that exist: the length of each key's text.
    pub config_maps: BTreeMap<String, BTreeMap<String, usize>>,
    /// The keys of their binary data.
    pub binary_data: BTreeMap<String, BTreeSet<String>>,
    /// The task that spec.continueFrom names, when it exists.
    pub former: Option<Former>,
    /// The text at spec.output's key, when there is one.
    pub output_schema: Option<String>,
    /// The named Secrets that exist.
    pub secrets: BTreeMap<String, SecretFacts>,
}

/// A task that another one goes on with.
#[derive(Clone, Debug)]
pub struct Former {
    /// Whether it has ended.
    pub ended: bool,
    /// Which of its attempts is gone on with; none while that is its selected one, and none is selected.
    pub index: Option<i32>,
    /// That attempt.
    pub attempt: Option<Arc<AgentAttempt>>,
    /// URLs of its artifacts that the object store has, by the controller's own record.
    pub stored: Vec<String>,
}

/// What is known of a Secret. Its values are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// The annotation podwright.dev/hosts.
    pub hosts: Option<String>,
    /// Keys that have a value.
    pub keys: BTreeSet<String>,
}

/// Whether an artifact is what the attempt's status says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactCheck {
    /// Length and digest agree, and it is a patch: what was found in it. Nothing when there is no text to check.
    Good(Option<Flags>),
    /// They do not; the sentence says how.
    Wrong(String),
}

impl References {
    /// Whether a ConfigMap is there and has a key in its binary data.
    #[must_use]
    pub fn has_binary(&self, config_map: &str, key: &str) -> bool {
        self.binary_data.get(config_map).is_some_and(|keys| keys.contains(key))
    }
}

impl SecretFacts {
    /// Whether a key has a value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }
}

impl SeenAttempt {
    /// The attempt of a task as far as the task's own status tells of it.
    #[must_use]
    pub fn recorded(task: &AgentTask, index: i32) -> Self {
        let status = task.status.as_ref();
        let mut attempts = status.iter().flat_map(|status| &status.attempts);
        Self { index, summary: attempts.find(|summary| summary.index == index).cloned(), ..Self::default() }
    }

    /// Which pod is the newest: one that verifies, once it is there, its making is on record or the agent has asked for
    /// it.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let recorded = self.summary.as_ref().and_then(|summary| Epoch::numbered(summary.epoch));
        let status = self.attempt.as_ref().and_then(|attempt| attempt.status.as_ref());
        let asks =
            self.has_verification() && status.is_some_and(|status| status.phase == Some(Phase::Verifying));
        // The agent of a later one may have spoken before its making was recorded.
        let spoken =
            status.and_then(|status| Epoch::numbered(status.epoch)).filter(|it| it.is_verification());
        let asked = asks.then(|| spoken.unwrap_or(Epoch::Verification(Try::First)));
        [recorded, asked, self.pod_epoch].into_iter().flatten().max().unwrap_or(Epoch::Work)
    }

    /// The same attempt once a pod is made for it.
    #[must_use]
    pub fn at(self, epoch: Epoch) -> Self {
        if epoch > self.epoch() { Self { pod: None, pod_epoch: Some(epoch), ..self } } else { self }
    }

    /// What the newest pod's agent has reported, or before it has spoken the last words of those before it. A report
    /// of any other epoch is not believed.
    #[must_use]
    pub fn report(&self) -> Option<&AgentAttemptStatus> {
        let status = self.attempt.as_ref()?.status.as_ref()?;
        let believed = Epoch::Work.number()..=self.epoch().number();
        believed.contains(&status.epoch).then_some(status)
    }

    /// What the newest pod's agent itself has reported; none before it has spoken.
    #[must_use]
    pub fn newest_report(&self) -> Option<&AgentAttemptStatus> {
        self.report().filter(|report| report.epoch == self.epoch().number())
    }

    /// Whether the newest pod's agent has spoken.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        self.newest_report().is_some()
    }

    /// Whether its patch is to be verified.
    #[must_use]
    pub fn has_verification(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.spec.job.verification.is_some())
    }

    /// Whether the newest pod was made: then there is never another one in this epoch.
    #[must_use]
    pub fn pod_was_made(&self) -> bool {
        let recorded = self.summary.as_ref().is_some_and(|summary| summary.epoch >= self.epoch().number());
        recorded || self.has_spoken()
    }

    /// Whether it goes on and its first pod is still to be made.
    #[must_use]
    pub fn lacks_its_first_pod(&self) -> bool {
        self.ended().is_none() && self.pod.is_none() && self.epoch() == Epoch::Work && !self.pod_was_made()
    }

    /// Why the attempt has ended, when the task's status says so. It is for good.
    #[must_use]
    pub fn ended(&self) -> Option<Reason> {
        let summary = self.summary.as_ref()?;
        summary.reason.filter(|reason| reason.verdict() != Verdict::Working)
    }
}

impl Observed {
    /// An attempt, by its number.
    #[must_use]
    pub fn attempt(&self, index: i32) -> Option<&SeenAttempt> {
        self.attempts.iter().find(|attempt| attempt.index == index)
    }

    /// The task's end, when its status says so. It is for good.
    #[must_use]
    pub fn ended(&self) -> Option<Verdict> {
        ended(&self.task)
    }
}

/// The numbers of a task's attempts.
pub fn indices(task: &AgentTask) -> impl Iterator<Item = i32> + use<> {
    1..=task.spec.attempts.count.clamp(1, MAX_ATTEMPTS)
}

/// The end of a task, when its status says so.
#[must_use]
pub fn ended(task: &AgentTask) -> Option<Verdict> {
    let succeeded = conditions::find(&task.status.as_ref()?.conditions, conditions::SUCCEEDED)?;
    match succeeded.status.as_str() {
        "True" => Some(Verdict::Succeeded),
        "False" => Some(Verdict::Failed),
        _ => None,
    }
}

/// The reason in a task's status, for counting.
#[must_use]
pub fn reason(task: &AgentTask) -> Option<Reason> {
    let succeeded = conditions::find(&task.status.as_ref()?.conditions, conditions::SUCCEEDED)?;
    Reason::ALL.into_iter().find(|reason| reason.as_str() == succeeded.reason)
}
