//! One connection as lines, with its heartbeats and its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use podwright_sandboxd::protocol::{FRAME_MAX, HEARTBEAT_SECONDS, Heartbeat, SILENCE_SECONDS, encode_notice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::select;
use tokio::time::{Instant, sleep_until, timeout};

use super::dial::Transport;
use super::proxy::Lanes;

/// Bytes waiting to be written beyond which no new request is taken: four frames.
const OUTBOX_MAX: usize = 4 * FRAME_MAX;

/// Bytes waiting to be written beyond which connections of the proxy wait. So a request or an acknowledgement goes behind
/// two of their lines at most, whatever they carry.
const LANES_MAX: usize = FRAME_MAX / 2;

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
    lanes: Arc<Lanes>,
    heard: Instant,
    spoke: Instant,
}

impl Wire {
    pub(super) fn new(transport: Transport, lanes: Arc<Lanes>) -> Self {
        let now = Instant::now();
        Self { transport, inbox: BytesMut::new(), outbox: BytesMut::new(), lanes, heard: now, spoke: now }
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
            while self.outbox.len() < LANES_MAX
                && let Some(line) = self.lanes.next_line()
            {
                self.queue(&line);
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
                () = self.lanes.changed() => {}
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

#[cfg(test)]
mod tests {
    use podwright_sandboxd::protocol::{ClientFrame, ClientNotice};
    use proptest::prelude::*;
    use tokio::io::DuplexStream;
    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::*;

    /// A wire whose far end is a pipe, and whose transport ends when told.
    fn wire() -> (Wire, DuplexStream, oneshot::Sender<String>) {
        let (ours, theirs) = tokio::io::duplex(FRAME_MAX);
        let (reader, writer) = tokio::io::split(ours);
        let (end, told) = oneshot::channel();
        let ended = Box::pin(async move { told.await.unwrap_or_default() });
        let transport = Transport { reader: Box::new(reader), writer: Box::new(writer), ended };
        (Wire::new(transport, Arc::new(Lanes::new().0)), theirs, end)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream_that_is_open_and_can_be_written() {
        let (mut wire, mut theirs, _end) = wire();
        theirs.write_all(b"one\n").await.unwrap();
        assert_eq!(wire.next_line().await.unwrap(), "one\n");
        wire.queue(b"request\n");
        let begun = Instant::now();
        assert!(matches!(wire.next_line().await, Err(End::Silent)));
        assert_eq!(begun.elapsed().as_secs(), SILENCE_SECONDS);

        // Meanwhile the request was written, and heartbeats were.
        let mut sent = vec![0; 4096];
        let length = theirs.read(&mut sent).await.unwrap();
        let lines: Vec<&[u8]> = sent[..length].split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines[0], b"request\n");
        assert!(lines.len() >= 2);
        for line in &lines[1..] {
            assert!(matches!(ClientFrame::decode(line), Ok(ClientFrame::Notice(ClientNotice::Heartbeat(_)))));
        }
    }

    #[tokio::test]
    async fn the_transports_word_ends_a_stream_whose_reader_never_ends() {
        let (mut wire, theirs, end) = wire();
        end.send("cut".into()).unwrap();
        assert!(matches!(wire.next_line().await, Err(End::Transport(reason)) if reason == "cut"));
        drop(theirs);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_are_cut(
            pieces in proptest::collection::vec("[ab\n]{1,9}", 0..20),
        ) {
            let whole = pieces.concat();
            let expected: Vec<&str> = whole.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            let lines = runtime.block_on(async {
                let (mut wire, mut theirs, _end) = wire();
                let writing = async {
                    for piece in &pieces {
                        theirs.write_all(piece.as_bytes()).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    drop(theirs);
                };
                let reading = async {
                    let mut lines = Vec::new();
                    while let Ok(line) = wire.next_line().await {
                        lines.push(String::from_utf8(line.to_vec()).unwrap());
                    }
                    lines
                };
                tokio::join!(writing, reading).1
            });
            prop_assert_eq!(lines, expected);
        }
    }

    #[tokio::test]
    async fn a_line_survives_cancellation_in_its_middle() {
        let (mut wire, mut theirs, _end) = wire();
        theirs.write_all(b"first ha").await.unwrap();
        tokio::select! {
            biased;
            line = wire.next_line() => panic!("{line:?}"),
            () = tokio::task::yield_now() => {}
        }
        theirs.write_all(b"lf\nsecond\n").await.unwrap();
        assert_eq!(wire.next_line().await.unwrap(), "first half\n");
        assert_eq!(wire.next_line().await.unwrap(), "second\n");
    }

    #[tokio::test]
    async fn a_line_over_a_frame_and_an_end_are_ends() {
        let (mut wire, mut theirs, _end) = wire();
        theirs.write_all(&vec![b'x'; FRAME_MAX]).await.unwrap();
        assert!(matches!(wire.next_line().await, Err(End::Protocol(_))));

        let (mut wire, theirs, _end) = self::wire();
        drop(theirs);
        assert!(matches!(wire.next_line().await, Err(End::Closed)));
    }

    #[tokio::test]
    async fn goodbye_is_a_shutdown() {
        let (wire, mut theirs, _end) = wire();
        wire.close().await;
        assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
