//! Turns of tasks in the queue of their ModelProvider: taken in a pass, and told when a place is free.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

use super::caches::{Caches, Guarded};
use super::context::{Context, lock};
use super::observe::has_work_pod;
use super::observed::{Epoch, Observed, TaskId, indices};
use super::queue::{Place, ProviderKey, Queue, Turn, due, standing};
use crate::api::AgentTask;

/// The pause between two looks at who may begin. Tasks change many times a second when many run, and each look goes
/// through all of them.
const PAUSE: Duration = Duration::from_millis(200);

/// Tasks that are told of their turn and not yet looked at. More of them wait here, not in memory.
pub(super) const WOKEN: usize = 64;

/// Says in what was observed whether it is the task's turn. Matters only before it has a pod.
pub(super) fn take(context: &Context, observed: Observed) -> Observed {
    let turn = turn(&context.caches, &mut lock(&context.queue), &observed, context.now());
    Observed { turn, ..observed }
}

/// Gives a place back that a pass took and made no pod for. The task steps aside: by its reason it may still look as if
/// it waited for its turn (a quota on AgentAttempts), and would be sent again and again.
pub(super) fn give_back(context: &Context, observed: &Observed) {
    let mut queue = lock(&context.queue);
    if queue.holds(&observed.id.uid) && queue.step_aside(&observed.id.uid) {
        context.caches.changed.notify_one();
    }
}

/// Gives the place back of a task whose pass failed, unless it has a pod: the next pass may fail like this one, for as
/// long as somebody's webhook is away, and others could run.
pub(super) async fn give_back_after_failure(context: &Context, id: &TaskId, task: &AgentTask) {
    if !lock(&context.queue).holds(&id.uid) {
        // It has no pod to ask for, and as one that waits it would be sent again before its backoff is over.
        if lock(&context.queue).step_aside(&id.uid) {
            context.caches.changed.notify_one();
        }
        return;
    }
    // Looked at afresh: what the pass made before it failed, the watches may not show yet.
    match has_work_pod(&context.client, id, task).await {
        Ok(true) => {}
        Ok(false) => {
            lock(&context.queue).step_aside(&id.uid);
            context.caches.changed.notify_one();
        }
        // Nobody knows; the next pass, or its failure, tells.
        Err(error) => tracing::debug!(task = id.name, %error, "cannot see whether a task has a pod"),
    }
}

/// Sends every task whose turn has come, for ever.
pub(super) async fn wake_forever(context: Arc<Context>, woken: mpsc::Sender<ObjectRef<Guarded<AgentTask>>>) {
    loop {
        context.caches.changed.notified().await;
        let found = next(&context.caches, &mut lock(&context.queue));
        for task in found {
            if woken.send(task).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn turn(caches: &Caches, queue: &mut Queue, observed: &Observed, now: Timestamp) -> Turn {
    let provider = observed.references.as_ref().and_then(|references| references.provider.as_ref());
    // It takes no place while it is held back.
    let Some(provider) = provider.filter(|_| !observed.task.spec.suspend) else {
        queue.withdraw(&observed.id.uid);
        return Turn::Free;
    };
    let name = observed.task.spec.model.provider_name.clone();
    let key = (observed.id.namespace.clone(), name);
    let limit = provider.spec.limits.concurrent_tasks.map(|limit| usize::try_from(limit).unwrap_or(0));
    queue.bound(&key, limit);
    if limit.is_none() {
        return Turn::Free;
    }
    if !caches.are_filled() {
        return Turn::Counting;
    }
    let since = observed.task.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let tasks = caches.tasks.state();
    queue.forget(|uid| tasks.iter().any(|task| task.meta().uid.as_deref() == Some(uid)));
    queue.enter(&key, &observed.id.uid, since, places(caches, &tasks, &key))
}

/// The tasks whose turn it is, as far as the watches show.
pub(super) fn next(caches: &Caches, queue: &mut Queue) -> Vec<ObjectRef<Guarded<AgentTask>>> {
    if !caches.are_filled() {
        return Vec::new();
    }
    let bounds: Vec<(ProviderKey, usize)> =
        queue.bounds().map(|(provider, limit)| (provider.clone(), limit)).collect();
    // Mostly there is none, and then nobody needs to go through all tasks.
    if bounds.is_empty() {
        return Vec::new();
    }
    let tasks = caches.tasks.state();
    let mut found = Vec::new();
    for (key, limit) in bounds {
        let places = queue.with_told(places(caches, &tasks, &key));
        let uids = due(limit, &places);
        found.extend(caches.waiting(Some(&key.0), |task| {
            task.metadata.uid.as_deref().is_some_and(|uid| uids.contains(&uid))
        }));
    }
    found
}

/// Those of all tasks that are a provider's.
fn places(
    caches: &Caches,
    tasks: &[Arc<Guarded<AgentTask>>],
    (namespace, provider): &ProviderKey,
) -> Vec<Place> {
    let own = tasks.iter().filter_map(|task| task.0.as_ref().ok()).filter(|task| {
        task.metadata.namespace.as_deref() == Some(namespace) && task.spec.model.provider_name == *provider
    });
    own.filter_map(|task| {
        let id = TaskId::of(task)?;
        let has_attempt = indices(task).any(|index| caches.has_attempt(&id, index));
        // One that verifies was recorded as running long before.
        let has_pod = indices(task).any(|index| caches.pod(&id, index, Epoch::Work).is_some());
        Some(Place {
            since: task.meta().creation_timestamp.as_ref()?.0,
            standing: standing(task, has_attempt, has_pod),
            uid: id.uid,
        })
    })
    .collect()
}
