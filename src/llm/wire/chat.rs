//! The Chat Completions API: rendering of items, tools and bodies.
//!
//! Of the model's message each item keeps its own members as sent: `{"content": ...}`, `{"reasoning_content":
//! ...}`, one call. They come together again in [`messages`].

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Capabilities, Fragment, IMAGE_NOTE, IMAGES, IMAGES_OF_OUTPUTS, Part, Place,
    assembly::Speaker,
    body::{Body, list},
    custom, developer_note,
    members::{self, interior},
};
use crate::{
    api::provider::ReasoningField,
    llm::{
        item::{CallKind, CallOutput, ContentPart, Item, Message, Role, ThreadItem, WireJson},
        request::{AnswerFormat, Request},
        tool::{RenderedTools, ToolDefinition},
    },
};

/// Renders the content of a message, or the model's own words as it would have sent them.
pub fn message(message: Message, capabilities: &Capabilities) -> ThreadItem {
    let content = content(&message.content, capabilities);
    let wire = match message.role {
        Role::User | Role::Developer => content,
        Role::Assistant => json!({"content": content}),
    };
    ThreadItem { item: Item::Message(message), wire: WireJson::render(&wire) }
}

/// Renders the answer to a call. Its images are kept beside its text, since they go elsewhere.
pub fn call_output(kind: CallKind, output: CallOutput, capabilities: &Capabilities) -> ThreadItem {
    let images: Vec<Value> = output.content.iter().filter_map(|part| image(part, capabilities)).collect();
    let mut wire = json!({"role": "tool", "tool_call_id": output.call_id, "content": text(&output.content, capabilities)});
    if !images.is_empty() {
        wire[IMAGES] = images.into();
    }
    ThreadItem { item: kind.output(output), wire: WireJson::render(&wire) }
}

/// What of an item is sent.
pub fn fragment(item: &ThreadItem, place: Place<'_>, capabilities: &Capabilities) -> Option<Fragment> {
    let wire = item.wire.as_bytes();
    match &item.item {
        Item::Message(message) => match message.role {
            Role::User => Some(Fragment::new(Part::User, wire.clone())),
            Role::Developer if place.leading => Some(Fragment::new(Part::System, wire.clone())),
            Role::Developer => {
                let text: String = serde_json::from_slice(wire).unwrap_or_default();
                let note = Value::from(developer_note(&text)).to_string();
                Some(Fragment::new(Part::User, note.into()))
            }
            Role::Assistant => match members::get(wire, "content") {
                Some(r#""""#) => None,
                Some(content) => Some(Fragment::new(Part::Text, Bytes::copy_from_slice(content.as_bytes()))),
                None => Some(Fragment::new(Part::Opaque, interior(wire))),
            },
        },
        Item::Reasoning(_) => {
            let text =
                ["reasoning_content", "reasoning"].into_iter().find_map(|name| members::get(wire, name));
            let details = members::get(wire, "reasoning_details");
            if capabilities.reasoning_field.is_none() {
                // Only the words need a member of their own; who sends details understands them, and some models need them
                // beside their calls.
                let details = details?;
                let beside = Some(interior(&Bytes::copy_from_slice(details.as_bytes())));
                return Some(Fragment { part: Part::Reasoning, bytes: Bytes::new(), beside });
            }
            Some(Fragment {
                part: Part::Reasoning,
                bytes: Bytes::copy_from_slice(text.unwrap_or(r#""""#).as_bytes()),
                beside: details.map(|details| interior(&Bytes::copy_from_slice(details.as_bytes()))),
            })
        }
        Item::FunctionCall(_) | Item::CustomCall(_) => {
            Some(Fragment::new(Part::Call, place.rename(wire, "id")))
        }
        Item::FunctionCallOutput(_) | Item::CustomCallOutput(_) => {
            Some(Fragment::output(place.rename(wire, "tool_call_id")))
        }
        Item::Opaque(_) => Some(Fragment::new(Part::Opaque, interior(wire))),
    }
}

/// Puts fragments into messages: one system message first, then a message a speaker. Outputs have one each,
/// and their images come in one user message after all of them.
pub(super) fn messages(fragments: &[Fragment], capabilities: &Capabilities) -> Vec<(Speaker, Bytes)> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut images: Vec<Bytes> = Vec::new();
    for fragment in fragments {
        let bytes = fragment.bytes.clone();
        if fragment.part != Part::Output {
            drafts.extend(shown(&mut images));
        }
        match (fragment.part, drafts.last_mut()) {
            (Part::System, Some(Draft::System(contents))) => contents.push(bytes),
            (Part::System, _) => drafts.push(Draft::System(vec![bytes])),
            (Part::User, Some(Draft::User(contents))) if capabilities.strict_alternation => {
                contents.push(bytes);
            }
            (Part::User, _) => drafts.push(Draft::User(vec![bytes])),
            (Part::Output, _) => {
                drafts.push(Draft::Tool(bytes));
                images.extend(fragment.beside.clone());
            }
            (Part::Text | Part::Reasoning | Part::Call | Part::Opaque | Part::Element, last) => {
                if let Some(Draft::Assistant(said)) = last {
                    said.take(fragment);
                } else {
                    let mut said = Said::default();
                    said.take(fragment);
                    drafts.push(Draft::Assistant(said));
                }
            }
        }
    }
    drafts.extend(shown(&mut images));
    // A message of reasoning alone has neither content nor calls, and servers refuse that.
    let sent =
        drafts.into_iter().filter(|draft| !matches!(draft, Draft::Assistant(said) if said.is_silent()));
    sent.map(|draft| draft.render(capabilities)).collect()
}

/// Renders the tools.
pub fn tools(tools: &[ToolDefinition], capabilities: &Capabilities) -> RenderedTools {
    custom::render(tools, function_tool, capabilities.custom_tools.then_some(custom_tool))
}

/// Assembles a body: `model, stream, messages, tools, parallel_tool_calls, reasoning_effort, stream_options,
/// prompt_cache_key, response_format`. There is no `tool_choice`: that tools may be called is the default everywhere.
pub fn body(request: &Request, capabilities: &Capabilities) -> Bytes {
    let input = &request.input.messages;
    let mut body =
        Body::new(input.iter().map(|item| item.len() + 1).sum::<usize>() + request.tools.bytes.len());
    body.text("model", &request.model);
    body.raw("stream", "true");
    body.array("messages", input);
    if !request.tools.is_empty() {
        body.raw("tools", &request.tools.bytes);
        if capabilities.parallel_tool_calls {
            body.raw("parallel_tool_calls", "true");
        }
    }
    if let (Some(effort), true) = (&request.reasoning_effort, capabilities.reasoning) {
        body.text("reasoning_effort", effort);
    }
    if capabilities.stream_usage {
        body.raw("stream_options", r#"{"include_usage":true}"#);
    }
    if capabilities.prompt_cache_key {
        body.text("prompt_cache_key", &request.thread_id);
    }
    if let (Some(AnswerFormat { schema, strict }), true) = (&request.answer, capabilities.structured_output) {
        let format = format!(r#"{{"name":"answer","strict":{strict},"schema":{schema}}}"#);
        body.raw("response_format", format!(r#"{{"type":"json_schema","json_schema":{format}}}"#));
    }
    body.finish()
}

/// A message in the making.
enum Draft {
    System(Vec<Bytes>),
    User(Vec<Bytes>),
    Assistant(Said),
    Tool(Bytes),
}

/// The parts of a message of the model.
#[derive(Default)]
struct Said {
    content: Vec<Bytes>,
    reasoning: Vec<Bytes>,
    details: Vec<Bytes>,
    calls: Vec<Bytes>,
    /// Members that only the provider understands.
    others: Vec<Bytes>,
}

impl Said {
    fn take(&mut self, fragment: &Fragment) {
        let list = match fragment.part {
            Part::Reasoning => &mut self.reasoning,
            Part::Call => &mut self.calls,
            Part::Opaque => &mut self.others,
            Part::Text | Part::Element | Part::System | Part::User | Part::Output => &mut self.content,
        };
        list.push(fragment.bytes.clone());
        self.details.extend(fragment.beside.clone());
    }

    fn is_silent(&self) -> bool {
        self.content.is_empty() && self.calls.is_empty() && self.others.is_empty()
    }

    fn render(&self, capabilities: &Capabilities) -> Bytes {
        let mut message = Body::new(0);
        message.text("role", "assistant");
        if self.content.is_empty() {
            message.raw("content", "null");
        } else {
            message.raw("content", joined(&self.content));
        }
        let field = match capabilities.reasoning_field {
            None => None,
            Some(ReasoningField::ReasoningContent) => Some("reasoning_content"),
            Some(ReasoningField::Reasoning) => (!self.reasoning.is_empty()).then_some("reasoning"),
        };
        if let Some(name) = field {
            message.raw(name, joined(&self.reasoning));
        }
        if !self.details.is_empty() {
            message.array("reasoning_details", &self.details);
        }
        for others in self.others.iter().filter(|others| !others.is_empty()) {
            message.members(others);
        }
        if !self.calls.is_empty() {
            message.array("tool_calls", &self.calls);
        }
        message.finish()
    }
}

impl Draft {
    fn render(self, capabilities: &Capabilities) -> (Speaker, Bytes) {
        match self {
            Self::System(contents) => {
                let role = if capabilities.developer_role { "developer" } else { "system" };
                (Speaker::System, said_by(role, &contents))
            }
            Self::User(contents) => (Speaker::User, said_by("user", &contents)),
            Self::Assistant(said) => (Speaker::Assistant, said.render(capabilities)),
            Self::Tool(message) => (Speaker::Tool, message),
        }
    }
}

fn said_by(role: &str, contents: &[Bytes]) -> Bytes {
    let mut message = Body::new(contents.iter().map(Bytes::len).sum());
    message.text("role", role);
    message.raw("content", joined(contents));
    message.finish()
}

/// One content out of several: a string while all are strings, else an array of parts.
fn joined(contents: &[Bytes]) -> Vec<u8> {
    if contents.iter().all(|content| content.starts_with(b"\"")) {
        let mut text = vec![b'"'];
        for (index, content) in contents.iter().enumerate() {
            if index > 0 {
                text.extend_from_slice(br"\n\n");
            }
            text.extend_from_slice(&interior(content));
        }
        text.push(b'"');
        return text;
    }
    let parts: Vec<Bytes> = contents
        .iter()
        .map(|content| {
            if content.starts_with(b"[") {
                return interior(content);
            }
            let mut part = Body::new(content.len());
            part.text("type", "text");
            part.raw("text", content);
            part.finish()
        })
        .collect();
    list(&parts)
}

/// The user message that shows the images gathered so far.
fn shown(images: &mut Vec<Bytes>) -> Option<Draft> {
    if images.is_empty() {
        return None;
    }
    let words = Bytes::from(Value::from(IMAGES_OF_OUTPUTS).to_string());
    Some(Draft::User(vec![words, list(&std::mem::take(images)).into()]))
}

/// A string where there are only words, as not every server takes parts.
fn content(parts: &[ContentPart], capabilities: &Capabilities) -> Value {
    let has_images = parts.iter().any(|part| image(part, capabilities).is_some());
    if !has_images {
        return text(parts, capabilities).into();
    }
    let parts = parts.iter().map(|part| {
        let words = || json!({"type": "text", "text": text(std::slice::from_ref(part), capabilities)});
        image(part, capabilities).unwrap_or_else(words)
    });
    parts.collect()
}

fn text(parts: &[ContentPart], capabilities: &Capabilities) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            ContentPart::Text { text } | ContentPart::Refusal { text } => Some(text.as_str()),
            ContentPart::Image { .. } => (!capabilities.image_input).then_some(IMAGE_NOTE),
        })
        .collect();
    texts.join("\n\n")
}

fn image(part: &ContentPart, capabilities: &Capabilities) -> Option<Value> {
    match part {
        ContentPart::Image { url } if capabilities.image_input => {
            Some(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        ContentPart::Image { .. } | ContentPart::Text { .. } | ContentPart::Refusal { .. } => None,
    }
}

fn function_tool(name: &str, description: &str, parameters: &Value) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), name.into());
    function.insert("description".into(), description.into());
    function.insert("parameters".into(), parameters.clone());
    json!({"type": "function", "function": function})
}

fn custom_tool(name: &str, description: &str, grammar: &str) -> Value {
    json!({
        "type": "custom",
        "custom": {
            "name": name,
            "description": description,
            "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": grammar}},
        },
    })
}

#[cfg(test)]
mod tests;
