//! Folds the events of one response of the Responses API into items and their end.
//!
//! An item counts once `response.output_item.done` brought it whole; deltas are for surfaces alone. Types
//! that are not known and data that is no JSON are skipped, as servers add both freely.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Progress, given::Given};
use crate::llm::{
    error::{Fatal, FatalKind, ModelError},
    event::{ItemKind, StreamEvent},
    failure::{Asked, ProviderError},
    item::{ContentPart, Item, ThreadItem},
    request::Usage,
    wire::responses::received::{ReceivedItem, item_kind},
};

/// The state of one response.
#[derive(Debug)]
pub struct ResponsesFold {
    asked: Asked,
    custom_as_function: Vec<String>,
    given: Given,
    response_id: Option<String>,
    refusal: Option<String>,
    /// An event of this API was seen, or one that is not of this API.
    advanced: bool,
    foreign: bool,
}

impl ResponsesFold {
    pub(super) fn new(asked: Asked, custom_as_function: Vec<String>, request_bytes: u64) -> Self {
        Self {
            asked,
            custom_as_function,
            given: Given::new(request_bytes),
            response_id: None,
            refusal: None,
            advanced: false,
            foreign: false,
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
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
            self.foreign |= serde_json::from_slice::<&RawValue>(data).is_ok();
            return Ok(Progress::None);
        };
        if !event.kind.starts_with("response.") && event.kind != "error" {
            self.foreign |= !matches!(event.kind.as_ref(), "ping" | "keepalive");
            return Ok(Progress::None);
        }
        self.advanced = true;
        match event.kind.as_ref() {
            "response.created" => {
                self.response_id = event.response().id;
                events.push(StreamEvent::Created { response_id: self.response_id.clone() });
            }
            "response.output_item.added" => {
                if let Some(item) = event.item {
                    let started: StartedItem<'_> = serde_json::from_str(item.get()).unwrap_or_default();
                    let item_id = started.id.map_or_else(|| event.item_id(), Cow::into_owned);
                    events.push(StreamEvent::ItemStarted {
                        item_id,
                        kind: started.kind.map_or(ItemKind::Opaque, |kind| item_kind(&kind)),
                    });
                }
            }
            "response.output_text.delta" => {
                events
                    .extend(event.delta().map(|(item_id, delta)| StreamEvent::TextDelta { item_id, delta }));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                events.extend(
                    event.delta().map(|(item_id, delta)| StreamEvent::ReasoningDelta { item_id, delta }),
                );
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                events.extend(
                    event.delta().map(|(item_id, delta)| StreamEvent::CallInputDelta { item_id, delta }),
                );
            }
            "response.output_item.done" => {
                if let Some(item) = event.item {
                    self.item_done(item, events)?;
                }
            }
            "response.completed" => {
                self.completed(event.response(), events)?;
                return Ok(Progress::Finished);
            }
            "response.failed" => {
                let error = event.response().error.map(|error| ProviderError::from_value(&error));
                return Err(self.asked.reported(&error.unwrap_or_default()));
            }
            "response.incomplete" => {
                self.incomplete(event.response(), events)?;
                return Ok(Progress::Finished);
            }
            "error" => {
                let whole: Value = serde_json::from_slice(data).unwrap_or_default();
                let error = match whole.get("error") {
                    Some(inner) => ProviderError::from_value(inner),
                    None => ProviderError {
                        // Its `type` is the event's, never a code.
                        code: whole.get("code").and_then(Value::as_str).map(str::to_owned),
                        ..ProviderError::from_value(&whole)
                    },
                };
                return Err(self.asked.reported(&error));
            }
            _ => {}
        }
        Ok(Progress::Advanced)
    }

    pub(super) fn broken(&self, reason: &str) -> ModelError {
        if self.foreign && !self.advanced {
            return self.asked.wrong_api("it streams events of another API");
        }
        self.asked.broken(&format!("ended before response.completed ({reason})"))
    }

    fn item_done(&mut self, raw: &RawValue, events: &mut Vec<StreamEvent>) -> Result<(), ModelError> {
        let received: ReceivedItem<'_> = serde_json::from_str(raw.get())
            .map_err(|error| self.asked.wrong_api(&format!("an item: {error}")))?;
        // An item that the output limit cut off: its arguments may parse and still lack their end.
        if received.is_incomplete() {
            return Ok(());
        }
        let item = received
            .into_item(&self.custom_as_function)
            .map_err(|error| self.asked.wrong_api(&format!("an item: {error}")))?;
        if let Item::Message(message) = &item {
            self.refusal = message.content.iter().find_map(|part| match part {
                ContentPart::Refusal { text } => Some(text.clone()),
                ContentPart::Text { .. } | ContentPart::Image { .. } => None,
            });
        }
        self.given.give(ThreadItem { item, wire: raw.into() }, events);
        Ok(())
    }

    fn completed(&mut self, response: Response<'_>, events: &mut Vec<StreamEvent>) -> Result<(), ModelError> {
        // Some servers bring the items only here.
        if self.given.is_empty() {
            for raw in response.output.iter().flatten() {
                self.item_done(raw, events)?;
            }
        }
        let usage = response.usage.map(Usage::from);
        if let (Some(refusal), false) = (&self.refusal, self.given.has_call()) {
            return Err(ModelError::Fatal(Fatal {
                kind: FatalKind::Refused,
                message: format!("The model refuses: {refusal}"),
                usage,
            }));
        }
        let response_id = response.id.or_else(|| self.response_id.take());
        events.push(self.given.completed(response_id, usage, response.end_turn));
        Ok(())
    }

    /// The provider's limit ended the response. Calls that are whole may have begun, so the work goes on
    /// with their outputs; without one there is nothing to go on with.
    fn incomplete(
        &mut self,
        response: Response<'_>,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ModelError> {
        let reason = response.incomplete_details.as_ref().and_then(|details| details.reason.clone());
        let reason = reason.as_deref().unwrap_or("no reason given");
        let is_refused = reason == "content_filter";
        if self.given.has_call() && !is_refused {
            return self.completed(response, events);
        }
        Err(ModelError::Fatal(Fatal {
            kind: if is_refused { FatalKind::Refused } else { FatalKind::Incomplete },
            message: format!("{} ended the response early ({reason}).", self.asked.url),
            usage: response.usage.map(Usage::from),
        }))
    }
}

/// An event, its parts undecoded: a member of an unexpected shape must not hide the others.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
    #[serde(borrow)]
    output_index: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    fn response(&self) -> Response<'a> {
        self.response.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    fn item_id(&self) -> String {
        let id = self.item_id.and_then(|raw| serde_json::from_str(raw.get()).ok());
        id.unwrap_or_else(|| self.output_index.map_or("0", RawValue::get).to_owned())
    }

    fn delta(&self) -> Option<(String, String)> {
        let delta = serde_json::from_str(self.delta?.get()).ok()?;
        Some((self.item_id(), delta))
    }
}

#[derive(Default, Deserialize)]
struct StartedItem<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response<'a> {
    id: Option<String>,
    error: Option<Value>,
    incomplete_details: Option<IncompleteDetails>,
    end_turn: Option<bool>,
    usage: Option<ResponseUsage>,
    #[serde(borrow)]
    output: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct IncompleteDetails {
    reason: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct ResponseUsage {
    input_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

impl From<ResponseUsage> for Usage {
    /// This API's input count includes what the cache gave.
    fn from(usage: ResponseUsage) -> Self {
        let input = usage.input_tokens_details.unwrap_or_default();
        let output = usage.output_tokens_details.unwrap_or_default();
        Self {
            input_tokens: usage.input_tokens.unwrap_or(0),
            cached_input_tokens: input.cached_tokens.unwrap_or(0),
            cache_write_input_tokens: input.cache_write_tokens.unwrap_or(0),
            output_tokens: usage.output_tokens.unwrap_or(0),
            reasoning_tokens: output.reasoning_tokens.unwrap_or(0),
            estimated: false,
        }
    }
}

#[cfg(test)]
mod tests;
