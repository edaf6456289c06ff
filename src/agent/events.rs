//! What happens in a thread, as one typed stream. Standard output and the status are made from it.
//!
//! The shapes are those of `codex exec --json`, so that what reads one reads the other; `phase.changed`,
//! `thread.ended`, the updates and deltas, and the items `tool_call`, `context_compaction` and `unfinished` are ours. [`told`]
//! says how far a surface has heard, [`replay`] tells it again from the journal, [`streaming`] follows a response while it
//! arrives.

pub mod replay;
pub mod streaming;
pub mod told;

use serde::Serialize;
use serde_json::{Map, Value};

pub use self::told::{Cursor, Surfaces, Told, surfaces};

use super::journal::record::CallOutcome;
use super::tools::mcp::McpCall;
use super::tools::plan::StepStatus;
use crate::api::attempt::{Outcome, Phase};
use crate::llm::{Item, Usage};

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
    /// An item of the model's that never became whole, since its response broke off. The one that takes its place
    /// begins anew under the same id.
    Unfinished {
        /// Always failed.
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
        Self { id: Self::id(ordinal), details }
    }

    /// The id of the item at a place in history.
    pub fn id(ordinal: u64) -> String {
        format!("item_{ordinal}")
    }
}

impl ItemDetails {
    /// What is shown of an item of the model's. Calls are shown when they run.
    pub fn of_model(item: &Item) -> Option<Self> {
        match item {
            Item::Message(message) => Some(Self::AgentMessage { text: message.text() }),
            Item::Reasoning(reasoning) if !reasoning.text.is_empty() => {
                Some(Self::Reasoning { text: reasoning.text.join("\n\n") })
            }
            Item::Reasoning(_)
            | Item::FunctionCall(_)
            | Item::CustomCall(_)
            | Item::FunctionCallOutput(_)
            | Item::CustomCallOutput(_)
            | Item::Opaque(_) => None,
        }
    }

    /// A call of an MCP server's tool that is under way.
    pub fn mcp_begun(call: &McpCall) -> Self {
        Self::McpToolCall {
            server: call.tool.server.clone(),
            tool: call.tool.tool.clone(),
            arguments: call.arguments.clone(),
            result: None,
            error: None,
            status: ItemStatus::InProgress,
        }
    }

    /// The end of one, with what the model was told, shortened.
    pub fn mcp_ended(call: &McpCall, text: &str, outcome: CallOutcome) -> Self {
        let text = text.get(..text.floor_char_boundary(OUTPUT_MAX)).unwrap_or_default().to_owned();
        let (result, error, status) = match outcome {
            CallOutcome::Ok => (Some(text), None, ItemStatus::Completed),
            CallOutcome::Error | CallOutcome::Interrupted | CallOutcome::Unknown => {
                (None, Some(text), ItemStatus::Failed)
            }
        };
        Self::McpToolCall {
            server: call.tool.server.clone(),
            tool: call.tool.tool.clone(),
            arguments: call.arguments.clone(),
            result,
            error,
            status,
        }
    }

    /// A command; its output is shortened.
    pub fn command(command: &str, output: &str, exit_code: Option<i32>, status: ItemStatus) -> Self {
        let cut = output.ceil_char_boundary(output.len().saturating_sub(OUTPUT_MAX));
        let aggregated_output = output.get(cut..).unwrap_or_default().to_owned();
        Self::CommandExecution { command: command.to_owned(), aggregated_output, exit_code, status }
    }
}

impl Event {
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
