//! Images and files that a task brings along.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::ConfigMapKeyRef;

/// An image or a file that comes with the prompt. Every one is a file at /home/agent/inputs/<name> for the agent's
/// commands. Images are shown to the model, and the beginning of texts stands in its first message.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Name of the file.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub name: String,

    /// What it is. image/png, image/jpeg, image/gif and image/webp are shown to the model, which needs imageInput among its
    /// capabilities. Of text/*, application/json, application/xml, application/yaml and application/toml, and of
    /// what ends in +json, +xml or +yaml, the model sees the first 32 KiB, 64 KiB of all together. Others are files
    /// only.
    #[schemars(
        length(min = 3, max = 127),
        regex(pattern = r"^[a-z0-9][a-z0-9.+-]*/[a-zA-Z0-9][a-zA-Z0-9.+-]*$")
    )]
    pub media_type: String,

    /// A key of a ConfigMap, in its data or its binaryData. The task waits while the ConfigMap or the key does not exist.
    pub config_map_key_ref: ConfigMapKeyRef,
}

/// What becomes of an input in the model's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is shown as a picture.
    Image,
    /// Its text stands there.
    Text,
    /// Only its name stands there.
    Name,
}

impl Input {
    /// What becomes of it in the model's first message.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let media_type = self.media_type.to_ascii_lowercase();
        match media_type.as_str() {
            "image/png" | "image/jpeg" | "image/gif" | "image/webp" => Shown::Image,
            "application/json" | "application/xml" | "application/yaml" | "application/toml" => Shown::Text,
            other
                if other.starts_with("text/")
                    || ["+json", "+xml", "+yaml"].iter().any(|suffix| other.ends_with(suffix)) =>
            {
                Shown::Text
            }
            _ => Shown::Name,
        }
    }
}
