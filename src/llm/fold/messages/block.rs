//! One block of content, put together from its deltas.

use serde_json::{Map, Value, json};

use crate::llm::{
    event::{ItemKind, StreamEvent},
    fold::unescape::Unescape,
    item::{FunctionCall, Item, Opaque, Reasoning, Role, ThreadItem, WireJson},
    wire::custom,
};

/// A block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) index: u64,
    pub(super) has_stopped: bool,
    kind: String,
    /// The block as it began, its texts grown by the deltas.
    members: Map<String, Value>,
    /// The input as it arrives, which is JSON.
    input: String,
    unescape: Option<Unescape>,
}

impl Block {
    pub(super) fn begin(index: u64, block: Option<Value>, custom_as_function: &[String]) -> Self {
        let members = match block {
            Some(Value::Object(members)) => members,
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_))
            | None => Map::new(),
        };
        let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, name) = (text("type"), text("name"));
        let unescape = custom_as_function.contains(&name).then(Unescape::default);
        Self { index, has_stopped: false, kind, members, input: String::new(), unescape }
    }

    pub(super) fn is_call(&self) -> bool {
        self.kind == "tool_use"
    }

    /// What surfaces are told of its beginning.
    pub(super) fn started(&self) -> StreamEvent {
        let kind = match self.kind.as_str() {
            "text" => ItemKind::Message,
            "thinking" | "redacted_thinking" => ItemKind::Reasoning,
            "tool_use" if self.unescape.is_some() => ItemKind::CustomCall,
            "tool_use" => ItemKind::FunctionCall,
            _ => ItemKind::Opaque,
        };
        StreamEvent::ItemStarted { item_id: self.index.to_string(), kind }
    }

    /// Takes a delta, and gives what surfaces are told of it.
    pub(super) fn delta(&mut self, delta: Value) -> Option<StreamEvent> {
        let text = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let item_id = self.index.to_string();
        match delta.get("type").and_then(Value::as_str)? {
            "text_delta" => {
                self.grow("text", &text("text"));
                Some(StreamEvent::TextDelta { item_id, delta: text("text") })
            }
            "thinking_delta" => {
                self.grow("thinking", &text("thinking"));
                Some(StreamEvent::ReasoningDelta { item_id, delta: text("thinking") })
            }
            // The summary comes in pieces; what the provider needs beside it is whole each time.
            "compaction_delta" => {
                for (name, value) in delta.as_object()?.iter().filter(|(name, _)| *name != "type") {
                    match value.as_str() {
                        Some(more) if name == "content" => self.grow(name, more),
                        Some(_) | None => drop(self.members.insert(name.clone(), value.clone())),
                    }
                }
                None
            }
            "signature_delta" => {
                self.grow("signature", &text("signature"));
                None
            }
            "input_json_delta" => {
                let delta = text("partial_json");
                self.input.push_str(&delta);
                let told = match &mut self.unescape {
                    Some(unescape) => unescape.push(&delta),
                    None => delta,
                };
                (!told.is_empty()).then_some(StreamEvent::CallInputDelta { item_id, delta: told })
            }
            "citations_delta" => {
                let citation = delta.get("citation")?.clone();
                let citations = self.members.entry("citations").or_insert_with(|| json!([]));
                if !citations.is_array() {
                    *citations = json!([]);
                }
                citations.as_array_mut()?.push(citation);
                None
            }
            _ => None,
        }
    }

    /// The words in it.
    pub(super) fn words(&self) -> &str {
        if self.kind == "text" { self.text("text") } else { "" }
    }

    /// The item that it is; nothing for text of nothing but white space, which the API does not take back, and for a block
    /// that has not stopped.
    pub(super) fn take_item(&mut self, custom_as_function: &[String]) -> Option<ThreadItem> {
        if !self.has_stopped {
            return None;
        }
        let item = match self.kind.as_str() {
            "text" if self.text("text").trim().is_empty() => return None,
            "text" => Item::message(Role::Assistant, self.text("text")),
            "thinking" => {
                let text = Some(self.text("thinking")).filter(|text| !text.is_empty()).map(str::to_owned);
                let encrypted = !self.text("signature").is_empty();
                Item::Reasoning(Reasoning { text: text.into_iter().collect(), encrypted })
            }
            "redacted_thinking" => Item::Reasoning(Reasoning { text: Vec::new(), encrypted: true }),
            "tool_use" => self.call(custom_as_function),
            kind => Item::Opaque(Opaque { kind: kind.to_owned() }),
        };
        let members = std::mem::take(&mut self.members);
        Some(ThreadItem { item, wire: wire(members, &self.input) })
    }

    fn call(&self, custom_as_function: &[String]) -> Item {
        let (call_id, name) = (self.text("id").to_owned(), self.text("name").to_owned());
        let arguments = match self.members.get("input") {
            // Some servers send the whole input with the beginning.
            Some(input) if self.input.trim().is_empty() => input.to_string(),
            None if self.input.trim().is_empty() => "{}".to_owned(),
            Some(_) | None => self.input.clone(),
        };
        custom::call(FunctionCall { call_id, name, arguments }, custom_as_function)
    }

    fn text(&self, name: &str) -> &str {
        self.members.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn grow(&mut self, name: &str, more: &str) {
        match self.members.get_mut(name) {
            Some(Value::String(text)) => text.push_str(more),
            Some(_) | None => {
                self.members.insert(name.to_owned(), more.into());
            }
        }
    }
}

/// The block whole: its input is the text that came, not one written again. Where that is no object, which
/// the API would refuse, it goes in one as text.
fn wire(mut members: Map<String, Value>, input: &str) -> WireJson {
    if input.trim().is_empty() {
        return WireJson::render(&Value::Object(members));
    }
    let is_object = serde_json::from_str::<Map<String, Value>>(input).is_ok();
    if !is_object {
        members.insert("input".into(), json!({"invalid_json": input}));
        return WireJson::render(&Value::Object(members));
    }
    members.shift_remove("input");
    let mut whole = Value::Object(members).to_string();
    whole.truncate(whole.len() - 1);
    whole.push_str(&format!(",\"input\":{}}}", input.trim()));
    let rendered = serde_json::value::RawValue::from_string(whole);
    rendered.map_or_else(|_| WireJson::render(&Value::Null), WireJson::from)
}
