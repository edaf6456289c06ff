//! What the final answer has to look like.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::ConfigMapKeyRef;

/// What the final answer has to look like.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The JSON schema of the final answer. The answer is then one JSON value that fits it, which is also in
    /// status.result.output. It may have 8 KiB.
    pub schema_from: SchemaSource,
}

/// Where a JSON schema is taken from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSource {
    /// A key of a ConfigMap with a JSON schema of at most 32 KiB that stands by itself: references to other documents
    /// are refused. The task waits while the ConfigMap or the key does not exist.
    pub config_map_key_ref: ConfigMapKeyRef,
}
