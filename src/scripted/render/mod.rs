//! Renders a reply as the events of the API that was asked.

mod chat;
mod error;
mod messages;
mod responses;
mod said;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

pub use self::error::error_body;
use self::said::Said;
use super::{
    script::{End, Pace, Quirk, UsageNumbers},
    seen::{Api, Seen},
    threads::Turn,
};
use crate::llm::tokens;

/// A response, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What is written, in order.
    pub frames: Vec<Frame>,
    /// What happens to the connection after that.
    pub finish: Finish,
}

/// Bytes to be written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The pause before.
    pub pause: Duration,
    /// The bytes.
    pub bytes: Bytes,
}

/// What happens to a connection after the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It ends in good order.
    Close,
    /// It breaks.
    Break,
    /// Only comments come for that long, and then it breaks.
    Stall(Duration),
}

/// All that a streamed reply is rendered from.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The reply.
    pub turn: &'a Turn<'a>,
    /// The request.
    pub seen: &'a Seen,
    /// How fast it is written.
    pub pace: Pace,
    /// A number that no other answer has.
    pub number: u64,
    /// The time in seconds since 1970.
    pub created_at: i64,
}

impl Answer<'_> {
    /// Renders the answer.
    pub fn stream(&self) -> Stream {
        match self.seen.api {
            Api::Responses => responses::stream(self),
            Api::Chat => chat::stream(self),
            Api::Messages => messages::stream(self),
        }
    }

    /// The answer of the compaction endpoint, in one piece.
    pub fn compacted(&self) -> Value {
        responses::compacted(self)
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.turn.quirks.contains(&quirk)
    }

    /// How many characters a piece of a call has.
    fn call_characters(&self) -> usize {
        if self.has(Quirk::WholeArguments) { usize::MAX } else { self.pace.delta_characters }
    }

    /// What the answer says that it cost: the script's numbers, or a guess by [`tokens`], or nothing.
    fn usage(&self, output_bytes: u64, reasoning_bytes: u64) -> Option<UsageNumbers> {
        if self.turn.reply.omit_usage || self.has(Quirk::NoUsage) {
            return None;
        }
        Some(self.turn.reply.usage.unwrap_or_else(|| {
            let input_tokens = tokens(self.seen.body_bytes);
            let known = tokens(self.turn.previous_body_bytes.min(self.seen.body_bytes));
            let (cached_input_tokens, cache_write_input_tokens) = match self.seen.api {
                Api::Responses | Api::Chat => (known, 0),
                // Only what is marked goes through the cache here.
                Api::Messages if self.seen.cache_markers == 0 => (0, 0),
                Api::Messages => (known, input_tokens - known),
            };
            UsageNumbers {
                input_tokens,
                cached_input_tokens,
                cache_write_input_tokens,
                output_tokens: tokens(output_bytes),
                reasoning_tokens: tokens(reasoning_bytes),
            }
        }))
    }

    /// The same for an API whose answer is not made of items: what counts are the texts.
    fn usage_of(&self, said: &[Said]) -> Option<UsageNumbers> {
        let reasoning = said.iter().filter(|said| matches!(said, Said::Reasoning(_)));
        self.usage(said.iter().map(Said::bytes).sum(), reasoning.map(Said::bytes).sum())
    }
}

/// The frames of an answer while they are written.
struct Frames {
    frames: Vec<Frame>,
    pace: Pace,
}

impl Frames {
    fn new(pace: Pace) -> Self {
        Self { frames: Vec::new(), pace }
    }

    fn len(&self) -> usize {
        self.frames.len()
    }

    fn push(&mut self, bytes: String) {
        let millis =
            if self.frames.is_empty() { self.pace.first_event_millis } else { self.pace.event_millis };
        self.frames.push(Frame { pause: Duration::from_millis(millis), bytes: bytes.into() });
    }

    /// Ends the answer as the script says. With more than `unfinished` events it would look whole.
    fn finish(self, turn: &Turn<'_>, unfinished: usize) -> Stream {
        let mut frames = self.frames;
        let (kept, finish) = match turn.reply.end {
            End::Completed | End::Failed { .. } | End::Incomplete { .. } => (frames.len(), Finish::Close),
            End::Cut { after_events } => (after_events.min(unfinished), Finish::Break),
            End::Close { after_events } => (after_events.min(unfinished), Finish::Close),
            End::Stall { after_events, seconds } => {
                (after_events.min(unfinished), Finish::Stall(Duration::from_secs(seconds)))
            }
        };
        frames.truncate(kept);
        // From the back, so that the positions of the others stay true.
        let mut injections: Vec<_> = turn.reply.inject.iter().collect();
        injections.sort_by_key(|injection| injection.after_events);
        for injection in injections.into_iter().rev() {
            let raw = Frame { pause: Duration::ZERO, bytes: injection.raw.clone().into() };
            frames.insert(injection.after_events.min(kept), raw);
        }
        Stream { frames, finish }
    }
}

/// A text in pieces of so many characters.
fn pieces(text: &str, characters: usize) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    all.chunks(characters).map(|piece| piece.iter().collect()).collect()
}

/// Puts the members of an object behind those of another.
fn extend(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

#[cfg(test)]
mod tests;
