//! Requests of the Responses API.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Fault, Received, Rule, Seen, has_part, must_stream, text_of, without_brackets};

#[derive(Deserialize)]
struct Body<'a> {
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(borrow)]
    input: &'a RawValue,
    instructions: Option<String>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    include: Vec<String>,
    prompt_cache_key: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct InputItem {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Value>,
    output: Option<Value>,
    call_id: Option<String>,
}

pub(super) fn parse(body: &[u8], mut seen: Seen) -> Result<Received, String> {
    let request: Body<'_> = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    must_stream(request.stream)?;
    let items: Vec<InputItem> = match serde_json::from_str(request.input.get()) {
        Ok(Value::String(text)) => vec![InputItem::user(text)],
        Ok(list) => serde_json::from_value(list).map_err(|error| format!("`input`: {error}"))?,
        Err(error) => return Err(format!("`input`: {error}")),
    };
    let custom = |tool: &&Tool| tool.kind == "custom";
    seen.model = request.model;
    seen.instructions = request.instructions.unwrap_or_default();
    seen.tools = request.tools.iter().filter_map(|tool| tool.name.clone()).collect();
    seen.custom_tools = request.tools.iter().filter(custom).filter_map(|tool| tool.name.clone()).collect();
    seen.wants_encrypted_reasoning = request.include.iter().any(|part| part == "reasoning.encrypted_content");
    for item in &items {
        item.read(&mut seen);
    }
    let last = items.last().and_then(|item| item.kind.as_deref());
    seen.compaction = last == Some("compaction_trigger");
    let thread = seen.thread(request.prompt_cache_key);
    let input = without_brackets(request.input).to_owned();
    Ok(Received { seen, thread, input, faults: faults(&items) })
}

impl InputItem {
    fn user(text: String) -> Self {
        Self {
            kind: None,
            role: Some("user".into()),
            content: Some(text.into()),
            output: None,
            call_id: None,
        }
    }

    fn read(&self, seen: &mut Seen) {
        match (self.kind.as_deref(), self.role.as_deref()) {
            (Some("message") | None, Some("user")) => seen.user.push(text_of(self.content.as_ref())),
            (Some("message") | None, Some("developer" | "system")) => {
                seen.instruct(&text_of(self.content.as_ref()));
            }
            (Some("function_call_output" | "custom_tool_call_output"), _) => {
                seen.outputs.push(text_of(self.output.as_ref()));
            }
            (Some(_) | None, _) => {}
        }
    }
}

fn faults(items: &[InputItem]) -> Vec<Fault> {
    let rules = [unpaired, unreasoned, other_system, image_in_output];
    rules.iter().filter_map(|rule| rule(items)).collect()
}

fn image_in_output(items: &[InputItem]) -> Option<Fault> {
    let index = items.iter().position(|item| has_part(item.output.as_ref(), "input_image"))?;
    Some(Rule::NoOutputImages.broken(format!("`input[{index}].output`: only text is taken")))
}

/// As the chat templates of many models want it, which servers of this API use too.
fn other_system(items: &[InputItem]) -> Option<Fault> {
    let other = items.iter().enumerate().position(|(index, item)| {
        let is_message = matches!(item.kind.as_deref(), Some("message") | None);
        match item.role.as_deref() {
            Some("system") => is_message && index > 0,
            Some("developer") => is_message,
            Some(_) | None => false,
        }
    })?;
    let problem = format!("only the first message may be a system message, not `input[{other}]`");
    Some(Rule::SystemOnlyFirst.broken(problem))
}

/// Before the calls of an answer comes its reasoning.
fn unreasoned(items: &[InputItem]) -> Option<Fault> {
    let mut reasoned = false;
    for item in items {
        match item.kind.as_deref() {
            Some("reasoning") => reasoned = true,
            Some("function_call_output" | "custom_tool_call_output") => reasoned = false,
            Some(kind @ ("function_call" | "custom_tool_call")) if !reasoned => {
                let id = item.call_id.as_deref().unwrap_or_default();
                let problem = format!("the {kind} {id:?} came without its required `reasoning` item");
                return Some(Rule::ReasoningBack.broken(problem));
            }
            Some(_) | None => {}
        }
    }
    None
}

/// Every call has exactly one output, after it and of its kind. Ids may come again once answered.
fn unpaired(items: &[InputItem]) -> Option<Fault> {
    let mut open: HashMap<&str, &str> = HashMap::new();
    for item in items {
        let id = item.call_id.as_deref().unwrap_or_default();
        match item.kind.as_deref() {
            Some("function_call") => {
                open.insert(id, "function_call_output");
            }
            Some("custom_tool_call") => {
                open.insert(id, "custom_tool_call_output");
            }
            Some(kind @ ("function_call_output" | "custom_tool_call_output")) => {
                let problem = match open.remove(id) {
                    Some(expected) if expected == kind => continue,
                    Some(expected) => format!("call {id:?} needs a {expected}, not a {kind}"),
                    None => format!("no unanswered tool call found for the {kind} of call {id:?}"),
                };
                return Some(Rule::Pairing.broken(problem));
            }
            Some(_) | None => {}
        }
    }
    let id = open.keys().min()?;
    Some(Rule::Pairing.broken(format!("no tool output found for call {id:?}")))
}

#[cfg(test)]
mod tests;
