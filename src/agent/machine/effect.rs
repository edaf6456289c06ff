//! What the machine wants done.

use podwright_sandboxd::protocol::BootId;

use crate::agent::events::Event;
use crate::agent::journal::Barrier;
use crate::agent::journal::record::Entry;
use crate::agent::recover::Question;
use crate::agent::tools::image::ViewImage;
use crate::agent::tools::mcp::McpCall;
use crate::agent::tools::{ApplyPatch, ToolCall};
use crate::api::attempt::Outcome;
use crate::llm::PreparedRequest;

/// Something to do. Effects are done in order; what takes time is begun in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write to the journal.
    Append(Box<Entry>),
    /// Go on only when everything written before is on disk.
    Barrier(Barrier),
    /// Tell surfaces.
    Emit(Event),
    /// Make the workspace and the sandbox ready; answered by `Prepared` or `Failed`.
    Prepare,
    /// Reach the sandbox and look at files; answered by `Surveyed` or `Failed`.
    Survey(Vec<Question>),
    /// Ask the model; answered by items and an end.
    AskModel(Box<AskModel>),
    /// Drop the request that is under way.
    StopModel,
    /// Run a command or write to one; answered by `CallEnded` or `CallUnsent`.
    RunCall(RunCall),
    /// Read the files of a patch and verify it; answered by `PatchComputed` or `CallEnded`.
    ComputePatch {
        /// Place of the call in history.
        ordinal: u64,
        /// The patch.
        patch: ApplyPatch,
    },
    /// Apply the patch that was computed; answered by `CallEnded`.
    ApplyPatch {
        /// Place of the call in history.
        ordinal: u64,
        /// The operation's number.
        op: u64,
    },
    /// Read a picture and make it ready to be shown; answered by `CallEnded`. Nothing leaves for the sandbox, so
    /// after a restart it is simply read again.
    ViewImage {
        /// Place of the call in history.
        ordinal: u64,
        /// The picture.
        view: ViewImage,
    },
    /// Call a tool of an MCP server; answered by `CallEnded`.
    CallMcp {
        /// Place of the call in history.
        ordinal: u64,
        /// The call.
        call: McpCall,
    },
    /// Ask the MCP servers whose tools may be others now what they offer; answered by `ToolsListed`, soon in any case.
    ListTools,
    /// Drop every call that is under way. The commands themselves are killed at the end.
    StopCalls,
    /// Let the supervisor forget the processes of these operations.
    Acknowledge(Vec<u64>),
    /// A turn is over and the pod waits for the next message: show the patch so far.
    ShowPatch,
    /// Kill what runs, gather the patch and the transcript, write the outcome into the attempt's status;
    /// answered by `Published`.
    Finish(Outcome),
    /// All is done.
    Exit,
}

/// A model request.
#[derive(Clone, Debug, PartialEq)]
pub struct AskModel {
    /// Its number.
    pub request: u64,
    /// What is sent.
    pub prepared: PreparedRequest,
    /// Whether the key is read again first.
    pub reread_credential: bool,
}

/// A call for the sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCall {
    /// Place of the call in history.
    pub ordinal: u64,
    /// The operation's number.
    pub op: u64,
    /// The call's id as the provider wrote it.
    pub call_id: String,
    /// The life of the supervisor in which it runs, or ran.
    pub boot: BootId,
    /// Whether an earlier process may have sent it already.
    pub resumed: bool,
    /// What is to be done.
    pub call: ToolCall,
}
