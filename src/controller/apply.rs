//! Makes the plan true. What a pod needs is created once, in an order in which each thing's needs come first;
//! a pass that broke off in the middle is simply made again.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::archive;
use super::build::{Children, Rights, StoredAttempt, artifacts, children, rights};
use super::cleanup;
use super::context::Context;
use super::error::{ApplyError, Foreign, RequestError};
use super::observed::{Epoch, Observed, SeenAttempt, TaskId};
use super::plan::{AttemptPlan, Plan, PodOutcome, Situation};
use super::refusal::{Refusal, refusal};
use super::request::bounded;
use crate::api::AgentAttempt;
use crate::names;

/// What a pass has brought about for an attempt.
#[derive(Debug)]
pub(super) struct Applied {
    /// The AgentAttempt as it is now.
    pub(super) attempt: Option<Arc<AgentAttempt>>,
    /// What became of the pod.
    pub(super) pod: PodOutcome,
    /// Where it stands now.
    pub(super) situation: Situation,
    /// Whether anything was written.
    pub(super) wrote: bool,
}

/// When the rights of a pod are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// While it starts: a RoleBinding that follows its Role at once takes the API server 100 ms, and the agent needs it only
    /// when its container runs.
    Meanwhile,
    /// Before it, since there may be no room for them.
    First,
}

/// Whether an object was made or was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Created {
    Now,
    Before,
}

/// Applies what is planned for the attempts, of all of them at the same time and each to its end: where one fails,
/// the next pass goes on with it.
pub(super) async fn apply(
    context: &Context,
    observed: &Observed,
    plan: &Plan,
) -> Result<Vec<Applied>, ApplyError> {
    // At most four, by the schema.
    let attempts = observed.attempts.iter().zip(&plan.attempts);
    let applied = attempts.map(|(seen, plan)| apply_one(context, &observed.id, seen, plan));
    futures::future::join_all(applied).await.into_iter().collect()
}

async fn apply_one(
    context: &Context,
    id: &TaskId,
    seen: &SeenAttempt,
    plan: &AttemptPlan,
) -> Result<Applied, ApplyError> {
    let (attempt, pod, wrote) = make(context, id, seen, plan).await?;
    let situation = plan.situation.clone().after(&pod, seen.epoch());
    Ok(Applied { attempt, pod, situation, wrote })
}

type Made = (Option<Arc<AgentAttempt>>, PodOutcome, bool);

/// Applies the AgentAttempt, and makes what hangs on it.
async fn make(
    context: &Context,
    id: &TaskId,
    seen: &SeenAttempt,
    plan: &AttemptPlan,
) -> Result<Made, ApplyError> {
    let client = &context.client;
    let namespace = id.namespace.as_str();
    if let Some((name, uid)) = &plan.obsolete {
        delete::<AgentAttempt>(client, namespace, name, uid).await?;
        return Ok((None, PodOutcome::Unasked, true));
    }
    let attempt = match &plan.attempt {
        Some(attempt) => match apply_attempt(client, attempt).await {
            Ok(attempt) => Some(Arc::new(attempt)),
            Err(ApplyError::Foreign(foreign)) => return Ok((None, PodOutcome::InTheWay(foreign), true)),
            Err(error) => return Ok((None, held_by_quota(error)?, true)),
        },
        None => seen.attempt.clone(),
    };
    if plan.pod.is_none() && !plan.rights {
        return Ok((attempt, PodOutcome::Unasked, plan.attempt.is_some()));
    }
    let epoch = seen.epoch();
    let stored = attempt.as_deref().and_then(|attempt| StoredAttempt::of(attempt, epoch));
    let stored = stored.ok_or_else(|| ApplyError::Incomplete {
        kind: "AgentAttempt",
        name: id.attempt_name(seen.index),
        field: "metadata.uid",
    })?;
    let made = match &plan.pod {
        Some(parts) => {
            // The fence: whatever the pod before still does reaches nobody any more.
            for earlier in Epoch::ALL.into_iter().filter(|earlier| *earlier < epoch) {
                cleanup::take(client, namespace, &id.pod_name(seen.index, earlier), stored.uid).await?;
            }
            // What the next pod says must not have been said before there is one.
            if epoch > Epoch::Work && has_spoken_since(client, namespace, &stored, seen).await? {
                return Ok((attempt, PodOutcome::Unasked, true));
            }
            let brought = match brought(context, &stored).await {
                Ok(brought) => brought,
                Err(why) => return Ok((attempt, PodOutcome::Unfetched(why), true)),
            };
            let children = Children { brought, ..children(&stored, parts, &context.agent) };
            // Only its first pass is in a hurry.
            let order = if plan.attempt.is_some() { Order::Meanwhile } else { Order::First };
            create_children(client, namespace, &stored, children, order).await
        }
        None => match create_rights(client, namespace, stored.uid, &rights(&stored)).await {
            Ok(()) => Ok(PodOutcome::Unasked),
            Err(error) => without_rights(client, namespace, &stored, error).await,
        },
    };
    let pod = match made {
        Ok(pod) => pod,
        Err(ApplyError::Foreign(foreign)) => {
            // Rights that no pod of ours has go again: a controller that took over may have ended the attempt meanwhile.
            cleanup::revoke_rights(client, namespace, &stored.pod_name(), stored.uid).await?;
            PodOutcome::InTheWay(foreign)
        }
        Err(error) => return Err(error),
    };
    Ok((attempt, pod, true))
}

/// Whether the agent has changed its status since it was seen, in the moment before its rights went. It never does that
/// once it has asked for the verification, unless somebody has taken it over.
async fn has_spoken_since(
    client: &Client,
    namespace: &str,
    stored: &StoredAttempt<'_>,
    seen: &SeenAttempt,
) -> Result<bool, ApplyError> {
    let api: Api<AgentAttempt> = Api::namespaced(client.clone(), namespace);
    let now = bounded(api.get(stored.name))
        .await
        .map_err(|source| failed::<AgentAttempt>("read", stored.name, source))?;
    Ok(seen.attempt.as_ref().is_none_or(|attempt| attempt.status != now.status))
}

/// What an attempt goes on with and the object store has, in ConfigMaps of its own: no agent reads from the store.
async fn brought(context: &Context, attempt: &StoredAttempt<'_>) -> Result<Vec<ConfigMap>, String> {
    let mut brought = Vec::new();
    let Some(former) = attempt.job.continue_from.as_ref().filter(|_| attempt.epoch == Epoch::Work) else {
        return Ok(brought);
    };
    for artifact in [Some(&former.transcript), former.patch.as_ref()].into_iter().flatten() {
        if artifact.url.is_empty() {
            continue;
        }
        let content = archive::fetch(context, attempt.namespace, artifact).await?;
        brought.push(artifacts::brought(attempt, artifact, content));
    }
    Ok(brought)
}

/// Makes what the pod needs, then the pod.
async fn create_children(
    client: &Client,
    namespace: &str,
    attempt: &StoredAttempt<'_>,
    children: Children,
    order: Order,
) -> Result<PodOutcome, ApplyError> {
    let owner = attempt.uid;
    // Taken apart by name: a new child does not compile until it has its place in the order.
    let Children { patch, transcript, brought, service_account, rights, pod } = children;
    let optional = async {
        match &transcript {
            Some(transcript) => create(client, namespace, owner, transcript).await.map(|_| ()),
            None => Ok(()),
        }
    };
    let former = async {
        for former in &brought {
            create(client, namespace, owner, former).await?;
        }
        Ok(())
    };
    let pod = async {
        let needed = tokio::try_join!(
            create(client, namespace, owner, &patch),
            optional,
            former,
            create(client, namespace, owner, &service_account),
        );
        if let Err(error) = needed {
            return held_by_quota(error);
        }
        match create(client, namespace, owner, &pod).await {
            Ok(Created::Now) => Ok(PodOutcome::Made),
            Ok(Created::Before) => Ok(PodOutcome::There),
            Err(error) => refused(&error).map(PodOutcome::Refused).ok_or(error),
        }
    };
    let rights = create_rights(client, namespace, owner, &rights);
    match order {
        Order::Meanwhile => {
            // Both to their end: where only the rights failed, the next pass finds the pod and sees to them.
            let (pod, made) = tokio::join!(pod, rights);
            match made {
                Ok(()) => pod,
                Err(error) => without_rights(client, namespace, attempt, error).await,
            }
        }
        Order::First => match rights.await {
            Ok(()) => pod.await,
            Err(error) => held_by_quota(error),
        },
    }
}

/// A pod for whose rights the quota has no room goes again: its agent could not even say what it waits for, and would
/// soon count as broken.
async fn without_rights(
    client: &Client,
    namespace: &str,
    attempt: &StoredAttempt<'_>,
    error: ApplyError,
) -> Result<PodOutcome, ApplyError> {
    let held = held_by_quota(error)?;
    cleanup::take(client, namespace, &attempt.pod_name(), attempt.uid).await?;
    Ok(held)
}

/// A RoleBinding can only name a Role that is there.
async fn create_rights(
    client: &Client,
    namespace: &str,
    owner: &str,
    Rights { role, role_binding }: &Rights,
) -> Result<(), ApplyError> {
    create(client, namespace, owner, role).await?;
    create(client, namespace, owner, role_binding).await.map(|_| ())
}

/// A quota may count more than pods, and is waited for then as well. Other refusals say nothing about the task.
fn held_by_quota(error: ApplyError) -> Result<PodOutcome, ApplyError> {
    match refused(&error) {
        Some(refusal @ Refusal::Quota(_)) => Ok(PodOutcome::Refused(refusal)),
        Some(Refusal::Admission(_) | Refusal::Invalid(_)) | None => Err(error),
    }
}

fn is_held_by_quota(error: &RequestError) -> bool {
    matches!(error.status().and_then(refusal), Some(Refusal::Quota(_)))
}

fn refused(error: &ApplyError) -> Option<Refusal> {
    match error {
        ApplyError::Write { source, .. } => source.status().and_then(refusal),
        ApplyError::Foreign(_) | ApplyError::Incomplete { .. } => None,
    }
}

async fn apply_attempt(client: &Client, attempt: &AgentAttempt) -> Result<AgentAttempt, ApplyError> {
    let name = attempt.metadata.name.clone().unwrap_or_default();
    let api: Api<AgentAttempt> =
        Api::namespaced(client.clone(), attempt.metadata.namespace.as_deref().unwrap_or_default());
    let params = PatchParams::apply(names::CONTROLLER_MANAGER).force();
    let applied = bounded(api.patch(&name, &params, &Patch::Apply(attempt)))
        .await
        .map_err(|source| failed::<AgentAttempt>("apply", &name, source))?;
    // Whoever made an object of this name before us owns it: the apply has only added to it.
    let owners = applied.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    if controllers.any(|owner| owner.uid != attempt.spec.task_uid) {
        return Err(Foreign { kind: "AgentAttempt", name }.into());
    }
    Ok(applied)
}

/// Creates an object, or makes sure that the one that is there has the same owner.
async fn create<K>(client: &Client, namespace: &str, owner: &str, object: &K) -> Result<Created, ApplyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params =
        PostParams { field_manager: Some(names::CONTROLLER_MANAGER.to_owned()), ..PostParams::default() };
    match bounded(api.create(&params, object)).await {
        Ok(_) => Ok(Created::Now),
        // A quota refuses before anybody looks whether the object is there already, and what it counts may be that.
        Err(error) if error.is_already_there() || is_held_by_quota(&error) => {
            let there = bounded(api.get_metadata_opt(&name))
                .await
                .map_err(|source| failed::<K>("read", &name, source))?;
            match there {
                Some(there) if is_controlled_by(&there.metadata, owner) => Ok(Created::Before),
                Some(_) => Err(Foreign { kind: kind::<K>(), name }.into()),
                None => Err(failed::<K>("create", &name, error)),
            }
        }
        Err(source) => Err(failed::<K>("create", &name, source)),
    }
}

/// Deletes the object of this name if it is still the one of this UID; one that is gone, or another one by now,
/// is no error.
pub(super) async fn delete<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), ApplyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::background()
    };
    match bounded(api.delete(name, &params)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(source) => Err(failed::<K>("delete", name, source)),
    }
}

/// Whether an object's controlling owner has this UID.
pub(super) fn is_controlled_by(metadata: &kube::api::ObjectMeta, owner: &str) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.any(|reference| reference.controller == Some(true) && reference.uid == owner)
}

pub(super) fn failed<K: Resource<DynamicType = ()>>(
    verb: &'static str,
    name: &str,
    source: RequestError,
) -> ApplyError {
    ApplyError::Write { verb, kind: kind::<K>(), name: name.to_owned(), source }
}

/// The kind's name, which is static for all types that are known when compiling.
pub(super) fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}
