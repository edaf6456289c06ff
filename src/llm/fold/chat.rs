//! Folds the chunks of one response of the Chat Completions API.
//!
//! The API has no event for a whole item: a call is whole at the finish reason and no earlier, so all items
//! are given then. A stream that breaks before gives none. `length` cuts off the last call.

mod call;
mod chunk;

use serde_json::{Map, Value, json};

use self::{
    call::Calls,
    chunk::{Chunk, Words, words},
};
use super::{Progress, given::Given};
use crate::llm::{
    error::{Fatal, FatalKind, Misconfiguration, Misconfigured, ModelError},
    event::{ItemKind, StreamEvent},
    failure::{Asked, ProviderError},
    item::{ContentPart, Item, Message, Opaque, Reasoning, Role, ThreadItem, WireJson},
    request::Usage,
};

/// How models write calls that their server did not recognise.
const CALLS_AS_TEXT: [&str; 2] = ["<tool_call>", "<function="];

/// The state of one response.
#[derive(Debug)]
pub struct ChatFold {
    asked: Asked,
    custom_as_function: Vec<String>,
    given: Given,
    has_earlier_calls: bool,
    started: bool,
    /// Something came that is not of this API.
    foreign: bool,
    response_id: Option<String>,
    text: Option<String>,
    refusal: String,
    /// Reasoning, by the member in which it came.
    reasoning: Map<String, Value>,
    /// Members of the message that only the provider understands.
    others: Map<String, Value>,
    calls: Calls,
    usage: Option<Usage>,
    finished: bool,
    /// How the response failed, when its finish reason said so: what it cost often comes after that.
    failure: Option<(FatalKind, String)>,
}

impl ChatFold {
    pub(super) fn new(asked: Asked, custom_as_function: Vec<String>, request_bytes: u64) -> Self {
        Self {
            asked,
            custom_as_function,
            given: Given::new(request_bytes),
            has_earlier_calls: false,
            started: false,
            foreign: false,
            response_id: None,
            text: None,
            refusal: String::new(),
            reasoning: Map::new(),
            others: Map::new(),
            calls: Calls::default(),
            usage: None,
            finished: false,
            failure: None,
        }
    }

    pub(super) fn after_calls(&mut self, has_calls: bool) {
        self.has_earlier_calls = has_calls;
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(super) fn event(
        &mut self,
        data: &[u8],
        events: &mut Vec<StreamEvent>,
    ) -> Result<Progress, ModelError> {
        if data.trim_ascii() == b"[DONE]" {
            self.ended("the server said [DONE]", events)?;
            return Ok(Progress::Finished);
        }
        let chunk = match serde_json::from_slice::<Value>(data).map(Chunk::read) {
            Err(_) => return Ok(Progress::None),
            Ok(None) => {
                self.foreign = true;
                return Ok(Progress::None);
            }
            Ok(Some(chunk)) => chunk,
        };
        if let Some(error) = chunk.error {
            // All of the response was there before whatever went wrong after it.
            if self.finished {
                self.ended("the server reported an error", events)?;
                return Ok(Progress::Finished);
            }
            let mut reported = ProviderError::from_value(&error);
            if let Some(Value::Number(status)) = error.get("code") {
                reported.code = Some(status.to_string());
            }
            return Err(self.asked.reported(&reported));
        }
        if !self.started {
            self.started = true;
            self.response_id = chunk.id;
            events.push(StreamEvent::Created { response_id: self.response_id.clone() });
        }
        self.usage = chunk.usage.or(self.usage.take());
        // What comes after the finish reason is of no message any more.
        if self.finished {
            return Ok(Progress::Advanced);
        }
        self.delta(chunk.delta, events);
        if let Some(reason) = chunk.finish_reason {
            self.finish(&reason, events)?;
        }
        Ok(Progress::Advanced)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.finished
    }

    /// The response is whole when its finish reason came; many servers send nothing after it.
    pub(super) fn ended(&mut self, reason: &str, events: &mut Vec<StreamEvent>) -> Result<(), ModelError> {
        if !self.finished {
            if self.foreign && !self.started {
                return Err(self.asked.wrong_api("it streams events of another API"));
            }
            return Err(self.asked.broken(&format!("ended without a finish_reason ({reason})")));
        }
        let usage = self.usage.take();
        if let Some((kind, message)) = self.failure.take() {
            let usage = Some(self.given.cost(usage));
            return Err(ModelError::Fatal(Fatal { kind, message, usage }));
        }
        events.push(self.given.completed(self.response_id.take(), usage, None));
        Ok(())
    }

    fn delta(&mut self, delta: Map<String, Value>, events: &mut Vec<StreamEvent>) {
        for (name, value) in delta {
            match (name.as_str(), value) {
                (_, Value::Null) | ("role" | "function_call", _) => {}
                // Labels of a chunk and no part of the message. Groq refuses a `channel` that it sent itself.
                ("channel", _) | (_, Value::Bool(_) | Value::Number(_)) => {}
                ("content", value) => {
                    for said in words(value) {
                        match said {
                            Words::Text(delta) => self.say(delta, events),
                            Words::Reasoning(delta) => self.reason("reasoning_content", delta, events),
                        }
                    }
                }
                ("refusal", Value::String(delta)) => self.refusal.push_str(&delta),
                ("reasoning_content" | "reasoning", Value::String(delta)) => {
                    self.reason(&name, delta, events);
                }
                ("reasoning_details", Value::Array(details)) => {
                    let kept = self.reasoning.entry(name).or_insert_with(|| json!([]));
                    if let Value::Array(kept) = kept {
                        kept.extend(details);
                    }
                }
                ("tool_calls", Value::Array(deltas)) => {
                    for delta in deltas {
                        self.calls.take(delta, &self.custom_as_function, events);
                    }
                }
                (_, value) => call::merge(&mut self.others, name, value),
            }
        }
    }

    fn say(&mut self, delta: String, events: &mut Vec<StreamEvent>) {
        if self.text.is_none() {
            events.push(StreamEvent::ItemStarted { item_id: "message".into(), kind: ItemKind::Message });
        }
        self.text.get_or_insert_default().push_str(&delta);
        events.push(StreamEvent::TextDelta { item_id: "message".into(), delta });
    }

    fn reason(&mut self, member: &str, delta: String, events: &mut Vec<StreamEvent>) {
        // Servers that send it under two names send it twice.
        let other = if member == "reasoning" { "reasoning_content" } else { "reasoning" };
        if delta.is_empty() || self.reasoning.contains_key(other) {
            return;
        }
        if !self.reasoning.contains_key(member) {
            events.push(StreamEvent::ItemStarted { item_id: "reasoning".into(), kind: ItemKind::Reasoning });
        }
        call::merge(&mut self.reasoning, member.to_owned(), Value::from(delta.as_str()));
        events.push(StreamEvent::ReasoningDelta { item_id: "reasoning".into(), delta });
    }

    fn finish(&mut self, reason: &str, events: &mut Vec<StreamEvent>) -> Result<(), ModelError> {
        match reason {
            "error" | "network_error" | "insufficient_system_resource" | "abort" => {
                let error = ProviderError { code: None, message: format!("finish_reason {reason}") };
                return Err(self.asked.reported(&error));
            }
            "content_filter" | "sensitive" => {
                let message = format!("A policy of {} ended the response ({reason}).", self.asked.url);
                self.fails(FatalKind::Refused, message);
                return Ok(());
            }
            _ => {}
        }
        let is_cut = matches!(reason, "length" | "model_length" | "max_tokens");
        if is_cut {
            self.calls.drop_last();
        }
        self.check_for_calls_as_text()?;
        let calls = self.calls.finish(&self.custom_as_function);
        if !self.refusal.is_empty() && calls.is_empty() {
            self.fails(FatalKind::Refused, format!("The model refuses: {}", self.refusal));
            return Ok(());
        }
        for item in self.said().into_iter().chain(calls) {
            self.given.give(item, events);
        }
        if is_cut && !self.given.has_call() {
            let message = format!("{} ended the response early ({reason}).", self.asked.url);
            self.fails(FatalKind::Incomplete, message);
        }
        self.finished = true;
        Ok(())
    }

    /// What the model said beside its calls, in the order in which the API keeps it.
    fn said(&mut self) -> Vec<ThreadItem> {
        let mut items = Vec::new();
        if !self.reasoning.is_empty() {
            let text = ["reasoning_content", "reasoning"].iter().find_map(|name| self.reasoning.get(*name));
            let text = text.and_then(Value::as_str).map(str::to_owned);
            let item = Item::Reasoning(Reasoning { text: text.into_iter().collect(), encrypted: false });
            items.push(item_of(item, std::mem::take(&mut self.reasoning)));
        }
        if !self.others.is_empty() {
            let item = Item::Opaque(Opaque { kind: "message members".into() });
            items.push(item_of(item, std::mem::take(&mut self.others)));
        }
        let text = self.text.take().filter(|text| !text.is_empty());
        if let Some(text) = text {
            let members = Map::from_iter([("content".to_owned(), Value::from(text.as_str()))]);
            items.push(item_of(Item::message(Role::Assistant, text), members));
        }
        if !self.refusal.is_empty() {
            let text = std::mem::take(&mut self.refusal);
            let members = Map::from_iter([("refusal".to_owned(), Value::from(text.as_str()))]);
            let content = vec![ContentPart::Refusal { text }];
            items.push(item_of(Item::Message(Message { role: Role::Assistant, content }), members));
        }
        items
    }

    /// A server without the parser for its model's calls passes them on as words, and the task would end
    /// with nothing done.
    fn check_for_calls_as_text(&self) -> Result<(), ModelError> {
        let text = self.text.as_deref().unwrap_or_default();
        let is_written = CALLS_AS_TEXT.iter().any(|mark| text.contains(mark));
        if !is_written || self.has_earlier_calls || !self.calls.is_empty() {
            return Ok(());
        }
        Err(ModelError::Misconfigured(Misconfigured {
            kind: Misconfiguration::Settings,
            message: format!(
                "{} passes on the tool calls of {} as text. Start the server with the parser for its calls: vLLM \
                 with --enable-auto-tool-choice --tool-call-parser <parser>, SGLang with --tool-call-parser \
                 <parser>, llama.cpp with --jinja.",
                self.asked.url, self.asked.model
            ),
        }))
    }

    fn fails(&mut self, kind: FatalKind, message: String) {
        self.finished = true;
        self.failure = Some((kind, message));
    }
}

fn item_of(item: Item, members: Map<String, Value>) -> ThreadItem {
    ThreadItem { item, wire: WireJson::render(&Value::Object(members)) }
}

#[cfg(test)]
mod tests;
