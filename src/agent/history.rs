//! The history of a thread: append-only, every item with the bytes by which it is replayed.
//!
//! Two invariants hold after every append. *Pairing*: every call is answered by exactly one output, the
//! outputs come in the order of their calls, and nothing but the model's own items stands between a call
//! and its output. *Prefix*: what was sent once is sent again, byte for byte, before anything newer.

use std::collections::VecDeque;

use bytes::Bytes;
use thiserror::Error;

use crate::llm::{Capabilities, Item, Role, ThreadItem, Wire};

/// Why an item cannot be appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PairingError {
    /// The output answers another call than the oldest open one, or none is open.
    #[error("the output for call {got:?} does not answer the oldest open call {expected:?}")]
    WrongOutput {
        /// The oldest open call's id.
        expected: Option<String>,
        /// The output's.
        got: String,
    },
    /// A message of the user or the harness came while calls are open.
    #[error("a message cannot come before the outputs of {0} open calls")]
    CallsOpen(usize),
}

/// The items of a thread.
#[derive(Clone, Debug)]
pub struct History {
    wire: Wire,
    capabilities: Capabilities,
    entries: Vec<Entry>,
    open: VecDeque<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    item: ThreadItem,
    /// What of it is sent; nothing for an item that the model does not take back.
    fragment: Option<Bytes>,
}

impl History {
    /// An empty history for a model behind an API.
    pub fn new(wire: Wire, capabilities: Capabilities) -> Self {
        Self { wire, capabilities, entries: Vec::new(), open: VecDeque::new() }
    }

    /// Appends an item and gives its place, from 0.
    ///
    /// # Errors
    /// [`PairingError`] when it would break the pairing; history is unchanged then.
    pub fn append(&mut self, item: ThreadItem) -> Result<usize, PairingError> {
        let ordinal = self.entries.len();
        match &item.item {
            Item::FunctionCall(_) | Item::CustomCall(_) => self.open.push_back(ordinal),
            Item::FunctionCallOutput(output) | Item::CustomCallOutput(output) => {
                let expected = self.open.front().and_then(|open| self.get(*open));
                if !expected.is_some_and(|call| answers(&item.item, call)) {
                    let expected = expected.and_then(Item::call_id).map(str::to_owned);
                    return Err(PairingError::WrongOutput { expected, got: output.call_id.clone() });
                }
                self.open.pop_front();
            }
            Item::Message(message) if message.role != Role::Assistant && !self.open.is_empty() => {
                return Err(PairingError::CallsOpen(self.open.len()));
            }
            Item::Message(_) | Item::Reasoning(_) | Item::Opaque(_) => {}
        }
        let fragment = self.wire.fragment(&item, &self.capabilities);
        self.entries.push(Entry { item, fragment });
        Ok(ordinal)
    }

    /// What a request sends: the bytes of every item that the model takes back, in order.
    ///
    /// # Errors
    /// [`PairingError::CallsOpen`] while a call has no output.
    pub fn input(&self) -> Result<Vec<Bytes>, PairingError> {
        if !self.open.is_empty() {
            return Err(PairingError::CallsOpen(self.open.len()));
        }
        Ok(self.entries.iter().filter_map(|entry| entry.fragment.clone()).collect())
    }

    /// The item at a place.
    pub fn get(&self, ordinal: usize) -> Option<&Item> {
        self.entries.get(ordinal).map(|entry| &entry.item.item)
    }

    /// All items with their bytes, in order.
    pub fn items(&self) -> impl Iterator<Item = &ThreadItem> {
        self.entries.iter().map(|entry| &entry.item)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the items from a place on, as they are sent.
    pub fn bytes_from(&self, ordinal: usize) -> u64 {
        let fragments = self.entries.iter().skip(ordinal).filter_map(|entry| entry.fragment.as_ref());
        fragments.map(|fragment| fragment.len() as u64).sum()
    }
}

fn answers(output: &Item, call: &Item) -> bool {
    match (output, call) {
        (Item::FunctionCallOutput(output), Item::FunctionCall(call)) => output.call_id == call.call_id,
        (Item::CustomCallOutput(output), Item::CustomCall(call)) => output.call_id == call.call_id,
        (
            Item::Message(_)
            | Item::Reasoning(_)
            | Item::FunctionCall(_)
            | Item::CustomCall(_)
            | Item::FunctionCallOutput(_)
            | Item::CustomCallOutput(_)
            | Item::Opaque(_),
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests;
