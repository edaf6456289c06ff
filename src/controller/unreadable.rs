//! Tasks that do not fit this controller's types, or need an object that does not: most likely stored with a newer
//! version's definitions. Nothing about them can be decided, so they and their pods are left as they are, and say so.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams};
use serde_json::{Value, json};

use super::error::{RequestError, StatusError};
use super::request::bounded;
use super::status;
use crate::api::conditions::{self, ConditionStatus};
use crate::api::{AgentTask, Reason};
use crate::names;

/// When such a task is looked at again. What can change it, another version of it or of the controller, brings a
/// pass by itself.
pub(super) const AGAIN: Duration = Duration::from_secs(600);

/// Says `sentence` in the task's conditions, unless they say so already or the task has ended.
pub(super) async fn show(
    client: &Client,
    metadata: &ObjectMeta,
    sentence: &str,
    now: Timestamp,
) -> Result<(), StatusError> {
    let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else { return Ok(()) };
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<AgentTask>(&()));
    let Some(task) = bounded(api.get_opt(name)).await.map_err(StatusError)? else { return Ok(()) };
    let Some(patch) = patch(&task, sentence, now) else { return Ok(()) };
    let params = PatchParams {
        field_manager: Some(names::CONTROLLER_STATUS_MANAGER.into()),
        ..PatchParams::default()
    };
    match bounded(api.patch_status(name, &params, &Patch::Merge(patch))).await {
        // Gone, or written to since: the watch tells.
        Err(error) if RequestError::is_not_found(&error) || error.is_conflict() => Ok(()),
        outcome => outcome.map(|_| ()).map_err(StatusError),
    }
}

/// A merge patch, which leaves alone what it does not name: the rest of the status is the record of what was done.
fn patch(task: &DynamicObject, sentence: &str, now: Timestamp) -> Option<Value> {
    let generation = task.metadata.generation;
    let stored: Vec<Condition> = match task.data.pointer("/status/conditions") {
        // Whoever can't read the conditions can't know whether the task has ended.
        Some(conditions) => serde_json::from_value(conditions.clone()).ok()?,
        None => Vec::new(),
    };
    let succeeded = conditions::find(&stored, conditions::SUCCEEDED);
    if succeeded.is_some_and(|condition| condition.status != ConditionStatus::Unknown.as_str()) {
        return None;
    }
    let wanted = status::conditions(Reason::WaitingForReference, sentence);
    let next: Vec<_> = wanted.into_iter().map(|wanted| wanted.merge(&stored, generation, now)).collect();
    (next != stored).then(|| {
        json!({
            "metadata": {"resourceVersion": task.metadata.resource_version},
            "status": {"observedGeneration": generation.unwrap_or(-1), "conditions": next},
        })
    })
}
