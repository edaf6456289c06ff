//! The controller: from an AgentTask to its pods and back.
//!
//! A pass over a task goes `observe` (reads) → `validate` and `plan` (decide) → `apply` (writes) → `status`
//! (decides, one write). It starts from what it sees, never from what it remembers, so it may break off
//! anywhere and be made again.

pub mod backoff;
pub mod build;
pub mod cleanup;
pub mod error;
pub mod inbox;
pub mod observed;
pub mod pace;
pub mod plan;
pub mod pod_state;
pub mod queue;
pub mod refusal;
pub mod selection;
pub mod start;
pub mod status;
pub mod validate;

mod answers;
mod apply;
mod archive;
mod artifact;
mod caches;
mod context;
mod events;
mod observe;
mod orphans;
mod reconcile;
mod request;
#[cfg(test)]
mod tests;
mod turns;
mod unreadable;

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::{Config as Workers, Controller, Error as LoopError};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::caches::Scope;
use self::caches::{Caches, Guarded, Triggers, watch};
use self::context::Context;
use self::start::{RunError, check_definitions};
use crate::api::{AgentEnvironment, AgentMessage, AgentTask, ModelProvider};
use crate::artifacts::ArtifactStore;
use crate::clock::SystemClock;
use crate::config::ControllerConfig;
use crate::names;
use crate::server::{self, Health};
use crate::telemetry::metrics::Metrics;

/// Runs the controller until `stop`, then lets running passes end.
///
/// # Errors
///
/// When the cluster does not serve our kinds, when the listen address is taken, or when a watch loop ends by
/// itself.
pub async fn run(config: ControllerConfig, client: Client, stop: CancellationToken) -> Result<(), RunError> {
    check_definitions(&client).await?;
    let store =
        config.artifact_store.as_deref().map(|url| ArtifactStore::open(url, environment())).transpose()?;
    let metrics = Arc::new(Metrics::new()?);
    let health = Arc::new(Health::default());
    let reporter =
        Reporter { controller: names::CONTROLLER_MANAGER.into(), instance: config.instance.clone() };
    let mut parts = JoinSet::new();
    let mut stores = Vec::new();
    for scope in &config.scopes {
        let (caches, triggers) = watch(&client, scope);
        stores.push(caches.clone());
        let context = Arc::new(Context {
            client: client.clone(),
            caches,
            reporter: reporter.clone(),
            metrics: metrics.clone(),
            agent: config.agent.clone(),
            store: store.clone(),
            clock: Arc::new(SystemClock),
            backoff: Mutex::default(),
            pace: Mutex::default(),
            queue: Mutex::default(),
        });
        parts.spawn(run_scope(context, triggers, config.concurrency, stop.clone()));
    }
    let render = {
        let stores = stores.clone();
        move || metrics.render(stores.iter().flat_map(reasons))
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| RunError::Listen { address: config.listen, source })?;
    let serving = server::serve(listener, health.clone(), render, stop.clone());
    parts.spawn(async { serving.await.map_err(RunError::Serve) });
    parts.spawn(become_ready(stores, health, stop.clone()));
    while let Some(ended) = parts.join_next().await {
        // Without one part it is no controller: the rest ends too, and the process is started anew.
        stop.cancel();
        ended??;
    }
    Ok(())
}

async fn run_scope(
    context: Arc<Context>,
    triggers: Triggers,
    concurrency: u16,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let orphans = orphans::answer_forever(context.clone());
    let released = archive::release_forever(context.clone());
    let (woken, due) = mpsc::channel(turns::WOKEN);
    let turns = turns::wake_forever(context.clone(), woken);
    let tasks = run_tasks(context, triggers, due, concurrency, stop.clone());
    tokio::select! {
        () = orphans => {}
        () = released => {}
        () = turns => {}
        () = tasks => {}
    }
    if stop.is_cancelled() { Ok(()) } else { Err(RunError::Ended) }
}

async fn run_tasks(
    context: Arc<Context>,
    triggers: Triggers,
    mut due: mpsc::Receiver<ObjectRef<Guarded<AgentTask>>>,
    concurrency: u16,
    stop: CancellationToken,
) {
    let Triggers { tasks, attempts, pods, messages, environments, providers } = triggers;
    let of_environment = {
        let caches = context.caches.clone();
        move |environment: Guarded<AgentEnvironment>| {
            let name = environment.name_any();
            let namespace = environment.namespace();
            caches.waiting(namespace.as_deref(), |task| task.spec.environment_name == name)
        }
    };
    let of_provider = {
        let caches = context.caches.clone();
        move |provider: Guarded<ModelProvider>| {
            let name = provider.name_any();
            let namespace = provider.namespace();
            caches.waiting(namespace.as_deref(), |task| task.spec.model.provider_name == name)
        }
    };
    Controller::for_stream(tasks, context.caches.tasks.clone())
        .with_config(Workers::default().concurrency(concurrency))
        .owns_stream(attempts)
        .watches_stream(pods, of_pod)
        .watches_stream(messages, of_message)
        .watches_stream(environments, of_environment)
        .watches_stream(providers, of_provider)
        .reconcile_on(futures::stream::poll_fn(move |context| due.poll_recv(context)))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile::reconcile, reconcile::on_error, context)
        .for_each(|outcome| async {
            match outcome {
                // A failed pass was logged where its wait was chosen.
                Ok(_) | Err(LoopError::ReconcilerFailed(..)) => {}
                // A pass that was due for a task that is gone, or for a message without one.
                Err(LoopError::ObjectNotFound(object)) => tracing::debug!(%object, "no such task"),
                Err(LoopError::QueueError(error)) => tracing::warn!(%error, "a watch was interrupted"),
                Err(LoopError::RunnerError(error)) => tracing::error!(%error, "the pass runner failed"),
            }
        })
        .await;
}

/// A pod says by its label which task it belongs to; the pass itself looks at the owner.
fn of_pod(pod: Pod) -> Option<ObjectRef<Guarded<AgentTask>>> {
    let name = pod.labels().get(names::TASK_LABEL)?;
    Some(ObjectRef::new(name).within(pod.metadata.namespace.as_deref()?))
}

fn of_message(message: Guarded<AgentMessage>) -> Option<ObjectRef<Guarded<AgentTask>>> {
    let message = message.0.ok()?;
    Some(ObjectRef::new(&message.spec.task_name).within(message.metadata.namespace.as_deref()?))
}

/// The variables of the process that are text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The reason of each task.
fn reasons(caches: &Caches) -> Vec<Option<crate::api::Reason>> {
    let tasks = caches.tasks.state();
    tasks.iter().filter_map(|task| task.0.as_ref().ok()).map(observed::reason).collect()
}

async fn become_ready(
    stores: Vec<Caches>,
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let filled = async {
        for caches in &stores {
            caches.wait_until_filled().await;
        }
    };
    tokio::select! {
        () = filled => health.set_ready(),
        () = stop.cancelled() => {}
    }
    // Not being ready any more is said before the listener closes.
    stop.cancelled().await;
    health.set_unready();
    Ok(())
}
