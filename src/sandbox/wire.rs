//! One connection as lines, with its heartbeats and its end.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use podwright_sandboxd::protocol::{FRAME_MAX, HEARTBEAT_SECONDS, Heartbeat, SILENCE_SECONDS, encode_notice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::select;
use tokio::time::{Instant, sleep_until, timeout};

use super::dial::Transport;

/// Bytes waiting to be written beyond which no new request is taken: four frames.
const OUTBOX_MAX: usize = 4 * FRAME_MAX;

/// Time for saying goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the stream ended: {0}")]
    Transport(String),
    #[error("the supervisor closed the stream")]
    Closed,
    #[error("nothing was heard for {SILENCE_SECONDS} s")]
    Silent,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the supervisor sent what is not understood: {0}")]
    Protocol(String),
}

/// A transport and what is on its way in and out.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    inbox: BytesMut,
    outbox: BytesMut,
    heard: Instant,
    spoke: Instant,
}

impl Wire {
    pub(super) fn new(transport: Transport) -> Self {
        let now = Instant::now();
        Self { transport, inbox: BytesMut::new(), outbox: BytesMut::new(), heard: now, spoke: now }
    }

    /// Queues a line. It is written while [`Wire::next_line`] waits, and nobody knows whether it arrives.
    pub(super) fn queue(&mut self, line: &[u8]) {
        self.outbox.extend_from_slice(line);
    }

    /// Whether another request may be queued.
    pub(super) fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX_MAX
    }

    /// Waits for the next line, writes what is queued and keeps the stream alive meanwhile. Whichever comes first
    /// decides: a line, the transport's own word, an error, silence. Nothing is lost when it is cancelled.
    pub(super) async fn next_line(&mut self) -> Result<Bytes, End> {
        loop {
            if let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
                return Ok(self.inbox.split_to(end + 1).freeze());
            }
            if self.inbox.len() >= FRAME_MAX {
                return Err(End::Protocol("a line over a frame".into()));
            }
            self.inbox.reserve(FRAME_MAX);
            let Transport { reader, writer, ended } = &mut self.transport;
            select! {
                reason = ended => return Err(End::Transport(reason)),
                read = reader.read_buf(&mut self.inbox) => match read? {
                    0 => return Err(End::Closed),
                    _ => self.heard = Instant::now(),
                },
                written = writer.write(&self.outbox), if !self.outbox.is_empty() => {
                    let written = written?;
                    self.outbox.advance(written);
                    self.spoke = Instant::now();
                }
                () = sleep_until(self.heard + Duration::from_secs(SILENCE_SECONDS)) => return Err(End::Silent),
                () = sleep_until(self.spoke + Duration::from_secs(HEARTBEAT_SECONDS)), if self.outbox.is_empty() => {
                    if let Ok(line) = encode_notice(&Heartbeat {}) {
                        self.queue(&line);
                    }
                }
            }
        }
    }

    /// Ends the stream. A dropped writer would leave the far end waiting for more.
    pub(super) async fn close(mut self) {
        // Whether or not it is heard, the transport goes.
        let _ = timeout(CLOSE_WITHIN, self.transport.writer.shutdown()).await;
    }
}
