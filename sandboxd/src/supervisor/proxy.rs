//! Connections of commands to the proxy, carried over the stream. Nothing is read of what is in them.
//!
//! What a command sends stays in its socket until there is credit and the stream takes it, so only what the client
//! sends is held here, a window a connection at most.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use crate::protocol::{
    Bytes, CHUNK_MAX, OpId, PROXY_CONNECTIONS_MAX, PROXY_WINDOW_BYTES, ProxyAck, ProxyClosed, ProxyData,
    ProxyOpened, encode_notice,
};

/// Bytes that have gone on before the client is told so: a quarter of the window, so that it never waits for the word.
const ACK_EVERY: u64 = PROXY_WINDOW_BYTES as u64 / 4;

/// How long a command may take to read the last words before its connection is cut. Closed at once, what it has not
/// taken would be lost, and with it the sentence that says what was refused.
const LINGER: Duration = Duration::from_secs(2);

/// The connections of a phase.
#[derive(Debug, Default)]
pub(super) struct Connections {
    all: Vec<Connection>,
    opened: u64,
    /// Whose turn it is to send.
    turn: usize,
    /// Lines that go before all data.
    lines: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    socket: OwnedFd,
    process: Option<OpId>,
    /// The stream that was told of it.
    stream: Option<u64>,
    /// Whether something may be there to be read.
    readable: bool,
    /// Whether nothing more comes from the command, or is wanted of it.
    read_end: bool,
    sent: u64,
    acked: u64,
    /// What waits for the command to read it.
    queue: VecDeque<u8>,
    received: u64,
    told: u64,
    /// Whether nothing more comes for the command.
    write_end: bool,
    is_shut: bool,
    /// Until when the command may read the rest, once the client has closed.
    closing: Option<Instant>,
    over: bool,
}

impl Connections {
    /// Whether another one may be accepted.
    pub(super) fn has_room(&self) -> bool {
        self.all.len() < PROXY_CONNECTIONS_MAX
    }

    /// Takes a new one. The client is told with the next [`Connections::lines`].
    pub(super) fn open(&mut self, socket: OwnedFd, process: Option<OpId>) {
        self.opened += 1;
        self.all.push(Connection {
            number: self.opened,
            socket,
            process,
            stream: None,
            readable: false,
            read_end: false,
            sent: 0,
            acked: 0,
            queue: VecDeque::new(),
            received: 0,
            told: 0,
            write_end: false,
            is_shut: false,
            closing: None,
            over: false,
        });
    }

    /// Cuts all of them: their phase is over.
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.lines.clear();
    }

    /// What to poll, by number.
    pub(super) fn sources(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>, PollFlags)> {
        self.all.iter().filter_map(|connection| {
            let mut flags = PollFlags::empty();
            // Once something is there it is not asked again before that is read: there may be no credit for it.
            let reads = connection.stream.is_some() && !connection.readable;
            flags.set(PollFlags::IN, reads && (!connection.read_end || connection.closing.is_some()));
            flags.set(PollFlags::OUT, !connection.queue.is_empty());
            (!flags.is_empty()).then(|| (connection.number, connection.socket.as_fd(), flags))
        })
    }

    /// Something has happened to a socket.
    pub(super) fn happened(&mut self, number: u64, flags: PollFlags, now: Instant) {
        let Some(connection) = self.all.iter_mut().find(|connection| connection.number == number) else {
            return;
        };
        if flags.intersects(PollFlags::OUT) {
            connection.feed(now);
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            if connection.closing.is_some() {
                connection.discard();
            } else {
                connection.readable = true;
            }
        }
    }

    /// Bytes for a command.
    pub(super) fn data(&mut self, data: ProxyData, now: Instant) {
        let Some(connection) = self.all.iter_mut().find(|other| other.number == data.connection) else {
            return;
        };
        let fits = connection.queue.len() + data.chunk.0.len() <= PROXY_WINDOW_BYTES;
        if connection.write_end || data.seq != connection.received || !fits {
            connection.over = true;
            return;
        }
        connection.received += data.chunk.0.len() as u64;
        connection.queue.extend(data.chunk.0);
        connection.write_end = data.end;
        connection.feed(now);
    }

    /// The client has passed on what a command sent.
    pub(super) fn ack(&mut self, ack: ProxyAck) {
        if let Some(connection) = self.all.iter_mut().find(|other| other.number == ack.connection) {
            connection.acked = connection.acked.max(ack.seq.min(connection.sent));
        }
    }

    /// The client wants nothing more of a connection, and has nothing more for it.
    pub(super) fn closed(&mut self, closed: ProxyClosed, now: Instant) {
        if let Some(connection) = self.all.iter_mut().find(|other| other.number == closed.connection) {
            // From now on it is read only to be dropped.
            connection.readable = false;
            connection.read_end = true;
            connection.write_end = true;
            connection.closing = Some(now + LINGER);
            connection.feed(now);
        }
    }

    /// Lines for the stream: new connections, what has gone on, what is over. Connections of an earlier stream are cut.
    /// Without a stream new ones wait for the next.
    pub(super) fn lines(&mut self, stream: Option<u64>, now: Instant) -> impl Iterator<Item = Vec<u8>> {
        self.all.retain(|connection| connection.stream.is_none() || connection.stream == stream);
        let Some(stream) = stream else {
            self.lines.clear();
            return self.lines.drain(..);
        };
        for connection in &mut self.all {
            let number = connection.number;
            if connection.stream.is_none() {
                connection.stream = Some(stream);
                let opened = ProxyOpened { connection: number, process_id: connection.process.clone() };
                self.lines.extend(encode_notice(&opened).ok());
            }
            let gone_on = connection.received - connection.queue.len() as u64;
            if gone_on >= connection.told + ACK_EVERY {
                connection.told = gone_on;
                self.lines.extend(encode_notice(&ProxyAck { connection: number, seq: gone_on }).ok());
            }
            connection.over |= connection.closing.is_some_and(|until| now >= until);
            // Who has closed it is not told so.
            if connection.over && connection.closing.is_none() {
                self.lines.extend(encode_notice(&ProxyClosed { connection: number }).ok());
            }
        }
        self.all.retain(|connection| !connection.over);
        self.lines.drain(..)
    }

    /// Whether something can be sent.
    pub(super) fn has_data(&self) -> bool {
        self.all.iter().any(Connection::can_send)
    }

    /// The next bytes to send, from each connection in its turn.
    pub(super) fn next_data(&mut self, buffer: &mut [u8]) -> Option<ProxyData> {
        for step in 0..self.all.len() {
            let at = (self.turn + step) % self.all.len();
            if let Some(data) = self.all[at].next_data(buffer) {
                self.turn = at + 1;
                return Some(data);
            }
        }
        None
    }

    /// When one needs attention without any event.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.all.iter().filter_map(|connection| connection.closing).min()
    }
}

impl Connection {
    fn can_send(&self) -> bool {
        self.stream.is_some() && self.readable && !self.read_end && !self.over && self.credit() > 0
    }

    fn credit(&self) -> usize {
        let open = self.acked + PROXY_WINDOW_BYTES as u64 - self.sent;
        usize::try_from(open).unwrap_or(0)
    }

    fn next_data(&mut self, buffer: &mut [u8]) -> Option<ProxyData> {
        if !self.can_send() {
            return None;
        }
        let room = self.credit().min(CHUNK_MAX).min(buffer.len());
        let length = match rustix::io::read(&self.socket, &mut buffer[..room]) {
            Ok(length) => length,
            Err(Errno::INTR) => return None,
            Err(Errno::AGAIN) => {
                self.readable = false;
                return None;
            }
            Err(_) => {
                self.over = true;
                return None;
            }
        };
        let data = ProxyData {
            connection: self.number,
            seq: self.sent,
            chunk: Bytes(buffer[..length].to_vec()),
            end: length == 0,
        };
        self.sent += length as u64;
        self.read_end = length == 0;
        self.over |= self.read_end && self.is_shut;
        Some(data)
    }

    /// Passes on what waits, and the end after it.
    fn feed(&mut self, now: Instant) {
        while !self.queue.is_empty() {
            match send(&self.socket, self.queue.as_slices().0, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(length) => drop(self.queue.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
        if self.write_end && !self.is_shut {
            // It fails when the command has gone, and then that is seen by whoever reads.
            let _ = shutdown(&self.socket, Shutdown::Write);
            self.is_shut = true;
            if let Some(until) = &mut self.closing {
                *until = now + LINGER;
            }
        }
        self.over |= self.is_shut && self.read_end && self.closing.is_none();
    }

    /// Reads on after the client has closed, so that the kernel does not answer what comes with a reset.
    fn discard(&mut self) {
        let mut nowhere = [0; 4096];
        match rustix::io::read(&self.socket, &mut nowhere) {
            Ok(0) => self.over = true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.over = true,
        }
    }
}

#[cfg(test)]
mod tests;
