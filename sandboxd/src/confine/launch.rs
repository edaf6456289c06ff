//! One command: what to start, and how it ended.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

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

/// How the main process of a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Its subreaper was killed first, so nobody knows. To be reported as an unknown end, never as success.
    Lost,
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

/// Bytes of the record that a subreaper writes: what happened and its number, as two little-endian words.
pub(super) const EXIT_RECORD: usize = 8;

impl Exit {
    pub(super) fn to_record(self) -> [u8; EXIT_RECORD] {
        let (kind, value) = match self {
            Self::Code(code) => (0u32, code),
            Self::Signal(signal) => (1, signal),
            Self::Lost => (2, 0),
        };
        let mut record = [0; EXIT_RECORD];
        record[..4].copy_from_slice(&kind.to_le_bytes());
        record[4..].copy_from_slice(&value.to_le_bytes());
        record
    }

    fn from_record(record: [u8; EXIT_RECORD]) -> Self {
        let [k0, k1, k2, k3, v0, v1, v2, v3] = record;
        let value = i32::from_le_bytes([v0, v1, v2, v3]);
        match u32::from_le_bytes([k0, k1, k2, k3]) {
            0 => Self::Code(value),
            1 => Self::Signal(value),
            _ => Self::Lost,
        }
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
        Ok(()) => Ok(Exit::from_record(record)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Exit::Lost),
        Err(error) => Err(error),
    }
}
