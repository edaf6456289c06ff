//! Folds the events of one response into items and their end.
//!
//! What is given as an item is whole and stays, whatever happens to the rest of the response, and a call may
//! start at once. Each API has its own rule for when that is: see the modules.

pub mod chat;
mod given;
pub mod messages;
pub mod responses;
mod unescape;

use self::{chat::ChatFold, messages::MessagesFold, responses::ResponsesFold};
use super::{error::ModelError, event::StreamEvent, failure::Asked, wire::Wire};

/// Whether an event shows that the response goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The response went on: the idle timer starts again.
    Advanced,
    /// The event says nothing about the response, like a ping.
    None,
    /// The response is whole; nothing more is to be read.
    Finished,
}

/// The state of one response.
#[derive(Debug)]
pub enum Fold {
    /// Of the Responses API.
    Responses(ResponsesFold),
    /// Of the Chat Completions API.
    Chat(Box<ChatFold>),
    /// Of the Messages API.
    Messages(Box<MessagesFold>),
}

impl Fold {
    /// Begins a response. `custom_as_function` names the custom tools that were declared as functions,
    /// `request_bytes` is the size of the request's body for estimates.
    pub fn new(asked: Asked, custom_as_function: Vec<String>, request_bytes: u64) -> Self {
        match asked.wire {
            Wire::Responses => Self::Responses(ResponsesFold::new(asked, custom_as_function, request_bytes)),
            Wire::Chat => Self::Chat(Box::new(ChatFold::new(asked, custom_as_function, request_bytes))),
            Wire::Messages => {
                Self::Messages(Box::new(MessagesFold::new(asked, custom_as_function, request_bytes)))
            }
        }
    }

    /// Tells that the model has called tools through this server before: what looks like a call in its
    /// words is then only words.
    #[must_use]
    pub fn after_calls(mut self, has_calls: bool) -> Self {
        match &mut self {
            Self::Chat(fold) => fold.after_calls(has_calls),
            Self::Responses(_) | Self::Messages(_) => {}
        }
        self
    }

    /// What was asked.
    pub fn asked(&self) -> &Asked {
        match self {
            Self::Responses(fold) => fold.asked(),
            Self::Chat(fold) => fold.asked(),
            Self::Messages(fold) => fold.asked(),
        }
    }

    /// Takes the data of one event and appends what it tells to `events`.
    ///
    /// # Errors
    /// When the provider reports a failure, and when an item cannot be understood. What was appended
    /// before stays valid.
    pub fn event(&mut self, data: &[u8], events: &mut Vec<StreamEvent>) -> Result<Progress, ModelError> {
        match self {
            Self::Responses(fold) => fold.event(data, events),
            Self::Chat(fold) => fold.event(data, events),
            Self::Messages(fold) => fold.event(data, events),
        }
    }

    /// Whether nothing of the response is missing but the stream's own end, so that an end of any kind will do.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Responses(_) => false,
            Self::Chat(fold) => fold.is_whole(),
            Self::Messages(fold) => fold.is_whole(),
        }
    }

    /// The stream ended, or broke for the reason given, before the response's last event.
    ///
    /// # Errors
    /// When the response was not whole by then.
    pub fn ended(&mut self, reason: &str, events: &mut Vec<StreamEvent>) -> Result<(), ModelError> {
        match self {
            Self::Responses(fold) => Err(fold.broken(reason)),
            Self::Chat(fold) => fold.ended(reason, events),
            Self::Messages(fold) => fold.ended(reason, events),
        }
    }
}

#[cfg(test)]
mod tests;
