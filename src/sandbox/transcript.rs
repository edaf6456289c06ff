//! A process's output as far as it has arrived.

use std::collections::VecDeque;

use podwright_sandboxd::protocol::{Digest, ExitRecord, KEEP_BYTES};
use sha2::{Digest as _, Sha256};

/// Bytes kept of the beginning, and of the end: the same as at the supervisor, so that what it still has is exactly
/// what is wanted here.
pub(super) const HALF: u64 = (KEEP_BYTES / 2) as u64;

/// Output between two positions: all of it, or its beginning and its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// The beginning, or everything when nothing is missing.
    pub head: Vec<u8>,
    /// Bytes between head and tail that are kept nowhere.
    pub omitted: u64,
    /// The end; empty when nothing is missing.
    pub tail: Vec<u8>,
}

/// The first and the last bytes of an output, in the order of their positions, and the digest of all while nothing
/// is missing.
#[derive(Debug)]
pub(super) struct Transcript {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    received: u64,
    whole: Option<Sha256>,
}

impl Default for Transcript {
    fn default() -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), received: 0, whole: Some(Sha256::new()) }
    }
}

impl Transcript {
    /// Position after the last byte that arrived.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Takes bytes that begin at `seq`. What is known is skipped. A gap is taken only after the beginning: before, the
    /// supervisor still has what is missing, and it will be read.
    pub(super) fn accept(&mut self, seq: u64, bytes: &[u8]) {
        let known = usize::try_from(self.received.saturating_sub(seq)).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else { return };
        if seq > self.received {
            if self.received < HALF {
                return;
            }
            self.whole = None;
            self.tail.clear();
            self.received = seq;
        }
        if let Some(whole) = &mut self.whole {
            whole.update(fresh);
        }
        self.received += fresh.len() as u64;
        let (head, rest) = fresh.split_at(fresh.len().min(HALF as usize - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(HALF as usize)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(HALF as usize);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// The position to read from to have everything that is kept of an output of `total` bytes; `None` when it is here.
    pub(super) fn next_wanted(&self, total: u64) -> Option<u64> {
        if self.received >= total {
            return None;
        }
        if self.received < HALF {
            Some(self.received)
        } else {
            Some(self.received.max(total.saturating_sub(HALF)))
        }
    }

    /// Output from `from` on.
    pub(super) fn since(&self, from: u64) -> Delta {
        let from = from.min(self.received);
        let head_end = self.head.len() as u64;
        let tail_start = self.received - self.tail.len() as u64;
        let skip = |start: u64| usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
        let head = self.head.get(skip(0)..).unwrap_or(&[]).to_vec();
        let tail: Vec<u8> = self.tail.range(skip(tail_start).min(self.tail.len())..).copied().collect();
        let omitted = tail_start.saturating_sub(from.max(head_end));
        if omitted == 0 {
            return Delta { head: [head, tail].concat(), omitted, tail: Vec::new() };
        }
        Delta { head, omitted, tail }
    }

    /// Whether what is here is what the process wrote: all of it by its digest, or, when some is kept nowhere, the
    /// beginning and the end by theirs.
    pub(super) fn agrees_with(&self, record: &ExitRecord) -> bool {
        if self.received != record.bytes {
            return false;
        }
        if let Some(whole) = &self.whole {
            return finish(whole.clone()) == record.sha256;
        }
        let tail_length = usize::try_from(record.tail.end - record.tail.start.min(record.tail.end));
        let Some(skip) = tail_length.ok().and_then(|length| self.tail.len().checked_sub(length)) else {
            return false;
        };
        let mut tail = Sha256::new();
        tail.update(self.tail.range(skip..).copied().collect::<Vec<u8>>());
        record.head.start == 0
            && record.head.end == self.head.len() as u64
            && Digest::of(&self.head) == record.head.sha256
            && record.tail.end == record.bytes
            && finish(tail) == record.tail.sha256
    }
}

impl Delta {
    /// Bytes that the process wrote in this time, kept or not.
    pub fn total(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.omitted
    }
}

fn finish(hash: Sha256) -> Digest {
    Digest::from_bytes(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use podwright_sandboxd::output::OutputRing;
    use podwright_sandboxd::protocol::{EndedBy, Exit};
    use proptest::prelude::*;

    use super::*;

    fn record(ring: &OutputRing) -> ExitRecord {
        ExitRecord {
            exit: Exit::Code(0),
            ended_by: EndedBy::Itself,
            started_at_ms: 0,
            duration_ms: 0,
            bytes: ring.total(),
            sha256: ring.digest(),
            head: ring.head_span(),
            tail: ring.tail_span(),
        }
    }

    /// An output of a length in KiB whose bytes tell their position.
    fn output(kib: usize) -> Vec<u8> {
        (0..kib as u32 * 256).flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect()
    }

    proptest! {
        // A case moves megabytes: fewer than usual.
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(10)))]

        /// Pushed chunks are lost, repeated and late; reading on fills what is kept at the supervisor.
        #[test]
        fn reading_on_always_leads_to_an_output_that_agrees(
            kib in 0_usize..2500,
            pushes in proptest::collection::vec((0_usize..2_500_000, 0_usize..300_000), 0..20),
            from in 0_u64..2_600_000,
        ) {
            let whole = output(kib);
            let mut ring = OutputRing::new(KEEP_BYTES);
            ring.push(&whole);
            let mut transcript = Transcript::default();
            for (at, length) in pushes {
                let at = at.min(whole.len());
                transcript.accept(at as u64, &whole[at..(at + length).min(whole.len())]);
            }
            let mut reads = 0;
            while let Some(wanted) = transcript.next_wanted(ring.total()) {
                let (seq, bytes) = ring.read(wanted, 32 * 1024).unwrap();
                transcript.accept(seq, &bytes);
                reads += 1;
                prop_assert!(reads <= 2 * KEEP_BYTES / (32 * 1024), "more reads than there is output");
            }
            prop_assert!(transcript.agrees_with(&record(&ring)));

            let delta = transcript.since(from);
            let from = (from as usize).min(whole.len());
            prop_assert_eq!(delta.total(), (whole.len() - from) as u64);
            prop_assert!(whole[from..].starts_with(&delta.head) && whole.ends_with(&delta.tail));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_in_head_tail_and_whole() {
        for kib in [100, 2000] {
            let whole = output(kib);
            let mut ring = OutputRing::new(KEEP_BYTES);
            ring.push(&whole);
            for changed in [0, whole.len() - 1] {
                let mut other = whole.clone();
                other[changed] ^= 1;
                let mut transcript = Transcript::default();
                let half = other.len().min(HALF as usize);
                transcript.accept(0, &other[..half]);
                let tail = half.max(other.len().saturating_sub(HALF as usize));
                transcript.accept(tail as u64, &other[tail..]);
                assert_eq!(transcript.received(), whole.len() as u64);
                assert!(!transcript.agrees_with(&record(&ring)), "{kib} KiB, byte {changed}");
            }
        }
    }
}
