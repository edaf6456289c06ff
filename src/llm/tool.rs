//! The tools that a model is offered: declared once, rendered once, frozen for the thread.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a model is told about one tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToolDefinition {
    /// A tool that takes JSON.
    Function {
        /// Its name: letters, digits, `_` and `-`, at most 64.
        name: String,
        /// What it does, for the model.
        description: String,
        /// The JSON schema of its arguments, rendered with its keys in the order given.
        parameters: Value,
    },
    /// A tool that takes free text.
    Custom {
        /// Its name: letters, digits, `_` and `-`, at most 64.
        name: String,
        /// What it does, for the model.
        description: String,
        /// The Lark grammar of its input.
        grammar: String,
    },
}

/// The tools of a thread as the wire carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedTools {
    /// The JSON array, empty `[]` without tools.
    pub bytes: Bytes,
    /// Names of custom tools that were declared as functions of one string `input`, because the model
    /// takes no free text. Their calls come back as [`super::Item::CustomCall`] all the same.
    pub custom_as_function: Vec<String>,
}

impl RenderedTools {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        &self.bytes[..] == b"[]"
    }
}
