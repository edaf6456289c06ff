//! What the end of a call, or the lack of one, is told as.

use podwright_sandboxd::protocol::{ErrorCode, PROCESSES_MAX};

use super::{Done, Live, Look, State};
use crate::agent::events::{Event, ItemDetails, ItemStatus, ThreadEventItem};
use crate::agent::journal::record::CallOutcome;
use crate::agent::machine::{CallResult, RunCall, SessionChange};
use crate::agent::tools::exec::{ExecCommand, ExecError};
use crate::sandbox::SandboxError;

/// Why a command did not start, or is not known to have.
pub(super) fn start_error(error: SandboxError) -> ExecError {
    match error {
        SandboxError::Restarted { .. } => ExecError::SandboxRestarted,
        SandboxError::TooLarge(reason) => ExecError::Spawn(reason),
        SandboxError::Lost(_) => ExecError::OutcomeUnknown,
        SandboxError::Refused(error) if error.code == ErrorCode::LimitReached => {
            ExecError::TooManySessions(PROCESSES_MAX)
        }
        // It ran, or something else did under its name, or there was no answer.
        SandboxError::Refused(error)
            if matches!(
                error.code,
                ErrorCode::AlreadyAcknowledged | ErrorCode::OpConflict | ErrorCode::Internal
            ) =>
        {
            ExecError::OutcomeUnknown
        }
        SandboxError::Refused(error) => ExecError::Spawn(error.message),
    }
}

/// A command that has no result.
pub(super) fn failed(run: &RunCall, command: &ExecCommand, error: &ExecError) -> Done {
    let details = ItemDetails::command(&command.cmd, &error.text(command.surface), None, ItemStatus::Failed);
    let event = Event::ItemCompleted { item: ThreadEventItem::new(run.ordinal, details) };
    Done { event: Some(event), ..refused(run, error, None) }
}

/// A call that has no result; the session that it shows to be over.
pub(super) fn refused(run: &RunCall, error: &ExecError, closed: Option<i32>) -> Done {
    let outcome = match error {
        ExecError::SandboxRestarted | ExecError::OutcomeUnknown => CallOutcome::Unknown,
        ExecError::Spawn(_)
        | ExecError::UnknownSession(_)
        | ExecError::StdinClosed
        | ExecError::TooManySessions(_) => CallOutcome::Error,
    };
    let session = closed.map(|session| SessionChange::Closed { session });
    let output = error.text(run.call.surface());
    let result =
        CallResult { ordinal: run.ordinal, outcome, output, images: Vec::new(), exit: None, session };
    Done::ended(result, None)
}

/// The end of a command, or how far it is, for surfaces.
pub(super) fn told(live: &Live, look: &Look) -> Event {
    let (code, status) = match &look.state {
        State::Running => (None, ItemStatus::InProgress),
        State::Exited(_, 0) => (Some(0), ItemStatus::Completed),
        State::Exited(_, code) => (Some(*code), ItemStatus::Failed),
        State::Gone => (None, ItemStatus::Failed),
    };
    let details = ItemDetails::command(&live.command, &look.output, code, status);
    let item = ThreadEventItem::new(live.ordinal, details);
    if status == ItemStatus::InProgress { Event::ItemUpdated { item } } else { Event::ItemCompleted { item } }
}
