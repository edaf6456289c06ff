//! One command: what to start, and how it ended.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::protocol::Exit;

/// A command to start. Everything is passed by value; nothing of the supervisor's environment is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments, at least one. A program without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Absolute working directory.
    pub cwd: String,
    /// Whether standard input is a terminal that becomes the command's controlling terminal.
    pub tty: bool,
}

/// A command that runs: its program was executed.
#[derive(Debug)]
pub struct Launched {
    /// The command's subreaper, a child of the supervisor. It lives until the command and every descendant are
    /// gone, and is what [`super::kill_tree`] takes.
    pub pid: rustix::process::Pid,
    /// Readable once the main process has ended: see [`read_exit`].
    pub exit: OwnedFd,
}

/// Why a command does not run. None of its code has run, except perhaps after [`LaunchError::Lost`].
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such program, or its interpreter is missing.
    #[error("command not found: {0}")]
    NotFound(String),
    /// The program exists but may not be executed.
    #[error("permission denied: {0}")]
    PermissionDenied(String),
    /// The working directory is missing, not a directory or may not be entered.
    #[error("cannot enter the working directory {cwd}: {errno}")]
    Cwd {
        /// The directory that was asked for.
        cwd: String,
        /// The kernel's reason.
        errno: rustix::io::Errno,
    },
    /// The request itself cannot be executed: no program, a NUL byte, more than the kernel takes.
    #[error("invalid command: {0}")]
    Invalid(&'static str),
    /// Another failure of the kernel to execute it.
    #[error("cannot execute {program}: {errno}")]
    Exec {
        /// The program that was asked for.
        program: String,
        /// The kernel's reason.
        errno: rustix::io::Errno,
    },
    /// No process could be made: too many processes or too little memory.
    #[error("cannot start a process: {0}")]
    Fork(rustix::io::Errno),
    /// The nursery has ended, which a command of its phase can bring about. Start a new one and try again.
    #[error("the process that starts commands is gone")]
    NurseryGone,
    /// Something stopped the command just as it began, as another command of its phase can. Some of it may have run; it
    /// was ended. Do not repeat it unasked.
    #[error("the command was stopped by another one while it began, and was ended")]
    Lost,
}

/// Bytes of the record that a subreaper writes: what happened, and its number.
pub(super) const EXIT_RECORD: usize = 2;

/// How a subreaper says how its command ended.
pub(super) fn exit_record(exit: Exit) -> [u8; EXIT_RECORD] {
    match exit {
        Exit::Code(code) => [0, code],
        Exit::Signal(signal) => [1, signal],
        Exit::Lost => [2, 0],
    }
}

/// Reads how a command ended. Blocks until it has, so poll [`Launched::exit`] for readability (or hang-up) first.
///
/// # Errors
/// When the descriptor cannot be read. A subreaper that died without a word is [`Exit::Lost`], not an error.
pub fn read_exit(exit: impl AsFd) -> io::Result<Exit> {
    let mut file = std::fs::File::from(exit.as_fd().try_clone_to_owned()?);
    let mut record = [0; EXIT_RECORD];
    match file.read_exact(&mut record) {
        Ok(()) => Ok(match record {
            [0, code] => Exit::Code(code),
            [1, signal] => Exit::Signal(signal),
            _ => Exit::Lost,
        }),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Exit::Lost),
        Err(error) => Err(error),
    }
}
