//! What becomes of calls that were under way when the agent's process ended.
//!
//! A command is a durable record in the supervisor, found again by its operation id: within one life of the
//! supervisor it is asked for again, and starts only if it never arrived. In another life nothing of it is
//! known, and it is never run again. A patch leaves its traces in the files.

use std::collections::BTreeMap;

use podwright_sandboxd::protocol::{BootId, Digest, FileState};

use super::journal::record::{CallIntent, CallOutcome, EffectClass, PatchIntent};
use super::thread::{OpenCall, Thread};
use super::tools::exec::ExecError;
use super::tools::mcp::result;

/// Files whose state decides about a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The patch's operation.
    pub op: u64,
    /// Absolute directory that the paths are relative to.
    pub root: String,
    /// The paths.
    pub paths: Vec<String>,
}

/// What was found after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The life of the supervisor.
    pub boot: BootId,
    /// For each operation that was asked about, what is at its paths, in order.
    pub files: BTreeMap<u64, Vec<FileState>>,
}

/// What becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Ask for the same operation again: it goes on, is told from its record, or starts for the first time.
    Resume {
        /// Place of the call in history.
        ordinal: u64,
        /// The operation.
        op: u64,
    },
    /// Begin the call anew as another operation: nothing of it happened, or it may happen twice.
    Restart {
        /// Place of the call in history.
        ordinal: u64,
    },
    /// The call is over.
    Conclude {
        /// Place of the call in history.
        ordinal: u64,
        /// How it ended.
        outcome: CallOutcome,
        /// What the model reads.
        output: String,
    },
}

/// What has to be looked at before [`recover`] can decide.
pub fn questions(thread: &Thread) -> Vec<Question> {
    let patches = unfinished(thread).filter_map(|(_, intent)| Some((intent.op, intent.patch.as_ref()?)));
    patches
        .map(|(op, patch)| Question {
            op,
            root: patch.root.clone(),
            paths: patch.files.iter().map(|file| file.path.clone()).collect(),
        })
        .collect()
}

/// Decides about every call that left for the sandbox and has no end.
pub fn recover(thread: &Thread, world: &World) -> Vec<Recovery> {
    unfinished(thread)
        .map(|(call, intent)| {
            let ordinal = call.ordinal;
            match &intent.patch {
                Some(patch) => {
                    let files = world.files.get(&intent.op).map(Vec::as_slice).unwrap_or_default();
                    recover_patch(ordinal, patch, files)
                }
                None if intent.class == EffectClass::External => recover_external(thread, ordinal, intent),
                None if intent.boot == world.boot => Recovery::Resume { ordinal, op: intent.op },
                None => Recovery::Conclude {
                    ordinal,
                    outcome: CallOutcome::Unknown,
                    output: ExecError::SandboxRestarted.to_string(),
                },
            }
        })
        .collect()
}

fn unfinished(thread: &Thread) -> impl Iterator<Item = (&OpenCall, &CallIntent)> {
    let calls = thread.calls.iter().filter(|call| call.ended.is_none());
    calls.filter_map(|call| call.intent.as_ref().map(|intent| (call, intent)))
}

/// Nobody remembers such a call. It is sent again only where the operator said that this does no harm.
fn recover_external(thread: &Thread, ordinal: u64, intent: &CallIntent) -> Recovery {
    if thread.mcp_tool(&intent.tool).is_some_and(|tool| tool.retryable) {
        return Recovery::Restart { ordinal };
    }
    let output = result::interrupted(&intent.tool);
    Recovery::Conclude { ordinal, outcome: CallOutcome::Unknown, output }
}

fn recover_patch(ordinal: u64, patch: &PatchIntent, files: &[FileState]) -> Recovery {
    let found = |wanted: fn(&super::journal::record::PatchedFile) -> Option<Digest>| {
        files.len() == patch.files.len()
            && patch.files.iter().zip(files).all(|(file, state)| shows(*state, wanted(file)))
    };
    if found(|file| file.after) {
        return Recovery::Conclude { ordinal, outcome: CallOutcome::Ok, output: patch.success.clone() };
    }
    if found(|file| file.before) {
        return Recovery::Restart { ordinal };
    }
    Recovery::Conclude { ordinal, outcome: CallOutcome::Unknown, output: mixed(patch, files) }
}

fn shows(state: FileState, wanted: Option<Digest>) -> bool {
    match (state, wanted) {
        (FileState::Absent, None) => true,
        (FileState::File { sha256, .. }, Some(digest)) => sha256 == digest,
        (FileState::Absent, Some(_))
        | (FileState::File { .. }, None)
        | (FileState::TooLarge | FileState::Special | FileState::Unreadable, _) => false,
    }
}

/// Which files have the patch, for the model, which must look at them.
fn mixed(patch: &PatchIntent, files: &[FileState]) -> String {
    let mut text = "The patch was interrupted and may be partly applied:\n".to_owned();
    for (index, file) in patch.files.iter().enumerate() {
        let state = match files.get(index) {
            Some(state) if shows(*state, file.after) => "changed",
            Some(state) if shows(*state, file.before) => "not changed",
            Some(_) => "neither as before nor as after the patch",
            None => "unknown",
        };
        text.push_str(&format!("{}: {state}\n", file.path));
    }
    text.push_str("Look at these files before changing them again.");
    text
}

#[cfg(test)]
mod tests;
