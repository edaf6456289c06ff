//! What happens in a thread, as one typed stream. Standard output and the status are made from it.
//!
//! The shapes are those of `codex exec --json`, so that what reads one reads the other; `phase.changed`,
//! `thread.ended`, the updates and deltas, and the items `tool_call`, `context_compaction` and `unfinished` are ours. [`told`]
//! says how far a surface has heard, [`replay`] tells it again from the journal, [`streaming`] follows a response while it
//! arrives.

mod item;
pub mod replay;
pub mod streaming;
pub mod told;

use serde::Serialize;

pub use self::item::{FileChange, FileChangeKind, ItemDetails, ItemStatus, ThreadEventItem, TodoItem};
pub use self::told::{Cursor, Surfaces, Told, surfaces};

use crate::api::attempt::{Outcome, Phase};
use crate::llm::Usage;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all_fields = "snake_case")]
pub enum Event {
    /// The agent does something else now.
    #[serde(rename = "phase.changed")]
    PhaseChanged {
        /// What.
        phase: Phase,
        /// A sentence for people.
        message: String,
    },
    /// The thread is open.
    #[serde(rename = "thread.started")]
    ThreadStarted {
        /// Its id.
        thread_id: String,
    },
    /// A turn began.
    #[serde(rename = "turn.started")]
    TurnStarted {},
    /// A turn ended with the model's answer.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        /// Tokens of the thread so far.
        usage: TurnUsage,
    },
    /// A turn ended otherwise.
    #[serde(rename = "turn.failed")]
    TurnFailed {
        /// Why.
        error: ErrorText,
    },
    /// An item began.
    #[serde(rename = "item.started")]
    ItemStarted {
        /// The item so far.
        item: ThreadEventItem,
    },
    /// An item changed and goes on: a command that runs in the background, with its output so far.
    #[serde(rename = "item.updated")]
    ItemUpdated {
        /// The item so far.
        item: ThreadEventItem,
    },
    /// An item is whole.
    #[serde(rename = "item.completed")]
    ItemCompleted {
        /// The item.
        item: ThreadEventItem,
    },
    /// An item grew. Told while a response arrives, and never again.
    #[serde(rename = "item.delta")]
    ItemDelta {
        /// The item.
        item_id: String,
        /// What grew.
        kind: DeltaKind,
        /// What is to be appended.
        delta: String,
    },
    /// The model's plan is another one now.
    #[serde(rename = "turn.plan.updated")]
    PlanUpdated {
        /// The whole plan.
        items: Vec<TodoItem>,
    },
    /// The patch of the whole thread was made anew.
    #[serde(rename = "turn.diff.updated")]
    DiffUpdated {
        /// Files changed.
        files: i64,
        /// Lines added.
        insertions: i64,
        /// Lines removed.
        deletions: i64,
        /// SHA-256 of the patch, in hex.
        sha256: String,
    },
    /// A request was paid for.
    #[serde(rename = "thread.usage.updated")]
    UsageUpdated {
        /// Tokens of the thread so far.
        usage: TurnUsage,
    },
    /// Something failed.
    #[serde(rename = "error")]
    Error {
        /// What.
        message: String,
        /// Whether it is tried again.
        #[serde(rename = "willRetry")]
        will_retry: bool,
    },
    /// The attempt ended.
    #[serde(rename = "thread.ended")]
    ThreadEnded {
        /// How.
        outcome: Outcome,
    },
}

/// What of an item grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaKind {
    /// The words of a message.
    Text,
    /// The text of reasoning.
    Reasoning,
    /// The arguments or the input of a call, as written.
    Input,
}

/// An error's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorText {
    /// A sentence for people.
    pub message: String,
}

/// Tokens of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TurnUsage {
    /// Input, cached or not.
    pub input_tokens: u64,
    /// Input that the provider had in its cache.
    pub cached_input_tokens: u64,
    /// Input that the provider wrote to its cache.
    pub cache_write_input_tokens: u64,
    /// Output, reasoning included.
    pub output_tokens: u64,
    /// Reasoning.
    pub reasoning_output_tokens: u64,
}

impl Event {
    /// A compaction begins, or is over. `ordinal` is the place of the first item that comes of it, `window` the number
    /// of the window that begins with it.
    pub fn compaction(ordinal: u64, window: u32, status: ItemStatus) -> Self {
        let item = ThreadEventItem::new(ordinal, ItemDetails::ContextCompaction { window, status });
        match status {
            ItemStatus::InProgress => Self::ItemStarted { item },
            ItemStatus::Completed | ItemStatus::Failed => Self::ItemCompleted { item },
        }
    }

    /// The event as one line of JSON, without a cursor.
    pub fn to_line(&self) -> String {
        Told::from(self.clone()).to_line()
    }

    /// Whether it stands in the log. Parts of a response do not: the log is read by lines, and has the items whole. Nor
    /// does what the log says elsewhere: the output of a command at its end, the plan as an item, the tokens with the turn's end.
    pub fn is_logged(&self) -> bool {
        match self {
            Self::ItemDelta { .. }
            | Self::ItemUpdated { .. }
            | Self::PlanUpdated { .. }
            | Self::UsageUpdated { .. } => false,
            Self::ItemStarted { item } | Self::ItemCompleted { item } => match &item.details {
                ItemDetails::AgentMessage { .. } | ItemDetails::Reasoning { .. } => {
                    matches!(self, Self::ItemCompleted { .. })
                }
                ItemDetails::Unfinished { .. } => false,
                ItemDetails::CommandExecution { .. }
                | ItemDetails::FileChange { .. }
                | ItemDetails::TodoList { .. }
                | ItemDetails::ContextCompaction { .. }
                | ItemDetails::McpToolCall { .. }
                | ItemDetails::ToolCall { .. } => true,
            },
            Self::PhaseChanged { .. }
            | Self::ThreadStarted { .. }
            | Self::TurnStarted {}
            | Self::TurnCompleted { .. }
            | Self::TurnFailed { .. }
            | Self::DiffUpdated { .. }
            | Self::Error { .. }
            | Self::ThreadEnded { .. } => true,
        }
    }
}

impl From<Usage> for TurnUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            cache_write_input_tokens: usage.cache_write_input_tokens,
            output_tokens: usage.output_tokens,
            reasoning_output_tokens: usage.reasoning_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        let details = ItemDetails::command(
            "ls",
            "a\u{1b}[2Jb\r\nc\u{7f}\u{9b}2J\u{202e}d",
            Some(0),
            ItemStatus::Completed,
        );
        let line = Event::ItemCompleted { item: ThreadEventItem::new(3, details) }.to_line();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        assert!(!line.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["type"], "item.completed");
        assert_eq!(value["item"]["id"], "item_3");
        assert_eq!(value["item"]["type"], "command_execution");
        assert_eq!(value["item"]["exit_code"], 0);
        assert_eq!(value["item"]["aggregated_output"], "a\u{1b}[2Jb\r\nc\u{7f}\u{9b}2J\u{202e}d");
    }
}
