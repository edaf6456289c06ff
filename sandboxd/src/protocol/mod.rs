//! What the agent and the supervisor say to each other.
//!
//! JSON-RPC without the `jsonrpc` member, one message a line, over one byte stream. Method names and the
//! shapes of `process/*` are those of the Codex exec-server protocol; the rest is ours:
//!
//! * The supervisor speaks first ([`Hello`]), so that the client knows the boot before it sends a token.
//! * Every request that changes something can be repeated safely: `process/start` and `fs/apply` are
//!   identified by an [`OpId`] and a [`Digest`] of their parameters, `process/write` by its position.
//! * Sequence numbers count bytes, as TCP's do: the number of a chunk is the number of bytes before it. So
//!   a gap, a repetition and a truncation are all visible, and what was missed can be read again.
//! * At most [`CREDIT_BYTES`] of a process's output travel unacknowledged; answers and notices overtake
//!   output, so that a noisy command delays nobody. The same holds for connections of the proxy.
//!
//! Versions are not negotiated: both ends come from one release, and [`PROTOCOL_VERSION`] makes a mix
//! fail with a sentence instead of a misunderstanding.

mod error;
mod fs;
mod message;
mod process;
mod proxy;
mod scalar;
mod session;
#[cfg(test)]
mod tests;

pub use error::{ErrorCode, RpcError};
pub use fs::{
    BlobPut, BlobPutResult, FileChange, FileImage, FileState, FsApply, FsApplyResult, FsState, FsStateResult,
    PathState,
};
pub use message::{
    Call, ClientFrame, ClientNotice, EncodeError, Notice, Request, ServerFrame, ServerNotice, encode_error,
    encode_notice, encode_request, encode_response,
};
pub use process::{
    Ack, Acknowledge, Acknowledged, Closed, EndedBy, Exit, ExitRecord, Exited, Output, OutputChunk, Read,
    ReadResult, Span, Start, StartResult, Stream, Terminate, TerminateResult, Write, WriteResult,
};
pub use proxy::{ProxyAck, ProxyClosed, ProxyData, ProxyOpened};
pub use scalar::{BootId, Bytes, Digest, InvalidScalar, OpId, Token};
pub use session::{
    Heartbeat, Hello, Initialize, InitializeResult, Network, PhaseBegin, PhaseBeginResult, PhaseEnd,
    PhaseEndResult, Profile,
};

/// Version of this protocol. Changes with every incompatible change of a message.
pub const PROTOCOL_VERSION: u32 = 2;

/// Longest line in bytes, newline included. Small enough that an answer never waits long behind a chunk.
pub const FRAME_MAX: usize = 64 * 1024;

/// Most bytes in one chunk of output, input or file content. In base64 this is 44 KiB, which leaves a frame
/// room for every other member.
pub const CHUNK_MAX: usize = 32 * 1024;

/// Output of one process that may travel unacknowledged: eight chunks, more than the bytes in flight at
/// 10 ms round trip and 20 MB/s.
pub const CREDIT_BYTES: u64 = 256 * 1024;

/// Output of one process that is kept: half of it the beginning, half of it the end.
pub const KEEP_BYTES: usize = 1024 * 1024;

/// Input of one process that waits for the process to read it: four times a pipe's capacity.
pub const STDIN_QUEUE_BYTES: usize = 256 * 1024;

/// Processes that run or whose exit record nobody has acknowledged. Each may hold [`KEEP_BYTES`], so this
/// bounds the supervisor at 64 MiB; a step of a model starts a handful.
pub const PROCESSES_MAX: usize = 64;

/// File content staged by [`BlobPut`] and not applied yet, in bytes: above the largest patch that a task
/// may have (10 MiB).
pub const STAGE_BYTES: usize = 16 * 1024 * 1024;

/// Largest file whose digest is computed or that is replaced, in bytes. Larger ones are reported as such.
pub const FILE_MAX: u64 = 64 * 1024 * 1024;

/// Most paths in one `fs/apply` or `fs/state`; a frame of 64 KiB hardly holds more.
pub const PATHS_MAX: usize = 512;

/// Bytes of a proxied connection that may travel unacknowledged in each direction: what is in flight at 10 ms round trip
/// and 12 MB/s, which is faster than most registries serve one download.
pub const PROXY_WINDOW_BYTES: usize = 128 * 1024;

/// Proxied connections at a time. Package managers open 50 at most, and a few commands run beside each other; further
/// connections wait. Each may hold a window, so this bounds the supervisor at 16 MiB.
pub const PROXY_CONNECTIONS_MAX: usize = 128;

/// Seconds between two heartbeats.
pub const HEARTBEAT_SECONDS: u64 = 10;

/// Seconds of silence after which a stream is dead: three missed heartbeats.
pub const SILENCE_SECONDS: u64 = 30;

/// Name of the supervisor's abstract socket (after the leading NUL byte). Abstract, because a path could be
/// connected to, replaced or made unreadable by a command; per network namespace, hence per pod.
pub const SOCKET_NAME: &[u8] = b"podwright-sandboxd";
