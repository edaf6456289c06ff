//! What happens in a thread, as one typed stream. Standard output and the status are made from it.
//!
//! The shapes are those of `codex exec --json`, so that what reads one reads the other; `phase.changed`,
//! `thread.ended` and the items `tool_call` and `context_compaction` are ours.

use serde::Serialize;
use serde_json::{Map, Value};

use super::tools::plan::StepStatus;
use crate::api::attempt::{Outcome, Phase};
use crate::llm::Usage;

/// Longest output of a command in an event, in bytes: the log is for people, history has the text that the
/// model read.
const OUTPUT_MAX: usize = 4 * 1024;

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
    /// An item is whole.
    #[serde(rename = "item.completed")]
    ItemCompleted {
        /// The item.
        item: ThreadEventItem,
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

/// An item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadEventItem {
    /// `item_<place in history>`, the same from its start to its end.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub details: ItemDetails,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ItemDetails {
    /// Words of the model.
    AgentMessage {
        /// The words.
        text: String,
    },
    /// Its reasoning, as far as the provider shows it.
    Reasoning {
        /// The text.
        text: String,
    },
    /// A command.
    CommandExecution {
        /// The command as the model wrote it.
        command: String,
        /// Its output, shortened to 4 KiB.
        aggregated_output: String,
        /// Its exit code, once it has one.
        exit_code: Option<i32>,
        /// How far it is.
        status: ItemStatus,
    },
    /// A patch.
    FileChange {
        /// The files.
        changes: Vec<FileChange>,
        /// How far it is.
        status: ItemStatus,
    },
    /// The model's plan.
    TodoList {
        /// Its steps.
        items: Vec<TodoItem>,
    },
    /// A call of a tool of an MCP server.
    McpToolCall {
        /// The server.
        server: String,
        /// The tool, by its name there.
        tool: String,
        /// What the model gave.
        arguments: Map<String, Value>,
        /// What came of it, once it is known; shortened.
        result: Option<String>,
        /// Why nothing did.
        error: Option<String>,
        /// How far it is.
        status: ItemStatus,
    },
    /// The thread nears the end of the context window and goes on from a summary of itself.
    ContextCompaction {
        /// Number of the window that begins with it; the thread's first has the number 1.
        window: u32,
        /// How far it is.
        status: ItemStatus,
    },
    /// Any other call.
    ToolCall {
        /// The tool as the model named it.
        tool: String,
        /// What the model was told.
        output: String,
        /// How far it is.
        status: ItemStatus,
    },
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// Under way.
    InProgress,
    /// Done.
    Completed,
    /// Done badly; also a command with another exit code than 0.
    Failed,
}

/// A changed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path in the repository.
    pub path: String,
    /// What happened to it.
    pub kind: FileChangeKind,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChangeKind {
    /// It is new.
    Add,
    /// It is gone.
    Delete,
    /// Its content changed.
    Update,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TodoItem {
    /// What is to be done.
    pub text: String,
    /// Whether it is done.
    pub completed: bool,
    /// How far it is.
    pub status: StepStatus,
}

impl ThreadEventItem {
    /// The item at a place in history.
    pub fn new(ordinal: u64, details: ItemDetails) -> Self {
        Self { id: format!("item_{ordinal}"), details }
    }
}

impl ItemDetails {
    /// A command; its output is shortened.
    pub fn command(command: &str, output: &str, exit_code: Option<i32>, status: ItemStatus) -> Self {
        let cut = output.ceil_char_boundary(output.len().saturating_sub(OUTPUT_MAX));
        let aggregated_output = output.get(cut..).unwrap_or_default().to_owned();
        Self::CommandExecution { command: command.to_owned(), aggregated_output, exit_code, status }
    }
}

impl Event {
    /// The event as one line of JSON. Control characters of a command's output are escaped in it, so a
    /// terminal that shows the log obeys none of them.
    pub fn to_line(&self) -> String {
        // Strings, numbers and enums always have a JSON form.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
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
        let details = ItemDetails::command("ls", "a\u{1b}[2Jb\r\nc\u{7f}", Some(0), ItemStatus::Completed);
        let line = Event::ItemCompleted { item: ThreadEventItem::new(3, details) }.to_line();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        assert!(!line.trim_end().bytes().any(|byte| byte < 0x20));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["type"], "item.completed");
        assert_eq!(value["item"]["id"], "item_3");
        assert_eq!(value["item"]["type"], "command_execution");
        assert_eq!(value["item"]["exit_code"], 0);
    }

    #[test]
    fn long_output_keeps_its_end() {
        let output = format!("{}€end", "x".repeat(OUTPUT_MAX));
        let ItemDetails::CommandExecution { aggregated_output, .. } =
            ItemDetails::command("c", &output, None, ItemStatus::InProgress)
        else {
            panic!("another item");
        };
        assert!(aggregated_output.len() <= OUTPUT_MAX && aggregated_output.ends_with("€end"));
    }
}
