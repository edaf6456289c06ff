//! The history of a thread: append-only, every item with the bytes by which it is replayed.
//!
//! Two invariants hold after every append. *Pairing*: every call is answered by exactly one output, the
//! outputs come in the order of their calls, and nothing but the model's own items stands between a call
//! and its output. *Prefix*: what was sent once is sent again, byte for byte, before anything newer.
//!
//! What is sent is a *window*: the layers that the thread began with, and what came since the newest compaction.
//! The prefix holds within a window. Items of earlier windows stay where they are, for the transcript and for
//! whoever asks what a session began with.

mod units;

use std::collections::{HashSet, VecDeque};

use thiserror::Error;

use crate::llm::wire::{Assembly, Fragment, Place};
use crate::llm::{Capabilities, Images, Input, Item, Role, ThreadItem, Wire, tokens};

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
    /// Whether only instructions of the harness came in this window, and no request was sent.
    leading: bool,
    /// Where each window's own items begin. The first begins after the layers.
    windows: Vec<usize>,
    /// Where what this window began with ends.
    base: usize,
    /// The place of the item that is the first message of this window, before the layers that are messages.
    first: Option<usize>,
    /// How many items each request held, in their order.
    sealed: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    item: ThreadItem,
    /// Bytes of it that are sent; none of an item that the model does not take back.
    sent: u64,
    /// The images in it that are sent.
    images: Images,
    leading: bool,
    /// The id by which a call and its output go, where it is not the provider's own.
    call_id: Option<String>,
    /// Whether the server refused it, so that it is sent no more.
    is_left_out: bool,
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
            windows: vec![0],
            base: 0,
            first: None,
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
        self.leading &= is_instruction(&item.item);
        let (entry, fragment) = self.weigh(item, self.leading, call_id);
        self.entries.push(entry);
        if let Some(fragment) = fragment {
            self.assembly.push(fragment);
        }
        Ok(ordinal)
    }

    /// Everything so far are the layers that every window begins with.
    pub fn keep_layers(&mut self) {
        self.windows = vec![self.entries.len()];
        self.base = self.entries.len();
    }

    /// Begins another window, which holds the layers and what is appended from now on. `first` is appended at once, as
    /// the first message, before the layers that are messages.
    ///
    /// # Errors
    /// [`PairingError::CallsOpen`] while a call has no output; history is unchanged then.
    pub fn begin_window(&mut self, first: Option<ThreadItem>) -> Result<(), PairingError> {
        if !self.open.is_empty() {
            return Err(PairingError::CallsOpen(self.open.len()));
        }
        let start = self.entries.len();
        self.first = first.is_some().then_some(start);
        if let Some(item) = first {
            let (entry, _) = self.weigh(item, false, None);
            self.entries.push(entry);
        }
        self.assembly = self.layers();
        self.leading =
            self.entries.iter().take(self.layer_count()).all(|entry| is_instruction(&entry.item.item));
        self.windows.push(start);
        self.base = self.entries.len();
        Ok(())
    }

    /// Whether the item at a place is sent before the layers that are messages.
    pub fn leads(&self, ordinal: usize) -> bool {
        self.first == Some(ordinal)
    }

    /// Everything so far is what this window began with.
    pub fn end_base(&mut self) {
        self.base = self.entries.len();
    }

    /// What a request sends: the bytes of every item that the model takes back, in order.
    ///
    /// # Errors
    /// [`PairingError::CallsOpen`] while a call has no output.
    pub fn input(&self) -> Result<Input, PairingError> {
        if !self.open.is_empty() {
            return Err(PairingError::CallsOpen(self.open.len()));
        }
        Ok(self.told(self.assembly.input()))
    }

    /// Whether a request would end with a message of the model's that none has ended with yet. Never on an API whose items
    /// are in no messages.
    pub fn ends_with_the_model(&self) -> bool {
        self.assembly.ends_with_the_model()
    }

    /// The reasoning of the model's that nothing of the model's follows, when there is one at the end. Some servers make
    /// a reasoning item together with what follows it, and refuse the one without the other.
    pub fn dangling_reasoning(&self) -> Option<u64> {
        let mut sent = self.entries.iter().enumerate().rev().filter(|(_, entry)| entry.sent > 0);
        let (ordinal, entry) = sent.find(|(_, entry)| !is_message_to_model(&entry.item.item))?;
        let dangles = self.wire == Wire::Responses && matches!(entry.item.item, Item::Reasoning(_));
        dangles.then_some(ordinal as u64)
    }

    /// Sends an item of [`History::dangling_reasoning`] no more. It keeps its place in history.
    pub fn leave_out(&mut self, ordinal: u64) {
        let entry = usize::try_from(ordinal).ok().and_then(|ordinal| self.entries.get_mut(ordinal));
        let Some(entry) = entry.filter(|entry| entry.sent > 0) else { return };
        entry.sent = 0;
        entry.is_left_out = true;
        self.assembly.leave_out(entry.item.wire.as_bytes());
    }

    /// Whether the item at a place is sent no more, since the provider refused it.
    pub fn is_left_out(&self, ordinal: usize) -> bool {
        self.entries.get(ordinal).is_some_and(|entry| entry.is_left_out)
    }

    /// Where the messages to the model begin that no request of this window has held yet, behind all outputs.
    pub fn unsent_messages(&self) -> usize {
        let sent = self.sealed.last().map_or(self.entries.len(), |sent| self.base.max(*sent));
        let unsent = self.entries.iter().skip(sent).rev();
        let messages = unsent.take_while(|entry| is_message_to_model(&entry.item.item));
        self.entries.len() - messages.count()
    }

    /// What a request sends that ends with an item which does not become part of history, such as the one that asks
    /// for a compaction. What comes from `end` on stays away, which are at most the [`History::unsent_messages`], and
    /// `left_out` units of what is before, see [`History::units`]; with none it begins with the bytes of the request
    /// before.
    ///
    /// # Errors
    /// [`PairingError::CallsOpen`] while a call has no output.
    pub fn input_with(
        &self,
        last: Option<&ThreadItem>,
        end: usize,
        left_out: usize,
    ) -> Result<Input, PairingError> {
        if !self.open.is_empty() {
            return Err(PairingError::CallsOpen(self.open.len()));
        }
        let mut assembly = if left_out == 0 { self.before(end) } else { self.without(left_out, end) };
        let fragment = last.and_then(|last| self.wire.fragment(last, Place::default(), &self.capabilities));
        if let Some(fragment) = fragment {
            assembly.push(fragment);
        }
        Ok(self.told(assembly.input()))
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

    /// The item at a place, with its bytes.
    pub fn item(&self, ordinal: usize) -> Option<&ThreadItem> {
        self.entries.get(ordinal).map(|entry| &entry.item)
    }

    /// All items with their bytes, in order, those of earlier windows too.
    pub fn items(&self) -> impl Iterator<Item = &ThreadItem> {
        self.entries.iter().map(|entry| &entry.item)
    }

    /// The items of this window, in order.
    pub fn window(&self) -> impl Iterator<Item = &ThreadItem> {
        self.window_entries().map(|entry| &entry.item)
    }

    /// Messages with what else there is to know of them. That the model can call was shown in whichever window it did.
    fn told(&self, mut input: Input) -> Input {
        input.images = self.window_images();
        input.has_calls = self.entries.iter().any(|entry| entry.item.item.is_call());
        input
    }

    /// The images of this window that are sent.
    fn window_images(&self) -> Images {
        let mut images = Images::default();
        self.window_entries().for_each(|entry| images += entry.images);
        images
    }

    fn window_entries(&self) -> impl Iterator<Item = &Entry> {
        let (layers, own) = (self.layer_count(), self.window_start());
        self.entries.iter().take(layers).chain(self.entries.iter().skip(own))
    }

    /// Where each window's own items begin, the first window's after the layers.
    pub fn windows(&self) -> &[usize] {
        &self.windows
    }

    /// Number of the window that a compaction begins; the thread's first has the number 1.
    pub fn next_window(&self) -> u32 {
        u32::try_from(self.windows.len() + 1).unwrap_or(u32::MAX)
    }

    /// Whether the model has said anything in this window. If not, a compaction has nothing to sum up.
    pub fn has_answers(&self) -> bool {
        self.entries.iter().skip(self.base).any(|entry| entry.item.item.is_the_models())
    }

    /// How many items there are, in all windows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the items from a place on, as they are sent, for estimates: an image is taken for a constant.
    pub fn bytes_from(&self, ordinal: usize) -> u64 {
        self.entries.iter().skip(ordinal).map(|entry| entry.images.counted(entry.sent)).sum()
    }

    /// Estimated tokens of one item.
    pub fn tokens(&self, ordinal: usize) -> u64 {
        self.entries.get(ordinal).map_or(0, Entry::tokens)
    }

    /// Estimated tokens of the items from a place on.
    pub fn tokens_from(&self, ordinal: usize) -> u64 {
        self.entries.iter().skip(ordinal).map(Entry::tokens).sum()
    }

    /// Estimated tokens of this window's items.
    pub fn window_tokens(&self) -> u64 {
        self.window_entries().map(Entry::tokens).sum()
    }

    /// How many items are layers.
    pub fn layer_count(&self) -> usize {
        self.windows.first().copied().unwrap_or(0)
    }

    /// Where this window's own items begin.
    fn window_start(&self) -> usize {
        self.windows.last().copied().unwrap_or(0)
    }

    /// The window's messages without those from `end` on, which are not sealed.
    fn before(&self, end: usize) -> Assembly {
        let away = self.entries.iter().skip(end).filter(|entry| self.fragment(entry).is_some());
        let mut assembly = self.assembly.clone();
        assembly.take_back(away.count());
        assembly
    }

    /// The messages of the layers alone, with what is to be the first message.
    fn layers(&self) -> Assembly {
        let mut assembly = Assembly::new(self.wire, self.capabilities);
        let layers = self.entries.get(..self.layer_count()).unwrap_or_default();
        let instructions = layers.iter().take_while(|entry| is_instruction(&entry.item.item)).count();
        let (instructions, messages) = layers.split_at(instructions);
        let first = self.first.and_then(|first| self.entries.get(first));
        let layers = instructions.iter().chain(first).chain(messages);
        layers.filter_map(|entry| self.fragment(entry)).for_each(|fragment| assembly.push(fragment));
        assembly
    }

    fn fragment(&self, entry: &Entry) -> Option<Fragment> {
        if entry.is_left_out {
            return None;
        }
        let place = Place { leading: entry.leading, call_id: entry.call_id.as_deref() };
        self.wire.fragment(&entry.item, place, &self.capabilities)
    }

    /// An item as it is kept, with what of it is sent.
    fn weigh(&self, item: ThreadItem, leading: bool, call_id: Option<String>) -> (Entry, Option<Fragment>) {
        let mut entry =
            Entry { item, sent: 0, images: Images::default(), leading, call_id, is_left_out: false };
        let fragment = self.fragment(&entry);
        entry.sent = fragment.as_ref().map_or(0, Fragment::size) as u64;
        if self.capabilities.image_input && fragment.is_some() {
            entry.images = Images::of(&entry.item.item);
        }
        (entry, fragment)
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

impl Entry {
    /// Estimated tokens of what of it is sent, an image by a constant.
    fn tokens(&self) -> u64 {
        tokens(self.images.counted(self.sent))
    }
}

fn is_message_to_model(item: &Item) -> bool {
    matches!(item, Item::Message(message) if message.role != Role::Assistant)
}

fn is_instruction(item: &Item) -> bool {
    matches!(item, Item::Message(message) if message.role == Role::Developer)
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
