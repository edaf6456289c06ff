//! Items of a response while they arrive, for surfaces that show them before they are whole.

use std::collections::VecDeque;

use super::{DeltaKind, Event, ItemDetails, ItemStatus, ThreadEventItem};
use crate::llm::{ItemKind, StreamEvent};

/// Items that have begun and are not whole, in the order in which they began: in this order they become whole.
#[derive(Debug, Default)]
pub struct Streaming {
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    /// The provider's id, which the deltas repeat.
    item_id: String,
    /// The place in history that it will have.
    ordinal: u64,
}

impl Streaming {
    /// What surfaces are told of a part of a response. `next` is the place in history of the next item that becomes
    /// whole. The ends of items and responses are told otherwise.
    pub fn part(&mut self, part: StreamEvent, next: u64) -> Option<Event> {
        let (item_id, kind, delta) = match part {
            StreamEvent::ItemStarted { item_id, kind } => return self.started(item_id, kind, next),
            StreamEvent::TextDelta { item_id, delta } => (item_id, DeltaKind::Text, delta),
            StreamEvent::ReasoningDelta { item_id, delta } => (item_id, DeltaKind::Reasoning, delta),
            StreamEvent::CallInputDelta { item_id, delta } => (item_id, DeltaKind::Input, delta),
            StreamEvent::Created { .. } | StreamEvent::ItemCompleted(_) | StreamEvent::Completed(_) => {
                return None;
            }
        };
        // Several servers give two items of a response one id: the newer one grows.
        let open = self.open.iter().rfind(|open| open.item_id == item_id)?;
        Some(Event::ItemDelta { item_id: ThreadEventItem::id(open.ordinal), kind, delta })
    }

    /// The oldest item is whole.
    pub fn whole(&mut self) {
        self.open.pop_front();
    }

    /// The response is over: what did not become whole never will.
    pub fn over(&mut self) -> Vec<Event> {
        self.open.drain(..).map(|open| unfinished(open.ordinal)).collect()
    }

    fn started(&mut self, item_id: String, kind: ItemKind, next: u64) -> Option<Event> {
        let ordinal = next + self.open.len() as u64;
        self.open.push_back(Open { item_id, ordinal });
        let details = match kind {
            ItemKind::Message => ItemDetails::AgentMessage { text: String::new() },
            ItemKind::Reasoning => ItemDetails::Reasoning { text: String::new() },
            // Calls are shown when they run.
            ItemKind::FunctionCall | ItemKind::CustomCall | ItemKind::Opaque => return None,
        };
        Some(Event::ItemStarted { item: ThreadEventItem::new(ordinal, details) })
    }
}

/// The end of an item that never became whole. The item that takes its place has its id.
pub fn unfinished(ordinal: u64) -> Event {
    let details = ItemDetails::Unfinished { status: ItemStatus::Failed };
    Event::ItemCompleted { item: ThreadEventItem::new(ordinal, details) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(item_id: &str, kind: ItemKind) -> StreamEvent {
        StreamEvent::ItemStarted { item_id: item_id.into(), kind }
    }

    fn words(item_id: &str, delta: &str) -> StreamEvent {
        StreamEvent::TextDelta { item_id: item_id.into(), delta: delta.into() }
    }

    fn id(event: Option<Event>) -> String {
        match event.unwrap() {
            Event::ItemStarted { item } | Event::ItemCompleted { item } => item.id,
            Event::ItemDelta { item_id, .. } => item_id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_item_has_one_id_from_its_start_to_its_end() {
        let mut streaming = Streaming::default();
        assert_eq!(id(streaming.part(began("rs", ItemKind::Reasoning), 5)), "item_5");
        assert_eq!(id(streaming.part(began("m", ItemKind::Message), 5)), "item_6");
        assert_eq!(id(streaming.part(words("rs", "hm"), 5)), "item_5");
        streaming.whole();
        assert_eq!(id(streaming.part(words("m", "he"), 6)), "item_6");
        assert_eq!(streaming.part(began("c", ItemKind::FunctionCall), 6), None);
        let input = StreamEvent::CallInputDelta { item_id: "c".into(), delta: "{".into() };
        assert_eq!(id(streaming.part(input, 6)), "item_7");
        assert_eq!(streaming.part(words("unknown", "x"), 6), None);
        let over: Vec<String> = streaming.over().into_iter().map(|event| id(Some(event))).collect();
        assert_eq!(over, ["item_6", "item_7"]);
        assert!(streaming.over().is_empty());
    }
}
