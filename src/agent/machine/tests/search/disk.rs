//! A journal on a disk whose newest bytes may be lost: those that were written since the last sync.

use crate::agent::journal::frame::{self, Decoded};
use crate::agent::journal::record::Entry;
use crate::agent::state::State;

#[derive(Default)]
pub(super) struct Disk {
    bytes: Vec<u8>,
    /// How many of them are there whatever happens.
    durable: usize,
}

impl Disk {
    /// The lines of these entries.
    pub(super) fn lines(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(|entry| frame::encode_line(&frame::to_json(entry).unwrap())).collect()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.bytes.len();
    }

    /// How many bytes may be lost.
    pub(super) fn at_risk(&self) -> usize {
        self.bytes.len() - self.durable
    }

    /// Loses so many of the newest bytes, and then what is left of a line that is not whole any more.
    pub(super) fn lose(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len() - count.min(self.at_risk()));
        let whole = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        assert!(whole >= self.durable, "a sync ends with a whole line");
        self.bytes.truncate(whole);
        self.sync();
    }

    /// What is there whatever happens.
    pub(super) fn durable(&self) -> Vec<Entry> {
        entries(&self.bytes[..self.durable])
    }

    /// What the next process goes on from.
    pub(super) fn read(&self) -> State {
        let entries = entries(&self.bytes);
        for (number, entry) in (1..).zip(&entries) {
            assert_eq!(entry.seq, number, "records are numbered one after the other");
        }
        State::fold(&entries).unwrap()
    }
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| match frame::from_json(frame::decode_line(line).unwrap()).unwrap() {
            Decoded::Entry(entry) => *entry,
            Decoded::Skipped { seq } => panic!("record {seq} is unknown to the program that wrote it"),
        })
        .collect()
}
