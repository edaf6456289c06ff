//! The supervisor: process 1 of the sandbox.
//!
//! One thread polls everything (streams, outputs, inputs, ends, timers) and never waits for anybody: no lock, no
//! state that two threads could see differently, and idle memory of one buffer. Two further threads take what may
//! last: one works on files, one ends process trees. Both report by a channel and wake the poll. (A phase without a
//! network of its own has one more, in [`crate::confine`], which makes its connections.)
//!
//! Nothing of a writable mount is read here, no name of a user or host is looked up (a static glibc would load the
//! image's libraries for that), and nothing is trusted but the stream that showed the token.

mod files;
mod guests;
mod listener;
mod phase;
mod process;
mod proxy;
mod requests;
mod stream;
mod table;
mod wipe;
mod worker;

use std::convert::Infallible;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, WaitOptions, getpid, set_dumpable_behavior, wait};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::confine::Support;
use crate::confine::sys::init as sys;
use crate::protocol::{
    BootId, Closed, EndedBy, Exited, Heartbeat, Hello, PROTOCOL_VERSION, PhaseEnd, Profile, RpcError, Token,
    encode_error, encode_notice, encode_response,
};
use phase::{KillDone, KillJob, Phase};
use process::Change;
use proxy::Connections;
use requests::FileWorker;
use stream::{Lost, Stream};
use table::Table;
use worker::Worker;

/// Bytes read at once: a pipe's capacity.
const BUFFER: usize = 64 * 1024;

/// Refused connections that are logged; a command could make millions.
const REFUSALS_LOGGED: u32 = 32;

/// Why the supervisor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It is not process 1, so it would neither see orphans nor be safe from other processes.
    #[error("must be process 1 of its container; the pod's command has to be podwright-sandboxd itself")]
    NotInit,
    /// The kernel refused something that cannot be done without.
    #[error("cannot {what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: std::io::Error,
    },
}

struct Supervisor {
    boot: BootId,
    profile: Option<Profile>,
    token: Option<Token>,
    listener: OwnedFd,
    wake: Arc<OwnedFd>,
    children: OwnedFd,
    streams: Vec<Stream>,
    streams_seen: u64,
    refusals: u32,
    phase: Phase,
    table: Table,
    proxied: Connections,
    files: FileWorker,
    kills: Worker<KillJob, KillDone>,
    buffer: Vec<u8>,
}

/// What an event of the poll is about; numbers are positions, valid until the events were handled.
#[derive(Clone, Copy)]
enum Source {
    Wake,
    Children,
    Listener,
    Drain,
    Output(usize),
    Input(usize),
    Exit(usize),
    Stream(usize),
    Gate,
    /// By its number within the boot.
    Proxied(u64),
}

/// Runs the supervisor until the container ends.
///
/// # Errors
/// When it cannot start, or the kernel fails it later. SIGTERM ends the process with status 1 at once.
pub fn serve() -> Result<Infallible, ServeError> {
    if getpid() != Pid::INIT {
        return Err(ServeError::NotInit);
    }
    sys::exit_on_terminate().map_err(os("handle SIGTERM"))?;
    // Commands run as the same user: this keeps them out of our memory and descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(os("protect the process"))?;
    let mut supervisor = Supervisor::new()?;
    loop {
        supervisor.turn()?;
    }
}

impl Supervisor {
    fn new() -> Result<Self, ServeError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags).map_err(os("make an event counter"))?);
        let children = sys::ended_children().map_err(os("watch for the end of children"))?;
        let mut random = [0; 16];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(os("get random bytes"))?;
        let start = |source| ServeError::Os { what: "start a thread", source };
        Ok(Self {
            boot: BootId::from_random(random),
            profile: Support::probe().ok().map(Support::profile),
            token: None,
            listener: listener::open().map_err(os("listen on the abstract socket"))?,
            streams: Vec::new(),
            streams_seen: 0,
            refusals: 0,
            phase: Phase::Fresh,
            table: Table::default(),
            proxied: Connections::default(),
            files: requests::start_file_worker(wake.clone()).map_err(start)?,
            kills: Worker::start("kills", wake.clone(), phase::perform).map_err(start)?,
            wake,
            children,
            buffer: vec![0; BUFFER],
        })
    }

    /// Waits for the next events and handles them.
    fn turn(&mut self) -> Result<(), ServeError> {
        let events = self.wait()?;
        let now = Instant::now();
        // Processes before streams: a stream's request may remove a process, and with it the positions.
        for (source, _) in &events {
            self.handle_process_event(*source, now);
        }
        for (source, flags) in &events {
            if matches!(source, Source::Gate) {
                self.admit_guests()?;
            } else if let Source::Proxied(number) = source {
                self.proxied.happened(*number, *flags, now);
            }
        }
        self.take_finished_work();
        self.end_strays();
        self.handle_timers(now);
        for (source, flags) in events {
            if let Source::Stream(at) = source
                && flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && let Err(lost) = self.streams[at].fill(&mut self.buffer, now)
            {
                self.lose(at, &lost);
            }
            if matches!(source, Source::Listener) {
                self.accept(now)?;
            }
        }
        self.handle_lines(now);
        self.flush(now);
        self.streams.retain(|stream| !stream.is_over());
        Ok(())
    }

    fn wait(&self) -> Result<Vec<(Source, PollFlags)>, ServeError> {
        let (mut sources, mut fds) = (Vec::new(), Vec::new());
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Source::Wake, self.wake.as_fd(), PollFlags::IN);
        add(Source::Children, self.children.as_fd(), PollFlags::IN);
        add(Source::Listener, self.listener.as_fd(), PollFlags::IN);
        for (at, process) in self.table.all().iter().enumerate() {
            if let Some(fd) = process.output_fd() {
                add(Source::Output(at), fd, PollFlags::IN);
            }
            if let Some(fd) = process.input_fd() {
                add(Source::Input(at), fd.as_fd(), PollFlags::OUT);
            }
            if let Some(fd) = process.exit_fd() {
                add(Source::Exit(at), fd.as_fd(), PollFlags::IN);
            }
        }
        if let Phase::Open(phase) = &self.phase
            && let Some(gate) = phase.gate()
            && self.proxied.has_room()
        {
            add(Source::Gate, gate.as_fd(), PollFlags::IN);
        }
        for (number, fd, flags) in self.proxied.sources() {
            add(Source::Proxied(number), fd, flags);
        }
        for fd in self.table.drains() {
            add(Source::Drain, fd.as_fd(), PollFlags::IN);
        }
        let has_output = self.table.has_output() || self.proxied.has_data();
        for (at, stream) in self.streams.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, stream.wants_input());
            flags.set(PollFlags::OUT, stream.wants_output() || (has_output && stream.number.is_some()));
            add(Source::Stream(at), stream.fd().as_fd(), flags);
        }
        match poll(&mut fds, self.timeout().as_ref()) {
            Ok(_) => {
                let happened = sources.into_iter().zip(fds.iter().map(PollFd::revents));
                Ok(happened.filter(|(_, flags)| !flags.is_empty()).collect())
            }
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(os("poll")(error)),
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let streams = self.streams.iter().map(Stream::next_deadline);
        let next = streams.chain(self.table.next_deadline()).chain(self.proxied.next_deadline()).min()?;
        // A millisecond more, so that the deadline has passed when the poll returns.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec::try_from(left).ok()
    }

    fn handle_process_event(&mut self, source: Source, now: Instant) {
        let change = match source {
            Source::Output(at) => self.table.all_mut()[at].drain(&mut self.buffer, now),
            Source::Exit(at) => self.table.all_mut()[at].finish(&mut self.buffer, now),
            Source::Input(at) => return self.table.all_mut()[at].feed(),
            Source::Drain => return self.table.drain(&mut self.buffer),
            Source::Children => return self.reap(),
            Source::Wake => {
                // Whatever the count, all finished work is taken.
                let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
                return;
            }
            Source::Listener | Source::Stream(_) | Source::Gate | Source::Proxied(_) => return,
        };
        if let Source::Output(at) | Source::Exit(at) = source {
            self.announce(at, &change);
        }
    }

    fn announce(&mut self, at: usize, change: &Change) {
        let process = &self.table.all()[at];
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.number.is_some()) else { return };
        if let (true, Some(record)) = (change.exited, process.record()) {
            let exited = Exited { process_id: process.id.clone(), record: record.clone() };
            stream.queue(encode_notice(&exited).unwrap_or_default());
        }
        if change.closed {
            let closed = Closed { process_id: process.id.clone() };
            stream.queue(encode_notice(&closed).unwrap_or_default());
        }
    }

    /// Collects every child that has ended, our own and the orphans that became ours.
    fn reap(&mut self) {
        // One signal may stand for many ends; those that end after this read signal again.
        let _ = rustix::io::read(&self.children, &mut self.buffer[..4096]);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            for process in self.table.all_mut() {
                process.forget_tree(pid);
            }
            if let Phase::Open(phase) = &mut self.phase {
                phase.reaped(pid, status);
            }
        }
    }

    /// Has what escaped its subreaper ended.
    fn end_strays(&mut self) {
        if let Phase::Open(phase) = &mut self.phase
            && let Some(job) = phase.stray_job()
            && self.kills.submit(job).is_err()
        {
            // Too many jobs wait, and the end of each leads here again.
            phase.strays_ended();
        }
    }

    fn take_finished_work(&mut self) {
        while let Some(answer) = self.files.finished() {
            if let Some(answer) = answer {
                self.answer(answer.stream, answer.line);
            }
        }
        while let Some(done) = self.kills.finished() {
            let result = match done {
                KillDone::Everything(result) => result,
                KillDone::Strays => {
                    if let Phase::Open(phase) = &mut self.phase {
                        phase.strays_ended();
                    }
                    continue;
                }
                KillDone::Tree => continue,
            };
            let Phase::Ending { id, waiting, .. } = &self.phase else { continue };
            let (id, waiting) = (id.clone(), *waiting);
            let line = |request| match &result {
                Ok(result) => encode_response::<PhaseEnd>(request, result),
                Err(error) => encode_error(request, &requests::phase_end_failed(&id, error)),
            };
            if let Some(waiting) = waiting {
                self.answer(waiting.stream, line(waiting.request).unwrap_or_default());
            }
            self.phase = match result {
                Ok(result) => Phase::Ended { id, result },
                Err(_) => Phase::Ending { id, busy: false, waiting: None },
            };
        }
    }

    fn handle_timers(&mut self, now: Instant) {
        for at in 0..self.table.all().len() {
            let process = &mut self.table.all_mut()[at];
            if process.is_overdue(now) {
                process.terminate(EndedBy::Deadline, now);
            }
            if let Some(pid) = process.due_kill(now) {
                // When too many wait, the next attempt comes by itself.
                let _ = self.kills.submit(KillJob::Tree(pid));
            }
            let change = process.settle(now);
            if change.exited {
                self.announce(at, &change);
            }
        }
        for at in 0..self.streams.len() {
            if let Err(lost) = self.streams[at].check_time(now) {
                self.lose(at, &lost);
            } else if self.streams[at].heartbeat_due(now) {
                self.streams[at].queue(encode_notice(&Heartbeat {}).unwrap_or_default());
            }
        }
    }

    fn accept(&mut self, now: Instant) -> Result<(), ServeError> {
        let Some(fd) = listener::accept(&self.listener).map_err(os("accept a connection"))? else {
            return Ok(());
        };
        let waiting =
            self.streams.iter().filter(|stream| stream.number.is_none() && !stream.is_over()).count();
        if waiting >= listener::UNAUTHENTICATED_MAX {
            return Ok(());
        }
        match listener::admit(&fd) {
            Ok(()) => {
                let mut stream = Stream::new(fd, now);
                let hello = Hello { protocol_version: PROTOCOL_VERSION, boot_id: self.boot.clone() };
                stream.queue(encode_notice(&hello).unwrap_or_default());
                self.streams.push(stream);
            }
            Err(refused) => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals <= REFUSALS_LOGGED {
                    log(&format!("refused {refused}"));
                }
            }
        }
        Ok(())
    }

    fn handle_lines(&mut self, now: Instant) {
        for at in 0..self.streams.len() {
            while !self.streams[at].is_over() {
                match self.streams[at].next_line() {
                    Ok(Some(line)) => self.handle_line(at, &line, now),
                    Ok(None) => break,
                    Err(lost) => self.lose(at, &lost),
                }
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        self.queue_proxy_lines(now);
        for at in 0..self.streams.len() {
            let Self { streams, table, proxied, buffer, .. } = self;
            let stream = &mut streams[at];
            if stream.is_over() {
                continue;
            }
            let authenticated = stream.number.is_some();
            let mut proxy_first = false;
            let output = || {
                if !authenticated {
                    return None;
                }
                // Output of commands and bytes of connections take turns.
                proxy_first = !proxy_first;
                let mut data = || proxied.next_data(buffer).and_then(|data| encode_notice(&data).ok());
                let first = if proxy_first { data() } else { None };
                first.or_else(|| encode_notice(&table.next_output()?).ok()).or_else(data)
            };
            if let Err(lost) = stream.flush(now, output) {
                self.lose(at, &lost);
            }
        }
        // What became known while data was read is written with the next turn, which comes at once.
        self.queue_proxy_lines(now);
    }

    /// Sends a late answer, if the stream that asked is still there.
    fn answer(&mut self, number: u64, line: Vec<u8>) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.number == Some(number)) {
            stream.queue(line);
        }
    }

    fn refuse(&mut self, at: usize, request: u64, error: &RpcError) {
        self.streams[at].queue(encode_error(request, error).unwrap_or_default());
    }

    fn lose(&mut self, at: usize, lost: &Lost) {
        if let Some(number) = self.streams[at].number {
            log(&format!("stream {number}: {lost}"));
        }
        self.streams[at].end();
    }
}

/// Writes a line to the container's log, whatever became of it.
fn log(message: &str) {
    let _ = writeln!(std::io::stderr(), "podwright-sandboxd: {message}");
}

fn os(what: &'static str) -> impl Fn(Errno) -> ServeError {
    move |error| ServeError::Os { what, source: error.into() }
}
