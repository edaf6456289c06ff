//! One question to a model, and what was counted for it.

use std::ops::AddAssign;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    item::{ContentPart, Item},
    tool::RenderedTools,
    wire::Wire,
};

/// What an image counts as in every estimate. Providers count pixels, not bytes: the largest image that `view_image`
/// shows comes to 765 to 1,600 tokens with those whose rule is known, where its bytes over four would be many times that.
pub const IMAGE_TOKENS: u64 = 1_600;

/// Bytes that count as one token in every estimate: it needs no tokenizer, and is the same for every model.
pub const TOKEN_BYTES: u64 = 4;

/// Estimated tokens of so many bytes, rounded up.
pub fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(TOKEN_BYTES)
}

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
    /// Whether the provider shall compact the thread, as [`super::wire::NativeCompaction::Parameter`] and
    /// [`super::wire::NativeCompaction::Endpoint`] say.
    pub compacts: bool,
    /// Whether the provider is asked to keep what it caches for an hour instead of five minutes, where it can be asked.
    pub keeps_long: bool,
    /// What the final answer has to look like.
    pub answer: Option<AnswerFormat>,
}

/// The form of a final answer. Providers that can are told of it beside the messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerFormat {
    /// The JSON schema, as JSON.
    pub schema: String,
    /// Whether the schema keeps to what providers take as strict, and so can hold the model to it word by word.
    pub strict: bool,
}

/// A history as a request holds it. [`super::wire::Assembly`] makes its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Instructions that stand beside the messages, where the API has a place for them.
    pub system: Vec<Bytes>,
    /// The messages, or the items, in order.
    pub messages: Vec<Bytes>,
    /// How many of the messages an earlier request ended with: what the provider may have cached.
    pub previous: usize,
    /// Whether anything was called yet, in whatever window.
    pub has_calls: bool,
    /// The images in it.
    pub images: Images,
}

/// Images among bytes that are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
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
    /// Where it goes, beneath the provider's base URL.
    pub path: &'static [&'static str],
    /// Whether the answer comes in one piece, which is a response of the Responses API, and not as a stream.
    pub whole: bool,
    /// A header that a feature in use needs: its name and value.
    pub feature: Option<(&'static str, &'static str)>,
    /// The body's size for estimates: see [`Images::counted`].
    pub counted_bytes: u64,
}

impl Images {
    /// The images of an item that a model with eyes is sent.
    pub fn of(item: &Item) -> Self {
        let content = match item {
            Item::Message(message) => &message.content[..],
            Item::FunctionCallOutput(output) | Item::CustomCallOutput(output) => &output.content[..],
            Item::Reasoning(_) | Item::FunctionCall(_) | Item::CustomCall(_) | Item::Opaque(_) => &[],
        };
        let urls = content.iter().filter_map(|part| match part {
            ContentPart::Image { url } => Some(url.len() as u64),
            ContentPart::Text { .. } | ContentPart::Refusal { .. } => None,
        });
        urls.fold(Self::default(), |sum, bytes| Self { count: sum.count + 1, bytes: sum.bytes + bytes })
    }

    /// The size of `bytes` that hold these images, each of them taken for [`IMAGE_TOKENS`].
    pub fn counted(self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.bytes).saturating_add(self.count * IMAGE_TOKENS * TOKEN_BYTES)
    }
}

impl AddAssign for Images {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
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
    /// A guess by [`tokens`], for a response without numbers.
    pub fn estimate(input_bytes: u64, output_bytes: u64) -> Self {
        Self {
            input_tokens: tokens(input_bytes),
            output_tokens: tokens(output_bytes),
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
