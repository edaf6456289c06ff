//! The proxy's part in each turn: who comes in, and what the stream is told.

use std::time::Instant;

use super::phase::Phase;
use super::{ServeError, Supervisor, os};

impl Supervisor {
    /// Puts what there is to say of connections before all output.
    pub(super) fn queue_proxy_lines(&mut self, now: Instant) {
        let stream = self.streams.iter_mut().find(|stream| stream.number.is_some());
        let lines = self.proxied.lines(stream.as_ref().and_then(|stream| stream.number), now);
        if let Some(stream) = stream {
            lines.for_each(|line| stream.queue(line));
        }
    }

    /// Takes the connections of commands that wait at the proxy's port.
    pub(super) fn admit_guests(&mut self) -> Result<(), ServeError> {
        while self.proxied.has_room()
            && let Phase::Open(phase) = &self.phase
            && let Some(gate) = phase.gate()
            && let Some(guest) = gate.accept().map_err(os("accept a connection"))?
        {
            let process = guest.tree.and_then(|tree| self.table.of_tree(tree)).cloned();
            self.proxied.open(guest.socket, process);
        }
        Ok(())
    }
}
