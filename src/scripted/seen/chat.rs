//! Requests of the Chat Completions API.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Fault, Received, Rule, Seen, must_stream, text_of, texts_of, without_brackets};

#[derive(Deserialize)]
struct Body<'a> {
    model: String,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    #[serde(borrow)]
    messages: &'a RawValue,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    prompt_cache_key: Option<String>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Tool {
    Function {
        function: Named,
    },
    Custom {
        custom: Named,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    content: Option<Value>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Value>>,
    tool_call_id: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

pub(super) fn parse(body: &[u8], mut seen: Seen) -> Result<Received, String> {
    let request: Body<'_> = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    must_stream(request.stream)?;
    let messages = messages(request.messages)?;
    for (index, message) in messages.iter().enumerate() {
        message.validate().map_err(|problem| format!("`messages[{index}]`: {problem}"))?;
        message.read(&mut seen);
    }
    seen.model = request.model;
    seen.wants_usage = request.stream_options.is_some_and(|options| options.include_usage);
    let tools = request.tools.map_or("", RawValue::get);
    read_tools(tools, &mut seen)?;
    let thread = seen.thread(request.prompt_cache_key);
    let input = format!("{tools}\n{}", without_brackets(request.messages));
    Ok(Received { seen, thread, input, faults: faults(&messages) })
}

fn messages(raw: &RawValue) -> Result<Vec<Message>, String> {
    let values: Vec<Value> =
        serde_json::from_str(raw.get()).map_err(|error| format!("`messages`: {error}"))?;
    if values.is_empty() {
        return Err("`messages`: at least one is needed".to_owned());
    }
    let read = |(index, value)| {
        serde_json::from_value(value).map_err(|error| format!("`messages[{index}]`: {error}"))
    };
    values.into_iter().enumerate().map(read).collect()
}

fn read_tools(tools: &str, seen: &mut Seen) -> Result<(), String> {
    if tools.is_empty() {
        return Ok(());
    }
    let tools: Vec<Tool> = serde_json::from_str(tools).map_err(|error| format!("`tools`: {error}"))?;
    for tool in tools {
        match tool {
            Tool::Function { function } => seen.tools.push(function.name),
            Tool::Custom { custom } => {
                seen.tools.push(custom.name.clone());
                seen.custom_tools.push(custom.name);
            }
            Tool::Other => {}
        }
    }
    Ok(())
}

impl Message {
    /// What every server refuses in a message by itself.
    fn validate(&self) -> Result<(), String> {
        match self.role {
            Role::System | Role::Developer | Role::User => {
                if self.content.is_none() {
                    return Err("`content` is missing".to_owned());
                }
            }
            Role::Assistant => {
                if self.content.is_none() && self.refusal.is_none() && self.calls().is_empty() {
                    return Err("`content` or `tool_calls` is needed".to_owned());
                }
                for call in self.calls() {
                    validate_call(call)?;
                }
            }
            Role::Tool => {
                if self.tool_call_id.is_none() {
                    return Err("`tool_call_id` is missing".to_owned());
                }
                let text = |part: &Value| part.get("type").is_some_and(|kind| kind == "text");
                match &self.content {
                    Some(Value::String(_)) => {}
                    Some(Value::Array(parts)) if parts.iter().all(text) => {}
                    Some(_) | None => return Err("the content of a tool message is text".to_owned()),
                }
            }
        }
        Ok(())
    }

    /// A text part of a user message counts as a message, since clients join messages here.
    fn read(&self, seen: &mut Seen) {
        match self.role {
            Role::System | Role::Developer => seen.instruct(&text_of(self.content.as_ref())),
            Role::User => seen.user.extend(texts_of(self.content.as_ref()).into_iter().map(str::to_owned)),
            Role::Tool => seen.outputs.push(text_of(self.content.as_ref())),
            Role::Assistant => {}
        }
    }

    fn calls(&self) -> &[Value] {
        self.tool_calls.as_deref().unwrap_or_default()
    }

    fn reasoning(&self) -> Option<&str> {
        self.reasoning_content.as_deref().or(self.reasoning.as_deref())
    }
}

fn validate_call(call: &Value) -> Result<(), String> {
    let is_text = |pointer: &str| call.pointer(pointer).is_some_and(Value::is_string);
    let members: &[&str] = match call.get("type").and_then(Value::as_str) {
        Some("function") => &["/id", "/function/name", "/function/arguments"],
        Some("custom") => &["/id", "/custom/name", "/custom/input"],
        Some(_) | None => return Err("the type of a call is `function` or `custom`".to_owned()),
    };
    match members.iter().find(|member| !is_text(member)) {
        Some(member) => Err(format!("a call has no text `{}`", member[1..].replace('/', "."))),
        None => Ok(()),
    }
}

fn faults(messages: &[Message]) -> Vec<Fault> {
    let rules = [unpaired, late_system, other_system, not_alternating, without_reasoning, with_reasoning];
    rules.iter().filter_map(|rule| rule(messages)).collect()
}

/// Right after a message with calls come their outputs, in the order of the calls.
fn unpaired(messages: &[Message]) -> Option<Fault> {
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let problem = match (open.first().copied(), message.role) {
            (Some(id), Role::Tool) if message.tool_call_id.as_deref() == Some(id) => {
                open.remove(0);
                continue;
            }
            (Some(id), Role::Tool) => {
                let given = message.tool_call_id.as_deref().unwrap_or_default();
                format!("`messages[{index}]` is the output of call {given:?}, and call {id:?} is next")
            }
            (Some(id), Role::System | Role::Developer | Role::User | Role::Assistant) => {
                format!("no tool output found for call {id:?} before `messages[{index}]`")
            }
            (None, Role::Tool) => {
                let given = message.tool_call_id.as_deref().unwrap_or_default();
                format!("no unanswered tool call found for the output of call {given:?}, `messages[{index}]`")
            }
            (None, Role::System | Role::Developer | Role::User | Role::Assistant) => {
                let ids = message.calls().iter().filter_map(|call| call.get("id").and_then(Value::as_str));
                open.extend(ids);
                continue;
            }
        };
        return Some(Rule::Pairing.broken(problem));
    }
    let id = open.first()?;
    Some(Rule::Pairing.broken(format!("no tool output found for call {id:?}")))
}

fn late_system(messages: &[Message]) -> Option<Fault> {
    let is_system = |message: &Message| matches!(message.role, Role::System | Role::Developer);
    let head = messages.iter().take_while(|message| is_system(message)).count();
    let late = head + messages[head..].iter().position(is_system)?;
    Some(Rule::SystemFirst.broken(format!("system message must be at the beginning, not `messages[{late}]`")))
}

fn other_system(messages: &[Message]) -> Option<Fault> {
    let other = messages.iter().enumerate().position(|(index, message)| match message.role {
        Role::System => index > 0,
        Role::Developer => true,
        Role::User | Role::Assistant | Role::Tool => false,
    })?;
    let problem = format!("only the first message may be a system message, not `messages[{other}]`");
    Some(Rule::SystemOnlyFirst.broken(problem))
}

/// The outputs of parallel calls stand in a row everywhere, so only what people and models say counts.
fn not_alternating(messages: &[Message]) -> Option<Fault> {
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    let spoken = |&second: &usize| matches!(roles[second], Role::User | Role::Assistant);
    let second = (1..roles.len()).filter(spoken).find(|&second| roles[second] == roles[second - 1])?;
    let problem =
        format!("conversation roles must alternate user/assistant, and `messages[{second}]` does not");
    Some(Rule::Alternation.broken(problem))
}

fn without_reasoning(messages: &[Message]) -> Option<Fault> {
    let missing =
        |message: &Message| !message.calls().is_empty() && message.reasoning().is_none_or(str::is_empty);
    let index = messages.iter().position(missing)?;
    let problem = format!("the `reasoning_content` of `messages[{index}]` must be passed back to the API");
    Some(Rule::ReasoningBack.broken(problem))
}

fn with_reasoning(messages: &[Message]) -> Option<Fault> {
    let index = messages.iter().position(|message| message.reasoning().is_some())?;
    Some(Rule::NoReasoning.broken(format!("`messages[{index}]` has `reasoning_content`, which is no input")))
}

#[cfg(test)]
mod tests;
