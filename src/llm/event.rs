//! What a response tells while it arrives.

use super::{item::ThreadItem, request::Usage};

/// One event of a response, in the order of arrival. A stream ends with [`StreamEvent::Completed`] or
/// with an error; the items completed before an error stay valid and stay in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// The provider accepted the request.
    Created {
        /// Its id for the response, when it gave one.
        response_id: Option<String>,
    },
    /// An item began. Only surfaces need it.
    ItemStarted {
        /// The provider's id of the item, which the deltas repeat; its position when it has none.
        item_id: String,
        /// What it will be.
        kind: ItemKind,
    },
    /// More text of a message.
    TextDelta {
        /// The item.
        item_id: String,
        /// The text to append.
        delta: String,
    },
    /// More reasoning text.
    ReasoningDelta {
        /// The item.
        item_id: String,
        /// The text to append.
        delta: String,
    },
    /// More of a call's arguments or input, as written.
    CallInputDelta {
        /// The item.
        item_id: String,
        /// The text to append.
        delta: String,
    },
    /// An item is whole. If it is a call, it may start now, before the response ends.
    ItemCompleted(Box<ThreadItem>),
    /// The response is whole.
    Completed(Completed),
}

impl StreamEvent {
    /// Bytes of what it brings.
    pub fn size(&self) -> usize {
        match self {
            Self::TextDelta { delta, .. }
            | Self::ReasoningDelta { delta, .. }
            | Self::CallInputDelta { delta, .. } => delta.len(),
            Self::ItemCompleted(item) => item.wire.as_bytes().len(),
            Self::Created { .. } | Self::ItemStarted { .. } | Self::Completed(_) => 0,
        }
    }
}

/// What an item that began will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// A message of the model.
    Message,
    /// Reasoning.
    Reasoning,
    /// A call of a function.
    FunctionCall,
    /// A call of a custom tool.
    CustomCall,
    /// Something that is only replayed.
    Opaque,
}

/// The end of a whole response. Its items came before, each as [`StreamEvent::ItemCompleted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The provider's id for the response, when it gave one.
    pub response_id: Option<String>,
    /// What it cost; a flagged estimate when the provider did not say.
    pub usage: Usage,
    /// `Some(false)`: the model wants another request although it called nothing.
    pub end_turn: Option<bool>,
    /// How many items the response had.
    pub items: usize,
}
