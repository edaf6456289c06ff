//! Errors that travel in a response.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An error response: a code to act on and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// What kind of refusal this is.
    pub code: ErrorCode,
    /// What happened and what to do, at most a few hundred bytes.
    pub message: String,
}

/// Kinds of refusal. Numbers from -32700 to -32600 are JSON-RPC's own, -32004 is the exec-server protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The line is not a message of this protocol.
    Malformed,
    /// No such method.
    UnknownMethod,
    /// The parameters do not fit the method, or their digest is another.
    InvalidParams,
    /// The supervisor itself failed.
    Internal,
    /// A file or directory does not exist.
    NotFound,
    /// Wrong token, or a request before `initialize`.
    Unauthorized,
    /// The two ends speak different versions.
    VersionMismatch,
    /// The client addressed another boot of the supervisor.
    BootMismatch,
    /// The operation id is known with other parameters.
    OpConflict,
    /// The operation's exit record was acknowledged before: it ran, and is never run again.
    AlreadyAcknowledged,
    /// No process of this boot has this id.
    UnknownProcess,
    /// A bound of the protocol is reached; the message names it.
    LimitReached,
    /// The command could not be started (no such program, no such directory); nothing of it ran.
    LaunchFailed,
    /// A write came before its predecessor.
    SequenceGap,
    /// The process has no standard input, or it is closed.
    StdinClosed,
    /// No phase is open, or another one is.
    PhaseConflict,
    /// A file is neither as expected before the change nor as wanted after it; nothing was changed.
    ImageMismatch,
    /// A file operation failed; the message says which and how far it got.
    Io,
    /// The kernel offers less protection than the phase demands.
    Unconfinable,
    /// A code that this version does not know.
    Other(i32),
}

const CODES: [(ErrorCode, i32); 19] = [
    (ErrorCode::Malformed, -32600),
    (ErrorCode::UnknownMethod, -32601),
    (ErrorCode::InvalidParams, -32602),
    (ErrorCode::Internal, -32603),
    (ErrorCode::NotFound, -32004),
    (ErrorCode::Unauthorized, -32010),
    (ErrorCode::VersionMismatch, -32011),
    (ErrorCode::BootMismatch, -32012),
    (ErrorCode::OpConflict, -32013),
    (ErrorCode::AlreadyAcknowledged, -32014),
    (ErrorCode::UnknownProcess, -32015),
    (ErrorCode::LimitReached, -32016),
    (ErrorCode::LaunchFailed, -32017),
    (ErrorCode::SequenceGap, -32018),
    (ErrorCode::StdinClosed, -32019),
    (ErrorCode::PhaseConflict, -32020),
    (ErrorCode::ImageMismatch, -32021),
    (ErrorCode::Io, -32022),
    (ErrorCode::Unconfinable, -32023),
];

impl RpcError {
    /// An error of `code`; its message is cut to 2 KiB, so that it always fits a frame.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(2048));
        Self { code, message }
    }
}

impl ErrorCode {
    /// The number on the wire.
    pub fn number(self) -> i32 {
        if let Self::Other(number) = self {
            return number;
        }
        CODES.iter().find(|(code, _)| *code == self).map_or(-32603, |(_, number)| *number)
    }

    /// The code of a number.
    pub fn from_number(number: i32) -> Self {
        CODES.iter().find(|(_, n)| *n == number).map_or(Self::Other(number), |(code, _)| *code)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i32::deserialize(deserializer).map(Self::from_number)
    }
}
