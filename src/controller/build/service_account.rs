//! The ServiceAccount of a pod's agent: one a pod, so that an old pod's token dies with it.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{StoredAttempt, metadata};

/// Who the agent is.
#[must_use]
pub fn service_account(attempt: &StoredAttempt<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(attempt, attempt.pod_name()),
        // The agent's token is projected into its own container alone.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
