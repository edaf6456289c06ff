//! The Responses API: rendering of items, tools and bodies.
//!
//! The order of the members is the one that the reference agent sends, with the input early: whatever
//! a provider caches by prefix, it finds the same bytes again.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Capabilities;
use crate::llm::{
    item::{CallKind, CallOutput, ContentPart, Item, Message, Role, ThreadItem, WireJson},
    request::Request,
    tool::{RenderedTools, ToolDefinition},
};

mod members;
pub mod received;

/// Stands in the place of an image for a model that takes none.
const IMAGE_NOTE: &str = "[image left out: this model takes no images]";

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

/// Renders the answer to a call, in the shape in which its tool was declared.
pub fn call_output(kind: CallKind, output: CallOutput, capabilities: &Capabilities) -> ThreadItem {
    let shape = match kind {
        CallKind::Custom if capabilities.custom_tools => "custom_tool_call_output",
        CallKind::Custom | CallKind::Function => "function_call_output",
    };
    let content = match output.content.as_slice() {
        [ContentPart::Text { text }] => Value::from(text.as_str()),
        parts => parts.iter().map(|part| content_part(part, Role::User, capabilities)).collect(),
    };
    let wire = WireJson::render(&json!({"type": shape, "call_id": output.call_id, "output": content}));
    let item = match kind {
        CallKind::Function => Item::FunctionCallOutput(output),
        CallKind::Custom => Item::CustomCallOutput(output),
    };
    ThreadItem { item, wire }
}

/// What of an item is sent.
///
/// Without replayed reasoning the provider's item ids are left out too: OpenAI refuses an item whose id
/// it made together with a reasoning item that the request does not hold.
pub fn fragment(item: &ThreadItem, capabilities: &Capabilities) -> Option<Bytes> {
    let keeps_ids = capabilities.encrypted_reasoning || capabilities.reasoning_replay;
    match &item.item {
        Item::Reasoning(reasoning) => (capabilities.reasoning_replay
            || capabilities.encrypted_reasoning && reasoning.encrypted)
            .then(|| item.wire.as_bytes().clone()),
        Item::Message(_) | Item::FunctionCall(_) | Item::CustomCall(_) if !keeps_ids => {
            Some(members::without(item.wire.as_bytes(), "id"))
        }
        Item::Message(_)
        | Item::FunctionCall(_)
        | Item::CustomCall(_)
        | Item::FunctionCallOutput(_)
        | Item::CustomCallOutput(_)
        | Item::Opaque(_) => Some(item.wire.as_bytes().clone()),
    }
}

/// Renders the tools.
pub fn tools(tools: &[ToolDefinition], capabilities: &Capabilities) -> RenderedTools {
    let mut custom_as_function = Vec::new();
    let rendered: Vec<Value> = tools
        .iter()
        .map(|tool| match tool {
            ToolDefinition::Function { name, description, parameters } => {
                function_tool(name, description, parameters)
            }
            ToolDefinition::Custom { name, description, grammar } if capabilities.custom_tools => json!({
                "type": "custom",
                "name": name,
                "description": description,
                "format": {"type": "grammar", "syntax": "lark", "definition": grammar},
            }),
            ToolDefinition::Custom { name, description, grammar } => {
                custom_as_function.push(name.clone());
                let input = format!("The whole input of the tool, in this Lark grammar:\n{grammar}");
                let parameters = json!({
                    "type": "object",
                    "properties": {"input": {"type": "string", "description": input}},
                    "required": ["input"],
                    "additionalProperties": false,
                });
                function_tool(name, description, &parameters)
            }
        })
        .collect();
    RenderedTools { bytes: WireJson::render(&Value::Array(rendered)).into_bytes(), custom_as_function }
}

/// Assembles a body: `model, stream, input, tools, tool_choice, parallel_tool_calls, reasoning, store,
/// include, prompt_cache_key`. There is no `instructions`: the base instructions are the first developer
/// message, so that they are part of the prefix.
pub fn body(request: &Request, capabilities: &Capabilities) -> Bytes {
    let input_bytes: usize = request.input.iter().map(|fragment| fragment.len() + 1).sum();
    // 512 bytes hold every member below with a long model name and thread id; more only reallocates.
    let mut body = Vec::with_capacity(input_bytes + request.tools.bytes.len() + 512);
    body.extend_from_slice(b"{\"model\":");
    body.extend_from_slice(&json_string(&request.model));
    body.extend_from_slice(b",\"stream\":true,\"input\":[");
    for (index, fragment) in request.input.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(fragment);
    }
    body.push(b']');
    let has_tools = &request.tools.bytes[..] != b"[]";
    if has_tools {
        member(&mut body, "tools", &request.tools.bytes);
        member(&mut body, "tool_choice", b"\"auto\"");
        if capabilities.parallel_tool_calls {
            member(&mut body, "parallel_tool_calls", b"true");
        }
    }
    if let Some(reasoning) = reasoning(request, capabilities) {
        member(&mut body, "reasoning", reasoning.to_string().as_bytes());
    }
    member(&mut body, "store", b"false");
    if capabilities.encrypted_reasoning {
        member(&mut body, "include", b"[\"reasoning.encrypted_content\"]");
    }
    if capabilities.prompt_cache_key {
        member(&mut body, "prompt_cache_key", &json_string(&request.thread_id));
    }
    body.push(b'}');
    body.into()
}

fn member(body: &mut Vec<u8>, name: &str, value: &[u8]) {
    body.extend_from_slice(b",\"");
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\":");
    body.extend_from_slice(value);
}

fn json_string(text: &str) -> Vec<u8> {
    Value::from(text).to_string().into_bytes()
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
