//! What the journal records: facts, never intentions of the machine that are not also facts.
//!
//! The shapes are a file format: a member, once written, keeps its name and its meaning.

mod call;
#[cfg(test)]
pub(crate) mod fixture;
mod history;
mod model;

use jiff::Timestamp;
use podwright_sandboxd::protocol::BootId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::call::{
    CallEnded, CallIntent, CallOutcome, EffectClass, PatchIntent, PatchedFile, SessionClosed, SessionCursor,
    SessionMoved, SessionOpened,
};
pub use self::history::{CarriedSession, HistoryReplaced, ToolsReplaced};
pub use self::model::{BrokenBy, ModelEnd, ModelEnded, ModelIntent, RequestKind, Retries};
use crate::agent::prompt::skills::Skill;
use crate::agent::tools::mcp::McpTool;
use crate::api::attempt::Outcome;
use crate::llm::{AnswerFormat, Capabilities, ContentPart, ThreadItem, Wire};

/// The version that this program writes. A journal with a higher one is not read.
pub const VERSION: u32 = 1;

/// One fact and its circumstances.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Number in the journal, from 1, without gaps.
    pub seq: u64,
    /// When it was written, by the wall clock.
    pub at: Timestamp,
    /// Number of the pod that wrote it.
    pub epoch: u32,
    /// Turns begun by then.
    pub turn: u32,
    /// Steps begun by then.
    pub step: u64,
    /// Active time spent by then, in milliseconds: a restart goes on from here.
    pub active_ms: u64,
    /// How long the model has been waited for since the outage began, in milliseconds; 0 without one.
    pub outage_ms: u64,
    /// The fact.
    pub record: Record,
}

/// An agent process began to work on the attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochStarted {
    /// Version of the program.
    pub agent_version: String,
    /// The pod.
    pub pod_uid: String,
}

/// The workspace is ready and everything that stays as it is for the whole thread is settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadOpened {
    /// The thread; also the provider's cache key and the first part of every operation id.
    pub thread_id: String,
    /// The task.
    pub task_uid: String,
    /// Name of the attempt.
    pub attempt: String,
    /// The commit that was checked out.
    pub base_commit: String,
    /// The tree of the workspace after setup.
    pub baseline_tree: String,
    /// Name of the provider.
    pub provider: String,
    /// Name of the model.
    pub model: String,
    /// How hard the model should think.
    pub reasoning_effort: Option<String>,
    /// The shell that runs commands.
    pub shell: String,
    /// The API.
    pub wire: Wire,
    /// What model and server can take.
    pub capabilities: Capabilities,
    /// The tools as the wire carries them, until a compaction brings others.
    pub tools: String,
    /// Custom tools that were declared as functions.
    pub custom_as_function: Vec<String>,
    /// What comes before the first prompt: base instructions, developer block, repository instructions.
    pub prefix: Vec<ThreadItem>,
    /// The repository's skills, for the prompts that name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<Skill>,
    /// What the final answer of each turn has to look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerFormat>,
    /// What the provider's cache knows the thread by, where that is not its id: it goes on with another thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_key: Option<String>,
    /// What came in the thread that it goes on with.
    #[serde(default, skip_serializing_if = "Inherited::is_empty")]
    pub inherited: Box<Inherited>,
    /// The tools of MCP servers among the tools, the last of them, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_tools: Vec<McpTool>,
    /// The life of the sandbox, when some of these servers run in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
}

/// What came in a thread, after its prefix, before another one went on with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inherited {
    /// Its items, and at the end what is said of the change.
    pub items: Vec<ThreadItem>,
    /// Where its requests ended: how many of the items each held.
    pub sealed: Vec<usize>,
    /// Whether the first item comes before the messages of the prefix.
    #[serde(default)]
    pub leads: bool,
}

impl Inherited {
    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl ThreadOpened {
    /// What the provider's cache knows the thread by.
    pub fn cache_key(&self) -> &str {
        self.cache_key.as_deref().unwrap_or(&self.thread_id)
    }
}

/// Somebody said something to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputAccepted {
    /// UID of the message, or of the attempt for the task's own prompt: a repeated one is dropped.
    pub uid: String,
    /// Number in the inbox; 0 for the task's own prompt.
    pub seq: i64,
    /// What is asked.
    pub kind: InputKind,
    /// What is said.
    pub text: String,
    /// What comes with it, in the same message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<ContentPart>,
}

/// What an input asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InputKind {
    /// A turn, or a further word in the one that goes on.
    Prompt,
    /// The end of the attempt.
    Cancel,
}

/// A turn began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnStarted {
    /// The input that it answers.
    pub input_uid: String,
    /// What it adds to history. In this record, so that no crash separates the two.
    pub items: Vec<ThreadItem>,
}

/// What was said during a turn joined it, after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnSteered {
    /// The input.
    pub input_uid: String,
    /// What it adds to history. In this record, so that no crash separates the two.
    pub items: Vec<ThreadItem>,
}

/// The final answer of a turn does not have its form; the turn goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerRejected {
    /// What is wrong with it.
    pub problem: String,
    /// What the model is told. In this record, so that no crash separates the two.
    pub items: Vec<ThreadItem>,
}

impl AnswerRejected {
    /// What people are told of it.
    pub fn told(&self) -> String {
        format!("the final answer does not have its form: {}", self.problem)
    }
}

/// The model was told that the sandbox lives anew, and what that means for its tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxNoted {
    /// The new life.
    pub boot: BootId,
    /// What it adds to history. In this record, so that no crash separates the two.
    pub items: Vec<ThreadItem>,
}

/// A turn ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnEnded {
    /// How.
    pub status: TurnStatus,
    /// The model's last words; empty when there were none.
    pub last_message: String,
    /// How the attempt ends that cuts it off. In this record, so that no crash leaves a turn that has failed in an
    /// attempt that has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TurnStatus {
    /// With the model's final answer.
    Completed,
    /// Because the model or a limit ended it.
    Failed,
    /// Because a person did.
    Interrupted,
}

/// An item entered history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemAppended {
    /// Its place in history, from 0.
    pub ordinal: u64,
    /// The request that it came from, for the model's items.
    pub request: Option<u64>,
    /// The item with its bytes.
    pub item: ThreadItem,
}

/// Time passed and nothing else happened. Without such records all the time since the last one would be lost at a
/// crash, which may be hours of one command. No barrier follows them: a process that dies loses nothing that it has
/// written, and a node that dies a few seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimePassed {
    /// How long the pod has waited for a message after the last turn, in milliseconds.
    pub idle_ms: u64,
}

/// A limit was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetTripped {
    /// The limit's name in the spec.
    pub limit: String,
}

/// The attempt ends; what is left is to gather and publish its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishIntent {
    /// How, unless the results themselves cannot be had.
    pub outcome: Outcome,
}

/// The outcome is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishDone {
    /// How the attempt has ended with its results, which may be another end than the intended one. Nothing where the
    /// commands of the next pod decide it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

macro_rules! records {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, critical: $critical:literal;)*) => {
        /// A fact.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($(#[$doc])* $variant($variant),)*
        }

        impl Record {
            /// Its type's name in the journal.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Whether a reader that does not know the type must stop.
            pub fn is_critical(&self) -> bool {
                match self { $(Self::$variant(_) => $critical,)* }
            }

            /// Its data as JSON.
            ///
            /// # Errors
            /// Never for a record made by this program.
            pub fn to_data(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$variant(data) => serde_json::to_value(data),)* }
            }

            /// Reads the data of the type `name`; nothing when this program does not know the type.
            ///
            /// # Errors
            /// When the data does not fit the type.
            pub fn from_data(name: &str, data: Value) -> Result<Option<Self>, serde_json::Error> {
                match name {
                    $($name => serde_json::from_value(data).map(|data| Some(Self::$variant(data))),)*
                    _ => Ok(None),
                }
            }
        }

        $(impl From<$variant> for Record {
            fn from(data: $variant) -> Self { Self::$variant(data) }
        })*
    };
}

records! {
    /// An agent process began.
    EpochStarted = "epoch.started", critical: true;
    /// The thread was opened.
    ThreadOpened = "thread.opened", critical: true;
    /// An input was accepted.
    InputAccepted = "input.accepted", critical: true;
    /// A turn began.
    TurnStarted = "turn.started", critical: true;
    /// A turn was steered.
    TurnSteered = "turn.steered", critical: true;
    /// A final answer was sent back.
    AnswerRejected = "answer.rejected", critical: true;
    /// The model was told of a new life of the sandbox.
    SandboxNoted = "sandbox.noted", critical: true;
    /// A turn ended.
    TurnEnded = "turn.ended", critical: true;
    /// An item entered history.
    ItemAppended = "item.appended", critical: true;
    /// A model request goes out.
    ModelIntent = "model.intent", critical: true;
    /// A model request is over.
    ModelEnded = "model.ended", critical: true;
    /// History was compacted.
    HistoryReplaced = "history.replaced", critical: true;
    /// A call goes out.
    CallIntent = "call.intent", critical: true;
    /// A call has its output.
    CallEnded = "call.ended", critical: true;
    /// A command goes on in the background.
    SessionOpened = "session.opened", critical: true;
    /// A session was read or written.
    SessionMoved = "session.moved", critical: true;
    /// A session is over.
    SessionClosed = "session.closed", critical: true;
    /// Time passed.
    TimePassed = "time.passed", critical: false;
    /// A limit was reached.
    BudgetTripped = "budget.tripped", critical: false;
    /// The attempt ends.
    FinishIntent = "finish.intent", critical: true;
    /// The outcome is published.
    FinishDone = "finish.done", critical: true;
}
