//! What the machine is told.

use std::time::Duration;

use jiff::Timestamp;
use podwright_sandboxd::protocol::BootId;

use crate::agent::journal::record::{
    CallOutcome, EpochStarted, InputAccepted, PatchIntent, SessionCursor, SessionOpened, ThreadOpened,
};
use crate::agent::recover::World;
use crate::agent::tools::mcp::selection::Offer;
use crate::api::attempt::Outcome;
use crate::llm::{Completed, ModelError, ThreadItem};
use podwright_sandboxd::protocol::ExitRecord;

/// Something that happened, and when.
#[derive(Clone, Debug)]
pub struct Input {
    /// When.
    pub at: Moment,
    /// What.
    pub signal: Signal,
}

/// A moment by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock: for records only, since it jumps.
    pub wall: Timestamp,
    /// Since the process began, by a clock that nobody sets: every delay and limit counts by it.
    pub monotonic: Duration,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The process began, and this is which one.
    Started {
        /// Number of the pod.
        epoch: u32,
        /// The record of it.
        record: EpochStarted,
    },
    /// The workspace is ready.
    Prepared(Box<Prepared>),
    /// After a restart: what the sandbox and the workspace look like.
    Surveyed(World),
    /// While the workspace is made ready: the sandbox can be used.
    SandboxReached,
    /// The sandbox was restarted and is reached again.
    SandboxRestarted(BootId),
    /// Somebody said something. Repetitions are dropped, and so is what comes after the end was decided.
    Message(InputAccepted),
    /// Whether the agent shall stop before its next model request.
    Suspend(bool),
    /// An item of a response is whole.
    ModelItem {
        /// The request.
        request: u64,
        /// The item.
        item: Box<ThreadItem>,
    },
    /// A response is whole.
    ModelCompleted {
        /// The request.
        request: u64,
        /// Its end.
        completed: Completed,
    },
    /// A request failed.
    ModelFailed {
        /// The request.
        request: u64,
        /// Why.
        error: ModelError,
        /// A random number from 0 to 1, which spreads retries.
        jitter: f64,
    },
    /// A patch fits the files; nothing is changed yet.
    PatchComputed {
        /// Place of its call in history.
        ordinal: u64,
        /// What it changes.
        patch: PatchIntent,
    },
    /// A call never left, since the life of the sandbox that it was meant for is over. It is begun again in
    /// the next one.
    CallUnsent {
        /// Its place in history.
        ordinal: u64,
        /// The life that it was meant for.
        boot: BootId,
    },
    /// A call is over.
    CallEnded(CallResult),
    /// What MCP servers offer whose tools are others than the thread's; of all others nothing.
    ToolsListed(Vec<Offer>),
    /// A moment asked for by [`super::Machine::wake_at`] has come.
    Woken,
    /// Something ends the attempt that no other input tells.
    Failed(Outcome),
    /// The results are in the attempt's status, with the outcome that they make. Without one the commands of the next pod
    /// decide it.
    Published(Option<Outcome>),
}

/// A thread that can be opened.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What stays as it is.
    pub opened: ThreadOpened,
    /// What the agent is asked to do.
    pub prompt: InputAccepted,
    /// The life of the supervisor.
    pub boot: BootId,
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallResult {
    /// Its place in history.
    pub ordinal: u64,
    /// How it ended.
    pub outcome: CallOutcome,
    /// The exact output for the model.
    pub output: String,
    /// Pictures that go with it, as `data:` URLs.
    pub images: Vec<String>,
    /// The exit record that it tells, and the operation whose process it is of.
    pub exit: Option<(u64, ExitRecord)>,
    /// What became of a session.
    pub session: Option<SessionChange>,
}

/// What became of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionChange {
    /// It began.
    Opened(SessionOpened),
    /// It was read or written.
    Moved {
        /// The session.
        session: i32,
        /// How far it is.
        cursor: SessionCursor,
    },
    /// Its end was told, or it is lost.
    Closed {
        /// The session.
        session: i32,
    },
}
