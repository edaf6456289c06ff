//! The AgentAttempt: the job, and what the task's people say to its agent.

use kube::api::ObjectMeta;

use super::super::observed::TaskId;
use super::super::validate::ValidTask;
use crate::api::attempt::InboxMessage;
use crate::api::{AgentAttempt, AgentAttemptSpec, AgentTask};
use crate::names;

/// One of the AgentAttempts of a task that can be run.
#[must_use]
pub fn attempt(id: &TaskId, index: i32, valid: &ValidTask) -> AgentAttempt {
    let spec = AgentAttemptSpec {
        task_name: id.name.clone(),
        task_uid: id.uid.clone(),
        index,
        job: valid.job(id, index),
        suspend: false,
        inbox: Vec::new(),
    };
    let generations = [
        (names::ENVIRONMENT_GENERATION_ANNOTATION, valid.environment_generation),
        (names::PROVIDER_GENERATION_ANNOTATION, valid.provider_generation),
    ];
    AgentAttempt {
        metadata: ObjectMeta {
            name: Some(id.attempt_name(index)),
            namespace: Some(id.namespace.clone()),
            labels: Some(super::labels(&id.name, &id.uid)),
            annotations: Some(generations.map(|(key, value)| (key.to_owned(), value.to_string())).into()),
            owner_references: Some(vec![super::owner::<AgentTask>(&id.name, &id.uid)]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// The stored AgentAttempt with the task's suspension and a new inbox; none when it has both already. It carries
/// the UID, so that applying it never makes a new object, and the version, since the numbers of an inbox made
/// from an older one could be given twice.
#[must_use]
pub fn amended(stored: &AgentAttempt, suspend: bool, inbox: Vec<InboxMessage>) -> Option<AgentAttempt> {
    if stored.spec.suspend == suspend && stored.spec.inbox == inbox {
        return None;
    }
    let ObjectMeta { name, namespace, uid, resource_version, labels, annotations, owner_references, .. } =
        stored.metadata.clone();
    Some(AgentAttempt {
        metadata: ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            labels,
            annotations,
            owner_references,
            ..ObjectMeta::default()
        },
        spec: AgentAttemptSpec { suspend, inbox, ..stored.spec.clone() },
        status: None,
    })
}

/// Name and UID of a stored AgentAttempt.
#[must_use]
pub fn identity(stored: &AgentAttempt) -> Option<(String, String)> {
    Some((stored.metadata.name.clone()?, stored.metadata.uid.clone()?))
}

/// The generations of AgentEnvironment and ModelProvider that an AgentAttempt was made from.
#[must_use]
pub fn generations(stored: &AgentAttempt) -> (Option<i64>, Option<i64>) {
    let read = |key| stored.metadata.annotations.as_ref()?.get(key)?.parse().ok();
    (read(names::ENVIRONMENT_GENERATION_ANNOTATION), read(names::PROVIDER_GENERATION_ANNOTATION))
}
