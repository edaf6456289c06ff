//! Puts what the items of a thread gave into the messages of a request.
//!
//! Several items may share a message: on Chat Completions and Messages a response is one message with all
//! its calls. A message that was sent is sealed; whatever comes later is in a new one, so that each request
//! begins with the one before it, byte for byte.

use bytes::Bytes;

use super::{Capabilities, Fragment, Part, Wire};
use crate::llm::request::Input;

/// Who speaks in a message, as far as their order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    User,
    Assistant,
    Tool,
    /// No message of a conversation, but an item by itself.
    Nobody,
}

/// The messages of a thread.
#[derive(Clone, Debug)]
pub struct Assembly {
    wire: Wire,
    capabilities: Capabilities,
    /// What was sent.
    sealed: Vec<Bytes>,
    speaker: Option<Speaker>,
    /// How many messages the newest request had, and the one before it with fewer.
    newest: usize,
    previous: usize,
    /// What comes with the next request.
    open: Vec<Fragment>,
    /// The instructions that stand beside the messages, where they do.
    system: Vec<Bytes>,
}

impl Assembly {
    /// No messages yet.
    pub fn new(wire: Wire, capabilities: Capabilities) -> Self {
        Self {
            wire,
            capabilities,
            sealed: Vec::new(),
            speaker: None,
            newest: 0,
            previous: 0,
            open: Vec::new(),
            system: Vec::new(),
        }
    }

    /// Adds what an item gave.
    pub fn push(&mut self, fragment: Fragment) {
        if self.wire == Wire::Messages && fragment.part == Part::System {
            self.system.push(fragment.bytes);
        } else {
            self.open.push(fragment);
        }
    }

    /// Takes back the newest pieces, none of which was sent.
    pub fn take_back(&mut self, pieces: usize) {
        self.open.truncate(self.open.len().saturating_sub(pieces));
    }

    /// Whether a request with everything so far would end with a message of the model's that none has ended with yet.
    pub fn ends_with_the_model(&self) -> bool {
        self.messages().last().is_some_and(|(speaker, _)| *speaker == Speaker::Assistant)
    }

    /// A request with everything so far was sent.
    pub fn seal(&mut self) {
        let messages = self.messages();
        self.open.clear();
        if let Some((speaker, _)) = messages.last() {
            self.speaker = Some(*speaker);
            self.sealed.extend(messages.into_iter().map(|(_, bytes)| bytes));
            self.previous = self.newest;
            self.newest = self.sealed.len();
        }
    }

    /// The messages of a request with everything so far; whoever knows the items adds what they tell beside.
    pub fn input(&self) -> Input {
        let mut messages = self.sealed.clone();
        messages.extend(self.messages().into_iter().map(|(_, bytes)| bytes));
        let previous = if messages.len() > self.newest { self.newest } else { self.previous };
        Input { system: self.system.clone(), messages, previous, ..Input::default() }
    }

    /// Takes out an element that the provider refuses, where items are elements by themselves. It is the one change of
    /// what was sent before.
    pub fn leave_out(&mut self, element: &Bytes) {
        if self.wire != Wire::Responses {
            return;
        }
        if let Some(place) = self.open.iter().rposition(|fragment| fragment.bytes == *element) {
            self.open.remove(place);
        } else if let Some(place) = self.sealed.iter().rposition(|sealed| sealed == element) {
            self.sealed.remove(place);
            self.newest = self.newest.min(self.sealed.len());
            self.previous = self.previous.min(self.newest);
        }
    }

    /// The messages that are not sealed.
    fn messages(&self) -> Vec<(Speaker, Bytes)> {
        let messages = match self.wire {
            Wire::Responses => {
                super::responses::items(&self.open).into_iter().map(|item| (Speaker::Nobody, item)).collect()
            }
            Wire::Chat => super::chat::messages(&self.open, &self.capabilities),
            Wire::Messages => super::messages::messages(&self.open),
        };
        if !self.capabilities.strict_alternation {
            return messages;
        }
        let mut alternating = Vec::with_capacity(messages.len());
        let mut before = self.speaker;
        for (speaker, bytes) in messages {
            alternating.extend(filler(self.wire, before, speaker));
            before = Some(speaker);
            alternating.push((speaker, bytes));
        }
        alternating
    }
}

/// What has to stand between two messages that may not follow one another.
fn filler(wire: Wire, before: Option<Speaker>, after: Speaker) -> Option<(Speaker, Bytes)> {
    let (speaker, bytes) = match (before?, after) {
        (Speaker::User | Speaker::Tool, Speaker::User) => (
            Speaker::Assistant,
            match wire {
                Wire::Messages => {
                    &br#"{"role":"assistant","content":[{"type":"text","text":"Understood."}]}"#[..]
                }
                Wire::Chat | Wire::Responses => br#"{"role":"assistant","content":"Understood."}"#,
            },
        ),
        (Speaker::Assistant, Speaker::Assistant) => (
            Speaker::User,
            match wire {
                Wire::Messages => &br#"{"role":"user","content":[{"type":"text","text":"Continue."}]}"#[..],
                Wire::Chat | Wire::Responses => br#"{"role":"user","content":"Continue."}"#,
            },
        ),
        (
            Speaker::System | Speaker::User | Speaker::Assistant | Speaker::Tool | Speaker::Nobody,
            Speaker::System | Speaker::User | Speaker::Assistant | Speaker::Tool | Speaker::Nobody,
        ) => return None,
    };
    Some((speaker, Bytes::from_static(bytes)))
}
