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
use super::observed::{
    ArtifactCheck, Epoch, Former, Observed, References, SecretFacts, SeenAttempt, TaskId, ended, indices,
};
use super::queue::Turn;
use super::request::bounded;
use super::selection;
use super::validate::{Named, named};
use crate::api::task::ConfigMapKeyRef;
use crate::api::{AgentAttempt, AgentEnvironment, AgentMessage, AgentTask, HOSTS_ANNOTATION, ModelProvider};
use crate::names::{self, PATCH_KEY};

/// Messages to one task that are read at a time: 8 MiB if each is as long as it may be.
const PAGE: u32 = 500;

/// Pages that are read. Who says more than 2,000 things to one task floods it: the first ones by name are seen.
const MAX_PAGES: u32 = 4;

/// Looks at a task through the watches, or at the API server itself where their view shows an attempt without its
/// pod: to create is the one thing that must not rest on an old view.
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
    let attempts = indices(task).map(|index| {
        let attempt = caches.attempt(id, index).filter(|found| is_controlled_by(&found.metadata, &id.uid));
        let pods = Epoch::ALL.map(|epoch| caches.pod(id, index, epoch));
        own(SeenAttempt { attempt: attempt.map(Arc::new), ..SeenAttempt::recorded(task, index) }, pods)
    });
    let observed = Observed {
        id: id.clone(),
        task: task.clone(),
        attempts: attempts.collect(),
        messages: caches.messages(id),
        references: None,
        turn: Turn::Free,
        live: false,
    };
    let is_whole = observed.attempts.iter().all(|seen| seen.pod.is_some() || seen.ended().is_some());
    if is_whole || observed.ended().is_some() || task.metadata.deletion_timestamp.is_some() {
        return Ok(observed);
    }
    Box::pin(observe_live(client, id, task)).await
}

/// Looks at a task at the API server. `known` is any version of it: how many attempts it makes and the names of what
/// it refers to never change, so that these are read in the same breath.
/// To be put on the heap: what is read would fill a thread's stack.
pub(super) async fn observe_live(
    client: &kube::Client,
    id: &TaskId,
    known: &AgentTask,
) -> Result<Observed, ObserveError> {
    let attempts = indices(known).map(|index| attempt(client, id, known, index));
    let (task, attempts, messages, named) = tokio::try_join!(
        get::<AgentTask>(client, id, id.name.clone()),
        futures::future::try_join_all(attempts),
        messages(client, id),
        environment_and_provider(client, id, known),
    )?;
    let task = task.filter(|task| task.metadata.uid.as_deref() == Some(&id.uid)).ok_or(ObserveError::Gone)?;
    let attempts = indices(&task).zip(attempts).map(|(index, (attempt, pods))| {
        let is_own = attempt.as_ref().is_none_or(|attempt| is_controlled_by(&attempt.metadata, &id.uid));
        let name = || id.attempt_name(index);
        let seen = SeenAttempt {
            foreign: (!is_own).then(|| Foreign { kind: "AgentAttempt", name: name() }),
            attempt: attempt.filter(|_| is_own).map(Arc::new),
            ..SeenAttempt::recorded(&task, index)
        };
        own(seen, pods.into_iter().map(|pod| pod.map(Arc::new)))
    });
    let mut observed = Observed {
        id: id.clone(),
        attempts: attempts.collect(),
        task: Arc::new(task),
        messages,
        references: None,
        turn: Turn::Free,
        live: true,
    };
    let has_ended = observed.ended().is_some();
    if !has_ended || selection::is_open(&observed) {
        let checks = observed.attempts.iter().map(|seen| patch(client, id, seen));
        let checks = futures::future::try_join_all(checks).await?;
        observed.attempts.iter_mut().zip(checks).for_each(|(seen, check)| seen.patch = check);
    }
    if !has_ended && observed.attempts.iter().any(SeenAttempt::lacks_its_first_pod) {
        observed.references = Some(Box::pin(references(client, id, &observed.task, named)).await?);
    }
    Ok(observed)
}

/// Whether one of a task's agents has its pod, as the API server has it.
pub(super) async fn has_work_pod(
    client: &kube::Client,
    id: &TaskId,
    task: &AgentTask,
) -> Result<bool, ObserveError> {
    let pods = indices(task).map(|index| get::<Pod>(client, id, id.pod_name(index, Epoch::Work)));
    let pods = futures::future::try_join_all(pods).await?;
    Ok(pods.iter().any(Option::is_some))
}

/// The attempt with its newest pod. A pod without its attempt is on its way out with it: it is not this task's any
/// more.
fn own(seen: SeenAttempt, pods: impl IntoIterator<Item = Option<Arc<Pod>>>) -> SeenAttempt {
    let owner = seen.attempt.as_ref().and_then(|attempt| attempt.metadata.uid.as_deref());
    let is_own = |pod: &Arc<Pod>| owner.is_some_and(|owner| is_controlled_by(&pod.metadata, owner));
    let own = Epoch::ALL.into_iter().zip(pods);
    let newest = own.filter_map(|(epoch, pod)| Some((epoch, pod.filter(is_own)?))).last();
    let Some((epoch, pod)) = newest else { return seen };
    let seen = SeenAttempt { pod_epoch: Some(epoch), ..seen };
    // The agent's own pod is on its way out when the one that verifies is due.
    if epoch < seen.epoch() { seen } else { SeenAttempt { pod: Some(pod), ..seen } }
}

type AttemptAndPods = (Option<AgentAttempt>, Vec<Option<Pod>>);

/// An attempt and its pods, in their order. One without verification has but one pod.
async fn attempt(
    client: &kube::Client,
    id: &TaskId,
    known: &AgentTask,
    index: i32,
) -> Result<AttemptAndPods, ObserveError> {
    let epochs = Epoch::ALL.into_iter();
    let epochs = epochs.filter(|epoch| !epoch.is_verification() || !known.spec.verification.is_empty());
    let pods = epochs.map(|epoch| get::<Pod>(client, id, id.pod_name(index, epoch)));
    tokio::try_join!(
        get::<AgentAttempt>(client, id, id.attempt_name(index)),
        futures::future::try_join_all(pods),
    )
}

type EnvironmentAndProvider = (Option<AgentEnvironment>, Option<ModelProvider>);

/// What a task names of which an attempt has had no pod. Later nobody needs it any more.
async fn environment_and_provider(
    client: &kube::Client,
    id: &TaskId,
    known: &AgentTask,
) -> Result<EnvironmentAndProvider, ObserveError> {
    if !indices(known).any(|index| SeenAttempt::recorded(known, index).lacks_its_first_pod()) {
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
    let schema = task.spec.output.as_ref().map(|output| &output.schema_from.config_map_key_ref);
    let secrets = secrets.into_iter().map(|name| get::<Secret>(client, id, name));
    let (texts, secrets) = tokio::try_join!(
        Box::pin(texts(client, id, config_maps, schema)),
        futures::future::try_join_all(secrets),
    )?;
    let Texts { config_maps, binary_data, output_schema } = texts;
    let secrets = secrets.into_iter().flatten().filter_map(secret_facts).collect();
    Ok(References { environment, provider, config_maps, binary_data, former, output_schema, secrets })
}

/// The task that another one goes on with, and the attempt of it that is named, or whose result is that task's.
async fn former(
    client: &kube::Client,
    id: &TaskId,
    task: &AgentTask,
) -> Result<Option<Former>, ObserveError> {
    let Some(from) = &task.spec.continue_from else { return Ok(None) };
    let Some(found) = get::<AgentTask>(client, id, from.task_name.clone()).await? else { return Ok(None) };
    let uid = found.metadata.uid.clone().unwrap_or_default();
    let index = from.attempt.or_else(|| selection::of(&found));
    let attempt = match index {
        Some(index) => get::<AgentAttempt>(client, id, names::attempt(&from.task_name, &uid, index)).await?,
        None => None,
    };
    let attempt = attempt.filter(|attempt| is_controlled_by(&attempt.metadata, &uid));
    let summaries = found.status.iter().flat_map(|status| &status.attempts);
    let stored = summaries.filter(|summary| Some(summary.index) == index).flat_map(|it| it.artifacts.clone());
    Ok(Some(Former {
        ended: ended(&found).is_some(),
        index,
        attempt: attempt.map(Arc::new),
        stored: stored.collect(),
    }))
}

/// What is known of ConfigMaps: their keys, and the text of one.
#[derive(Default)]
struct Texts {
    config_maps: BTreeMap<String, BTreeMap<String, usize>>,
    binary_data: BTreeMap<String, BTreeSet<String>>,
    output_schema: Option<String>,
}

/// Reads ConfigMaps one after the other, and keeps of each what is needed. A dozen of 1 MiB at a time, in every pass that
/// goes on beside this one, would be more than the controller's memory.
async fn texts(
    client: &kube::Client,
    id: &TaskId,
    names: Vec<String>,
    schema: Option<&ConfigMapKeyRef>,
) -> Result<Texts, ObserveError> {
    let mut texts = Texts::default();
    for name in names {
        let Some(found) = get::<ConfigMap>(client, id, name.clone()).await? else { continue };
        let mut data = found.data.unwrap_or_default();
        let lengths = data.iter().map(|(key, text)| (key.clone(), text.trim().len())).collect();
        texts.config_maps.insert(name.clone(), lengths);
        if let Some(ConfigMapKeyRef { key, .. }) = schema.filter(|schema| schema.name == name) {
            texts.output_schema = data.remove(key);
        }
        if let Some(binary) = found.binary_data {
            texts.binary_data.insert(name, binary.into_keys().collect());
        }
    }
    Ok(texts)
}

fn secret_facts(secret: Secret) -> Option<(String, SecretFacts)> {
    let mut annotations = secret.metadata.annotations.unwrap_or_default();
    let values = secret.data.unwrap_or_default();
    let keys: BTreeSet<_> =
        values.into_iter().filter(|(_, value)| !value.0.is_empty()).map(|(key, _)| key).collect();
    Some((secret.metadata.name?, SecretFacts { hosts: annotations.remove(HOSTS_ANNOTATION), keys }))
}

/// Compares the patch with what the attempt's status says of it.
async fn patch(
    client: &kube::Client,
    id: &TaskId,
    seen: &SeenAttempt,
) -> Result<Option<ArtifactCheck>, ObserveError> {
    let (Some(attempt), Some(report)) = (&seen.attempt, seen.report()) else { return Ok(None) };
    let Some(patch) = &report.patch else { return Ok(None) };
    let job = &attempt.spec.job;
    let config_map = match &patch.artifact {
        Some(artifact) if artifact.config_map_name == job.patch_artifact_name => {
            get::<ConfigMap>(client, id, job.patch_artifact_name.clone()).await?
        }
        Some(_) | None => None,
    };
    let owner = attempt.metadata.uid.as_deref().unwrap_or_default();
    let config_map = config_map.filter(|found| is_controlled_by(&found.metadata, owner));
    let limit = if job.mode.changes() { job.limits.patch_bytes } else { 0 };
    let content = config_map.and_then(|found| found.binary_data?.remove(PATCH_KEY));
    let patch = patch.clone();
    // Up to 100 MiB are unpacked and hashed: no work for a thread that others wait for.
    let check = tokio::task::spawn_blocking(move || {
        artifact::check(&patch, content.as_ref().map(|content| content.0.as_slice()), limit)
    })
    .await;
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
    let Some(found) = found else { return Ok(None) };
    match found.0 {
        Ok(found) => Ok(Some(found)),
        Err(invalid) => Err(ObserveError::Unreadable { kind: kind::<K>(), name, fault: invalid.error }),
    }
}

fn read_failed(kind: &'static str, name: String, source: RequestError) -> ObserveError {
    ObserveError::Read { kind, name, source }
}
