//! An incremental parser of server-sent events.
//!
//! Only `data` matters to the APIs spoken here: each event repeats its type inside the data, and several
//! servers leave the `event` line out. Comments, which servers send to keep a connection open, give no
//! event and so never look like progress.

use bytes::Bytes;
use thiserror::Error;

/// The largest event that is accepted. The largest legitimate one repeats a whole response; 16 MiB is
/// about four million tokens of it, more than any model writes, and little beside the agent's memory.
pub const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// The stream holds an event that is larger than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server sent an event of more than {limit} bytes")]
pub struct EventTooLarge {
    /// The bound, in bytes.
    pub limit: usize,
}

/// Cuts a byte stream into the data of its events. Feed it chunks of any size.
#[derive(Debug)]
pub struct SseParser {
    /// The line that is not yet ended.
    line: Vec<u8>,
    /// The data lines of the event that is not yet ended.
    data: Vec<u8>,
    has_data: bool,
    /// The last chunk ended in CR: an LF at the start of the next one belongs to it.
    after_cr: bool,
    /// Nothing was parsed yet: a byte order mark may come.
    at_start: bool,
    limit: usize,
}

impl Default for SseParser {
    fn default() -> Self {
        Self::with_limit(MAX_EVENT_BYTES)
    }
}

impl SseParser {
    /// A parser that accepts events of up to `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self { line: Vec::new(), data: Vec::new(), has_data: false, after_cr: false, at_start: true, limit }
    }

    /// Takes the next bytes and appends the data of every event that they end to `events`.
    ///
    /// # Errors
    /// [`EventTooLarge`]; the parser is of no use afterwards.
    pub fn push(&mut self, mut chunk: &[u8], events: &mut Vec<Bytes>) -> Result<(), EventTooLarge> {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&chunk[..end])?;
            self.end_line(events)?;
            let rest = &chunk[end + 1..];
            chunk = if chunk[end] == b'\r' {
                self.after_cr = rest.is_empty();
                rest.strip_prefix(b"\n").unwrap_or(rest)
            } else {
                rest
            };
        }
        self.extend_line(chunk)
    }

    /// The stream has ended: the event that lacked only its blank line, if there is one. Servers that
    /// close right after the last event are common, and a half event is not whole JSON anyway.
    pub fn finish(mut self) -> Option<Bytes> {
        let mut events = Vec::new();
        self.end_line(&mut events).ok()?;
        self.end_event(&mut events);
        events.pop()
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        self.check(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn check(&self, more: usize) -> Result<(), EventTooLarge> {
        if self.line.len() + self.data.len() + more > self.limit {
            return Err(EventTooLarge { limit: self.limit });
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Bytes>) -> Result<(), EventTooLarge> {
        let line = std::mem::take(&mut self.line);
        let mut text = &line[..];
        if std::mem::take(&mut self.at_start) {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.is_empty() {
            self.end_event(events);
        } else if let Some(value) = data_value(text) {
            self.check(value.len() + 1)?;
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
            self.has_data = true;
        }
        // The buffer is kept for the next line unless a large event made it large.
        if line.capacity() <= 64 * 1024 {
            self.line = line;
            self.line.clear();
        }
        Ok(())
    }

    fn end_event(&mut self, events: &mut Vec<Bytes>) {
        if std::mem::take(&mut self.has_data) {
            events.push(std::mem::take(&mut self.data).into());
        }
    }
}

/// The value of a `data` line; nothing for a comment or another field.
fn data_value(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<Bytes> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for chunk in chunks {
            parser.push(chunk, &mut events).unwrap();
        }
        events.extend(parser.finish());
        events
    }

    #[test]
    fn fields_other_than_data_and_comments_give_nothing() {
        let stream = b": keep-alive\n\nevent: ping\nid: 7\nretry: 10\n\n:\n\ndatabase: x\n\n";
        assert!(parse(&[stream]).is_empty());
    }

    #[test]
    fn data_lines_are_joined_and_one_space_is_dropped() {
        let stream = b"event: x\ndata: {\"a\":\ndata:  1}\ndata\n\n";
        assert_eq!(parse(&[stream]), [&b"{\"a\":\n 1}\n"[..]]);
    }

    #[test]
    fn every_line_ending_and_a_byte_order_mark_are_read() {
        let expected = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        for stream in [
            &b"\xef\xbb\xbfdata: one\n\ndata: two\n\n"[..],
            b"data: one\r\n\r\ndata: two\r\n\r\n",
            b"data: one\r\rdata: two\r\r",
            b"data: one\r\n\ndata: two\n\r\n",
        ] {
            assert_eq!(parse(&[stream]), expected, "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn a_last_event_without_its_blank_line_is_given() {
        assert_eq!(parse(&[b"data: one\n\ndata: two\n"]), [&b"one"[..], b"two"]);
        assert_eq!(parse(&[b"data: one\n\ndata: two"]), [&b"one"[..], b"two"]);
    }

    #[test]
    fn the_bound_holds_for_one_line_and_for_many() {
        let limit = Err(EventTooLarge { limit: 10 });
        let mut events = Vec::new();
        let mut parser = SseParser::with_limit(10);
        assert_eq!(parser.push(b"data: 45678", &mut events), limit);
        let mut parser = SseParser::with_limit(10);
        parser.push(b"data: 4567\n\ndata: 4567\n\n", &mut events).unwrap();
        assert_eq!(parser.push(b"data:1\ndata:2\ndata:3\ndata:4\ndata:5\ndata:6\n", &mut events), limit);
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn a_comment_without_end_is_bounded_too() {
        let mut parser = SseParser::with_limit(10);
        assert!(parser.push(b":::::::::::", &mut Vec::new()).is_err());
    }

    /// Streams made of the pieces that decide the parser's state.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "data: {\"a\":1}",
            "data:x",
            "data",
            "data: é",
            ": note",
            "event: e",
            "\n",
            "\n",
            "\r\n",
            "\r",
            "\n\n",
        ]);
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn chunking_never_matters(stream in stream(), cuts in prop::collection::vec(0usize..400, 0..40)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&chunks), parse(&[&stream]));
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(parse(&single), parse(&[&bytes]));
        }
    }
}
