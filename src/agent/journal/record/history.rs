//! The record of a compaction.

use podwright_sandboxd::protocol::BootId;
use serde::{Deserialize, Serialize};

use crate::agent::tools::mcp::McpTool;
use crate::agent::tools::plan::PlanStep;
use crate::llm::ThreadItem;

/// A part of history is no longer sent; other items take its place. One record, so that no crash leaves a thread with
/// neither.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryReplaced {
    /// Number of the window that begins. The thread's first has the number 1.
    pub window: u32,
    /// What is no longer sent: places in history, the second one excluded.
    pub removed: (u64, u64),
    /// What is sent instead, after the layers that every window begins with. Its places in history follow those of the
    /// items before.
    pub items: Vec<ThreadItem>,
    /// What of these is the first message of all, before the layers that are messages: the first item.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leads: bool,
    /// How many of these, from the first on, or from the second where the first one leads, are words of people.
    pub said: u64,
    /// How many of these, at the end, are the messages that ended history and that no request had held yet.
    #[serde(default)]
    pub unsent: u64,
    /// The commands that go on in the background, as the model was told of them.
    pub sessions: Vec<CarriedSession>,
    /// The model's plan, as it was told of it.
    pub plan: Vec<PlanStep>,
    /// The tools from here on, where MCP servers offer others than before. In this record, so that no crash leaves a
    /// window with the tools of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolsReplaced>,
}

/// The tools of a thread from a compaction on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolsReplaced {
    /// All of them as the wire carries them.
    pub tools: String,
    /// The tools of MCP servers among them.
    pub mcp_tools: Vec<McpTool>,
    /// The life of the sandbox of which the model knows, when some of these servers run in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
}

/// A command that goes on in the background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CarriedSession {
    /// The number by which the model knows it.
    pub session: i32,
    /// The command, shortened.
    pub command: String,
}
