//! A journal on a disk whose newest bytes may be lost: those that were written since the last sync.

use crate::agent::journal::frame::{self, Decoded};
use crate::agent::journal::record::Entry;
use crate::agent::state::State;

#[derive(Default)]
pub(super) struct Disk {
    bytes: Vec<u8>,
    /// What the lines say, each with the place where it ends.
    entries: Vec<(usize, Entry)>,
    /// How many of the bytes are there whatever happens.
    durable: usize,
    /// How many of them a process before has read.
    read: usize,
}

impl Disk {
    /// Writes these entries, or so many bytes of them when the process dies in the middle of that: a number that grows
    /// from 0 to 100 says how far it comes.
    pub(super) fn write(&mut self, entries: Vec<Entry>, of_a_hundred: usize) {
        let begin = self.bytes.len();
        for entry in entries {
            self.bytes.extend(frame::encode_line(&frame::to_json(&entry).unwrap()));
            self.entries.push((self.bytes.len(), entry));
        }
        let written = (self.bytes.len() - begin) * of_a_hundred / 100;
        self.bytes.truncate(begin + written);
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
        self.entries.retain(|(end, _)| *end <= whole);
    }

    /// What is there whatever happens.
    pub(super) fn durable(&self) -> impl Iterator<Item = &Entry> {
        let durable = self.entries.iter().take_while(|(end, _)| *end <= self.durable);
        durable.map(|(_, entry)| entry)
    }

    /// What the next process goes on from. That lines are read as they were written is looked at once.
    pub(super) fn read(&mut self) -> State {
        let news = self.entries.iter().filter(|(end, _)| *end > self.read).map(|(_, entry)| entry);
        let lines = self.bytes[self.read..].split_inclusive(|byte| *byte == b'\n');
        let read = lines.map(|line| match frame::from_json(frame::decode_line(line).unwrap()).unwrap() {
            Decoded::Entry(entry) => *entry,
            Decoded::Skipped { seq } => panic!("record {seq} is unknown to the program that wrote it"),
        });
        assert!(read.collect::<Vec<_>>().iter().eq(news), "what is read is what was written");
        self.read = self.bytes.len();
        for (number, (_, entry)) in (1..).zip(&self.entries) {
            assert_eq!(entry.seq, number, "records are numbered one after the other");
        }
        State::fold(self.entries.iter().map(|(_, entry)| entry)).unwrap()
    }
}
