//! One connection: lines in, lines out, answers before output.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::listener::AUTHENTICATE_WITHIN;
use crate::protocol::{FRAME_MAX, HEARTBEAT_SECONDS, SILENCE_SECONDS};

/// Answers that wait to be written. A client that does not read them is not read any more: four frames keep
/// any number of requests in flight going.
const ANSWERS_MAX: usize = 4 * FRAME_MAX;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the client is gone")]
    Ended,
    #[error("the client sent a line over {FRAME_MAX} bytes")]
    LineTooLong,
    #[error("the client did not authenticate in time")]
    Unauthenticated,
    #[error("the client was silent for {SILENCE_SECONDS} s")]
    Silent,
    #[error(transparent)]
    Failed(#[from] Errno),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Stream {
    fd: OwnedFd,
    /// Number within the boot, once authenticated.
    pub(super) number: Option<u64>,
    opened: Instant,
    heard: Instant,
    spoke: Instant,
    inbox: Vec<u8>,
    answers: VecDeque<Vec<u8>>,
    answers_bytes: usize,
    current: Vec<u8>,
    written: usize,
    over: bool,
}

impl Stream {
    pub(super) fn new(fd: OwnedFd, now: Instant) -> Self {
        Self {
            fd,
            number: None,
            opened: now,
            heard: now,
            spoke: now,
            inbox: Vec::new(),
            answers: VecDeque::new(),
            answers_bytes: 0,
            current: Vec::new(),
            written: 0,
            over: false,
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Whether nothing is read from it or written to it any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Ends it: what has not been written yet never will be.
    pub(super) fn end(&mut self) {
        self.over = true;
        self.number = None;
    }

    /// Whether it may be read: not while its answers pile up.
    pub(super) fn wants_input(&self) -> bool {
        self.answers_bytes < ANSWERS_MAX && self.inbox.len() < FRAME_MAX
    }

    /// Whether something waits to be written, apart from output of processes.
    pub(super) fn wants_output(&self) -> bool {
        !self.current.is_empty() || !self.answers.is_empty()
    }

    /// Puts a line into the queue that goes before all output.
    pub(super) fn queue(&mut self, line: Vec<u8>) {
        self.answers_bytes += line.len();
        self.answers.push_back(line);
    }

    /// Reads what is there.
    pub(super) fn fill(&mut self, buffer: &mut [u8], now: Instant) -> Result<(), Lost> {
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(0) => Err(Lost::Ended),
            Ok(length) => {
                self.heard = now;
                self.inbox.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(Errno::CONNRESET | Errno::PIPE) => Err(Lost::Ended),
            Err(error) => Err(error.into()),
        }
    }

    /// The next whole line, unless answers pile up.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        if self.answers_bytes >= ANSWERS_MAX {
            return Ok(None);
        }
        match self.inbox.iter().position(|byte| *byte == b'\n') {
            Some(end) if end < FRAME_MAX => {
                let rest = self.inbox.split_off(end + 1);
                Ok(Some(std::mem::replace(&mut self.inbox, rest)))
            }
            None if self.inbox.len() < FRAME_MAX => Ok(None),
            Some(_) | None => Err(Lost::LineTooLong),
        }
    }

    /// Writes as much as the socket takes: the line in hand, then answers, then what `output` gives.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        mut output: impl FnMut() -> Option<Vec<u8>>,
    ) -> Result<(), Lost> {
        loop {
            if self.written == self.current.len() {
                self.written = 0;
                let next = match self.answers.pop_front() {
                    Some(line) => {
                        self.answers_bytes -= line.len();
                        Some(line)
                    }
                    None => output(),
                };
                match next {
                    Some(line) => self.current = line,
                    None => {
                        self.current = Vec::new();
                        return Ok(());
                    }
                }
            }
            match send(&self.fd, &self.current[self.written..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(length) => {
                    self.spoke = now;
                    self.written += length;
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Lost::Ended),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a heartbeat is due.
    pub(super) fn heartbeat_due(&self, now: Instant) -> bool {
        self.number.is_some()
            && !self.wants_output()
            && now >= self.spoke + Duration::from_secs(HEARTBEAT_SECONDS)
    }

    /// When this stream next needs attention without any event.
    pub(super) fn next_deadline(&self) -> Instant {
        match self.number {
            None => self.opened + AUTHENTICATE_WITHIN,
            Some(_) if self.wants_output() => self.heard + Duration::from_secs(SILENCE_SECONDS),
            Some(_) => (self.heard + Duration::from_secs(SILENCE_SECONDS))
                .min(self.spoke + Duration::from_secs(HEARTBEAT_SECONDS)),
        }
    }

    /// Whether its time is over.
    pub(super) fn check_time(&self, now: Instant) -> Result<(), Lost> {
        match self.number {
            None if now >= self.opened + AUTHENTICATE_WITHIN => Err(Lost::Unauthenticated),
            Some(_) if now >= self.heard + Duration::from_secs(SILENCE_SECONDS) => Err(Lost::Silent),
            None | Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn pair() -> (Stream, UnixStream, Instant) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let now = Instant::now();
        (Stream::new(ours.into(), now), theirs, now)
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_are_cut(pieces in vec("[ab\n]{1,9}", 0..20)) {
            let (mut stream, mut client, now) = pair();
            let mut lines = Vec::new();
            for piece in &pieces {
                client.write_all(piece.as_bytes()).unwrap();
                stream.fill(&mut [0; 64], now).unwrap();
                while let Some(line) = stream.next_line().unwrap() {
                    lines.push(String::from_utf8(line).unwrap());
                }
            }
            let whole = pieces.concat();
            let expected: Vec<&str> = whole.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            prop_assert_eq!(lines, expected);
        }
    }

    #[test]
    fn a_line_over_a_frame_ends_the_stream() {
        let (mut stream, mut client, now) = pair();
        client.write_all(&vec![b'x'; FRAME_MAX]).unwrap();
        let mut buffer = vec![0; FRAME_MAX];
        while stream.wants_input() {
            stream.fill(&mut buffer, now).unwrap();
        }
        assert!(matches!(stream.next_line(), Err(Lost::LineTooLong)));
    }

    #[test]
    fn answers_overtake_output_but_never_cut_a_line() {
        let (mut stream, mut client, now) = pair();
        stream.queue(b"answer 1\n".to_vec());
        let mut output = vec![b"output 2\n".to_vec(), b"output 1\n".to_vec()];
        stream.flush(now, || output.pop()).unwrap();
        stream.queue(b"answer 2\n".to_vec());
        stream.flush(now, || None).unwrap();
        drop(stream);
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert_eq!(all, "answer 1\noutput 1\noutput 2\nanswer 2\n");
    }

    #[test]
    fn a_client_that_reads_no_answers_is_not_read() {
        let (mut stream, _client, _) = pair();
        assert!(stream.wants_input());
        for _ in 0..4 {
            stream.queue(vec![b'x'; FRAME_MAX]);
        }
        assert!(!stream.wants_input());
        assert!(stream.next_line().unwrap().is_none());
    }

    #[test]
    fn time_is_up_for_the_silent_and_the_unauthenticated() {
        let (mut stream, _client, now) = pair();
        assert!(stream.check_time(now).is_ok());
        assert!(matches!(stream.check_time(stream.next_deadline()), Err(Lost::Unauthenticated)));
        stream.number = Some(1);
        assert!(stream.heartbeat_due(stream.next_deadline()));
        assert!(matches!(stream.check_time(now + Duration::from_secs(SILENCE_SECONDS)), Err(Lost::Silent)));
    }
}
