//! Sees what one pass needs to see. The only place that reads on the way to a decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

use super::apply::{is_controlled_by, kind};
use super::artifact;
use super::caches::{Caches, Guarded};
use super::error::{Foreign, ObserveError, RequestError};
use super::observed::{ArtifactCheck, Former, Observed, References, SecretFacts, TaskId, ended};
use super::request::bounded;
use super::validate::{Named, named};
use crate::api::task::ConfigMapKeyRef;
use crate::api::{AgentAttempt, AgentEnvironment, AgentMessage, AgentTask, HOSTS_ANNOTATION, ModelProvider};
use crate::names;

/// Messages to one task that are read at a time: 8 MiB if each is as long as it may be.
const PAGE: u32 = 500;

/// Pages that are read. Who says more than 2,000 things to one task floods it: the first ones by name are seen.
const MAX_PAGES: u32 = 4;

/// Looks at a task through the watches, or at the API server itself where their view shows no pod: to create is
/// the one thing that must not rest on an old view.
pub(super) async fn observe(
    client: &kube::Client,
    caches: &Caches,
    task: &Arc<AgentTask>,
    id: &TaskId,
) -> Result<Observed, ObserveError> {
    // A store without its first list shows too little of everything.
    if !caches.are_filled() {
        return Box::pin(observe_live(client, id, task)).await;
    }
    let attempt = caches.attempt(id).filter(|attempt| is_controlled_by(&attempt.metadata, &id.uid));
    let owner = attempt.as_ref().and_then(|attempt| attempt.metadata.uid.clone());
    let pod = caches.pod(id);
    let pod = pod.filter(|pod| owner.as_ref().is_some_and(|owner| is_controlled_by(&pod.metadata, owner)));
    let observed = Observed {
        id: id.clone(),
        task: task.clone(),
        attempt: attempt.map(Arc::new),
        foreign: None,
        pod,
        messages: caches.messages(id),
        references: None,
        patch: None,
        live: false,
    };
    if observed.pod.is_some() || observed.ended().is_some() || task.metadata.deletion_timestamp.is_some() {
        return Ok(observed);
    }
    Box::pin(observe_live(client, id, task)).await
}

/// Looks at a task at the API server. `known` is any version of it: the names of what it refers to never change,
/// so that these are read in the same breath. To be put on the heap: what is read would fill a thread's stack.
pub(super) async fn observe_live(
    client: &kube::Client,
    id: &TaskId,
    known: &AgentTask,
) -> Result<Observed, ObserveError> {
    let (task, attempt, pod, messages, named) = tokio::try_join!(
        get::<AgentTask>(client, id, id.name.clone()),
        get::<AgentAttempt>(client, id, id.attempt_name()),
        get::<Pod>(client, id, id.pod_name()),
        messages(client, id),
        environment_and_provider(client, id, known),
    )?;
    let task = task.filter(|task| task.metadata.uid.as_deref() == Some(&id.uid)).ok_or(ObserveError::Gone)?;
    let is_own = attempt.as_ref().is_none_or(|attempt| is_controlled_by(&attempt.metadata, &id.uid));
    let foreign = (!is_own).then(|| Foreign { kind: "AgentAttempt", name: id.attempt_name() });
    let attempt = attempt.filter(|_| is_own);
    let owner = attempt.as_ref().and_then(|attempt| attempt.metadata.uid.as_deref());
    // A pod without its attempt is on its way out with it: it is not this task's any more.
    let pod = pod.filter(|pod| owner.is_some_and(|owner| is_controlled_by(&pod.metadata, owner)));
    let mut observed = Observed {
        id: id.clone(),
        task: Arc::new(task),
        attempt: attempt.map(Arc::new),
        foreign,
        pod: pod.map(Arc::new),
        messages,
        references: None,
        patch: None,
        live: true,
    };
    if observed.ended().is_none() {
        if observed.pod.is_none() && !observed.pod_was_made() {
            observed.references = Some(Box::pin(references(client, id, &observed.task, named)).await?);
        }
        observed.patch = patch(client, &observed).await?;
    }
    Ok(observed)
}

type EnvironmentAndProvider = (Option<AgentEnvironment>, Option<ModelProvider>);

/// What a task without a pod names. Of one that has had its pod, nobody needs it any more.
async fn environment_and_provider(
    client: &kube::Client,
    id: &TaskId,
    known: &AgentTask,
) -> Result<EnvironmentAndProvider, ObserveError> {
    if known.status.as_ref().is_some_and(|status| status.resolved.is_some()) {
        return Ok((None, None));
    }
    tokio::try_join!(
        get::<AgentEnvironment>(client, id, known.spec.environment_name.clone()),
        get::<ModelProvider>(client, id, known.spec.model.provider_name.clone()),
    )
}

async fn references(
    client: &kube::Client,
    id: &TaskId,
    task: &AgentTask,
    (environment, provider): EnvironmentAndProvider,
) -> Result<References, ObserveError> {
    // On the heap: the state of all that is read in one pass would not fit a thread's stack.
    let former = Box::pin(former(client, id, task)).await?;
    let Named { config_maps, secrets } =
        named(task, environment.as_ref(), provider.as_ref(), former.as_ref());
    // At most a dozen of each, by the schema's bounds.
    let config_maps = config_maps.into_iter().map(|name| get::<ConfigMap>(client, id, name));
    let secrets = secrets.into_iter().map(|name| get::<Secret>(client, id, name));
    let (config_maps, secrets) = tokio::try_join!(
        futures::future::try_join_all(config_maps),
        futures::future::try_join_all(secrets),
    )?;
    let config_maps: Vec<_> = config_maps.into_iter().flatten().collect();
    let output_schema = task.spec.output.as_ref().and_then(|output| {
        let ConfigMapKeyRef { name, key } = &output.schema_from.config_map_key_ref;
        let found = config_maps.iter().find(|found| found.metadata.name.as_ref() == Some(name))?;
        found.data.as_ref()?.get(key).cloned()
    });
    let binary_data = config_maps.iter().filter_map(binary_keys).collect();
    let config_maps = config_maps.into_iter().filter_map(config_map_facts).collect();
    let secrets = secrets.into_iter().flatten().filter_map(secret_facts).collect();
    Ok(References { environment, provider, config_maps, binary_data, former, output_schema, secrets })
}

/// The task that another one goes on with, and the attempt of it that is named.
async fn former(
    client: &kube::Client,
    id: &TaskId,
    task: &AgentTask,
) -> Result<Option<Former>, ObserveError> {
    let Some(from) = &task.spec.continue_from else { return Ok(None) };
    let Some(found) = get::<AgentTask>(client, id, from.task_name.clone()).await? else { return Ok(None) };
    let uid = found.metadata.uid.clone().unwrap_or_default();
    let name = names::attempt(&from.task_name, &uid, from.attempt);
    let attempt = get::<AgentAttempt>(client, id, name).await?;
    let attempt = attempt.filter(|attempt| is_controlled_by(&attempt.metadata, &uid));
    Ok(Some(Former { ended: ended(&found).is_some(), attempt: attempt.map(Arc::new) }))
}

fn config_map_facts(config_map: ConfigMap) -> Option<(String, BTreeMap<String, usize>)> {
    let keys = config_map.data.unwrap_or_default();
    Some((config_map.metadata.name?, keys.into_iter().map(|(key, text)| (key, text.trim().len())).collect()))
}

fn binary_keys(config_map: &ConfigMap) -> Option<(String, BTreeSet<String>)> {
    let keys = config_map.binary_data.as_ref()?.keys().cloned().collect();
    Some((config_map.metadata.name.clone()?, keys))
}

fn secret_facts(secret: Secret) -> Option<(String, SecretFacts)> {
    let mut annotations = secret.metadata.annotations.unwrap_or_default();
    let values = secret.data.unwrap_or_default();
    let keys: BTreeSet<_> =
        values.into_iter().filter(|(_, value)| !value.0.is_empty()).map(|(key, _)| key).collect();
    Some((secret.metadata.name?, SecretFacts { hosts: annotations.remove(HOSTS_ANNOTATION), keys }))
}

/// Compares the patch with what the attempt's status says of it.
async fn patch(client: &kube::Client, observed: &Observed) -> Result<Option<ArtifactCheck>, ObserveError> {
    let (Some(attempt), Some(report)) = (&observed.attempt, observed.report()) else { return Ok(None) };
    let Some(patch) = &report.patch else { return Ok(None) };
    let job = &attempt.spec.job;
    let config_map = match &patch.artifact {
        Some(artifact) if artifact.config_map_name == job.patch_artifact_name => {
            get::<ConfigMap>(client, &observed.id, job.patch_artifact_name.clone()).await?
        }
        Some(_) | None => None,
    };
    let owner = attempt.metadata.uid.as_deref().unwrap_or_default();
    let config_map = config_map.filter(|found| is_controlled_by(&found.metadata, owner));
    let limit = if job.mode.changes() { job.limits.patch_bytes } else { 0 };
    let patch = patch.clone();
    // Up to 100 MiB are unpacked and hashed: no work for a thread that others wait for.
    let check =
        tokio::task::spawn_blocking(move || artifact::check(&patch, config_map.as_ref(), limit)).await;
    Ok(Some(check.unwrap_or_else(|_| ArtifactCheck::Wrong("its patch could not be checked".into()))))
}

async fn messages(client: &kube::Client, id: &TaskId) -> Result<Vec<Arc<AgentMessage>>, ObserveError> {
    // As in the watch, one that does not fit our types must not hide the others.
    let api: Api<Guarded<AgentMessage>> = Api::namespaced(client.clone(), &id.namespace);
    let mut params = ListParams::default().fields(&format!("spec.taskName={}", id.name)).limit(PAGE);
    let mut messages = Vec::new();
    for _ in 0..MAX_PAGES {
        let list = bounded(api.list(&params))
            .await
            .map_err(|source| read_failed("the AgentMessages of", id.name.clone(), source))?;
        messages.extend(list.items.into_iter().filter_map(|message| message.0.ok()).map(Arc::new));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(messages),
        }
    }
    tracing::warn!(task = id.name, seen = messages.len(), "the task has more messages than are looked at");
    Ok(messages)
}

async fn get<K>(client: &kube::Client, id: &TaskId, name: String) -> Result<Option<K>, ObserveError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<Guarded<K>> = Api::namespaced(client.clone(), &id.namespace);
    let found = bounded(api.get_opt(&name)).await;
    let found = found.map_err(|source| read_failed(kind::<K>(), name.clone(), source))?;
    let found = found.map(|found| found.0).transpose();
    found.map_err(|invalid| ObserveError::Unreadable { kind: kind::<K>(), name, fault: invalid.error })
}

fn read_failed(kind: &'static str, name: String, source: RequestError) -> ObserveError {
    ObserveError::Read { kind, name, source }
}
