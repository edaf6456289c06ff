//! One line of a client, carried out.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::files::Files;
use super::phase::{KillJob, Phase, Waiting};
use super::process::Process;
use super::table::Admission;
use super::worker::Worker;
use super::{Supervisor, log};
use crate::confine::sys::init as sys;
use crate::protocol::{
    Acknowledged, BlobPut, Call, ClientFrame, ClientNotice, Closed, EncodeError, EndedBy, ErrorCode, Exited,
    FsApply, FsState, Initialize, InitializeResult, OpId, PROTOCOL_VERSION, PhaseBegin, PhaseEnd, Request,
    RpcError, Start, StartResult, Terminate, TerminateResult, Write, WriteResult, encode_error,
    encode_notice, encode_response,
};

/// The thread that works on files. It answers by itself, in order.
pub(super) type FileWorker = Worker<FileJob, Option<Answer>>;

/// Work on files.
#[derive(Debug)]
pub(super) enum FileJob {
    /// A new client has come.
    Reset,
    Stage(Waiting, BlobPut),
    Apply(Waiting, FsApply),
    State(Waiting, FsState),
}

/// An answer that is ready later.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) stream: u64,
    pub(super) line: Vec<u8>,
}

/// Starts the thread that works on files.
pub(super) fn start_file_worker(wake: Arc<OwnedFd>) -> std::io::Result<FileWorker> {
    let mut files = Files::default();
    Worker::start("files", wake, move |job| match job {
        FileJob::Reset => {
            files.reset();
            None
        }
        FileJob::Stage(to, piece) => Some(to.answer::<BlobPut>(files.stage(piece))),
        FileJob::Apply(to, request) => Some(to.answer::<FsApply>(files.apply(&request))),
        FileJob::State(to, request) => Some(to.answer::<FsState>(files.state(&request))),
    })
}

/// Why a phase has not ended.
pub(super) fn phase_end_failed(phase: &OpId, error: &str) -> RpcError {
    let message = format!("phase {phase} has not ended: {error}; ask again, or delete the pod");
    RpcError::new(ErrorCode::Internal, message)
}

impl Waiting {
    fn answer<R: Request>(self, result: Result<R::Response, RpcError>) -> Answer {
        Answer { stream: self.stream, line: response::<R>(self.request, result) }
    }
}

impl Supervisor {
    /// Carries out one line.
    pub(super) fn handle_line(&mut self, at: usize, line: &[u8], now: Instant) {
        let frame = match ClientFrame::decode(line) {
            Ok(frame) => frame,
            Err(error) => {
                log(&format!("a stream was closed: {error}"));
                return self.streams[at].end();
            }
        };
        match (frame, self.streams[at].number) {
            (ClientFrame::Request { id, call: Err(error) }, _) => self.refuse(at, id, &error),
            (ClientFrame::Request { id, call: Ok(Call::Initialize(request)) }, None) => {
                let result = self.initialize(at, request);
                let accepted = result.is_ok();
                self.streams[at].queue(response::<Initialize>(id, result));
                if accepted {
                    self.announce_ended(at);
                }
            }
            (ClientFrame::Request { id, call: Ok(_) }, None) => {
                let error = RpcError::new(ErrorCode::Unauthorized, "initialize must come first");
                self.refuse(at, id, &error);
            }
            (ClientFrame::Request { id, call: Ok(call) }, Some(number)) => {
                let to = Waiting { stream: number, request: id };
                if let Some(line) = self.carry_out(to, call, now) {
                    self.streams[at].queue(line);
                }
            }
            (ClientFrame::Notice(ClientNotice::Ack(ack)), Some(_)) => {
                // A process that was acknowledged meanwhile needs no credit.
                if let Ok(process) = self.table.find(&ack.process_id) {
                    process.acknowledge_output(ack.seq);
                }
            }
            (ClientFrame::Notice(ClientNotice::ProxyData(data)), Some(_)) => self.proxied.data(data, now),
            (ClientFrame::Notice(ClientNotice::ProxyAck(ack)), Some(_)) => self.proxied.ack(ack),
            (ClientFrame::Notice(ClientNotice::ProxyClosed(closed)), Some(_)) => {
                self.proxied.closed(closed, now)
            }
            (ClientFrame::Notice(_), _) => {}
        }
    }

    /// Authenticates a stream and fences all others.
    fn initialize(&mut self, at: usize, request: Initialize) -> Result<InitializeResult, RpcError> {
        if request.protocol_version != PROTOCOL_VERSION {
            let message = format!(
                "the supervisor speaks version {PROTOCOL_VERSION} and the client {}; use one release for both",
                request.protocol_version
            );
            return Err(RpcError::new(ErrorCode::VersionMismatch, message));
        }
        if request.boot_id != self.boot {
            let message = format!("this is boot {}, not {}", self.boot, request.boot_id);
            return Err(RpcError::new(ErrorCode::BootMismatch, message));
        }
        if !self.token.get_or_insert_with(|| request.token.clone()).matches(&request.token) {
            return Err(RpcError::new(ErrorCode::Unauthorized, "another token was set for this boot"));
        }
        for (other, stream) in self.streams.iter_mut().enumerate() {
            if other != at && stream.number.is_some() {
                stream.end();
            }
        }
        self.streams_seen += 1;
        self.streams[at].number = Some(self.streams_seen);
        let mut name = request.client_name;
        name.retain(|c| c.is_ascii_graphic());
        name.truncate(64);
        log(&format!("stream {} of {name}", self.streams_seen));
        // Cannot be full for long: at most as many jobs wait as the fenced stream had requests.
        let _ = self.files.submit(FileJob::Reset);
        for process in self.table.all_mut() {
            process.rewind();
        }
        Ok(InitializeResult {
            stream: self.streams_seen,
            profile: self.profile,
            phase: self.phase.open_id().cloned(),
        })
    }

    /// Tells a new client which processes have ended.
    fn announce_ended(&mut self, at: usize) {
        for process in self.table.all() {
            let Some(record) = process.record() else { continue };
            let exited = Exited { process_id: process.id.clone(), record: record.clone() };
            self.streams[at].queue(encode_notice(&exited).unwrap_or_default());
            if !process.is_open() {
                let closed = Closed { process_id: process.id.clone() };
                self.streams[at].queue(encode_notice(&closed).unwrap_or_default());
            }
        }
    }

    /// Carries out a request of the authenticated stream. `None` when the answer comes later.
    fn carry_out(&mut self, to: Waiting, call: Call, now: Instant) -> Option<Vec<u8>> {
        let id = to.request;
        Some(match call {
            Call::Initialize(_) => {
                let error = RpcError::new(ErrorCode::InvalidParams, "the stream is initialized already");
                response::<Initialize>(id, Err(error))
            }
            Call::PhaseBegin(request) => {
                let begun = self.phase.begin(request);
                response::<PhaseBegin>(id, begun)
            }
            Call::PhaseEnd(request) => return self.end_phase(to, &request),
            Call::Start(request) => response::<Start>(id, self.start(&request, now)),
            Call::Read(request) => {
                let found = self.table.find(&request.process_id);
                response::<crate::protocol::Read>(
                    id,
                    found.map(|p| p.read(request.after_seq, request.max_bytes)),
                )
            }
            Call::Write(Write { process_id, seq, chunk, close }) => {
                let found = self.table.find(&process_id);
                let written = found.and_then(|process| process.write(seq, &chunk.0, close));
                response::<Write>(id, written.map(|next_seq| WriteResult { next_seq }))
            }
            Call::Terminate(request) => {
                let found = self.table.find(&request.process_id);
                let asked = found.map(|process| process.terminate(EndedBy::Terminate, now));
                response::<Terminate>(id, asked.map(|running| TerminateResult { running }))
            }
            Call::Acknowledge(request) => {
                let done = self.table.acknowledge(&request.process_id);
                // The output of commands is nearly all that this process ever holds.
                if self.table.all().is_empty() {
                    sys::release_freed_memory();
                }
                response::<crate::protocol::Acknowledge>(id, done.map(|()| Acknowledged {}))
            }
            Call::BlobPut(piece) => return self.hand_over(id, FileJob::Stage(to, piece)),
            Call::FsApply(request) => return self.hand_over(id, FileJob::Apply(to, request)),
            Call::FsState(request) => return self.hand_over(id, FileJob::State(to, request)),
        })
    }

    fn hand_over(&self, id: u64, job: FileJob) -> Option<Vec<u8>> {
        let full = |_| RpcError::new(ErrorCode::LimitReached, "too many file operations at once");
        let error = self.files.submit(job).map_err(full).err()?;
        encode_error(id, &error).ok()
    }

    fn start(&mut self, request: &Start, now: Instant) -> Result<StartResult, RpcError> {
        let process_id = request.process_id.clone();
        if self.table.admit(&process_id, &request.digest())? == Admission::Existing {
            return Ok(StartResult { process_id, existing: true });
        }
        let Phase::Open(phase) = &mut self.phase else {
            return Err(RpcError::new(ErrorCode::PhaseConflict, "no phase is open; begin one first"));
        };
        let started = phase.launch(request)?;
        let process = Process::new(started, now).map_err(|error| {
            RpcError::new(ErrorCode::Internal, format!("cannot watch the command: {error}"))
        })?;
        self.table.insert(process);
        Ok(StartResult { process_id, existing: false })
    }

    /// Begins to end the phase, waits for that end, or tells how it was. The stream that asks first dies in it, so the
    /// answer usually goes to the next one.
    fn end_phase(&mut self, to: Waiting, request: &PhaseEnd) -> Option<Vec<u8>> {
        let ours = match &self.phase {
            Phase::Open(_) => self.phase.open_id(),
            Phase::Ending { id, .. } | Phase::Ended { id, .. } => Some(id),
            Phase::Fresh => None,
        };
        if ours != Some(&request.phase) {
            let message = format!("phase {} is not the one that is open", request.phase);
            return Some(response::<PhaseEnd>(
                to.request,
                Err(RpcError::new(ErrorCode::PhaseConflict, message)),
            ));
        }
        let busy = match &self.phase {
            Phase::Ended { result, .. } => return Some(response::<PhaseEnd>(to.request, Ok(result.clone()))),
            Phase::Ending { busy, .. } => *busy,
            Phase::Open(_) | Phase::Fresh => false,
        };
        if !busy {
            for process in self.table.all_mut() {
                process.end_by(EndedBy::PhaseEnd);
            }
            self.proxied.clear();
            if self.kills.submit(KillJob::Everything).is_err() {
                let error = phase_end_failed(&request.phase, "too many processes are being killed");
                return Some(response::<PhaseEnd>(to.request, Err(error)));
            }
        }
        self.phase = Phase::Ending { id: request.phase.clone(), busy: true, waiting: Some(to) };
        None
    }
}

fn response<R: Request>(id: u64, result: Result<R::Response, RpcError>) -> Vec<u8> {
    let line = match &result {
        Ok(result) => encode_response::<R>(id, result),
        Err(error) => encode_error(id, error),
    };
    let line = match line {
        Err(EncodeError::TooLong { .. }) => {
            encode_error(id, &RpcError::new(ErrorCode::LimitReached, "the answer is too long; ask for less"))
        }
        line => line,
    };
    line.unwrap_or_default()
}
