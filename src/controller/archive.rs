//! An attempt's artifacts in the object store, where one is configured: carried there when the attempt ends, read from
//! there, and deleted when the attempt goes. Agents know nothing of it, and have no credential for it: they fill their
//! ConfigMaps and read ConfigMaps.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};

use super::apply::{delete, failed, is_controlled_by};
use super::artifact;
use super::build::finalizer;
use super::context::Context;
use super::error::{ApplyError, ObserveError, RequestError};
use super::observed::{ArtifactCheck, Observed, SeenAttempt, TaskId};
use super::plan::{EndedBy, Ending, Situation};
use super::request::bounded;
use crate::api::attempt::{ArtifactRef, Job};
use crate::api::conditions::cut;
use crate::api::reasons::Reason;
use crate::api::{AgentAttempt, AgentAttemptStatus};
use crate::artifacts::{ArtifactStore, ObjectKey, StoreError};
use crate::names::{self, ArtifactKind, PATCH_KEY, TRANSCRIPT_KEY};

/// How long an attempt whose work is done waits for a store that is away. Then it ends with its artifacts in their
/// ConfigMaps, where nothing is lost, and whoever waits for the task can go on.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// How soon a store that is away is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// How often attempts that go are looked for. Only the cache is read.
const INTERVAL: Duration = Duration::from_secs(5);

/// The longest text of the store's in a condition.
const MAX_FAULT: usize = 512;

/// Bytes to which a transcript is unpacked to be checked: as many as its readers unpack.
const TRANSCRIPT_MAX: i64 = 256 << 20;

/// How an attempt stands whose end was reported, and where its artifacts are.
#[derive(Debug)]
pub(super) struct Archived {
    pub(super) situation: Situation,
    /// URLs of those in the store.
    pub(super) urls: Vec<String>,
}

enum CarryError {
    Store(StoreError),
    Apply(ApplyError),
}

/// An artifact that an attempt reports.
struct Reported<'a> {
    kind: ArtifactKind,
    name: &'a str,
    key: &'static str,
    artifact: &'a ArtifactRef,
    /// How far it is unpacked.
    limit: i64,
}

/// Carries the artifacts of an attempt that ends to the store. While that is away, the attempt has not ended yet.
pub(super) async fn at_end(
    context: &Context,
    id: &TaskId,
    seen: &SeenAttempt,
    ending: &Ending,
    now: Timestamp,
) -> Result<Archived, ApplyError> {
    let Some(store) = &context.store else {
        return Ok(Archived { situation: Situation::Ended(ending.clone()), urls: Vec::new() });
    };
    let error = match carry(&context.client, store, id, seen).await {
        Ok(urls) => return Ok(Archived { situation: Situation::Ended(ending.clone()), urls }),
        Err(CarryError::Apply(error)) => return Err(error),
        Err(CarryError::Store(error)) => error,
    };
    tracing::warn!(namespace = id.namespace, task = id.name, %error, "artifacts can't be carried to the store");
    let text = error.to_string();
    let fault = cut(&text, MAX_FAULT);
    // One that the controller ended gets no further time: its pod, which nobody drives any more, would have it too.
    let waits = ending.by == EndedBy::Agent && is_recent(seen, now);
    let situation = if waits {
        let reason = if seen.epoch().is_verification() { Reason::Verifying } else { Reason::Running };
        let message = format!(
            "the work is done; its artifacts are safe in ConfigMaps and wait for the artifact store, for at most {} minutes: {fault}",
            PATIENCE.as_mins()
        );
        Situation::Working { reason, message, until: now.checked_add(AGAIN).ok() }
    } else {
        let message = format!("{} (its artifacts stay in ConfigMaps: {fault})", ending.message);
        Situation::Ended(Ending { message, ..ending.clone() })
    };
    Ok(Archived { situation, urls: Vec::new() })
}

/// Whether an attempt's last word is young. One from the future counts as old: its agent may have been taken over, and
/// must not hold the end back.
fn is_recent(seen: &SeenAttempt, now: Timestamp) -> bool {
    let last = seen.report().and_then(|report| report.last_progress_time.as_ref());
    last.is_some_and(|last| now.duration_since(last.0).abs() < PATIENCE)
}

/// What was carried away, judged anew: the ConfigMap of such a patch is gone.
pub(super) async fn look(context: &Context, mut observed: Observed) -> Result<Observed, ObserveError> {
    let Some(store) = context.store.as_ref().filter(|_| observed.live) else { return Ok(observed) };
    let id = observed.id.clone();
    for seen in &mut observed.attempts {
        let (Some(ArtifactCheck::Wrong(_)), Some(attempt)) = (&seen.patch, &seen.attempt) else { continue };
        let Some(patch) = seen.report().and_then(|report| report.patch.clone()) else { continue };
        if !finalizer::is_held(&attempt.metadata) {
            continue;
        }
        let uid = attempt.metadata.uid.as_deref().unwrap_or_default();
        let key = ObjectKey::new(&id.namespace, uid, ArtifactKind::Patch, &patch.sha256);
        let content = match store.get(&key).await {
            Ok(content) => content,
            Err(StoreError::Missing(_) | StoreError::TooLarge(_)) => continue,
            Err(error) => return Err(ObserveError::Store(error)),
        };
        let limit = patch_limit(&attempt.spec.job);
        let check = move || artifact::check(&patch, Some(&content), limit);
        seen.patch = tokio::task::spawn_blocking(check).await.ok().or_else(|| seen.patch.clone());
    }
    Ok(observed)
}

/// Reads an artifact that a job goes on with.
pub(super) async fn fetch(
    context: &Context,
    namespace: &str,
    artifact: &ArtifactRef,
) -> Result<Vec<u8>, String> {
    let url = &artifact.url;
    let from = context.store.as_ref().and_then(|store| Some((store, store.key_of(url, namespace)?)));
    let Some((store, key)) = from else {
        return Err(format!(
            "{url}, which it goes on with, is in no artifact store that this controller has; configure the one it is in (artifactStore of the chart)"
        ));
    };
    let content = store.get(&key).await.map_err(|error| {
        let text = error.to_string();
        format!("{url}, which it goes on with, can't be read: {}", cut(&text, MAX_FAULT))
    })?;
    Ok(content.into())
}

/// Deletes what attempts that go have in the store, and lets them go; for ever.
pub(super) async fn release_forever(context: Arc<Context>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        release(&context).await;
    }
}

pub(super) async fn release(context: &Context) {
    let attempts = context.caches.attempts.state();
    for attempt in &attempts {
        let metadata = attempt.meta();
        if metadata.deletion_timestamp.is_none() || !finalizer::is_held(metadata) {
            continue;
        }
        let (namespace, uid) =
            (metadata.namespace.as_deref().unwrap_or_default(), metadata.uid.as_deref().unwrap_or_default());
        match &context.store {
            Some(store) => {
                if let Err(error) = store.clear(namespace, uid).await {
                    tracing::warn!(namespace, attempt = metadata.name, %error, "the artifacts of an attempt can't be deleted yet");
                    // What is true of the store is true of the next one too.
                    return;
                }
            }
            // Otherwise its namespace could never be deleted again.
            None => tracing::warn!(
                namespace,
                attempt = metadata.name,
                folder = format!("{namespace}/{uid}"),
                "no artifact store is configured any more: what it has of this attempt stays there"
            ),
        }
        if let Err(error) = let_go(context, metadata).await
            && !error.is_not_found()
            && !error.is_conflict()
        {
            tracing::warn!(namespace, attempt = metadata.name, %error, "an attempt can't be let go yet");
        }
    }
}

/// Carries what is sound: puts all of it, and then takes the ConfigMaps. Both can be done again, also in the middle.
async fn carry(
    client: &kube::Client,
    store: &ArtifactStore,
    id: &TaskId,
    seen: &SeenAttempt,
) -> Result<Vec<String>, CarryError> {
    let (Some(attempt), Some(report)) = (&seen.attempt, seen.report()) else { return Ok(Vec::new()) };
    let Some(uid) = attempt.metadata.uid.as_deref() else { return Ok(Vec::new()) };
    let namespace = id.namespace.as_str();
    let was_carried = finalizer::is_held(&attempt.metadata);
    let mut urls = Vec::new();
    let mut parcels = Vec::new();
    for reported in artifacts(seen, &attempt.spec.job, report) {
        let key = ObjectKey::new(namespace, uid, reported.kind, &reported.artifact.sha256);
        let there = config_map(client, namespace, reported.name, uid).await.map_err(CarryError::Apply)?;
        let content = there.as_ref().and_then(|found| found.binary_data.as_ref()?.get(reported.key));
        match (content, there.as_ref().and_then(|found| found.metadata.uid.clone())) {
            (Some(content), Some(owner)) => {
                let content = content.0.clone();
                if let Some(content) = sound(content, &reported).await {
                    urls.push(store.url(&key));
                    parcels.push((key, content, reported.name, owner));
                }
            }
            // A pass that broke off has carried it already.
            _ if was_carried => match store.get(&key).await {
                Ok(content) => {
                    let is_sound = sound(content.into(), &reported).await.is_some();
                    urls.extend(is_sound.then(|| store.url(&key)));
                }
                Err(StoreError::Missing(_) | StoreError::TooLarge(_)) => {}
                Err(error) => return Err(CarryError::Store(error)),
            },
            _ => {}
        }
    }
    if !parcels.is_empty() && !was_carried {
        hold(client, attempt).await.map_err(CarryError::Apply)?;
    }
    let mut taken = Vec::new();
    for (key, content, name, owner) in parcels {
        store.put(&key, content).await.map_err(CarryError::Store)?;
        taken.push((name, owner));
    }
    for (name, owner) in taken {
        delete::<ConfigMap>(client, namespace, name, &owner).await.map_err(CarryError::Apply)?;
    }
    Ok(urls)
}

/// What an attempt has reported under its own names: a patch only if it was found good.
fn artifacts<'a>(seen: &SeenAttempt, job: &'a Job, report: &'a AgentAttemptStatus) -> Vec<Reported<'a>> {
    let patch = report.patch.as_ref().filter(|_| matches!(seen.patch, Some(ArtifactCheck::Good(_))));
    let patch = patch.and_then(|patch| patch.artifact.as_ref()).map(|artifact| Reported {
        kind: ArtifactKind::Patch,
        name: &job.patch_artifact_name,
        key: PATCH_KEY,
        artifact,
        limit: patch_limit(job),
    });
    let transcript = report.transcript.as_ref().zip(job.transcript_artifact_name.as_ref());
    let transcript = transcript.map(|(artifact, name)| Reported {
        kind: ArtifactKind::Transcript,
        name,
        key: TRANSCRIPT_KEY,
        artifact,
        limit: TRANSCRIPT_MAX,
    });
    let own = |it: &Reported<'_>| it.artifact.config_map_name == it.name && it.artifact.key == it.key;
    [patch, transcript].into_iter().flatten().filter(own).collect()
}

/// The content, if it has the length and digest that were reported.
async fn sound(content: Vec<u8>, reported: &Reported<'_>) -> Option<Vec<u8>> {
    let ArtifactRef { sha256, bytes, .. } = reported.artifact.clone();
    let limit = reported.limit.min(bytes);
    // Unpacking and hashing are no work for a thread that others wait for.
    let checked = tokio::task::spawn_blocking(move || {
        artifact::unpack(&content, limit)
            .is_some_and(|(length, digest, _)| (length, digest) == (bytes, sha256))
            .then_some(content)
    });
    checked.await.ok().flatten()
}

fn patch_limit(job: &Job) -> i64 {
    if job.mode.changes() { job.limits.patch_bytes } else { 0 }
}

async fn config_map(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    owner: &str,
) -> Result<Option<ConfigMap>, ApplyError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found =
        bounded(api.get_opt(name)).await.map_err(|source| failed::<ConfigMap>("read", name, source))?;
    Ok(found.filter(|found| is_controlled_by(&found.metadata, owner)))
}

/// Keeps an attempt from going before what it has in the store is deleted. Done before anything is put there.
async fn hold(client: &kube::Client, attempt: &AgentAttempt) -> Result<(), ApplyError> {
    let ObjectMeta { name, namespace, .. } = &attempt.metadata;
    let name = name.as_deref().unwrap_or_default();
    let api: Api<AgentAttempt> = Api::namespaced(client.clone(), namespace.as_deref().unwrap_or_default());
    let patch = Patch::Apply(finalizer::held(&attempt.metadata));
    let params = PatchParams::apply(names::ARTIFACTS_MANAGER).force();
    let held = bounded(api.patch_metadata(name, &params, &patch)).await;
    held.map(drop).map_err(|source| failed::<AgentAttempt>("hold", name, source))
}

async fn let_go(context: &Context, metadata: &ObjectMeta) -> Result<(), RequestError> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let api: Api<AgentAttempt> =
        Api::namespaced(context.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
    let patch = Patch::Merge(finalizer::released(metadata));
    bounded(api.patch_metadata(name, &PatchParams::default(), &patch)).await.map(drop)
}
