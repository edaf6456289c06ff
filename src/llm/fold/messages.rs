//! Folds the events of one response of the Messages API.
//!
//! A call is whole when its block has stopped and a later block began, or the stop reason is known and is
//! not the output limit. A response that breaks is cut back to its last whole call; without one nothing of
//! it is kept, since a request may not end in words of the model.

mod block;

use serde::Deserialize;
use serde_json::Value;

use self::block::Block;
use super::{Progress, given::Given};
use crate::llm::{
    error::{Fatal, FatalKind, ModelError},
    event::StreamEvent,
    failure::{Asked, ProviderError},
    request::Usage,
};

/// The state of one response.
#[derive(Debug)]
pub struct MessagesFold {
    asked: Asked,
    custom_as_function: Vec<String>,
    /// An event of this API was seen, or one that is not of this API.
    started: bool,
    foreign: bool,
    response_id: Option<String>,
    /// Blocks in the order of their beginning; so many of them were given as items.
    blocks: Vec<Block>,
    blocks_given: usize,
    given: Given,
    stop: Option<Stop>,
    counts: Counts,
}

/// How the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It said what it had to say.
    Done,
    /// The provider paused it: it goes on when asked again.
    Paused,
    /// At the output limit.
    OutputLimit,
    /// At the end of the context window.
    ContextWindow,
    /// It will not do it.
    Refused,
}

impl MessagesFold {
    pub(super) fn new(asked: Asked, custom_as_function: Vec<String>, request_bytes: u64) -> Self {
        Self {
            asked,
            custom_as_function,
            started: false,
            foreign: false,
            response_id: None,
            blocks: Vec::new(),
            blocks_given: 0,
            given: Given::new(request_bytes),
            stop: None,
            counts: Counts::default(),
        }
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(super) fn event(
        &mut self,
        data: &[u8],
        events: &mut Vec<StreamEvent>,
    ) -> Result<Progress, ModelError> {
        let Ok(event) = serde_json::from_slice::<Event>(data) else {
            self.foreign |= serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
            return Ok(Progress::None);
        };
        match event.kind.as_str() {
            "message_start" => {
                let message = event.message.unwrap_or_default();
                self.counts.update(message.usage);
                self.response_id = message.id;
                events.push(StreamEvent::Created { response_id: self.response_id.clone() });
            }
            "content_block_start" => {
                let block = Block::begin(event.index, event.content_block, &self.custom_as_function);
                events.push(block.started());
                self.blocks.push(block);
                self.give_calls(events);
            }
            "content_block_delta" => {
                let block = self.blocks.iter_mut().rfind(|block| block.index == event.index);
                if let (Some(block), Some(delta)) = (block, event.delta) {
                    events.extend(block.delta(delta));
                }
            }
            "content_block_stop" => {
                if let Some(block) = self.blocks.iter_mut().rfind(|block| block.index == event.index) {
                    block.has_stopped = true;
                }
            }
            "message_delta" => {
                self.counts.update(event.usage);
                let reason = event.delta.as_ref().and_then(|delta| delta.get("stop_reason"));
                if let Some(reason) = reason.and_then(Value::as_str) {
                    self.stopped(reason, events)?;
                }
            }
            "message_stop" => {
                if self.stop.is_none() {
                    self.stopped("end_turn", events)?;
                }
                self.completed(events);
                return Ok(Progress::Finished);
            }
            // All of the response was there before whatever went wrong after it.
            "error" if self.is_whole() => {
                self.completed(events);
                return Ok(Progress::Finished);
            }
            "error" => {
                let error = event.error.as_ref().map(ProviderError::from_value).unwrap_or_default();
                return Err(self.asked.reported(&error));
            }
            "ping" => return Ok(Progress::None),
            _ => {
                self.foreign = true;
                return Ok(Progress::None);
            }
        }
        self.started = true;
        Ok(Progress::Advanced)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.stop.is_some()
    }

    /// The response is whole when its stop reason came.
    pub(super) fn ended(&mut self, reason: &str, events: &mut Vec<StreamEvent>) -> Result<(), ModelError> {
        if self.stop.is_some() {
            self.completed(events);
            return Ok(());
        }
        if self.foreign && !self.started {
            return Err(self.asked.wrong_api("it streams events of another API"));
        }
        Err(self.asked.broken(&format!("ended before message_stop ({reason})")))
    }

    /// A later block began: calls before it are whole.
    fn give_calls(&mut self, events: &mut Vec<StreamEvent>) {
        let before = self.blocks.len().saturating_sub(1);
        self.give_up_to_last_call(before, events);
    }

    fn give_up_to_last_call(&mut self, end: usize, events: &mut Vec<StreamEvent>) {
        let is_whole = |block: &Block| block.is_call() && block.has_stopped;
        let last = self.blocks.iter().take(end).rposition(is_whole);
        if let Some(last) = last {
            self.give(last + 1, events);
        }
    }

    /// Gives every block before `end` that was not given.
    fn give(&mut self, end: usize, events: &mut Vec<StreamEvent>) {
        let from = self.blocks_given;
        self.blocks_given = end.max(from);
        for block in self.blocks.iter_mut().take(end).skip(from) {
            if let Some(item) = block.take_item(&self.custom_as_function) {
                self.given.give(item, events);
            }
        }
    }

    fn stopped(&mut self, reason: &str, events: &mut Vec<StreamEvent>) -> Result<(), ModelError> {
        let stop = match reason {
            "pause_turn" => Stop::Paused,
            "max_tokens" => Stop::OutputLimit,
            "model_context_window_exceeded" => Stop::ContextWindow,
            "refusal" => Stop::Refused,
            _ => Stop::Done,
        };
        let all = self.blocks.len();
        let failure = match stop {
            Stop::Done | Stop::Paused => {
                self.give(all, events);
                None
            }
            Stop::OutputLimit | Stop::ContextWindow => {
                // The last block is the one that was cut off.
                let whole = all.saturating_sub(1);
                self.give_up_to_last_call(whole, events);
                if self.given.has_call() {
                    None
                } else if stop == Stop::ContextWindow {
                    Some((
                        FatalKind::ContextWindowExceeded,
                        format!("The thread no longer fits the context window of {}.", self.asked.model),
                    ))
                } else {
                    Some((
                        FatalKind::Incomplete,
                        format!(
                            "{} ended the response at its output limit. Raise maxOutputTokens of the model in the \
                             ModelProvider.",
                            self.asked.url
                        ),
                    ))
                }
            }
            Stop::Refused => {
                let said: String = self.blocks.iter().map(Block::words).collect();
                Some((FatalKind::Refused, format!("The model refuses: {said}")))
            }
        };
        match failure {
            Some((kind, message)) => {
                let usage = self.counts.usage();
                Err(ModelError::Fatal(Fatal { kind, message, usage }))
            }
            None => {
                self.stop = Some(stop);
                Ok(())
            }
        }
    }

    fn completed(&mut self, events: &mut Vec<StreamEvent>) {
        let end_turn = (self.stop == Some(Stop::Paused)).then_some(false);
        events.push(self.given.completed(self.response_id.clone(), self.counts.usage(), end_turn));
    }
}

/// An event. Members of an unexpected shape are told from missing ones where they are used.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    index: u64,
    message: Option<Start>,
    content_block: Option<Value>,
    delta: Option<Value>,
    usage: Option<Counts>,
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Start {
    id: Option<String>,
    usage: Option<Counts>,
}

/// The counts as this API gives them, newer ones over older ones: each counts the whole response.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Counts {
    fn update(&mut self, newer: Option<Self>) {
        let newer = newer.unwrap_or_default();
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens = newer.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            newer.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
    }

    /// This API's input count leaves out what the cache gave and took.
    fn usage(&self) -> Option<Usage> {
        let (read, written) =
            (self.cache_read_input_tokens.unwrap_or(0), self.cache_creation_input_tokens.unwrap_or(0));
        let input_tokens = self.input_tokens?.saturating_add(read).saturating_add(written);
        // Some servers send zeros for what they do not count.
        (input_tokens > 0).then_some(Usage {
            input_tokens,
            cached_input_tokens: read,
            cache_write_input_tokens: written,
            output_tokens: self.output_tokens.unwrap_or(0),
            reasoning_tokens: 0,
            estimated: false,
        })
    }
}

#[cfg(test)]
mod tests;
