//! One chunk, whatever its server makes of the format.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::llm::request::Usage;

/// What a chunk brings.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) id: Option<String>,
    pub(super) error: Option<Value>,
    pub(super) delta: Map<String, Value>,
    pub(super) finish_reason: Option<String>,
    pub(super) usage: Option<Usage>,
}

impl Chunk {
    /// Reads a chunk; nothing when it is of another API.
    pub(super) fn read(mut chunk: Value) -> Option<Self> {
        if let Some(error) = chunk.get_mut("error").map(Value::take).filter(|error| !error.is_null()) {
            return Some(Self { error: Some(error), ..Self::default() });
        }
        // Older servers send the error itself.
        if chunk.get("object").and_then(Value::as_str) == Some("error") {
            return Some(Self { error: Some(chunk), ..Self::default() });
        }
        let choices = chunk.get_mut("choices").map(Value::take);
        let usage =
            [chunk.get("usage"), chunk.pointer("/x_groq/usage")].into_iter().flatten().find_map(usage_of);
        if choices.is_none() && usage.is_none() {
            return None;
        }
        let id = chunk.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
        let mut read = Self { id, usage, ..Self::default() };
        let first = match choices {
            // One answer is asked for; a second would be the server's mistake.
            Some(Value::Array(choices)) => choices
                .into_iter()
                .find(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0),
            Some(_) | None => None,
        };
        if let Some(mut choice) = first {
            read.usage = read.usage.or_else(|| choice.get("usage").and_then(usage_of));
            if let Some(Value::Object(delta)) = choice.get_mut("delta").map(Value::take) {
                read.delta = delta;
            }
            let reason = choice.get("finish_reason").and_then(Value::as_str);
            read.finish_reason = reason.filter(|reason| !reason.is_empty()).map(str::to_owned);
        }
        Some(read)
    }
}

/// A piece of what the model says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Words {
    Text(String),
    Reasoning(String),
}

/// The pieces of a content: a string, or with some servers an array of parts.
pub(super) fn words(content: Value) -> Vec<Words> {
    match content {
        Value::String(text) if !text.is_empty() => vec![Words::Text(text)],
        Value::Array(parts) => parts.iter().filter_map(part).collect(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn part(part: &Value) -> Option<Words> {
    if let Some(text) = part.get("text").and_then(Value::as_str) {
        return Some(Words::Text(text.to_owned()));
    }
    let text = match part.get("thinking")? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    Some(Words::Reasoning(text))
}

/// This API's input count includes what the cache gave. Members differ by server.
fn usage_of(value: &Value) -> Option<Usage> {
    let counts = ChatUsage::deserialize(value).ok()?;
    let input = counts.prompt_tokens_details.unwrap_or_default();
    let output = counts.completion_tokens_details.unwrap_or_default();
    let (prompt, said) = (counts.prompt_tokens?, counts.completion_tokens.unwrap_or(0));
    let reasoning = output.reasoning_tokens.unwrap_or(0);
    // Most servers count reasoning as output. Those that count it beside the output (xAI) show it in the total.
    let is_beside = counts.total_tokens == Some(prompt.saturating_add(said).saturating_add(reasoning));
    Some(Usage {
        input_tokens: prompt,
        cached_input_tokens: input
            .cached_tokens
            .or(counts.prompt_cache_hit_tokens)
            .or(counts.cached_tokens)
            .unwrap_or(0),
        cache_write_input_tokens: input
            .cache_write_tokens
            .or(input.cache_creation_tokens)
            .or(counts.cache_creation_input_tokens)
            .unwrap_or(0),
        output_tokens: if is_beside { said.saturating_add(reasoning) } else { said },
        reasoning_tokens: reasoning,
        estimated: false,
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChatUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    prompt_cache_hit_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_creation_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}
