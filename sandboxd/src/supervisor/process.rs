//! One command: its output, input, deadline and exit record.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::confine::{self, TerminalMaster, read_exit, terminate_tree};
use crate::output::OutputRing;
use crate::protocol::{
    Bytes, CHUNK_MAX, CREDIT_BYTES, Digest, EndedBy, ErrorCode, Exit, ExitRecord, KEEP_BYTES, OpId, Output,
    OutputChunk, ReadResult, RpcError, STDIN_QUEUE_BYTES, Stream,
};

/// Time between asking a command to end and killing it.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(2);

/// Time between two attempts to kill what survives; one takes up to 5 s, against a fork bomb.
const KILL_AGAIN_AFTER: Duration = Duration::from_secs(8);

/// Time that output may still arrive after the command's own process has ended, while somebody holds the pipe:
/// enough for the last filter of a pipeline, too little for a model to wait on a server left in the background.
const LINGER: Duration = Duration::from_millis(100);

/// Pipe-fulls read from one process before the others have their turn.
const READS_A_TURN: usize = 4;

/// Output of a conversing process that may wait for the client before no more is read: with what one turn reads, less
/// than the end of the output that is kept, and more than a client leaves unacknowledged.
const LAG_MAX: u64 = CREDIT_BYTES / 2;

/// A command that runs, or whose exit record nobody has acknowledged.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: OpId,
    pub(super) digest: Digest,
    stream: Stream,
    ring: OutputRing,
    /// Whether nothing of the output may be lost: who converses needs every line.
    converses: bool,
    output: Option<Outlet>,
    /// A terminal that the command has closed: the session may open it again, so it is not given back before the
    /// command's own process has ended.
    spent: Option<Outlet>,
    input: Option<Input>,
    exit: Option<OwnedFd>,
    tree: Option<Pid>,
    started: Instant,
    started_at: SystemTime,
    deadline: Option<Instant>,
    kill_at: Option<Instant>,
    ended_by: EndedBy,
    ended: Option<(Exit, Instant)>,
    record: Option<ExitRecord>,
    sent: u64,
    acked: u64,
}

/// Our end of a command's output. Dropping it closes a pipe, and gives a terminal back to the phase.
#[derive(Debug)]
pub(super) enum Outlet {
    Pipe(OwnedFd),
    Terminal(TerminalMaster),
}

/// What to start a record from.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) id: OpId,
    pub(super) digest: Digest,
    pub(super) output: Outlet,
    pub(super) input: Option<OwnedFd>,
    pub(super) launched: confine::Launched,
    pub(super) deadline: Option<Duration>,
}

/// Standard input: what waits for the process, and how much it was given in all.
#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    queue: VecDeque<u8>,
    accepted: u64,
    closing: bool,
}

/// What an event has brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The exit record has become final.
    pub(super) exited: bool,
    /// Nobody holds the output any more.
    pub(super) closed: bool,
}

impl Process {
    pub(super) fn new(started: Started, now: Instant) -> Result<Self, Errno> {
        set_nonblocking(&started.output)?;
        if let Some(input) = &started.input {
            set_nonblocking(input)?;
        }
        Ok(Self {
            id: started.id,
            digest: started.digest,
            stream: match started.output {
                Outlet::Pipe(_) => Stream::Stdout,
                Outlet::Terminal(_) => Stream::Pty,
            },
            ring: OutputRing::new(KEEP_BYTES),
            // A terminal has one descriptor for both; only a pipe for input is given here.
            converses: started.input.is_some() && matches!(started.output, Outlet::Pipe(_)),
            output: Some(started.output),
            spent: None,
            input: started.input.map(|fd| Input { fd, queue: VecDeque::new(), accepted: 0, closing: false }),
            exit: Some(started.launched.exit),
            tree: Some(started.launched.pid),
            started: now,
            started_at: SystemTime::now(),
            deadline: started.deadline.and_then(|limit| now.checked_add(limit)),
            kill_at: None,
            ended_by: EndedBy::Itself,
            ended: None,
            record: None,
            sent: 0,
            acked: 0,
        })
    }

    /// The output, while it may be read: that of a conversing process waits in its pipe when the client lags.
    pub(super) fn output_fd(&self) -> Option<BorrowedFd<'_>> {
        let lags = self.converses && self.ring.total().saturating_sub(self.acked) >= LAG_MAX;
        self.output.as_ref().filter(|_| !lags || self.record.is_some()).map(AsFd::as_fd)
    }

    /// Whether somebody may still write output.
    pub(super) fn is_open(&self) -> bool {
        self.output.is_some()
    }

    /// Standard input, while something waits for it.
    pub(super) fn input_fd(&self) -> Option<&OwnedFd> {
        self.input.as_ref().filter(|input| !input.queue.is_empty()).map(|input| &input.fd)
    }

    pub(super) fn exit_fd(&self) -> Option<&OwnedFd> {
        self.exit.as_ref()
    }

    pub(super) fn record(&self) -> Option<&ExitRecord> {
        self.record.as_ref()
    }

    /// Whether the command's own process has not ended.
    pub(super) fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    /// A child was reaped: its number may be given to somebody else from now on.
    pub(super) fn forget_tree(&mut self, pid: Pid) {
        if self.tree == Some(pid) {
            self.tree = None;
            self.kill_at = None;
        }
    }

    /// Whether this is its subreaper.
    pub(super) fn is_of_tree(&self, tree: i32) -> bool {
        self.tree.is_some_and(|pid| pid.as_raw_pid() == tree)
    }

    /// Gives up the descriptor of the output, to be drained by somebody else.
    pub(super) fn into_output(self) -> Option<Outlet> {
        self.output
    }

    /// Takes output that has arrived.
    pub(super) fn drain(&mut self, buffer: &mut [u8], now: Instant) -> Change {
        for _ in 0..READS_A_TURN {
            if !self.drain_once(buffer) {
                break;
            }
        }
        self.settle(now)
    }

    /// The command's own process has ended: takes all that it wrote.
    pub(super) fn finish(&mut self, buffer: &mut [u8], now: Instant) -> Change {
        let Some(exit) = self.exit.take() else { return Change::default() };
        self.ended = Some((read_exit(&exit).unwrap_or(Exit::Lost), now));
        self.input = None;
        self.spent = None;
        self.deadline = None;
        // What was in the pipe when it ended is there now, at most a pipe's capacity (1 MiB by the kernel's
        // limit for users); a background process that keeps writing must not hold us here.
        for _ in 0..=(1024 * 1024 / buffer.len().max(1)) {
            if !self.drain_once(buffer) {
                break;
            }
        }
        self.settle(now)
    }

    /// Makes the exit record final when its time has come.
    pub(super) fn settle(&mut self, now: Instant) -> Change {
        let mut change = Change::default();
        if let (Some((exit, at)), None) = (self.ended, &self.record)
            && (self.output.is_none() || now >= at + LINGER)
        {
            self.record = Some(self.seal(exit, at));
            change.exited = true;
        }
        change.closed = self.output.is_none() && self.record.is_some();
        change
    }

    /// Asks the command and all that it started to end, and has them killed if that is not enough. Returns whether the
    /// command was running.
    pub(super) fn terminate(&mut self, by: EndedBy, now: Instant) -> bool {
        if !self.is_running() {
            return false;
        }
        self.end_by(by);
        self.kill_at.get_or_insert(now + KILL_AFTER);
        if let Some(tree) = self.tree {
            // What has not heard of it is killed later.
            let _ = terminate_tree(tree);
        }
        true
    }

    /// Notes who ends it, unless somebody did before.
    pub(super) fn end_by(&mut self, by: EndedBy) {
        if self.is_running() && self.ended_by == EndedBy::Itself {
            self.ended_by = by;
        }
        self.deadline = None;
    }

    /// Whether the deadline has passed.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.is_running() && self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// The tree to kill now, if its grace is over; asked again later in case something survives.
    pub(super) fn due_kill(&mut self, now: Instant) -> Option<Pid> {
        let due = self.kill_at.is_some_and(|at| now >= at);
        if !due {
            return None;
        }
        self.kill_at = Some(now + KILL_AGAIN_AFTER);
        self.tree
    }

    /// When this process next needs attention without any event.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let linger = match (self.ended, &self.record) {
            (Some((_, at)), None) => Some(at + LINGER),
            _ => None,
        };
        [self.deadline, self.kill_at, linger].into_iter().flatten().min()
    }

    /// A new client has come: send again from what the last one had.
    pub(super) fn rewind(&mut self) {
        self.sent = self.acked;
    }

    /// The client has everything before this position.
    pub(super) fn acknowledge_output(&mut self, seq: u64) {
        self.acked = self.acked.max(seq.min(self.ring.total()));
        self.sent = self.sent.max(self.acked);
    }

    /// Whether output may be sent.
    pub(super) fn has_output(&self) -> bool {
        self.sent < self.ring.total() && self.sent < self.acked + CREDIT_BYTES
    }

    /// The next output to send.
    pub(super) fn next_output(&mut self) -> Option<Output> {
        let credit = usize::try_from((self.acked + CREDIT_BYTES).saturating_sub(self.sent)).unwrap_or(0);
        let (seq, bytes) = self.ring.read(self.sent, credit.min(CHUNK_MAX))?;
        self.sent = seq + bytes.len() as u64;
        Some(Output { process_id: self.id.clone(), seq, stream: self.stream, chunk: Bytes(bytes) })
    }

    /// Output that is kept, from a position on.
    pub(super) fn read(&self, after: u64, max: usize) -> ReadResult {
        let chunk = self.ring.read(after, max.min(CHUNK_MAX));
        ReadResult {
            chunk: chunk.map(|(seq, bytes)| OutputChunk { seq, stream: self.stream, chunk: Bytes(bytes) }),
            total: self.ring.total(),
            exit: self.record.clone(),
            digest: self.digest,
        }
    }

    /// Takes input. Returns the position of the next byte.
    pub(super) fn write(&mut self, seq: u64, bytes: &[u8], close: bool) -> Result<u64, RpcError> {
        let stream = self.stream;
        let closed = || RpcError::new(ErrorCode::StdinClosed, "the process has no open standard input");
        let input = self.input.as_mut().ok_or_else(closed)?;
        if seq > input.accepted {
            let message = format!("the next byte of input is {}, not {seq}", input.accepted);
            return Err(RpcError::new(ErrorCode::SequenceGap, message));
        }
        let known = usize::try_from(input.accepted - seq).unwrap_or(usize::MAX);
        let fresh = bytes.get(known..).unwrap_or(&[]);
        if input.closing && !fresh.is_empty() {
            return Err(closed());
        }
        let taken = fresh.len().min(STDIN_QUEUE_BYTES - input.queue.len().min(STDIN_QUEUE_BYTES));
        input.queue.extend(&fresh[..taken]);
        input.accepted += taken as u64;
        let next = input.accepted;
        input.closing |= close && taken == fresh.len() && stream == Stream::Stdout;
        self.feed();
        Ok(next)
    }

    /// Passes on input that waits.
    pub(super) fn feed(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !input.queue.is_empty() {
            match rustix::io::write(&input.fd, input.queue.as_slices().0) {
                Ok(length) => drop(input.queue.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
        if input.closing {
            self.input = None;
        }
    }

    /// Reads once. False when there was nothing, or is nothing ever more.
    fn drain_once(&mut self, buffer: &mut [u8]) -> bool {
        let Some(output) = &self.output else { return false };
        match rustix::io::read(output, &mut *buffer) {
            // A terminal that nobody has open any more answers with an error instead of an end.
            Ok(0) | Err(Errno::IO) => {
                self.close_output();
                false
            }
            Ok(length) => {
                // After the record is final, output of processes left behind is read, so that they never
                // block, and dropped.
                if self.record.is_none() {
                    self.ring.push(&buffer[..length]);
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            Err(_) => {
                self.close_output();
                false
            }
        }
    }

    fn close_output(&mut self) {
        self.spent = self.output.take().filter(|_| self.is_running());
    }

    fn seal(&self, exit: Exit, at: Instant) -> ExitRecord {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        ExitRecord {
            exit,
            ended_by: self.ended_by,
            started_at_ms: millis(self.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            duration_ms: millis(at - self.started),
            bytes: self.ring.total(),
            sha256: self.ring.digest(),
            head: self.ring.head_span(),
            tail: self.ring.tail_span(),
        }
    }
}

impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pipe(fd) => fd.as_fd(),
            Self::Terminal(master) => master.as_fd(),
        }
    }
}

/// Makes our end of a pipe or terminal never block us.
fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
}
