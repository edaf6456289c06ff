//! The finalizer of an AgentAttempt that has something in the object store.

use kube::Resource;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::api::AgentAttempt;
use crate::names::ARTIFACTS_FINALIZER;

/// What keeps an attempt from going, when it is applied by [`ARTIFACTS_MANAGER`](crate::names::ARTIFACTS_MANAGER). It
/// carries the UID, so that it never makes a new object.
#[must_use]
pub fn held(metadata: &ObjectMeta) -> Value {
    json!({
        "apiVersion": AgentAttempt::api_version(&()),
        "kind": AgentAttempt::kind(&()),
        "metadata": {
            "name": metadata.name,
            "uid": metadata.uid,
            "finalizers": [ARTIFACTS_FINALIZER],
        },
    })
}

/// What lets it go, as a merge patch. It carries the version: a finalizer of somebody else's that came meanwhile stays.
#[must_use]
pub fn released(metadata: &ObjectMeta) -> Value {
    let others: Vec<&String> =
        metadata.finalizers.iter().flatten().filter(|it| *it != ARTIFACTS_FINALIZER).collect();
    json!({ "metadata": { "resourceVersion": metadata.resource_version, "finalizers": others } })
}

/// Whether an attempt is held, and so may have something in the store.
#[must_use]
pub fn is_held(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|it| it == ARTIFACTS_FINALIZER)
}
