//! Artifacts in ConfigMaps: the agent has the right `patch` on two that exist, and not `create`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::encoding::Encoded;
use crate::api::attempt::ArtifactRef;

/// What fills the existing ConfigMap `name` when it is applied. The same content again changes nothing.
#[must_use]
pub fn filled(name: &str, key: &str, artifact: &Encoded) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name },
        "binaryData": { key: STANDARD.encode(&artifact.data) },
    })
}

/// Where an artifact is once that was applied.
#[must_use]
pub fn reference(name: &str, key: &str, artifact: &Encoded) -> ArtifactRef {
    ArtifactRef {
        config_map_name: name.to_owned(),
        key: key.to_owned(),
        sha256: artifact.sha256.clone(),
        bytes: i64::try_from(artifact.bytes).unwrap_or(i64::MAX),
        ..ArtifactRef::default()
    }
}
