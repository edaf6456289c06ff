//! What callers are told.

use podwright_sandboxd::protocol::{
    BootId, EncodeError, ErrorCode, Exit, ExitRecord, OpId, Profile, RpcError,
};

use super::transcript::Delta;

/// One life of the supervisor, as far as the client is connected to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Its identity. Every process belongs to one boot and dies with it.
    pub id: BootId,
    /// Number of the connection within the boot, from 1.
    pub stream: u64,
    /// How commands are confined; `None` when the kernel offers too little to run any.
    pub profile: Option<Profile>,
    /// The phase that was open when the connection was made.
    pub phase: Option<OpId>,
}

/// State of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Being made, or made again; the last failure, if there was one.
    Connecting(Option<String>),
    /// There.
    Up(Boot),
    /// Given up for good.
    Lost(String),
}

/// What became of a command, and what it wrote since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// New output.
    pub output: Delta,
    /// Position after the last byte seen: where the next look begins.
    pub seen: u64,
    /// What became of the command.
    pub outcome: Outcome,
}

/// What became of a command. Never a guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It runs, as far as was heard.
    Running,
    /// It ended as its exit record says, and the output here agrees with the record's digests.
    Exited(Ended),
    /// The sandbox was restarted: the command may have run in part, and is gone.
    Interrupted {
        /// The boot that followed.
        boot: BootId,
    },
    /// Nobody knows how it ended.
    Unknown {
        /// Why, for the model and for people.
        why: String,
    },
}

/// A known end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Code or signal.
    pub exit: Known,
    /// The whole record, to be stored before it is acknowledged.
    pub record: ExitRecord,
}

/// An end that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

/// Why the sandbox did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SandboxError {
    /// The sandbox was restarted since the boot that the caller meant. Whatever was asked may have been done in part.
    #[error("the sandbox was restarted")]
    Restarted {
        /// The boot that followed.
        boot: BootId,
    },
    /// The supervisor refused; nothing was done unless the message says so.
    #[error("{0}")]
    Refused(RpcError),
    /// The request does not fit a message.
    #[error("{0}")]
    TooLarge(String),
    /// The supervisor cannot be reached any more.
    #[error("the sandbox is lost: {0}")]
    Lost(String),
}

impl SandboxError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code),
            Self::Restarted { .. } | Self::TooLarge(_) | Self::Lost(_) => None,
        }
    }
}

impl From<EncodeError> for SandboxError {
    fn from(error: EncodeError) -> Self {
        Self::TooLarge(error.to_string())
    }
}

impl Outcome {
    /// The outcome that a record tells.
    pub(super) fn of(record: ExitRecord) -> Self {
        let exit = match record.exit {
            Exit::Code(code) => Known::Code(code),
            Exit::Signal(signal) => Known::Signal(signal),
            Exit::Lost => {
                return Self::Unknown { why: "its end was not seen, since its watcher was killed".into() };
            }
        };
        Self::Exited(Ended { exit, record })
    }
}

impl Known {
    /// The code as a shell reports it: 128 + n for signal n.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal(signal) => 128 + i32::from(signal),
        }
    }
}
