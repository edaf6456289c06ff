//! Tells the senders of messages what became of them, and makes the task the messages' owner.

use std::sync::Arc;

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde_json::json;

use super::apply::failed;
use super::error::{ApplyError, RequestError};
use super::inbox::Answer;
use super::observed::TaskId;
use super::request::bounded;
use crate::api::conditions::{ACCEPTED, Wanted};
use crate::api::{AgentMessage, AgentTask};
use crate::names;

/// Gives the answers, in order.
pub(super) async fn give(
    client: &Client,
    task: &TaskId,
    answers: &[Answer],
    now: jiff::Timestamp,
) -> Result<(), ApplyError> {
    for answer in answers {
        let name = answer.message.metadata.name.as_deref().unwrap_or_default();
        let owned = match own(client, task, &answer.message).await {
            Ok(owned) => owned,
            Err(error) if is_passed(&error) => continue,
            Err(source) => return Err(failed::<AgentMessage>("own", name, source)),
        };
        let answer = Answer { message: owned, ..answer.clone() };
        match write(client, &answer, now).await {
            Err(error) if !is_passed(&error) => return Err(failed::<AgentMessage>("answer", name, error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes a message go when its task goes. Gives the message as it is then.
async fn own(
    client: &Client,
    task: &TaskId,
    message: &Arc<AgentMessage>,
) -> Result<Arc<AgentMessage>, RequestError> {
    let metadata = &message.metadata;
    if metadata.owner_references.iter().flatten().any(|owner| owner.uid == task.uid) {
        return Ok(message.clone());
    }
    let patch = json!({
        "apiVersion": AgentMessage::api_version(&()),
        "kind": AgentMessage::kind(&()),
        // The UID, so that a message that was deleted meanwhile is not made anew; the version, since what is
        // answered was decided on it.
        "metadata": {
            "name": metadata.name,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
            "ownerReferences": [{
                "apiVersion": AgentTask::api_version(&()),
                "kind": AgentTask::kind(&()),
                "name": task.name,
                "uid": task.uid,
            }],
        },
    });
    let api = api(client, message);
    let name = metadata.name.as_deref().unwrap_or_default();
    let params = PatchParams::apply(names::CONTROLLER_MANAGER).force();
    bounded(api.patch(name, &params, &Patch::Apply(patch))).await.map(Arc::new)
}

/// Writes the condition Accepted.
pub(super) async fn write(
    client: &Client,
    answer: &Answer,
    now: jiff::Timestamp,
) -> Result<(), RequestError> {
    let Answer { message, status, reason, text } = answer;
    let metadata = &message.metadata;
    let wanted = Wanted { type_: ACCEPTED, status: *status, reason, message: (*text).to_owned() };
    let stored = message.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let patch = json!({
        "apiVersion": AgentMessage::api_version(&()),
        "kind": AgentMessage::kind(&()),
        // The version: an answer from an older view must not take a newer one back.
        "metadata": {
            "name": metadata.name,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
        "status": {"conditions": [wanted.merge(stored, metadata.generation, now)]},
    });
    let name = metadata.name.as_deref().unwrap_or_default();
    let params = PatchParams::apply(names::CONTROLLER_STATUS_MANAGER).force();
    bounded(api(client, message).patch_status(name, &params, &Patch::Apply(patch))).await.map(|_| ())
}

/// Whether the answer is out of date: the message was deleted, or made anew under its name, or was written to since.
/// Of that the watch tells, and another pass answers.
pub(super) fn is_passed(error: &RequestError) -> bool {
    error.is_not_found() || error.is_conflict()
}

fn api(client: &Client, message: &AgentMessage) -> Api<AgentMessage> {
    Api::namespaced(client.clone(), message.metadata.namespace.as_deref().unwrap_or_default())
}
