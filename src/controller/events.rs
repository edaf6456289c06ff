//! Events: at most two for each attempt, at its start and at its end, and a warning when a task begins to wait.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

use super::plan::{PodOutcome, Situation};
use crate::api::attempt::EMPTY_REPLY;
use crate::api::conditions::{self, cut};
use crate::api::reasons::{Reason, Verdict};
use crate::api::{AgentTask, AgentTaskStatus};

/// The longest note that the API takes, in bytes.
const MAX_NOTE: usize = 1024;

/// How long publishing may hold a pass up. An event that is lost is no harm.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The event that a pass calls for, if any. `stored` is the status before it.
pub(super) fn called_for(
    situation: &Situation,
    pod: &PodOutcome,
    stored: Option<&AgentTaskStatus>,
) -> Option<Event> {
    match situation {
        Situation::Working { .. } if *pod == PodOutcome::Made => {
            Some(event(EventType::Normal, "Started", "Start", "the attempt's pod was made"))
        }
        Situation::Ended(ending) if ending.message == EMPTY_REPLY => {
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
        } => {
            let reason = reason.as_str();
            let stored =
                stored.and_then(|status| conditions::find(&status.conditions, conditions::SUCCEEDED));
            let is_news = stored.is_none_or(|condition| condition.reason != reason);
            is_news.then(|| event(EventType::Warning, reason, "Wait", message))
        }
        Situation::Waiting { .. }
        | Situation::Working { .. }
        | Situation::Start
        | Situation::Deleted
        | Situation::Finished => None,
    }
}

/// Publishes an event. Failing to is only logged.
pub(super) async fn publish(recorder: &Recorder, task: &AgentTask, event: &Event) {
    let regarding: ObjectReference = task.object_ref(&());
    match tokio::time::timeout(TIMEOUT, recorder.publish(event, &regarding)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "cannot publish an event"),
        Err(_) => tracing::warn!(reason = event.reason, "publishing an event took too long"),
    }
}

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(cut(note, MAX_NOTE).to_owned()),
        action: action.to_owned(),
        secondary: None,
    }
}
