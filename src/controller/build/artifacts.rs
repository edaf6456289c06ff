//! The ConfigMaps that take an attempt's artifacts, and those from which it takes another's. The first are created empty: the agent may then fill them by
//! name, and needs no right to create anything.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;

use super::{StoredAttempt, metadata};
use crate::api::attempt::ArtifactRef;

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

/// Holds what an attempt goes on with.
#[must_use]
pub fn brought(attempt: &StoredAttempt<'_>, artifact: &ArtifactRef, content: Vec<u8>) -> ConfigMap {
    ConfigMap {
        binary_data: Some(BTreeMap::from([(artifact.key.clone(), ByteString(content))])),
        ..empty(attempt, artifact.config_map_name.clone())
    }
}

fn empty(attempt: &StoredAttempt<'_>, name: String) -> ConfigMap {
    ConfigMap { metadata: metadata(attempt, name), ..ConfigMap::default() }
}
