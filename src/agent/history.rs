//! The history of a thread: append-only, every item with the bytes by which it is replayed.
//!
//! Two invariants hold after every append. *Pairing*: every call is answered by exactly one output, the
//! outputs come in the order of their calls, and nothing but the model's own items stands between a call
//! and its output. *Prefix*: what was sent once is sent again, byte for byte, before anything newer.

use std::collections::{HashSet, VecDeque};

use thiserror::Error;

use crate::llm::wire::{Assembly, Fragment, Place};
use crate::llm::{Capabilities, Input, Item, Role, ThreadItem, Wire};

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
    /// Calls without output, and the ids by which they go where those are not the provider's own.
    open: VecDeque<(usize, Option<String>)>,
    assembly: Assembly,
    /// Ids by which calls go.
    call_ids: HashSet<String>,
    /// Whether only instructions of the harness came, and no request was sent.
    leading: bool,
    /// How many items each request held, in their order.
    sealed: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    item: ThreadItem,
    /// Bytes of it that are sent; none of an item that the model does not take back.
    sent: usize,
}

impl History {
    /// An empty history for a model behind an API.
    pub fn new(wire: Wire, capabilities: Capabilities) -> Self {
        Self {
            wire,
            capabilities,
            entries: Vec::new(),
            open: VecDeque::new(),
            assembly: Assembly::new(wire, capabilities),
            call_ids: HashSet::new(),
            leading: true,
            sealed: Vec::new(),
        }
    }

    /// Appends an item and gives its place, from 0.
    ///
    /// # Errors
    /// [`PairingError`] when it would break the pairing; history is unchanged then.
    pub fn append(&mut self, item: ThreadItem) -> Result<usize, PairingError> {
        let ordinal = self.entries.len();
        let call_id = match &item.item {
            Item::FunctionCall(_) | Item::CustomCall(_) => {
                let id = self.call_id(ordinal, item.item.call_id().unwrap_or_default());
                self.open.push_back((ordinal, id.clone()));
                id
            }
            Item::FunctionCallOutput(output) | Item::CustomCallOutput(output) => {
                let expected = self.open.front().and_then(|(open, _)| self.get(*open));
                if !expected.is_some_and(|call| answers(&item.item, call)) {
                    let expected = expected.and_then(Item::call_id).map(str::to_owned);
                    return Err(PairingError::WrongOutput { expected, got: output.call_id.clone() });
                }
                self.open.pop_front().and_then(|(_, id)| id)
            }
            Item::Message(message) if message.role != Role::Assistant && !self.open.is_empty() => {
                return Err(PairingError::CallsOpen(self.open.len()));
            }
            Item::Message(_) | Item::Reasoning(_) | Item::Opaque(_) => None,
        };
        self.leading &= matches!(&item.item, Item::Message(message) if message.role == Role::Developer);
        let place = Place { leading: self.leading, call_id: call_id.as_deref() };
        let fragment = self.wire.fragment(&item, place, &self.capabilities);
        self.entries.push(Entry { item, sent: fragment.as_ref().map_or(0, Fragment::size) });
        if let Some(fragment) = fragment {
            self.assembly.push(fragment);
        }
        Ok(ordinal)
    }

    /// What a request sends: the bytes of every item that the model takes back, in order.
    ///
    /// # Errors
    /// [`PairingError::CallsOpen`] while a call has no output.
    pub fn input(&self) -> Result<Input, PairingError> {
        if !self.open.is_empty() {
            return Err(PairingError::CallsOpen(self.open.len()));
        }
        Ok(self.assembly.input())
    }

    /// A request with everything so far was sent: what comes later never changes its messages.
    pub fn seal(&mut self) {
        self.leading = false;
        if self.sealed.last() != Some(&self.entries.len()) {
            self.sealed.push(self.entries.len());
        }
        self.assembly.seal();
    }

    /// How many items each request held, in their order; a repeated one is not repeated here.
    pub fn sealed(&self) -> &[usize] {
        &self.sealed
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
        self.entries.iter().skip(ordinal).map(|entry| entry.sent as u64).sum()
    }

    /// The id by which a call goes, where it is not the provider's own: several servers repeat ids or leave
    /// them out. Nine letters and digits, as the strictest of them wants, and made of the call's place, so
    /// that it is the same whenever history is read again.
    fn call_id(&mut self, ordinal: usize, own: &str) -> Option<String> {
        if self.wire.takes_call_id(own) && self.call_ids.insert(own.to_owned()) {
            return None;
        }
        let mut ids = ('a'..='z').map(|letter| format!("{letter}{ordinal:08}"));
        // That a provider used all twenty-six for calls of its own does not happen.
        let id = ids.find(|id| !self.call_ids.contains(id))?;
        self.call_ids.insert(id.clone());
        Some(id)
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
