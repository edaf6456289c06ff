//! What one pass has seen: plain values, so that everything after it can be decided without asking again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::error::Foreign;
use crate::api::reasons::{Reason, Verdict};
use crate::api::{
    AgentAttempt, AgentAttemptStatus, AgentEnvironment, AgentMessage, AgentTask, ModelProvider, conditions,
};
use crate::names;

/// The only attempt there is, until a task can ask for several.
pub const INDEX: i32 = 1;

/// The only pod of an attempt, until a lost one is replaced.
pub const EPOCH: i32 = 1;

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

    /// Name of the task's AgentAttempt.
    #[must_use]
    pub fn attempt_name(&self) -> String {
        names::attempt(&self.name, &self.uid, INDEX)
    }

    /// Name of its pod, and of the pod's ServiceAccount, Role and RoleBinding.
    #[must_use]
    pub fn pod_name(&self) -> String {
        names::pod(&self.name, &self.uid, INDEX, EPOCH)
    }
}

/// The world around one task.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Which task.
    pub id: TaskId,
    /// The task.
    pub task: Arc<AgentTask>,
    /// Its AgentAttempt.
    pub attempt: Option<Arc<AgentAttempt>>,
    /// Somebody else's object under the name of the task's AgentAttempt.
    pub foreign: Option<Foreign>,
    /// The attempt's pod.
    pub pod: Option<Arc<Pod>>,
    /// What was said to the task, in no order.
    pub messages: Vec<Arc<AgentMessage>>,
    /// What the task's spec names. Read only while there is no pod.
    pub references: Option<References>,
    /// Whether the patch is what the attempt's status says of it. Read only together with everything else, live.
    pub patch: Option<ArtifactCheck>,
    /// Whether all this was read from the API server in this pass, and not from a watch that may lag.
    pub live: bool,
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
    /// The attempt that is named.
    pub attempt: Option<Arc<AgentAttempt>>,
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
    /// Length and digest agree, or there is nothing to check.
    Good,
    /// They do not; the sentence says how.
    Wrong(String),
}

impl Observed {
    /// What the newest pod's agent has reported. A report of another epoch is not believed.
    #[must_use]
    pub fn report(&self) -> Option<&AgentAttemptStatus> {
        self.attempt.as_ref()?.status.as_ref().filter(|status| status.epoch == EPOCH)
    }

    /// Whether the attempt has had its pod: then there is never another one in this epoch.
    #[must_use]
    pub fn pod_was_made(&self) -> bool {
        let recorded = self.task.status.as_ref().is_some_and(|status| status.resolved.is_some());
        recorded || self.report().is_some()
    }

    /// The task's end, when its status says so. It is for good.
    #[must_use]
    pub fn ended(&self) -> Option<Verdict> {
        ended(&self.task)
    }
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
