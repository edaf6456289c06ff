//! Connections of commands to the proxy, as streams of this process.
//!
//! The supervisor passes on bytes and looks into none of them. Each connection has a window in both directions: what
//! arrives is kept here until its reader takes it, and then as much more may come; what is written here waits until the
//! supervisor has credit for it and the stream has nothing better to send.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use podwright_sandboxd::protocol::{
    Bytes, CHUNK_MAX, OpId, PROXY_CONNECTIONS_MAX, PROXY_WINDOW_BYTES, ProxyAck, ProxyClosed, ProxyData,
    ProxyOpened, encode_notice,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};

/// Bytes written to a connection that wait for the stream: two chunks, so that one is ready while one is sent.
const OUTBOX_MAX: usize = 2 * CHUNK_MAX;

/// Bytes read before the supervisor is told so: a quarter of the window, so that it never waits for the word.
const ACK_EVERY: u64 = PROXY_WINDOW_BYTES as u64 / 4;

/// A command's connection to the proxy.
#[derive(Debug)]
pub struct Guest {
    /// The process that asked for it; `None` when that was left in the background by one that is acknowledged.
    pub process: Option<OpId>,
    /// What it sends and reads. An end of the connection to the sandbox breaks it.
    pub stream: GuestStream,
}

/// The bytes of a command's connection. Dropping it closes the connection, after what was written before.
#[derive(Debug)]
pub struct GuestStream {
    lane: Arc<Mutex<Lane>>,
    changed: Arc<Notify>,
}

/// All connections of the current stream to the supervisor.
#[derive(Debug)]
pub(super) struct Lanes {
    inner: Mutex<Inner>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    open: HashMap<u64, Arc<Mutex<Lane>>>,
    /// Whose turn it is to send: the number of the last one that did.
    turn: u64,
    /// Connections that were refused, to be told.
    refused: Vec<u64>,
    guests: mpsc::Sender<Guest>,
}

#[derive(Debug, Default)]
struct Lane {
    inbox: BytesMut,
    received: u64,
    taken: u64,
    told: u64,
    no_more_comes: bool,
    outbox: BytesMut,
    sent: u64,
    acked: u64,
    finished: bool,
    end_sent: bool,
    /// The connection is over, and nobody will take what is written.
    broken: bool,
    /// Nobody has the stream any more.
    dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lanes {
    /// None yet, and where those that come can be accepted.
    pub(super) fn new() -> (Self, mpsc::Receiver<Guest>) {
        // As many as there can be, so that none is refused while its place is free.
        let (guests, accepted) = mpsc::channel(PROXY_CONNECTIONS_MAX);
        let inner = Inner { open: HashMap::new(), turn: 0, refused: Vec::new(), guests };
        (Self { inner: Mutex::new(inner), changed: Arc::new(Notify::new()) }, accepted)
    }

    /// A command has connected.
    pub(super) fn opened(&self, opened: ProxyOpened) {
        let mut inner = self.inner();
        let lane = Arc::new(Mutex::new(Lane::default()));
        let stream = GuestStream { lane: lane.clone(), changed: self.changed.clone() };
        let guest = Guest { process: opened.process_id, stream };
        let has_room = inner.open.len() < PROXY_CONNECTIONS_MAX;
        if has_room && inner.guests.try_send(guest).is_ok() {
            inner.open.insert(opened.connection, lane);
        } else {
            inner.refused.push(opened.connection);
            self.changed.notify_one();
        }
    }

    /// Bytes have come from a command. False when the supervisor does not keep to the protocol.
    pub(super) fn data(&self, data: ProxyData) -> bool {
        let Some(lane) = self.lane(data.connection) else { return true };
        let mut lane = lock(&lane);
        if lane.broken || lane.dropped {
            return true;
        }
        let ahead = lane.received - lane.told + data.chunk.0.len() as u64;
        if data.seq != lane.received || ahead > PROXY_WINDOW_BYTES as u64 || lane.no_more_comes {
            return false;
        }
        lane.received += data.chunk.0.len() as u64;
        lane.inbox.extend_from_slice(&data.chunk.0);
        lane.no_more_comes = data.end;
        wake(&mut lane.reader);
        true
    }

    /// The command has taken what was sent.
    pub(super) fn ack(&self, ack: ProxyAck) {
        if let Some(lane) = self.lane(ack.connection) {
            let mut lane = lock(&lane);
            lane.acked = lane.acked.max(ack.seq.min(lane.sent));
            self.changed.notify_one();
        }
    }

    /// The command has gone.
    pub(super) fn closed(&self, closed: ProxyClosed) {
        if let Some(lane) = self.inner().open.remove(&closed.connection) {
            lock(&lane).end();
        }
    }

    /// The stream to the supervisor has ended, and every connection with it.
    pub(super) fn reset(&self) {
        let mut inner = self.inner();
        inner.refused.clear();
        for (_, lane) in inner.open.drain() {
            lock(&lane).end();
        }
    }

    /// Waits until there may be something to send.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The next line to send: first words about connections, then their bytes, from each in its turn.
    pub(super) fn next_line(&self) -> Option<Vec<u8>> {
        let mut inner = self.inner();
        if let Some(connection) = inner.refused.pop() {
            return encode_notice(&ProxyClosed { connection }).ok();
        }
        let ack = inner.open.iter().find_map(|(connection, lane)| {
            let seq = lock(lane).due_ack()?;
            Some(ProxyAck { connection: *connection, seq })
        });
        if let Some(ack) = ack {
            return encode_notice(&ack).ok();
        }
        let turn = inner.turn;
        let mut order: Vec<u64> = inner.open.keys().copied().collect();
        order.sort_unstable_by_key(|number| (*number <= turn, *number));
        for connection in order {
            let mut lane = lock(inner.open.get(&connection)?);
            if let Some((seq, chunk, end)) = lane.next_data() {
                drop(lane);
                inner.turn = connection;
                return encode_notice(&ProxyData { connection, seq, chunk: Bytes(chunk), end }).ok();
            }
            if lane.dropped && lane.outbox.is_empty() {
                drop(lane);
                inner.open.remove(&connection);
                return encode_notice(&ProxyClosed { connection }).ok();
            }
        }
        None
    }

    fn lane(&self, connection: u64) -> Option<Arc<Mutex<Lane>>> {
        self.inner().open.get(&connection).cloned()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn end(&mut self) {
        self.broken = true;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn due_ack(&mut self) -> Option<u64> {
        let due = self.taken >= self.told + ACK_EVERY && !self.dropped;
        due.then(|| {
            self.told = self.taken;
            self.taken
        })
    }

    fn next_data(&mut self) -> Option<(u64, Vec<u8>, bool)> {
        let credit = self.acked + PROXY_WINDOW_BYTES as u64 - self.sent;
        let length = self.outbox.len().min(CHUNK_MAX).min(usize::try_from(credit).unwrap_or(0));
        let ends = self.finished && !self.end_sent && length == self.outbox.len();
        if length == 0 && !ends {
            return None;
        }
        let (seq, chunk) = (self.sent, self.outbox.split_to(length).to_vec());
        self.sent += chunk.len() as u64;
        self.end_sent |= ends;
        wake(&mut self.writer);
        Some((seq, chunk, ends))
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut lane = lock(&self.lane);
        if !lane.inbox.is_empty() {
            let length = lane.inbox.len().min(buffer.remaining());
            buffer.put_slice(&lane.inbox[..length]);
            lane.inbox.advance(length);
            lane.taken += length as u64;
            if lane.taken >= lane.told + ACK_EVERY {
                self.changed.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        if lane.no_more_comes {
            return Poll::Ready(Ok(()));
        }
        if lane.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        lane.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut lane = lock(&self.lane);
        if lane.broken || lane.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = OUTBOX_MAX - lane.outbox.len();
        if room == 0 {
            lane.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = bytes.len().min(room);
        lane.outbox.extend_from_slice(&bytes[..length]);
        self.changed.notify_one();
        Poll::Ready(Ok(length))
    }

    /// What was written is sent in any case, also when the stream is dropped.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.lane).finished = true;
        self.changed.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl Drop for GuestStream {
    fn drop(&mut self) {
        let mut lane = lock(&self.lane);
        lane.dropped = true;
        lane.inbox = BytesMut::new();
        self.changed.notify_one();
    }
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
