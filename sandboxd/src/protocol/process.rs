//! Processes: start, output, input, end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scalar::{Bytes, Digest, OpId};

/// `process/start`: runs a command once, however often the request arrives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The operation: also the name of the process in every other message.
    pub process_id: OpId,
    /// Program and arguments. The program is an absolute path, or is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// The whole environment of the command: nothing is inherited. May hold secrets, so it is never logged.
    pub env: BTreeMap<String, String>,
    /// Runs on a terminal of 24 lines and 80 columns instead of pipes.
    pub tty: bool,
    /// Keeps standard input open for [`Write`]; without it (and without `tty`) the command reads nothing. Its output
    /// waits for the client then: where that of a command is dropped, a conversation blocks until [`Ack`] comes.
    pub pipe_stdin: bool,
    /// Milliseconds until the command and all that it started are ended: asked to, and killed 2 s later.
    /// `None`: no limit.
    pub deadline_ms: Option<u64>,
}

/// Answer to [`Start`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartResult {
    /// The process, as in the request.
    pub process_id: OpId,
    /// True when an earlier request had started it.
    pub existing: bool,
}

/// `process/read`: output that is kept, from a position on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    /// The process.
    pub process_id: OpId,
    /// Position of the first byte wanted.
    pub after_seq: u64,
    /// Most bytes wanted; [`super::CHUNK_MAX`] at most are given.
    pub max_bytes: usize,
}

/// Answer to [`Read`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadResult {
    /// The bytes; `None` when there are none after the position. Its own position is higher than the one
    /// asked for when what lay between is no longer kept.
    pub chunk: Option<OutputChunk>,
    /// Bytes that the process has written so far.
    pub total: u64,
    /// The exit record, when the process has ended.
    pub exit: Option<ExitRecord>,
    /// The parameters with which the process was started.
    pub digest: Digest,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputChunk {
    /// Position of its first byte.
    pub seq: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// The bytes, at most [`super::CHUNK_MAX`].
    pub chunk: Bytes,
}

/// Where output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output and standard error: one pipe, so that the order is that of the writes.
    Stdout,
    /// The terminal.
    Pty,
}

/// `process/write`: bytes for standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Write {
    /// The process.
    pub process_id: OpId,
    /// Position of the first byte in the process's input. Bytes that came before are skipped, so that a
    /// repeated request writes nothing twice; a position beyond the end is refused.
    pub seq: u64,
    /// The bytes, at most [`super::CHUNK_MAX`].
    pub chunk: Bytes,
    /// Closes standard input after them. A terminal cannot be closed: send its end-of-file character.
    pub close: bool,
}

/// Answer to [`Write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteResult {
    /// Position of the next byte. Lower than the end of the request's bytes when the queue was full
    /// ([`super::STDIN_QUEUE_BYTES`]): send the rest again later.
    pub next_seq: u64,
}

/// `process/terminate`: asks the command and all that it started to end (SIGTERM), and kills them 2 s later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminate {
    /// The process.
    pub process_id: OpId,
}

/// Answer to [`Terminate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateResult {
    /// Whether the process was running.
    pub running: bool,
}

/// `process/acknowledge`: the client has stored the exit record; the supervisor forgets the process.
/// What the process left running in the background stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledge {
    /// The process. An unknown one is no error.
    pub process_id: OpId,
}

/// Answer to [`Acknowledge`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {}

/// `process/ack`, a notice of the client: output up to here has arrived and may be followed by more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The process.
    pub process_id: OpId,
    /// Position after the last byte that arrived or is no longer wanted.
    pub seq: u64,
}

/// `process/output`, a notice of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The process.
    pub process_id: OpId,
    /// Position of the first byte. A jump means that what lies between is no longer kept.
    pub seq: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// The bytes, at most [`super::CHUNK_MAX`].
    pub chunk: Bytes,
}

/// `process/exited`, a notice of the supervisor. It overtakes output: compare `record.bytes` with what has
/// arrived and read the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exited {
    /// The process.
    pub process_id: OpId,
    /// How it ended.
    pub record: ExitRecord,
}

/// `process/closed`, a notice of the supervisor: nobody holds the process's output any more. The exec-server protocol
/// has it, for clients that follow what a process leaves in the background; the agent's record ends with [`Exited`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// The process.
    pub process_id: OpId,
}

/// How a command ended, and what it wrote. Kept until acknowledged; never changes.
///
/// Output that processes left behind write later is read and dropped: it belongs to no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    /// Code or signal of the command's own process.
    pub exit: Exit,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Start, in milliseconds since 1970 by the sandbox's clock.
    pub started_at_ms: u64,
    /// Time between start and end in milliseconds, by a clock that nobody sets.
    pub duration_ms: u64,
    /// Bytes of output.
    pub bytes: u64,
    /// Digest of the whole output.
    pub sha256: Digest,
    /// The beginning that is kept; the whole output when nothing was dropped.
    pub head: Span,
    /// The end that is kept; empty when nothing was dropped.
    pub tail: Span,
}

/// A stretch of output and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Position of the first byte.
    pub start: u64,
    /// Position after the last byte.
    pub end: u64,
    /// Digest of the bytes between.
    pub sha256: Digest,
}

/// End of a process, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
    /// Its end was not seen (the process that watched it was killed first). Never to be taken for success.
    Lost,
}

/// Who ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndedBy {
    /// Nobody of ours.
    Itself,
    /// Its deadline.
    Deadline,
    /// A [`Terminate`] request.
    Terminate,
    /// The end of the phase.
    PhaseEnd,
}

impl Start {
    /// Digest of the parameters, the same on both ends: identifies *what* an [`OpId`] stands for.
    pub fn digest(&self) -> Digest {
        // A map with sorted keys and a fixed order of members make the text canonical; serialising strings
        // and numbers cannot fail.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start")
            .field("process_id", &self.process_id)
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .field("env", &self.env.keys())
            .field("tty", &self.tty)
            .field("pipe_stdin", &self.pipe_stdin)
            .field("deadline_ms", &self.deadline_ms)
            .finish()
    }
}

impl Exit {
    /// The code as a shell reports it: 128 + n for signal n. `None` when nobody knows.
    pub fn shell_code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(i32::from(code)),
            Self::Signal(signal) => Some(128 + i32::from(signal)),
            Self::Lost => None,
        }
    }
}
