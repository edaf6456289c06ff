//! The CustomResourceDefinitions as they are installed: what kube derives, plus what it can't say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{AgentAttempt, AgentEnvironment, AgentMessage, AgentTask, ModelProvider};

/// All CustomResourceDefinitions, in the order in which they are installed.
#[must_use]
pub fn all() -> Vec<Value> {
    [
        AgentTask::crd(),
        AgentAttempt::crd(),
        AgentMessage::crd(),
        AgentEnvironment::crd(),
        ModelProvider::crd(),
    ]
    .iter()
    .map(finish)
    .collect()
}

/// The name of a CustomResourceDefinition, which is also the stem of its file in `crds/`.
#[must_use]
pub fn name(crd: &Value) -> &str {
    crd["metadata"]["name"].as_str().unwrap_or_default()
}

/// A task that no controller has seen yet must not look finished to generic tools: they compare
/// `status.observedGeneration` with the generation, and take an object without a status for current.
fn status_default() -> Value {
    json!({"observedGeneration": -1})
}

fn finish(crd: &CustomResourceDefinition) -> Value {
    let mut crd = json!(crd);
    let of_task = crd["spec"]["names"]["kind"] == "AgentTask";
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema);
        if let Some(status) = schema.pointer_mut("/properties/status").filter(|_| of_task) {
            status["default"] = status_default();
        }
    }
    crd
}

/// Removes what the derive adds and users should not meet: `nullable` (a null in a server-side apply defeats
/// defaulting and takes ownership), and formats and bounds of Rust's integers that Kubernetes does not know.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("nullable");
            if object.get("type") == Some(&json!("string")) {
                merge_enum(object);
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An optional enum comes out with a null among its values.
fn merge_enum(object: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}
