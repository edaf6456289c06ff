//! Keeps the beginning and the end of an output of any length.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

use crate::protocol::{Digest, Span};

/// The first and the last bytes of an output, the count of all, and the digest of all.
///
/// Positions count bytes from the start of the output. Memory grows with the output up to the bound given,
/// never beyond.
#[derive(Debug, Clone)]
pub struct OutputRing {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    hash: Sha256,
}

impl OutputRing {
    /// An empty output of which at most `keep` bytes will be kept: half the beginning, half the end.
    pub fn new(keep: usize) -> Self {
        Self { half: keep / 2, head: Vec::new(), tail: VecDeque::new(), total: 0, hash: Sha256::new() }
    }

    /// Appends output.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.hash.update(bytes);
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.half)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.half);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// Bytes of output so far, kept or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are no longer kept.
    pub fn omitted(&self) -> u64 {
        self.tail_start() - self.head.len() as u64
    }

    /// Bytes that are kept, the beginning and the end, to be read one after the other.
    pub fn kept(&self) -> (&[u8], (&[u8], &[u8])) {
        (&self.head, self.tail.as_slices())
    }

    /// At most `max` bytes from position `from` on, and the position of the first: higher than `from` when
    /// what lies there is no longer kept. `None` at the end.
    pub fn read(&self, from: u64, max: usize) -> Option<(u64, Vec<u8>)> {
        if from >= self.total || max == 0 {
            return None;
        }
        if let Some(rest) =
            usize::try_from(from).ok().and_then(|at| self.head.get(at..)).filter(|r| !r.is_empty())
        {
            return Some((from, rest[..rest.len().min(max)].to_vec()));
        }
        let start = from.max(self.tail_start());
        let skip = usize::try_from(start - self.tail_start()).ok()?;
        let (front, back) = self.tail.as_slices();
        let (first, second) = match front.get(skip..) {
            Some(first) => (first, back),
            None => (&back[skip - front.len()..], &[][..]),
        };
        let mut bytes = first[..first.len().min(max)].to_vec();
        bytes.extend_from_slice(&second[..second.len().min(max - bytes.len())]);
        Some((start, bytes))
    }

    /// Digest of the whole output so far.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.clone().finalize().into())
    }

    /// The beginning that is kept.
    pub fn head_span(&self) -> Span {
        Span { start: 0, end: self.head.len() as u64, sha256: Digest::of(&self.head) }
    }

    /// The end that is kept.
    pub fn tail_span(&self) -> Span {
        let (front, back) = self.tail.as_slices();
        let mut hash = Sha256::new();
        hash.update(front);
        hash.update(back);
        Span { start: self.tail_start(), end: self.total, sha256: Digest::from_bytes(hash.finalize().into()) }
    }

    fn tail_start(&self) -> u64 {
        self.total - self.tail.len() as u64
    }
}

#[cfg(test)]
mod tests;
