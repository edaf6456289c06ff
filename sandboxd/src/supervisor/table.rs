//! The processes that the client knows, and what is remembered of those it has forgotten.

use std::collections::VecDeque;
use std::time::Instant;

use rustix::io::Errno;

use super::process::{Outlet, Process};
use crate::protocol::{Digest, ErrorCode, OpId, Output, PROCESSES_MAX, RpcError};

/// Acknowledged operations that are remembered, 16 bytes each: a request that arrives again although its end was
/// acknowledged can only be a very late one, so a few thousand operations are far more than enough.
const REMEMBERED: usize = 4096;

/// Outputs of acknowledged processes that something in the background still holds open. Beyond this the oldest is
/// closed, and its writer gets the usual error of a closed pipe.
const DRAINS_MAX: usize = 64;

/// Running and unacknowledged processes.
#[derive(Debug, Default)]
pub(super) struct Table {
    processes: Vec<Process>,
    acknowledged: VecDeque<[u8; 16]>,
    drains: VecDeque<Outlet>,
    turn: usize,
}

/// What a start request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// A new operation.
    New,
    /// One that was started before.
    Existing,
}

impl Table {
    /// Decides whether an operation may start.
    pub(super) fn admit(&self, id: &OpId, digest: &Digest) -> Result<Admission, RpcError> {
        if let Some(known) = self.get(id) {
            if known.digest == *digest {
                return Ok(Admission::Existing);
            }
            let message = format!("operation {id} is known with other parameters");
            return Err(RpcError::new(ErrorCode::OpConflict, message));
        }
        if self.acknowledged.contains(&short(id)) {
            let message = format!("operation {id} has ended and was acknowledged");
            return Err(RpcError::new(ErrorCode::AlreadyAcknowledged, message));
        }
        if self.processes.len() >= PROCESSES_MAX {
            let message = format!("{PROCESSES_MAX} processes run already; end some of them first");
            return Err(RpcError::new(ErrorCode::LimitReached, message));
        }
        Ok(Admission::New)
    }

    pub(super) fn insert(&mut self, process: Process) {
        self.processes.push(process);
    }

    pub(super) fn get(&self, id: &OpId) -> Option<&Process> {
        self.processes.iter().find(|process| process.id == *id)
    }

    pub(super) fn find(&mut self, id: &OpId) -> Result<&mut Process, RpcError> {
        let unknown = || RpcError::new(ErrorCode::UnknownProcess, format!("no process {id} in this boot"));
        self.processes.iter_mut().find(|process| process.id == *id).ok_or_else(unknown)
    }

    /// The process of a subreaper.
    pub(super) fn of_tree(&self, tree: i32) -> Option<&OpId> {
        self.processes.iter().find(|process| process.is_of_tree(tree)).map(|process| &process.id)
    }

    pub(super) fn all(&self) -> &[Process] {
        &self.processes
    }

    pub(super) fn all_mut(&mut self) -> &mut [Process] {
        &mut self.processes
    }

    /// Forgets a process whose exit record was stored elsewhere. What it left in the background may write on.
    pub(super) fn acknowledge(&mut self, id: &OpId) -> Result<(), RpcError> {
        let Some(at) = self.processes.iter().position(|process| process.id == *id) else { return Ok(()) };
        if self.processes[at].record().is_none() {
            return Err(RpcError::new(ErrorCode::InvalidParams, format!("process {id} has not ended")));
        }
        let process = self.processes.remove(at);
        if self.acknowledged.len() == REMEMBERED {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back(short(&process.id));
        if let Some(output) = process.into_output() {
            if self.drains.len() == DRAINS_MAX {
                self.drains.pop_front();
            }
            self.drains.push_back(output);
        }
        Ok(())
    }

    /// The next output to send, from each process in its turn.
    pub(super) fn next_output(&mut self) -> Option<Output> {
        for step in 0..self.processes.len() {
            let at = (self.turn + step) % self.processes.len();
            if self.processes[at].has_output() {
                self.turn = at + 1;
                return self.processes[at].next_output();
            }
        }
        None
    }

    pub(super) fn has_output(&self) -> bool {
        self.processes.iter().any(Process::has_output)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.processes.iter().filter_map(Process::next_deadline).min()
    }

    pub(super) fn drains(&self) -> &VecDeque<Outlet> {
        &self.drains
    }

    /// Reads what background processes have written, and drops it.
    pub(super) fn drain(&mut self, buffer: &mut [u8]) {
        self.drains.retain(|output| match rustix::io::read(output, &mut *buffer) {
            Ok(length) => length > 0,
            Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
        });
    }
}

fn short(id: &OpId) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Digest::of(id.as_str().as_bytes()).as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::getpid;

    use super::*;
    use crate::confine::Launched;
    use crate::supervisor::process::Started;

    /// A process that has written `output` and ended; nobody knows how.
    fn ended(id: &OpId, output: &[u8], now: Instant) -> Process {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (exit, _) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::write(&theirs, output).unwrap();
        drop(theirs);
        let started = Started {
            id: id.clone(),
            digest: Digest::of(b"parameters"),
            output: Outlet::Pipe(ours),
            input: None,
            launched: Launched { pid: getpid(), exit },
            deadline: None,
        };
        let mut process = Process::new(started, now).unwrap();
        assert!(process.finish(&mut [0; 4096], now).exited);
        process
    }

    #[test]
    fn an_operation_is_new_then_known_then_remembered() {
        let (now, id, digest) = (Instant::now(), OpId::new("a").unwrap(), Digest::of(b"parameters"));
        let mut table = Table::default();
        assert_eq!(table.admit(&id, &digest).unwrap(), Admission::New);
        table.insert(ended(&id, b"out", now));
        assert_eq!(table.admit(&id, &digest).unwrap(), Admission::Existing);
        assert_eq!(table.admit(&id, &Digest::of(b"others")).unwrap_err().code, ErrorCode::OpConflict);
        table.acknowledge(&id).unwrap();
        table.acknowledge(&id).unwrap();
        assert_eq!(table.admit(&id, &digest).unwrap_err().code, ErrorCode::AlreadyAcknowledged);
    }

    #[test]
    fn an_end_that_nobody_saw_is_not_a_code() {
        let now = Instant::now();
        let process = ended(&OpId::new("a").unwrap(), b"out", now);
        let record = process.record().unwrap();
        assert_eq!(record.exit, crate::protocol::Exit::Lost);
        assert_eq!((record.bytes, record.sha256), (3, Digest::of(b"out")));
    }

    #[test]
    fn no_more_processes_than_the_bound() {
        let now = Instant::now();
        let mut table = Table::default();
        for number in 0..PROCESSES_MAX {
            table.insert(ended(&OpId::new(number.to_string()).unwrap(), b"", now));
        }
        let refused = table.admit(&OpId::new("more").unwrap(), &Digest::of(b"x")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::LimitReached);
    }

    #[test]
    fn processes_send_in_turn_and_again_from_what_was_acknowledged() {
        let now = Instant::now();
        let mut table = Table::default();
        for id in ["a", "b"] {
            table.insert(ended(&OpId::new(id).unwrap(), &[b'x'; 40_000], now));
        }
        let mut sent = Vec::new();
        while let Some(output) = table.next_output() {
            sent.push((output.process_id.to_string(), output.seq, output.chunk.0.len()));
        }
        let expected = [("a", 0, 32_768), ("b", 0, 32_768), ("a", 32_768, 7232), ("b", 32_768, 7232)];
        assert_eq!(sent, expected.map(|(id, seq, length)| (id.to_owned(), seq, length)));

        let first = table.find(&OpId::new("a").unwrap()).unwrap();
        first.acknowledge_output(10_000);
        first.rewind();
        assert_eq!(table.next_output().unwrap().seq, 10_000);
    }
}
