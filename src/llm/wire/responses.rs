//! The Responses API: rendering of items, tools and bodies.
//!
//! The order of the members is the one that the reference agent sends, with the input early: whatever
//! a provider caches by prefix, it finds the same bytes again.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Capabilities, Fragment, IMAGE_BELOW, IMAGE_NOTE, IMAGES, IMAGES_OF_OUTPUTS, Part, Place,
    body::Body,
    custom, developer_note_of,
    members::{self, interior},
};
use crate::llm::{
    item::{CallKind, CallOutput, ContentPart, Item, Message, Role, ThreadItem, WireJson},
    request::{AnswerFormat, Request},
    tool::{RenderedTools, ToolDefinition},
};

pub mod received;

/// Where a thread is compacted, beneath the provider's base URL.
pub const COMPACT_PATH: &[&str] = &["responses", "compact"];

/// Renders a message.
pub fn message(message: Message, capabilities: &Capabilities) -> ThreadItem {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Developer if capabilities.developer_role => "developer",
        Role::Developer => "system",
    };
    let content: Vec<Value> =
        message.content.iter().map(|part| content_part(part, message.role, capabilities)).collect();
    let wire = WireJson::render(&json!({"type": "message", "role": role, "content": content}));
    ThreadItem { item: Item::Message(message), wire }
}

/// Renders the answer to a call, in the shape in which its tool was declared. Images that outputs cannot hold are kept
/// beside its text.
pub fn call_output(kind: CallKind, output: CallOutput, capabilities: &Capabilities) -> ThreadItem {
    let shape = match kind {
        CallKind::Custom if capabilities.custom_tools => "custom_tool_call_output",
        CallKind::Custom | CallKind::Function => "function_call_output",
    };
    let (moved, kept): (Vec<&ContentPart>, Vec<&ContentPart>) =
        output.content.iter().partition(|part| capabilities.moves(part));
    let rendered = |parts: &[&ContentPart]| {
        parts.iter().map(|part| content_part(part, Role::User, capabilities)).collect::<Value>()
    };
    let content = match kept.as_slice() {
        [ContentPart::Text { text }] => Value::from(text.as_str()),
        [] if !moved.is_empty() => Value::from(IMAGE_BELOW),
        parts => rendered(parts),
    };
    let mut wire = json!({"type": shape, "call_id": output.call_id, "output": content});
    if !moved.is_empty() {
        wire[IMAGES] = rendered(&moved);
    }
    ThreadItem { item: kind.output(output), wire: WireJson::render(&wire) }
}

/// What of an item is sent.
///
/// Without replayed reasoning the provider's item ids are left out too: OpenAI refuses an item whose id
/// it made together with a reasoning item that the request does not hold.
pub fn fragment(item: &ThreadItem, place: Place<'_>, capabilities: &Capabilities) -> Option<Fragment> {
    let keeps_ids = capabilities.encrypted_reasoning || capabilities.reasoning_replay;
    let wire = item.wire.as_bytes();
    let renamed = |bytes: &Bytes| place.rename(bytes, "call_id");
    let bytes = match &item.item {
        Item::Message(message) if message.role == Role::Developer && !capabilities.developer_role => {
            return Some(instructions(wire, place));
        }
        Item::Reasoning(reasoning) => {
            let taken =
                capabilities.reasoning_replay || capabilities.encrypted_reasoning && reasoning.encrypted;
            return taken.then(|| Fragment::new(Part::Element, wire.clone()));
        }
        Item::Message(_) if keeps_ids => wire.clone(),
        Item::Message(_) => members::without(wire, "id"),
        Item::FunctionCall(_) | Item::CustomCall(_) if keeps_ids => renamed(wire),
        Item::FunctionCall(_) | Item::CustomCall(_) => renamed(&members::without(wire, "id")),
        Item::FunctionCallOutput(_) | Item::CustomCallOutput(_) => {
            return Some(Fragment::output(renamed(wire)));
        }
        Item::Opaque(_) => wire.clone(),
    };
    Some(Fragment::new(Part::Element, bytes))
}

/// Puts fragments into the items of a request. Instructions that are sent as the system's are one item, and images that
/// outputs cannot hold follow in one message of the user after all outputs.
pub(super) fn items(fragments: &[Fragment]) -> Vec<Bytes> {
    let is_system = |fragment: &&Fragment| fragment.part == Part::System;
    let parts: Vec<Bytes> = fragments.iter().take_while(is_system).map(|part| part.bytes.clone()).collect();
    let mut items = Vec::with_capacity(fragments.len() + 1);
    items.extend((!parts.is_empty()).then(|| said_by("system", &parts)));
    let mut images: Vec<Bytes> = Vec::new();
    for fragment in fragments.iter().skip(parts.len()) {
        if fragment.part != Part::Output {
            items.extend(shown(&mut images));
        }
        items.push(fragment.bytes.clone());
        images.extend(fragment.beside.clone());
    }
    items.extend(shown(&mut images));
    items
}

/// Renders the tools.
pub fn tools(tools: &[ToolDefinition], capabilities: &Capabilities) -> RenderedTools {
    custom::render(tools, function_tool, capabilities.custom_tools.then_some(custom_tool))
}

/// Assembles a body: `model, stream, input, tools, tool_choice, parallel_tool_calls, reasoning, store,
/// include, prompt_cache_key, text`. There is no `instructions`: the base instructions are the first developer
/// message, so that they are part of the prefix.
pub fn body(request: &Request, capabilities: &Capabilities) -> Bytes {
    let input = &request.input.messages;
    let mut body =
        Body::new(input.iter().map(|item| item.len() + 1).sum::<usize>() + request.tools.bytes.len());
    body.text("model", &request.model);
    body.raw("stream", "true");
    body.array("input", input);
    if !request.tools.is_empty() {
        body.raw("tools", &request.tools.bytes);
        body.text("tool_choice", "auto");
        if capabilities.parallel_tool_calls {
            body.raw("parallel_tool_calls", "true");
        }
    }
    if let Some(reasoning) = reasoning(request, capabilities) {
        body.raw("reasoning", reasoning.to_string());
    }
    body.raw("store", "false");
    if capabilities.encrypted_reasoning {
        body.raw("include", "[\"reasoning.encrypted_content\"]");
    }
    if capabilities.prompt_cache_key {
        body.text("prompt_cache_key", &request.thread_id);
    }
    if let (Some(AnswerFormat { schema, strict }), true) = (&request.answer, capabilities.structured_output) {
        let format =
            format!(r#"{{"type":"json_schema","strict":{strict},"name":"answer","schema":{schema}}}"#);
        body.raw("text", format!(r#"{{"format":{format}}}"#));
    }
    body.finish()
}

/// Assembles the body that has a thread compacted at [`COMPACT_PATH`]: `model, input, prompt_cache_key`.
pub fn compact_body(request: &Request, capabilities: &Capabilities) -> Bytes {
    let input = &request.input.messages;
    let mut body = Body::new(input.iter().map(|item| item.len() + 1).sum());
    body.text("model", &request.model);
    body.array("input", input);
    if capabilities.prompt_cache_key {
        body.text("prompt_cache_key", &request.thread_id);
    }
    body.finish()
}

/// Instructions for a server without the role `developer`. Behind its API may be a template that takes one system message,
/// as the first: what comes later goes as the user's, in tags.
fn instructions(wire: &Bytes, place: Place<'_>) -> Fragment {
    let content = Bytes::copy_from_slice(members::get(wire, "content").unwrap_or("[]").as_bytes());
    if place.leading {
        return Fragment::new(Part::System, interior(&content));
    }
    let note = json!({"type": "input_text", "text": developer_note_of(&content)}).to_string();
    Fragment::new(Part::Element, said_by("user", &[note.into()]))
}

/// The message that shows the images gathered so far.
fn shown(images: &mut Vec<Bytes>) -> Option<Bytes> {
    if images.is_empty() {
        return None;
    }
    let words = json!({"type": "input_text", "text": IMAGES_OF_OUTPUTS}).to_string().into();
    let parts: Vec<Bytes> = std::iter::once(words).chain(images.drain(..)).collect();
    Some(said_by("user", &parts))
}

/// A message of these parts.
fn said_by(role: &str, parts: &[Bytes]) -> Bytes {
    let mut message = Body::new(parts.iter().map(|part| part.len() + 1).sum());
    message.text("type", "message");
    message.text("role", role);
    message.array("content", parts);
    message.finish()
}

fn reasoning(request: &Request, capabilities: &Capabilities) -> Option<Value> {
    let mut reasoning = serde_json::Map::new();
    if let (Some(effort), true) = (&request.reasoning_effort, capabilities.reasoning) {
        reasoning.insert("effort".into(), effort.as_str().into());
    }
    if capabilities.reasoning_summary {
        reasoning.insert("summary".into(), "auto".into());
    }
    (!reasoning.is_empty()).then_some(Value::Object(reasoning))
}

fn function_tool(name: &str, description: &str, parameters: &Value) -> Value {
    json!({
        "type": "function",
        "name": name,
        "description": description,
        "strict": false,
        "parameters": parameters,
    })
}

fn custom_tool(name: &str, description: &str, grammar: &str) -> Value {
    json!({
        "type": "custom",
        "name": name,
        "description": description,
        "format": {"type": "grammar", "syntax": "lark", "definition": grammar},
    })
}

fn content_part(part: &ContentPart, role: Role, capabilities: &Capabilities) -> Value {
    let text_type = match role {
        Role::User | Role::Developer => "input_text",
        Role::Assistant => "output_text",
    };
    match part {
        ContentPart::Text { text } => json!({"type": text_type, "text": text}),
        ContentPart::Image { url } if capabilities.image_input => {
            json!({"type": "input_image", "image_url": url})
        }
        ContentPart::Image { .. } => json!({"type": text_type, "text": IMAGE_NOTE}),
        ContentPart::Refusal { text } => json!({"type": "refusal", "refusal": text}),
    }
}

#[cfg(test)]
mod tests;
