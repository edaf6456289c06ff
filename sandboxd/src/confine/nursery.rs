//! The supervisor's side of the process that starts commands.

use std::os::fd::OwnedFd;

use super::{Insufficient, Launch, LaunchError, Launched, Policy, Profile};

/// Why a phase cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel lacks a layer.
    #[error(transparent)]
    Insufficient(#[from] Insufficient),
    /// The nursery could not be started or did not confine itself.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The nursery reported that it could not confine itself.
    #[error("commands cannot be confined: {0}")]
    Refused(String),
}

/// The process that starts the commands of one phase, and the thread that makes their connections.
#[derive(Debug)]
pub struct Nursery {}

/// A terminal for one command.
#[derive(Debug)]
pub struct Terminal {
    /// The supervisor's end.
    pub master: OwnedFd,
    /// The command's end: pass it (cloned) as all three of its standard streams.
    pub slave: OwnedFd,
}

impl Nursery {
    /// Starts a nursery and waits until it has confined itself. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the kernel lacks a layer or a step fails; nothing then runs unconfined.
    pub fn start(_policy: &Policy) -> Result<Self, ConfineError> {
        Err(ConfineError::Refused(String::new()))
    }

    /// The nursery's process: a child of the supervisor, which reaps it. When it has ended, the phase can start no
    /// further command, and a new nursery has to be started.
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::INIT
    }

    /// The profile that its commands run in.
    #[must_use]
    pub fn profile(&self) -> Profile {
        Profile::Strict
    }

    /// Opens a terminal whose device the commands of this phase may open by its path.
    ///
    /// # Errors
    /// When the kernel has no terminal left.
    pub fn open_terminal(&self) -> std::io::Result<Terminal> {
        Err(std::io::Error::other(""))
    }

    /// Starts a command with these standard streams and returns when its program was executed. Callers on several
    /// threads are served one after the other, about a millisecond each.
    ///
    /// # Errors
    /// See [`LaunchError`]; none of the command's code has then run.
    pub fn launch(&self, _launch: &Launch, _stdio: [OwnedFd; 3]) -> Result<Launched, LaunchError> {
        Err(LaunchError::NurseryGone)
    }
}

/// The nursery process itself: `podwright-sandboxd nursery`, whose standard input is the supervisor's socket.
/// Returns its exit code.
#[must_use]
pub fn nursery_main() -> u8 {
    1
}
