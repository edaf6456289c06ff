//! One question to a model, and what was counted for it.

use std::ops::AddAssign;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{tool::RenderedTools, wire::Wire};

/// One request. The body is assembled from bytes that were rendered earlier, so that request n+1 begins
/// with request n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The model's name.
    pub model: String,
    /// The whole history.
    pub input: Input,
    /// The thread's tools.
    pub tools: RenderedTools,
    /// The thread's id; the provider's cache key, where it has one, and sent as headers.
    pub thread_id: String,
    /// How hard the model should think; the provider's default without it.
    pub reasoning_effort: Option<String>,
    /// Whether the answer shall be what [`super::wire::NativeCompaction::Parameter`] says.
    pub compacts: bool,
}

/// A history as a request holds it. Made by [`super::wire::Assembly`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Instructions that stand beside the messages, where the API has a place for them.
    pub system: Vec<Bytes>,
    /// The messages, or the items, in order.
    pub messages: Vec<Bytes>,
    /// How many of the messages an earlier request ended with: what the provider may have cached.
    pub previous: usize,
    /// Whether anything was called yet.
    pub has_calls: bool,
}

/// A request as it is sent. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedRequest {
    /// The API that the body is written for.
    pub wire: Wire,
    /// The whole body.
    pub body: Bytes,
    /// The model's name.
    pub model: String,
    /// The thread's id, sent as headers.
    pub thread_id: String,
    /// See [`RenderedTools::custom_as_function`].
    pub custom_as_function: Vec<String>,
    /// Whether the model called anything before this request.
    pub has_calls: bool,
    /// A header that a feature in use needs: its name and value.
    pub feature: Option<(&'static str, &'static str)>,
}

/// What one response cost in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// *All* input tokens, read from a cache or not. APIs differ here; this field does not.
    pub input_tokens: u64,
    /// The part of the input that was read from the provider's cache.
    pub cached_input_tokens: u64,
    /// The part of the input that was written to the provider's cache, where that has its own price.
    pub cache_write_input_tokens: u64,
    /// All output tokens, reasoning among them.
    pub output_tokens: u64,
    /// The part of the output that was reasoning.
    pub reasoning_tokens: u64,
    /// Whether any part of these numbers is a guess, because the provider did not say.
    pub estimated: bool,
}

impl Usage {
    /// A guess at four bytes a token, rounded up, for a response without numbers.
    pub fn estimate(input_bytes: u64, output_bytes: u64) -> Self {
        Self {
            input_tokens: input_bytes.div_ceil(4),
            output_tokens: output_bytes.div_ceil(4),
            estimated: true,
            ..Self::default()
        }
    }

    /// Input tokens that were not read from a cache.
    pub fn uncached_input_tokens(&self) -> u64 {
        self.input_tokens.saturating_sub(self.cached_input_tokens)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.cached_input_tokens += other.cached_input_tokens;
        self.cache_write_input_tokens += other.cache_write_input_tokens;
        self.output_tokens += other.output_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.estimated |= other.estimated;
    }
}
