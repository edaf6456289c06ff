//! The Messages API: rendering of items, tools and bodies.
//!
//! Everything is a block of content: a block of the model's is kept as sent, words and images of ours are
//! kept as an array of blocks.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Capabilities, Fragment, IMAGE_BELOW, IMAGE_NOTE, IMAGES, IMAGES_OF_OUTPUTS, Part, Place,
    assembly::Speaker,
    body::{Body, list},
    custom, developer_note_of,
    members::interior,
};
use crate::{
    api::provider::Thinking,
    llm::{
        item::{CallKind, CallOutput, ContentPart, Item, Message, Role, ThreadItem, WireJson},
        request::{AnswerFormat, Request},
        tool::{RenderedTools, ToolDefinition},
    },
};

/// The most tokens of a response unless the provider says more: every current model takes this many.
const MAX_OUTPUT_TOKENS: i32 = 8192;

/// The least that a budget for thinking may be, and the least that it leaves for the answer.
const MIN_THINKING_TOKENS: i32 = 1024;

/// Marks the end of what the provider shall keep, for five minutes after its last use.
pub const CACHE_MARKER: &str = r#","cache_control":{"type":"ephemeral"}"#;

/// The same for an hour. All markers of a request are of one kind: a shorter one may not come before a longer one.
pub const LONG_CACHE_MARKER: &str = r#","cache_control":{"type":"ephemeral","ttl":"1h"}"#;

/// The header that compaction on demand needs, in every request that asks for one or holds its payload.
pub const COMPACTION_FEATURE: (&str, &str) = ("anthropic-beta", "compact-2026-09-04");

/// What stands in the place of nothing: the API refuses text without a visible character.
const NO_OUTPUT: &str = "(no output)";
const NO_TEXT: &str = "(no text)";

/// Renders a message as an array of blocks.
pub fn message(message: Message, capabilities: &Capabilities) -> ThreadItem {
    let wire = WireJson::render(&blocks(&message.content, NO_TEXT, capabilities));
    ThreadItem { item: Item::Message(message), wire }
}

/// Renders the answer to a call. Images that results cannot hold are kept beside its text.
pub fn call_output(kind: CallKind, output: CallOutput, capabilities: &Capabilities) -> ThreadItem {
    let moved: Vec<Value> = output
        .content
        .iter()
        .filter(|part| capabilities.moves(part))
        .filter_map(|part| block(part, capabilities))
        .collect();
    let content = match output.content.as_slice() {
        [ContentPart::Text { text }] if !text.is_empty() => Value::from(text.as_str()),
        parts if moved.is_empty() && parts.iter().any(|part| matches!(part, ContentPart::Image { .. })) => {
            blocks(parts, NO_OUTPUT, capabilities)
        }
        parts => {
            let texts: Vec<&str> = parts.iter().filter_map(words).collect();
            let nothing = if moved.is_empty() { NO_OUTPUT } else { IMAGE_BELOW };
            Value::from(if texts.is_empty() { nothing.to_owned() } else { texts.join("\n\n") })
        }
    };
    let mut wire = json!({"type": "tool_result", "tool_use_id": output.call_id, "content": content});
    if output.failed {
        wire["is_error"] = true.into();
    }
    if !moved.is_empty() {
        wire[IMAGES] = moved.into();
    }
    ThreadItem { item: kind.output(output), wire: WireJson::render(&wire) }
}

/// What of an item is sent. Reasoning goes back only with the provider's signature on it.
pub fn fragment(item: &ThreadItem, place: Place<'_>) -> Option<Fragment> {
    let wire = item.wire.as_bytes();
    match &item.item {
        Item::Message(message) => match message.role {
            Role::User => Some(Fragment::new(Part::User, interior(wire))),
            Role::Developer if place.leading => Some(Fragment::new(Part::System, interior(wire))),
            Role::Developer => Some(Fragment::new(Part::User, note(wire))),
            Role::Assistant if wire.starts_with(b"[") => Some(Fragment::new(Part::Text, interior(wire))),
            Role::Assistant => Some(Fragment::new(Part::Text, wire.clone())),
        },
        Item::Reasoning(reasoning) => {
            reasoning.encrypted.then(|| Fragment::new(Part::Reasoning, wire.clone()))
        }
        Item::FunctionCall(_) | Item::CustomCall(_) => {
            Some(Fragment::new(Part::Call, place.rename(wire, "id")))
        }
        Item::FunctionCallOutput(_) | Item::CustomCallOutput(_) => {
            Some(Fragment::output(place.rename(wire, "tool_use_id")))
        }
        Item::Opaque(_) => Some(Fragment::new(Part::Opaque, wire.clone())),
    }
}

/// Puts fragments into messages: a message a speaker, so that all outputs of one message of the model are in
/// one message of the user, then the images that they cannot hold, and what else the user says comes after them.
pub(super) fn messages(fragments: &[Fragment]) -> Vec<(Speaker, Bytes)> {
    let mut drafts: Vec<(Speaker, Vec<Fragment>)> = Vec::new();
    let mut images: Vec<Bytes> = Vec::new();
    let mut add = |fragment: Fragment| {
        let speaker = match fragment.part {
            Part::User | Part::Output | Part::System => Speaker::User,
            Part::Text | Part::Reasoning | Part::Call | Part::Opaque | Part::Element => Speaker::Assistant,
        };
        match drafts.last_mut() {
            Some((last, blocks)) if *last == speaker => blocks.push(fragment),
            Some(_) | None => drafts.push((speaker, vec![fragment])),
        }
    };
    for fragment in fragments {
        if fragment.part != Part::Output {
            shown(&mut images).into_iter().for_each(&mut add);
        }
        images.extend(fragment.beside.clone());
        add(fragment.clone());
    }
    shown(&mut images).into_iter().for_each(&mut add);
    let rendered = drafts.into_iter().filter_map(|(speaker, mut blocks)| {
        // The API takes no message that ends in reasoning.
        while blocks.last().is_some_and(|block| block.part == Part::Reasoning) {
            blocks.pop();
        }
        if blocks.is_empty() {
            return None;
        }
        let blocks: Vec<Bytes> = blocks.iter().map(|block| block.bytes.clone()).collect();
        let mut message = Body::new(blocks.iter().map(|block| block.len() + 1).sum());
        message.text("role", if speaker == Speaker::Assistant { "assistant" } else { "user" });
        message.array("content", &blocks);
        Some((speaker, message.finish()))
    });
    rendered.collect()
}

/// Renders the tools. There are none that take free text.
pub fn tools(tools: &[ToolDefinition]) -> RenderedTools {
    custom::render(tools, function_tool, None)
}

/// Assembles a body: `model, max_tokens, stream, thinking, output_config, system, tools, messages, compaction`.
pub fn body(request: &Request, capabilities: &Capabilities) -> Bytes {
    let input = &request.input;
    let payload: usize = input.messages.iter().chain(&input.system).map(|part| part.len() + 1).sum();
    let mut body = Body::new(payload + request.tools.bytes.len());
    let max_tokens = capabilities.max_output_tokens.unwrap_or(MAX_OUTPUT_TOKENS);
    body.text("model", &request.model);
    body.raw("max_tokens", max_tokens.to_string());
    body.raw("stream", "true");
    let effort = request.reasoning_effort.as_deref();
    let mut output: Vec<String> = Vec::new();
    match capabilities.thinking {
        None => {}
        Some(Thinking::Adaptive) => {
            body.raw("thinking", r#"{"type":"adaptive"}"#);
            // This API has no effort below low.
            output.extend(effort.map(|effort| {
                let effort = if effort == "minimal" { "low" } else { effort };
                format!(r#""effort":{}"#, Value::from(effort))
            }));
        }
        Some(Thinking::Budget) => {
            if let Some(budget) = effort.and_then(|effort| thinking_budget(effort, max_tokens)) {
                body.raw("thinking", json!({"type": "enabled", "budget_tokens": budget}).to_string());
            }
        }
    }
    // This API refuses a schema that is not strict; the model is told of it in words all the same.
    if let (Some(AnswerFormat { schema, strict: true }), true) =
        (&request.answer, capabilities.structured_output)
    {
        output.push(format!(r#""format":{{"type":"json_schema","schema":{schema}}}"#));
    }
    if !output.is_empty() {
        body.raw("output_config", format!("{{{}}}", output.join(",")));
    }
    let marker = match (capabilities.cache_markers, request.keeps_long) {
        (false, _) => None,
        (true, false) => Some(CACHE_MARKER),
        (true, true) => Some(LONG_CACHE_MARKER),
    };
    let marked = |array: Vec<u8>| match marker {
        Some(marker) => with_marker(array, marker),
        None => array,
    };
    if !input.system.is_empty() {
        body.raw("system", marked(list(&input.system)));
    }
    if !request.tools.is_empty() {
        body.raw("tools", marked(request.tools.bytes.to_vec()));
    }
    match marker {
        Some(marker) => body.array("messages", &marked_messages(&input.messages, input.previous, marker)),
        None => body.array("messages", &input.messages),
    }
    if request.compacts {
        body.raw("compaction", r#"{"type":"summarize"}"#);
    }
    body.finish()
}

/// The messages with a marker at the end of the request before, where the provider finds what it kept, and
/// one at the end of this one, where it keeps more. A provider looks for what it kept at a marker and at the 20 blocks
/// before it; the first of the two stands where that request had its own, so a step of any size is found.
fn marked_messages(messages: &[Bytes], previous: usize, marker: &str) -> Vec<Bytes> {
    let mut messages = messages.to_vec();
    let last = messages.len();
    for end in [Some(previous).filter(|previous| *previous < last), Some(last)].into_iter().flatten() {
        if let Some(message) = end.checked_sub(1).and_then(|index| messages.get_mut(index)) {
            let mut marked = with_marker(message.strip_suffix(b"}").unwrap_or(message).to_vec(), marker);
            marked.push(b'}');
            *message = marked.into();
        }
    }
    messages
}

/// An array of objects, or what ends in one, with the marker in the last object.
fn with_marker(mut array: Vec<u8>, marker: &str) -> Vec<u8> {
    if array.ends_with(b"}]") {
        array.truncate(array.len() - 2);
        array.extend_from_slice(marker.as_bytes());
        array.extend_from_slice(b"}]");
    }
    array
}

fn thinking_budget(effort: &str, max_tokens: i32) -> Option<i32> {
    let wanted = match effort {
        "minimal" => MIN_THINKING_TOKENS,
        "low" => 4096,
        "medium" => 16_384,
        _ => 32_768,
    };
    let budget = wanted.min(max_tokens - MIN_THINKING_TOKENS);
    (budget >= MIN_THINKING_TOKENS).then_some(budget)
}

fn blocks(parts: &[ContentPart], nothing: &str, capabilities: &Capabilities) -> Value {
    let mut blocks: Vec<Value> = parts.iter().filter_map(|part| block(part, capabilities)).collect();
    if blocks.is_empty() {
        blocks.push(json!({"type": "text", "text": nothing}));
    }
    blocks.into()
}

fn block(part: &ContentPart, capabilities: &Capabilities) -> Option<Value> {
    match part {
        ContentPart::Text { .. } | ContentPart::Refusal { .. } => {
            words(part).map(|text| json!({"type": "text", "text": text}))
        }
        ContentPart::Image { .. } if !capabilities.image_input => {
            Some(json!({"type": "text", "text": IMAGE_NOTE}))
        }
        ContentPart::Image { url } => {
            let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
            let source = match data {
                Some((media, data)) => json!({"type": "base64", "media_type": media, "data": data}),
                None => json!({"type": "url", "url": url}),
            };
            Some(json!({"type": "image", "source": source}))
        }
    }
}

fn words(part: &ContentPart) -> Option<&str> {
    match part {
        ContentPart::Text { text } | ContentPart::Refusal { text } => {
            Some(text.as_str()).filter(|text| !text.trim().is_empty())
        }
        ContentPart::Image { .. } => None,
    }
}

/// The blocks that show the images gathered so far.
fn shown(images: &mut Vec<Bytes>) -> Option<Fragment> {
    if images.is_empty() {
        return None;
    }
    let words = json!({"type": "text", "text": IMAGES_OF_OUTPUTS}).to_string().into();
    let blocks: Vec<Bytes> = std::iter::once(words).chain(images.drain(..)).collect();
    Some(Fragment::new(Part::User, blocks.join(&b","[..]).into()))
}

/// Blocks of the harness as one of the user's, in tags.
fn note(blocks: &Bytes) -> Bytes {
    json!({"type": "text", "text": developer_note_of(blocks)}).to_string().into()
}

fn function_tool(name: &str, description: &str, parameters: &Value) -> Value {
    json!({"name": name, "description": description, "input_schema": parameters})
}

#[cfg(test)]
mod tests;
