//! What a response has given so far, and the end that it comes to.

use crate::llm::{
    event::{Completed, StreamEvent},
    item::ThreadItem,
    request::Usage,
};

/// The items of one response that were given.
#[derive(Debug)]
pub(super) struct Given {
    /// The size of the request's body, for an estimate of its usage.
    request_bytes: u64,
    items: usize,
    /// The size of all items, for the same.
    bytes: u64,
    has_call: bool,
}

impl Given {
    pub(super) fn new(request_bytes: u64) -> Self {
        Self { request_bytes, items: 0, bytes: 0, has_call: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items == 0
    }

    pub(super) fn has_call(&self) -> bool {
        self.has_call
    }

    /// An item is whole.
    pub(super) fn give(&mut self, item: ThreadItem, events: &mut Vec<StreamEvent>) {
        self.items += 1;
        self.bytes += item.wire.as_bytes().len() as u64;
        self.has_call |= item.item.is_call();
        events.push(StreamEvent::ItemCompleted(Box::new(item)));
    }

    /// What the response cost: an estimate where the provider does not tell.
    pub(super) fn cost(&self, told: Option<Usage>) -> Usage {
        told.unwrap_or_else(|| Usage::estimate(self.request_bytes, self.bytes))
    }

    /// The response is whole; `usage` is what the provider tells of its cost.
    pub(super) fn completed(
        &self,
        response_id: Option<String>,
        usage: Option<Usage>,
        end_turn: Option<bool>,
    ) -> StreamEvent {
        let (usage, items) = (self.cost(usage), self.items);
        StreamEvent::Completed(Completed { response_id, usage, end_turn, items })
    }
}
