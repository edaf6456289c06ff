//! Events: at most two for each attempt, at its start and at its end, and a warning when a task begins to wait.
//!
//! An event is created before the status that it goes with, since that status is what keeps the next pass from
//! calling for it again. Its name is made of the task and the reason, so that a pass that broke off in between and
//! is made again creates no second one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event as StoredEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::events::{Event, EventType, Reporter};
use kube::{Client, Resource};

use super::error::RequestError;
use super::observed::TaskId;
use super::plan::Situation;
use super::request::bounded;
use crate::api::attempt::EMPTY_REPLY;
use crate::api::conditions::{self, plain};
use crate::api::reasons::{Reason, Verdict};
use crate::api::{AgentTask, AgentTaskStatus};
use crate::names;

/// The longest note that the API takes, in bytes.
const MAX_NOTE: usize = 1024;

/// How long publishing may hold a pass up, and with it the status: that a task has ended matters more than the
/// event that says so.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often an event is tried: an answer that was lost, or one overloaded moment of the API server, costs none.
const TRIES: u32 = 2;

/// The event that a pass calls for, if any. `stored` is the status before it, `next` the one that it writes.
pub(super) fn called_for(
    situation: &Situation,
    stored: Option<&AgentTaskStatus>,
    next: &AgentTaskStatus,
) -> Option<Event> {
    match situation {
        Situation::Working { reason: Reason::ModelUnavailable, message, .. } => {
            begins_to_wait(stored, Reason::ModelUnavailable, message)
        }
        Situation::Working { .. } => {
            // That `resolved` is there is the record that the pod was made.
            let had_pod = stored.is_some_and(|status| status.resolved.is_some());
            (!had_pod && next.resolved.is_some())
                .then(|| event(EventType::Normal, "Started", "Start", "the attempt's pod was made"))
        }
        Situation::Ended(ending) if ending.message.starts_with(EMPTY_REPLY) => {
            Some(event(EventType::Warning, "EmptyReply", "End", &ending.message))
        }
        Situation::Ended(ending) => {
            let type_ = match ending.reason.verdict() {
                Verdict::Succeeded => EventType::Normal,
                Verdict::Failed | Verdict::Working => EventType::Warning,
            };
            Some(event(type_, ending.reason.as_str(), "End", &ending.message))
        }
        Situation::Waiting {
            reason: reason @ (Reason::WaitingForReference | Reason::Queued),
            message,
            ..
        } => begins_to_wait(stored, *reason, message),
        Situation::Waiting { .. } | Situation::Start | Situation::Deleted | Situation::Finished => None,
    }
}

/// The event of a task that begins to wait; none when it did before.
fn begins_to_wait(stored: Option<&AgentTaskStatus>, reason: Reason, message: &str) -> Option<Event> {
    let reason = reason.as_str();
    let stored = stored.and_then(|status| conditions::find(&status.conditions, conditions::SUCCEEDED));
    let is_news = stored.is_none_or(|condition| condition.reason != reason);
    is_news.then(|| event(EventType::Warning, reason, "Wait", message))
}

/// Publishes an event about a task. Failing to is only logged.
pub(super) async fn publish(
    client: &Client,
    reporter: &Reporter,
    task: &AgentTask,
    event: Event,
    now: Timestamp,
) {
    let Some(id) = TaskId::of(task) else { return };
    let reason = event.reason.clone();
    let stored = stored(reporter, task, &id, event, now);
    let api: Api<StoredEvent> = Api::namespaced(client.clone(), &id.namespace);
    match tokio::time::timeout(TIMEOUT, create(&api, &stored)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(task = id.name, %error, reason, "cannot publish an event"),
        Err(_) => tracing::warn!(task = id.name, reason, "publishing an event took too long"),
    }
}

async fn create(api: &Api<StoredEvent>, event: &StoredEvent) -> Result<(), RequestError> {
    let mut tries = 1;
    loop {
        match bounded(api.create(&PostParams::default(), event)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_already_there() => return Ok(()),
            Err(error) if tries == TRIES || error.is_refusal() => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

fn stored(reporter: &Reporter, task: &AgentTask, id: &TaskId, event: Event, now: Timestamp) -> StoredEvent {
    let type_ = match event.type_ {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    StoredEvent {
        metadata: ObjectMeta {
            name: Some(names::event(&id.name, &id.uid, &event.reason)),
            namespace: Some(id.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(type_.to_owned()),
        reason: Some(event.reason),
        action: Some(event.action),
        note: event.note,
        regarding: Some(task.object_ref(&())),
        reporting_controller: Some(reporter.controller.clone()),
        // Required by the API, and not empty.
        reporting_instance: Some(reporter.instance.clone().unwrap_or_else(|| reporter.controller.clone())),
        ..StoredEvent::default()
    }
}

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(plain(note, MAX_NOTE)),
        action: action.to_owned(),
        secondary: None,
    }
}
