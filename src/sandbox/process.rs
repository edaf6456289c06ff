//! The processes that the client follows.

use std::collections::HashMap;

use podwright_sandboxd::protocol::{Ack, BootId, ExitRecord, OpId, Output, ReadResult, ServerNotice};

use super::transcript::{Delta, HALF, Transcript};

/// Bytes after which arrival is acknowledged: a quarter of the credit, so that the stream never waits for it.
const ACK_EVERY: u64 = 64 * 1024;

/// Everything that is followed, by operation.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_id: HashMap<OpId, Followed>,
}

/// One process.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) boot: BootId,
    pub(super) exit: Option<ExitRecord>,
    transcript: Transcript,
    /// Whether every byte is wanted, so that no more may come than is kept here until it is looked at.
    converses: bool,
    seen: u64,
    acked: u64,
}

/// What a notice has brought.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// Something that waits on an end should look.
    pub(super) exited: bool,
    /// Something that waits on output should.
    pub(super) arrived: bool,
    /// To be sent.
    pub(super) ack: Option<Ack>,
}

impl Processes {
    /// Follows a process from now on, or goes on. `seen` is where the caller's next look begins. Returns whether it is
    /// new.
    pub(super) fn follow(&mut self, id: &OpId, boot: &BootId, seen: u64) -> bool {
        let new = self.of(boot, id).is_none();
        if new {
            let followed = Followed {
                boot: boot.clone(),
                exit: None,
                transcript: Transcript::default(),
                converses: false,
                seen,
                acked: 0,
            };
            self.by_id.insert(id.clone(), followed);
        }
        new
    }

    /// From now on nothing of a process's output is left out.
    pub(super) fn converse(&mut self, id: &OpId) {
        if let Some(followed) = self.get(id) {
            followed.converses = true;
        }
    }

    pub(super) fn forget(&mut self, id: &OpId) {
        self.by_id.remove(id);
    }

    pub(super) fn get(&mut self, id: &OpId) -> Option<&mut Followed> {
        self.by_id.get_mut(id)
    }

    fn of(&mut self, boot: &BootId, id: &OpId) -> Option<&mut Followed> {
        self.get(id).filter(|followed| followed.boot == *boot)
    }

    /// Takes a notice of the boot's current stream. Those about processes that nobody follows are dropped.
    pub(super) fn notice(&mut self, boot: &BootId, notice: ServerNotice) -> Noticed {
        match notice {
            ServerNotice::Output(Output { process_id, seq, chunk, .. }) => {
                let Some(followed) = self.of(boot, &process_id) else { return Noticed::default() };
                followed.transcript.accept(seq, &chunk.0);
                // What is sent again was not acknowledged, as far as the supervisor has heard.
                followed.acked = followed.acked.min(seq);
                Noticed { arrived: true, ack: followed.due_ack(process_id), ..Noticed::default() }
            }
            ServerNotice::Exited(exited) => {
                let Some(followed) = self.of(boot, &exited.process_id) else { return Noticed::default() };
                followed.exit = Some(exited.record);
                Noticed { exited: true, ..Noticed::default() }
            }
            // What the proxy says is no process's.
            ServerNotice::Hello(_)
            | ServerNotice::Heartbeat(_)
            | ServerNotice::Closed(_)
            | ServerNotice::ProxyOpened(_)
            | ServerNotice::ProxyData(_)
            | ServerNotice::ProxyAck(_)
            | ServerNotice::ProxyClosed(_) => Noticed::default(),
        }
    }
}

impl Followed {
    /// Takes the answer to a read.
    pub(super) fn accept(&mut self, result: ReadResult) {
        if let Some(chunk) = result.chunk {
            self.transcript.accept(chunk.seq, &chunk.chunk.0);
        }
        self.exit = self.exit.take().or(result.exit);
    }

    /// Position of the next byte that is wanted of an output of `total` bytes.
    pub(super) fn next_wanted(&self, total: u64) -> Option<u64> {
        self.transcript.next_wanted(total)
    }

    pub(super) fn received(&self) -> u64 {
        self.transcript.received()
    }

    /// Whether everything that the record tells of is here and agrees with it.
    pub(super) fn agrees_with(&self, record: &ExitRecord) -> bool {
        self.transcript.agrees_with(record)
    }

    /// Forgets the output, to read it again.
    pub(super) fn restart_transcript(&mut self) {
        self.transcript = Transcript::default();
    }

    /// Whether something has arrived since the last look.
    pub(super) fn has_news(&self) -> bool {
        self.transcript.received() > self.seen
    }

    /// What has arrived since the last look.
    pub(super) fn look(&mut self) -> (Delta, u64) {
        let delta = self.transcript.since(self.seen);
        self.seen = self.seen.max(self.transcript.received());
        (delta, self.seen)
    }

    /// Word for the supervisor that more may come. None while a good deal was not looked at yet: a command that
    /// writes for ever would otherwise fill the stream for nobody, and what is wanted of it can be read.
    pub(super) fn due_ack(&mut self, process_id: OpId) -> Option<Ack> {
        let received = self.transcript.received();
        let ahead = if self.converses { ACK_EVERY } else { HALF };
        if received < self.acked + ACK_EVERY || received > self.seen + ahead {
            return None;
        }
        self.acked = received;
        Some(Ack { process_id, seq: received })
    }
}

#[cfg(test)]
mod tests {
    use podwright_sandboxd::protocol::{Bytes, Stream};

    use super::*;

    fn output(id: &OpId, seq: u64, length: usize) -> ServerNotice {
        let chunk = Bytes(vec![b'x'; length]);
        ServerNotice::Output(Output { process_id: id.clone(), seq, stream: Stream::Stdout, chunk })
    }

    #[test]
    fn arrival_is_acknowledged_until_too_much_was_not_looked_at() {
        let (id, boot) = (OpId::new("a").unwrap(), BootId::from_random([1; 16]));
        let mut processes = Processes::default();
        processes.follow(&id, &boot, 0);
        let mut acked = 0;
        for chunk in 0..64 {
            if let Some(ack) = processes.notice(&boot, output(&id, chunk * 32768, 32768)).ack {
                acked = ack.seq;
            }
        }
        assert_eq!(acked, HALF);
        let followed = processes.get(&id).unwrap();
        assert_eq!(followed.look().1, 64 * 32768);
        assert_eq!(followed.due_ack(id).unwrap().seq, 64 * 32768);
    }

    #[test]
    fn notices_of_another_boot_or_of_strangers_change_nothing() {
        let (id, boot) = (OpId::new("a").unwrap(), BootId::from_random([1; 16]));
        let mut processes = Processes::default();
        processes.follow(&id, &boot, 0);
        processes.notice(&BootId::from_random([2; 16]), output(&id, 0, 10));
        processes.notice(&boot, output(&OpId::new("b").unwrap(), 0, 10));
        assert_eq!(processes.get(&id).unwrap().received(), 0);
    }
}
