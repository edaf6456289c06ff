//! One pass over one task: observe, plan, apply, status. It never waits for anything but single answers of the
//! API server, and when it fails it is made again from its beginning.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Client, Resource};
use serde_json::json;

use super::apply::apply;
use super::archive::{self, Archived};
use super::backoff::spread;
use super::caches::Guarded;
use super::cleanup;
use super::context::{Context, lock};
use super::error::{Error, ObserveError, RequestError, StatusError};
use super::observe::{observe, observe_live};
use super::observed::{Epoch, Observed, SeenAttempt, TaskId};
use super::plan::{EndedBy, Plan, PodOutcome, Situation, overall, plan};
use super::request::bounded;
use super::status::{self, Change};
use super::{answers, events, turns, unreadable};
use crate::api::{AgentTask, AgentTaskStatus};
use crate::names;
use crate::telemetry::metrics::{Outcome, Running};

/// What a pass has done, and when the next one is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) again: Option<Duration>,
    pub(super) wrote: bool,
}

/// Runs a pass, for the loop that says of which task.
pub(super) async fn reconcile(task: Arc<Guarded<AgentTask>>, context: Arc<Context>) -> Result<Action, Error> {
    let again = guarded(task, context).await?;
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Runs a pass so that nothing it does can end the controller, and counts it. Says when the next one is due.
pub(super) async fn guarded(
    task: Arc<Guarded<AgentTask>>,
    context: Arc<Context>,
) -> Result<Option<Duration>, Error> {
    let running = Running::begin(&context.metrics);
    let task = match &task.0 {
        Ok(task) => Arc::new(task.clone()),
        Err(invalid) => {
            running.end(Outcome::Failed, "Undecodable");
            let metadata = &invalid.metadata;
            tracing::warn!(
                namespace = metadata.namespace,
                task = metadata.name,
                error = invalid.error,
                "a task cannot be read"
            );
            let sentence = format!(
                "this version of Podwright can't read the task: {}; upgrade Podwright, or delete the task and create it anew",
                invalid.error
            );
            unreadable::show(&context.client, metadata, &sentence, context.now()).await?;
            return Ok(Some(unreadable::AGAIN));
        }
    };
    let Some(id) = TaskId::of(&task) else {
        running.end(Outcome::Failed, "Undecodable");
        return Err(Error::Incomplete);
    };
    let outcome = AssertUnwindSafe(pass_again_if_stale(&context, &task, &id))
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(Error::Panicked(panic_text(panic.as_ref()))));
    if outcome.is_err() {
        turns::give_back_after_failure(&context, &id, &task).await;
    }
    match outcome {
        Ok(Done { again, wrote }) => {
            lock(&context.backoff).succeeded(&id.uid);
            running.end(if wrote { Outcome::Applied } else { Outcome::Unchanged }, "");
            Ok(again)
        }
        // What is gone, or is going, is not ours to mend.
        Err(error) if is_gone(&error) => {
            running.end(Outcome::Unchanged, "");
            Ok(None)
        }
        Err(error) if error.request().is_some_and(RequestError::is_namespace_ending) => {
            running.end(Outcome::Unchanged, "");
            Ok(Some(Duration::from_secs(30)))
        }
        Err(Error::Observe(error @ ObserveError::Unreadable { .. })) => {
            running.end(Outcome::Failed, "Undecodable");
            tracing::warn!(namespace = id.namespace, task = id.name, %error, "a task is left as it is");
            let sentence = format!("{error}; upgrade Podwright, or delete that object and create it anew");
            unreadable::show(&context.client, &task.metadata, &sentence, context.now()).await?;
            Ok(Some(unreadable::AGAIN))
        }
        Err(error) => {
            running.end(Outcome::Failed, error.category());
            Err(error)
        }
    }
}

/// Whether the task was deleted before the pass, or under it. What the pass has made, the garbage collector takes.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Observe(ObserveError::Gone) => true,
        Error::Status(StatusError(source)) => source.is_not_found(),
        Error::Observe(_) | Error::Apply(_) | Error::Panicked(_) | Error::Incomplete => false,
    }
}

/// What the loop does about a failed pass.
pub(super) fn on_error(task: Arc<Guarded<AgentTask>>, error: &Error, context: Arc<Context>) -> Action {
    Action::requeue(after_failure(&task, error, &context))
}

/// When a failed pass is made again.
pub(super) fn after_failure(task: &Guarded<AgentTask>, error: &Error, context: &Context) -> Duration {
    let metadata = task.meta();
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let wait = lock(&context.backoff).failed(uid, context.now(), spread(uid));
    let wait = wait.max(error.request().and_then(RequestError::retry_after).unwrap_or_default());
    tracing::warn!(
        namespace = metadata.namespace,
        task = metadata.name,
        category = error.category(),
        %error,
        again_in = ?wait,
        "a pass failed"
    );
    wait
}

/// Status and inbox are written against the versions they were computed from. When one was old, the pass is made
/// once more, on fresh reads; a second conflict goes the way of all errors.
pub(super) async fn pass_again_if_stale(
    context: &Context,
    task: &Arc<AgentTask>,
    id: &TaskId,
) -> Result<Done, Error> {
    let observed = observe(&context.client, &context.caches, task, id).await?;
    match pass(context, observed).await {
        Err(error) if error.request().is_some_and(RequestError::is_conflict) => {
            let observed = Box::pin(observe_live(&context.client, id, task)).await?;
            pass(context, observed).await
        }
        outcome => outcome,
    }
}

/// One pass.
pub(super) async fn pass(context: &Context, observed: Observed) -> Result<Done, Error> {
    let client = &context.client;
    let now = context.now();
    let (observed, plan) = certain(context, observed, now).await?;
    if plan.situation == Situation::Finished {
        return finished(context, &observed, &plan, now).await;
    }
    // From here on an attempt's newest pod is the one that is made for it.
    let attempts = observed.attempts.iter().cloned().zip(&plan.attempts);
    let attempts = attempts.map(|(seen, plan)| seen.at(plan.epoch)).collect();
    let observed = Observed { attempts, ..observed };
    let mut applied = apply(context, &observed, &plan).await?;
    let mut stored = Vec::new();
    for (seen, one) in observed.attempts.iter().zip(&mut applied) {
        let Situation::Ended(ending) = &one.situation else {
            stored.push(Vec::new());
            continue;
        };
        cleanup::end(client, &observed, seen, one.attempt.as_deref()).await?;
        let Archived { situation, urls } = archive::at_end(context, &observed.id, seen, ending, now).await?;
        one.situation = situation;
        stored.push(urls);
    }
    let situations: Vec<Situation> = applied.iter().map(|applied| applied.situation.clone()).collect();
    let situation = if plan.situation == Situation::Deleted {
        Situation::Deleted
    } else {
        overall(&observed, &situations)
    };
    answers::give(client, &observed.id, &plan.answers, now).await?;
    for (seen, applied) in observed.attempts.iter().zip(&applied) {
        if applied.pod == PodOutcome::Made && seen.epoch() == Epoch::Work {
            context.metrics.pod_made(&observed.task, now);
        }
    }
    if !observed.attempts.iter().zip(&applied).any(|(seen, applied)| has_pod(seen, &applied.pod)) {
        turns::give_back(context, &observed);
    }
    // From here on the attempts are as they are after the pass.
    let wrote = applied.iter().any(|applied| applied.wrote) || !plan.answers.is_empty();
    let attempts = observed.attempts.iter().cloned().zip(applied).zip(stored);
    let attempts = attempts
        .map(|((seen, applied), stored)| SeenAttempt { attempt: applied.attempt, stored, ..seen })
        .collect();
    let observed = Observed { attempts, ..observed };
    let next = status::next(&observed, &situation, &situations, None, now);
    if let Some(event) = events::called_for(&situation, observed.task.status.as_ref(), &next) {
        events::publish(client, &context.reporter, &observed.task, event, now).await;
    }
    let (written, held) = write_if_due(context, &observed, &next, now).await?;
    for (seen, situation) in observed.attempts.iter().zip(&situations) {
        match situation {
            Situation::Ended(ending) => cleanup::take_pod(client, &observed, seen, ending.by).await?,
            // One that a pass which broke off has left.
            Situation::Finished => {
                cleanup::stop(client, &observed, seen).await?;
                cleanup::take_pod(client, &observed, seen, EndedBy::Agent).await?;
            }
            Situation::Deleted | Situation::Waiting { .. } | Situation::Start | Situation::Working { .. } => {
            }
        }
    }
    let spread = spread(&observed.id.uid);
    let due = match &situation {
        Situation::Ended(_) => after_end(&observed, next, now),
        Situation::Deleted
        | Situation::Finished
        | Situation::Waiting { .. }
        | Situation::Start
        | Situation::Working { .. } => situations.iter().filter_map(|one| one.again(now, spread)).min(),
    };
    let again = [due, held].into_iter().flatten().min();
    Ok(Done { again, wrote: wrote || written })
}

/// Whether an attempt has its pod after a pass.
fn has_pod(seen: &SeenAttempt, made: &PodOutcome) -> bool {
    match made {
        PodOutcome::Made | PodOutcome::There => true,
        PodOutcome::Unasked => seen.pod.is_some() || seen.pod_was_made(),
        PodOutcome::Refused(_) | PodOutcome::InTheWay(_) | PodOutcome::Unfetched(_) => false,
    }
}

/// The plan, on fresh reads if it does what can't be taken back.
async fn certain(
    context: &Context,
    observed: Observed,
    now: Timestamp,
) -> Result<(Observed, Plan), ObserveError> {
    let observed = turns::take(context, archive::look(context, observed).await?);
    let first = plan(&observed, now);
    if observed.live || !first.is_irrevocable() {
        return Ok((observed, first));
    }
    let observed = Box::pin(observe_live(&context.client, &observed.id, &observed.task)).await?;
    let observed = turns::take(context, archive::look(context, observed).await?);
    let second = plan(&observed, now);
    Ok((observed, second))
}

/// A pass over a task whose status says how it ended.
async fn finished(
    context: &Context,
    observed: &Observed,
    plan: &Plan,
    now: Timestamp,
) -> Result<Done, Error> {
    let Plan { selected, answers, .. } = plan;
    // A person is told of a choice when it is in the status.
    let next = status::next(observed, &Situation::Finished, &[], *selected, now);
    let (written, _) = write_if_due(context, observed, &next, now).await?;
    answers::give(&context.client, &observed.id, answers, now).await?;
    for seen in &observed.attempts {
        cleanup::stop(&context.client, observed, seen).await?;
    }
    let due = cleanup::due(observed, now);
    let collected = cleanup::collect(&context.client, observed, due).await?;
    if due.task {
        return Ok(Done { again: None, wrote: true });
    }
    Ok(Done { again: due.again, wrote: written || collected || !answers.is_empty() })
}

/// When the first thing of a task that has just ended is due to go.
fn after_end(observed: &Observed, status: AgentTaskStatus, now: Timestamp) -> Option<Duration> {
    let task = AgentTask { status: Some(status), ..AgentTask::clone(&observed.task) };
    let ended = Observed { task: Arc::new(task), ..observed.clone() };
    // Zero is not "now": what is due now went with the end itself, or goes with the pass after its watch event.
    cleanup::due(&ended, now).again
}

/// Writes the status if it differs; says whether it did, and how long mere progress has to wait otherwise.
async fn write_if_due(
    context: &Context,
    observed: &Observed,
    next: &AgentTaskStatus,
    now: Timestamp,
) -> Result<(bool, Option<Duration>), StatusError> {
    let uid = observed.id.uid.as_str();
    match status::change(observed.task.status.as_ref(), next) {
        Change::None => return Ok((false, None)),
        Change::Progress => {
            let hold = lock(&context.pace).hold(uid, now);
            if hold.is_some() {
                return Ok((false, hold));
            }
        }
        Change::Milestone => {}
    }
    write(&context.client, observed, next).await.map_err(StatusError)?;
    lock(&context.pace).wrote(uid, now);
    Ok((true, None))
}

async fn write(client: &Client, observed: &Observed, next: &AgentTaskStatus) -> Result<(), RequestError> {
    let metadata = &observed.task.metadata;
    let patch = json!({
        "apiVersion": AgentTask::api_version(&()),
        "kind": AgentTask::kind(&()),
        // The version: a status computed from an older one must not undo a newer one.
        "metadata": {
            "name": observed.id.name,
            "uid": observed.id.uid,
            "resourceVersion": metadata.resource_version,
        },
        "status": next,
    });
    let api: Api<AgentTask> = Api::namespaced(client.clone(), &observed.id.namespace);
    let params = PatchParams::apply(names::CONTROLLER_STATUS_MANAGER).force();
    bounded(api.patch_status(&observed.id.name, &params, &Patch::Apply(patch))).await.map(|_| ())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}
