//! The RoleBinding of a pod's agent. Deleting it is the fence: nothing that the pod still does reaches the API.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};

use super::{StoredAttempt, metadata};

/// That the agent may do what its Role says.
#[must_use]
pub fn role_binding(attempt: &StoredAttempt<'_>) -> RoleBinding {
    let name = attempt.pod_name();
    RoleBinding {
        metadata: metadata(attempt, name.clone()),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "Role".into(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            api_group: None,
            kind: "ServiceAccount".into(),
            name,
            namespace: Some(attempt.namespace.to_owned()),
        }]),
    }
}
