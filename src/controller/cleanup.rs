//! What goes when a task has ended: the agent's rights at once, the rest when its time is over.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::apply::{delete, failed, is_controlled_by};
use super::error::ApplyError;
use super::observed::{Epoch, Observed, SeenAttempt};
use super::plan::EndedBy;
use super::pod_state;
use super::request::bounded;
use crate::api::{AgentAttempt, AgentTask};

/// The longest sleep before a finished task is looked at again. Retention may be months; a look costs nothing.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// What of a finished task is due to go, and when there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The pods.
    pub pod: bool,
    /// The AgentAttempts, and with them all artifacts.
    pub attempt: bool,
    /// The task itself, and with it everything.
    pub task: bool,
    /// How long until something else is due.
    pub again: Option<Duration>,
}

/// What of a finished task is due.
#[must_use]
pub fn due(observed: &Observed, now: Timestamp) -> Due {
    let spec = &observed.task.spec;
    let status = observed.task.status.as_ref();
    let has_pod = observed.attempts.iter().any(|seen| seen.pod.is_some());
    let Some(end) = status.and_then(|status| status.completion_time.as_ref()) else {
        return Due { pod: has_pod, attempt: false, task: false, again: None };
    };
    let left = |seconds: i64| seconds - (now.as_second() - end.0.as_second());
    let has_attempt = observed.attempts.iter().any(|seen| seen.attempt.is_some());
    let pod = has_pod.then(|| left(spec.retention.pod_seconds));
    // The pod belongs to the attempt and would go with it.
    let kept = spec.retention.artifact_seconds.max(pod.map_or(0, |_| spec.retention.pod_seconds));
    let attempt = has_attempt.then(|| left(kept));
    let task = spec.ttl_seconds_after_finished.map(left);
    let next = [pod, attempt, task].into_iter().flatten().filter(|left| *left > 0).min();
    let is_due = |left: Option<i64>| left.is_some_and(|left| left <= 0);
    Due {
        pod: is_due(pod),
        attempt: is_due(attempt),
        task: is_due(task),
        again: next.map(|left| Duration::from_secs(left.unsigned_abs() + 1).min(LONGEST_SLEEP)),
    }
}

/// Deletes what is due.
pub(super) async fn collect(client: &Client, observed: &Observed, due: Due) -> Result<bool, ApplyError> {
    let id = &observed.id;
    if due.task {
        delete::<AgentTask>(client, &id.namespace, &id.name, &id.uid).await?;
        return Ok(true);
    }
    for seen in &observed.attempts {
        if due.attempt {
            // Pod and artifacts belong to it and go with it.
            delete_own(client, seen.attempt.as_deref()).await?;
        } else if due.pod {
            delete_own(client, seen.pod.as_deref()).await?;
        }
    }
    Ok(due.attempt || due.pod)
}

/// Ends an attempt's work: takes the agent's rights. Done before the status says so, so that a status that says so
/// needs no second look.
pub(super) async fn end(
    client: &Client,
    observed: &Observed,
    seen: &SeenAttempt,
    attempt: Option<&AgentAttempt>,
) -> Result<(), ApplyError> {
    let Some(attempt) = attempt else { return Ok(()) };
    let Some(owner) = attempt.metadata.uid.as_deref() else { return Ok(()) };
    let namespace = observed.id.namespace.as_str();
    for epoch in Epoch::ALL.into_iter().filter(|epoch| *epoch <= seen.epoch()) {
        let name = observed.id.pod_name(seen.index, epoch);
        if epoch < seen.epoch() {
            take(client, namespace, &name, owner).await?;
        } else {
            revoke_rights(client, namespace, &name, owner).await?;
        }
    }
    // It may have been made and lost again in a pass that could not record it, and then only its rights are left.
    if let Some(unrecorded) = seen.epoch().next().filter(|_| seen.has_verification()) {
        revoke_rights(client, namespace, &observed.id.pod_name(seen.index, unrecorded), owner).await?;
    }
    Ok(())
}

/// Takes the rights of a pod whose agent works although its attempt has ended: a controller that was about to stop has
/// recorded the end while this one made the pod.
pub(super) async fn stop(client: &Client, observed: &Observed, seen: &SeenAttempt) -> Result<(), ApplyError> {
    let works = seen.pod.as_deref().is_some_and(|pod| !pod_state::agent_is_done(pod));
    if works { end(client, observed, seen, seen.attempt.as_deref()).await } else { Ok(()) }
}

/// Deletes the pod of an attempt that has ended, unless it stays to have its logs read. Done after the status says how
/// it ended: until then the pod may be all that tells, and a pass that is made again would find it lost.
pub(super) async fn take_pod(
    client: &Client,
    observed: &Observed,
    seen: &SeenAttempt,
    by: EndedBy,
) -> Result<(), ApplyError> {
    let Some(pod) = &seen.pod else { return Ok(()) };
    let by_agent = by == EndedBy::Agent || pod_state::agent_is_done(pod);
    let stays = by_agent && observed.task.spec.retention.pod_seconds > 0;
    if stays { Ok(()) } else { delete_own(client, Some(pod.as_ref())).await }
}

/// Takes a pod's rights, and then the pod.
pub(super) async fn take(
    client: &Client,
    namespace: &str,
    name: &str,
    owner: &str,
) -> Result<(), ApplyError> {
    revoke_rights(client, namespace, name, owner).await?;
    revoke::<Pod>(client, namespace, name, owner).await
}

/// Takes a pod's rights.
pub(super) async fn revoke_rights(
    client: &Client,
    namespace: &str,
    name: &str,
    owner: &str,
) -> Result<(), ApplyError> {
    // The RoleBinding first: with it gone, the agent can do nothing more.
    revoke::<RoleBinding>(client, namespace, name, owner).await?;
    tokio::try_join!(
        revoke::<Role>(client, namespace, name, owner),
        revoke::<ServiceAccount>(client, namespace, name, owner),
    )?;
    Ok(())
}

async fn revoke<K>(client: &Client, namespace: &str, name: &str, owner: &str) -> Result<(), ApplyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found =
        bounded(api.get_metadata_opt(name)).await.map_err(|source| failed::<K>("read", name, source))?;
    let Some(found) = found.filter(|found| is_controlled_by(&found.metadata, owner)) else { return Ok(()) };
    match &found.metadata.uid {
        Some(uid) => delete::<K>(client, namespace, name, uid).await,
        None => Ok(()),
    }
}

async fn delete_own<K>(client: &Client, object: Option<&K>) -> Result<(), ApplyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let Some(metadata) = object.map(Resource::meta) else { return Ok(()) };
    // A deletion that was asked for already needs no second one.
    if metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    match (&metadata.namespace, &metadata.name, &metadata.uid) {
        (Some(namespace), Some(name), Some(uid)) => delete::<K>(client, namespace, name, uid).await,
        _ => Ok(()),
    }
}
