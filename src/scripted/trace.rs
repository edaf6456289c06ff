//! Traces of real endpoints: what was asked and answered, without what belongs to an account, and as a script.
//!
//! A trace is kept so that a server's shapes can be tested again without it: the bodies stay as they came but for keys, ids,
//! dates and payloads that only the provider can read. As a script, its answers are played by the scripted model.

mod sanitise;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

pub use self::sanitise::Sanitiser;
use crate::llm::failure::Asked;
use crate::llm::fold::Fold;
use crate::llm::sse::SseParser;
use crate::llm::{ContentPart, Item, StreamEvent, ThreadItem, Wire};

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// The body that was sent.
    pub request: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Its body: a stream of events, or what stood in its place.
    pub response: String,
}

/// A trace that gives no script.
#[derive(Debug, Error)]
pub enum TraceError {
    /// It has no answer.
    #[error("nothing was answered")]
    Empty,
    /// It cannot be written.
    #[error("the script cannot be written: {0}")]
    Write(#[from] serde_saphyr::ser::Error),
}

/// The script that plays the answers of a trace again, in their order.
///
/// # Errors
/// [`TraceError`].
pub fn script(name: &str, wire: Wire, exchanges: &[Exchange]) -> Result<String, TraceError> {
    if exchanges.is_empty() {
        return Err(TraceError::Empty);
    }
    let replies: Vec<Value> = exchanges.iter().map(|exchange| reply(wire, exchange)).collect();
    Ok(serde_saphyr::to_string(&json!({"scenarios": [{"name": name, "replies": replies}]}))?)
}

fn reply(wire: Wire, exchange: &Exchange) -> Value {
    if !(200..300).contains(&exchange.status) {
        return json!({"http": {"status": exchange.status, "body": exchange.response}});
    }
    let request: Value = serde_json::from_str(&exchange.request).unwrap_or_default();
    let asked = Asked { wire, url: String::new(), model: String::new() };
    let mut fold = Fold::new(asked, custom_as_function(wire, &request), 0);
    let (mut parser, mut data, mut told) = (SseParser::default(), Vec::new(), Vec::new());
    // What is too long for an event breaks the stream, as it did then.
    let _ = parser.push(exchange.response.as_bytes(), &mut data);
    data.extend(parser.finish());
    let events = data.len();
    let mut failed = false;
    for event in data {
        failed |= fold.event(&event, &mut told).is_err();
    }
    let mut is_whole = told.iter().any(|event| matches!(event, StreamEvent::Completed(_)));
    if !is_whole && !failed {
        is_whole = fold.ended("the trace ends", &mut told).is_ok();
    }
    let mut reply = Map::new();
    let mut output = Vec::new();
    for event in told {
        match event {
            StreamEvent::ItemCompleted(item) => output.push(said(&item)),
            StreamEvent::Completed(completed) => {
                if completed.end_turn == Some(false) {
                    reply.insert("endTurn".into(), false.into());
                }
                let usage = completed.usage;
                if !usage.estimated {
                    reply.insert(
                        "usage".into(),
                        json!({
                            "inputTokens": usage.input_tokens,
                            "cachedInputTokens": usage.cached_input_tokens,
                            "cacheWriteInputTokens": usage.cache_write_input_tokens,
                            "outputTokens": usage.output_tokens,
                            "reasoningTokens": usage.reasoning_tokens,
                        }),
                    );
                }
            }
            StreamEvent::Created { .. }
            | StreamEvent::ItemStarted { .. }
            | StreamEvent::TextDelta { .. }
            | StreamEvent::ReasoningDelta { .. }
            | StreamEvent::CallInputDelta { .. } => {}
        }
    }
    reply.insert("output".into(), output.into());
    if !is_whole {
        reply.insert("end".into(), json!({"close": {"afterEvents": events}}));
    }
    Value::Object(reply)
}

/// Custom tools that this request offered as functions: those of one string `input`.
fn custom_as_function(wire: Wire, request: &Value) -> Vec<String> {
    let tools = request["tools"].as_array().into_iter().flatten();
    let takes_input = tools.filter_map(|tool| {
        let function = if wire == Wire::Chat { &tool["function"] } else { tool };
        let schema = if wire == Wire::Messages { &function["input_schema"] } else { &function["parameters"] };
        let members = schema["properties"].as_object()?;
        let is_custom =
            members.len() == 1 && members.get("input").is_some_and(|input| input["type"] == "string");
        is_custom.then(|| function["name"].as_str().map(str::to_owned))?
    });
    takes_input.collect()
}

/// An item as a script says it.
fn said(item: &ThreadItem) -> Value {
    match &item.item {
        Item::Message(message) => {
            let refusal = message.content.iter().find_map(|part| match part {
                ContentPart::Refusal { text } => Some(text),
                ContentPart::Text { .. } | ContentPart::Image { .. } => None,
            });
            match refusal {
                Some(words) => json!({"refusal": literal(words)}),
                None => json!({"text": literal(&message.text())}),
            }
        }
        Item::Reasoning(reasoning) => json!({"reasoning": literal(&reasoning.text.join("\n\n"))}),
        Item::FunctionCall(call) => {
            json!({"call": {"tool": call.name, "arguments": literal(&call.arguments)}})
        }
        Item::CustomCall(call) => json!({"custom": {"tool": call.name, "input": literal(&call.input)}}),
        Item::FunctionCallOutput(_) | Item::CustomCallOutput(_) | Item::Opaque(_) => {
            json!({"item": serde_json::from_slice::<Value>(item.wire.as_bytes()).unwrap_or_default()})
        }
    }
}

/// A text in which no braces stand for a captured value.
fn literal(text: &str) -> String {
    text.replace("{{", "\\{{")
}

#[cfg(test)]
mod tests;
