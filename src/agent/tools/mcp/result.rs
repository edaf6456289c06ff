//! What calls of MCP tools come to, in the words that the model reads.

use std::time::Duration;

use serde_json::Value;

use super::McpTool;
use crate::agent::tools::truncate::{Captured, OUTPUT_TOKENS};

/// What a server answered to a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolResult {
    /// The result as JSON, where the server gives it; then it stands for all text.
    pub structured: Option<Value>,
    /// What else it gives, in order.
    pub content: Vec<Content>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

/// A piece of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Text(String),
    /// A picture, in base64 as it came.
    Image(String),
    /// Something that no model is shown: what it is.
    Other(String),
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailed {
    /// The server cannot be started or reached: the call was never sent.
    #[error("The MCP server {server} cannot be used: {why}.")]
    Unavailable {
        /// The server.
        server: String,
        /// In words of ours.
        why: String,
    },
    /// The server has no such tool any more.
    #[error("The MCP server {server} has no tool {tool} any more.")]
    Missing {
        /// The server.
        server: String,
        /// The tool's name there.
        tool: String,
    },
    /// The server refused the call.
    #[error("The MCP server {server} refused the call: {message}")]
    Refused {
        /// The server.
        server: String,
        /// In its words.
        message: String,
    },
    /// No answer in time.
    #[error(
        "The MCP server {server} did not answer within {} seconds. Whether the call took effect is not known.",
        after.as_secs()
    )]
    TimedOut {
        /// The server.
        server: String,
        /// The bound.
        after: Duration,
    },
    /// The connection ended in the middle.
    #[error(
        "The MCP server {server} broke off during the call ({why}). Whether the call took effect is not known."
    )]
    BrokenOff {
        /// The server.
        server: String,
        /// In words of ours.
        why: String,
    },
}

impl CallFailed {
    /// Whether the call may have taken effect.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::BrokenOff { .. } => true,
            Self::Unavailable { .. } | Self::Missing { .. } | Self::Refused { .. } => false,
        }
    }
}

impl ToolResult {
    /// The pictures, in base64 as they came.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.content.iter().filter_map(|content| match content {
            Content::Image(base64) => Some(base64.as_str()),
            Content::Text(_) | Content::Other(_) => None,
        })
    }

    /// The text of it, with `notes` on what is not shown.
    pub fn text(&self, notes: &[String]) -> String {
        let structured = self.structured.as_ref().map(Value::to_string);
        let pieces = self.content.iter().filter_map(|content| match content {
            Content::Text(text) => structured.is_none().then(|| text.clone()),
            Content::Other(what) => Some(format!("[{what} left out]")),
            Content::Image(_) => None,
        });
        let pieces: Vec<String> =
            structured.clone().into_iter().chain(pieces).chain(notes.iter().cloned()).collect();
        pieces.join("\n")
    }
}

/// The output of a call for the model: how long it took, and a text cut to what a model is given of one.
pub fn output(text: &str, wall: Duration) -> String {
    let text = Captured { head: text.as_bytes(), ..Captured::default() }.text(OUTPUT_TOKENS);
    format!("Wall time: {:.4} seconds\nOutput:\n{text}", wall.as_secs_f64())
}

/// What the model is told of a call during which the agent's process ended.
pub fn interrupted(tool: &str) -> String {
    format!("The agent was restarted during this call of {tool}. Whether the call took effect is not known.")
}

/// What the model is told in the place of pictures for which a thread has no room.
pub fn images_left_out(count: usize) -> String {
    format!("\n[{count} images left out: a thread has room for no more]")
}

impl McpTool {
    /// The tool as people know it.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.server, self.tool)
    }
}
