//! Items of a thread as its events show them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::agent::journal::record::{CallOutcome, PatchedFile};
use crate::agent::tools::mcp::McpCall;
use crate::agent::tools::plan::{PlanStep, StepStatus};
use crate::llm::Item;

/// Longest output of a command in an event, in bytes: the log is for people, history has the text that the
/// model read.
const OUTPUT_MAX: usize = 4 * 1024;

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

    /// The model's plan.
    pub fn todo_list(plan: &[PlanStep]) -> Self {
        Self::TodoList { items: plan.iter().map(TodoItem::from).collect() }
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

impl From<&PlanStep> for TodoItem {
    fn from(step: &PlanStep) -> Self {
        Self { text: step.step.clone(), completed: step.status == StepStatus::Completed, status: step.status }
    }
}

impl From<&PatchedFile> for FileChange {
    fn from(file: &PatchedFile) -> Self {
        let kind = match (file.before, file.after) {
            (None, _) => FileChangeKind::Add,
            (Some(_), None) => FileChangeKind::Delete,
            (Some(_), Some(_)) => FileChangeKind::Update,
        };
        Self { path: file.path.clone(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
