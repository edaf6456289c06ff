//! The ConfigMaps that take an attempt's artifacts. They are created empty: the agent may then fill them by
//! name, and needs no right to create anything.

use k8s_openapi::api::core::v1::ConfigMap;

use super::{StoredAttempt, metadata};

/// Takes the patch.
#[must_use]
pub fn patch(attempt: &StoredAttempt<'_>) -> ConfigMap {
    empty(attempt, attempt.job.patch_artifact_name.clone())
}

/// Takes the transcript, when one is kept.
#[must_use]
pub fn transcript(attempt: &StoredAttempt<'_>) -> Option<ConfigMap> {
    attempt.job.transcript_artifact_name.clone().map(|name| empty(attempt, name))
}

fn empty(attempt: &StoredAttempt<'_>, name: String) -> ConfigMap {
    ConfigMap { metadata: metadata(attempt, name), ..ConfigMap::default() }
}
