//! Requests of the Messages API.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Fault, Received, Rule, Seen, cache_markers::without_markers, has_part, must_stream, signature_of,
    texts_of, without_brackets,
};

/// How many cache markers the API takes.
const MAX_CACHE_MARKERS: usize = 4;

#[derive(Deserialize)]
struct Body<'a> {
    model: String,
    max_tokens: u64,
    #[serde(default)]
    stream: bool,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: &'a RawValue,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    thinking: Option<Thinking>,
    compaction: Option<Value>,
}

#[derive(Deserialize)]
struct Thinking {
    budget_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    content: Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    User,
    Assistant,
}

/// A message whose blocks were checked.
struct Checked<'a> {
    role: Role,
    blocks: Vec<Block<'a>>,
}

/// A block of a message.
#[derive(Clone, Copy)]
enum Block<'a> {
    Text(&'a str),
    Thinking,
    ToolUse(&'a str),
    ToolResult(&'a str, Option<&'a Value>),
    /// An image, or something that only the API itself reads.
    Other,
}

pub(super) fn parse(body: &[u8], mut seen: Seen) -> Result<Received, String> {
    let request: Body<'_> = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    must_stream(request.stream)?;
    if request.max_tokens == 0 {
        return Err("max_tokens: must be at least 1".to_owned());
    }
    if request
        .thinking
        .and_then(|thinking| thinking.budget_tokens)
        .is_some_and(|most| most >= request.max_tokens)
    {
        return Err("`max_tokens` must be greater than `thinking.budget_tokens`".to_owned());
    }
    let messages: Vec<Message> =
        serde_json::from_str(request.messages.get()).map_err(|error| format!("messages: {error}"))?;
    let checked = checked(&messages)?;
    for message in &checked {
        message.read(&mut seen);
    }
    seen.compaction = request.compaction.is_some();
    if !asks_rightly(request.compaction.as_ref(), &messages, &seen) {
        return Err(
            "compaction: needs {\"type\": \"summarize\"} and the header anthropic-beta: compact-2026-09-04"
                .to_owned(),
        );
    }
    let tools = read_tools(request.tools, &mut seen)?;
    let system = read_system(request.system, &mut seen)?;
    seen.model = request.model;
    seen.cache_markers = markers(&tools)
        + markers(&system)
        + messages.iter().map(|message| markers(&message.content)).sum::<usize>();
    if seen.cache_markers > MAX_CACHE_MARKERS {
        return Err(format!(
            "A maximum of {MAX_CACHE_MARKERS} blocks with cache_control may be provided. Found {}.",
            seen.cache_markers
        ));
    }
    let raw = |part: Option<&RawValue>| part.map_or(String::new(), |part| without_markers(part.get()));
    let input = format!(
        "{}\n{}\n{}",
        raw(request.tools),
        raw(request.system),
        without_markers(without_brackets(request.messages))
    );
    let thread = seen.thread(None);
    Ok(Received { seen, thread, input, faults: faults(&checked) })
}

/// Whether everything about compaction is as the API wants it: the parameter, and the header with it and with every
/// payload.
fn asks_rightly(parameter: Option<&Value>, messages: &[Message], seen: &Seen) -> bool {
    let summarizes =
        parameter.is_none_or(|parameter| parameter.get("type").is_some_and(|kind| kind == "summarize"));
    let named = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("anthropic-beta")
            && value.split(',').any(|beta| beta.trim() == "compact-2026-09-04")
    };
    let needed = parameter.is_some() || messages.iter().any(Message::is_payload);
    summarizes && (!needed || seen.headers.iter().any(named))
}

fn checked(messages: &[Message]) -> Result<Vec<Checked<'_>>, String> {
    if messages.first().is_none_or(|message| message.role == Role::Assistant && !message.is_payload()) {
        return Err("messages: first message must use the \"user\" role".to_owned());
    }
    let checked: Vec<Checked<'_>> = messages
        .iter()
        .enumerate()
        .map(|(index, message)| message.check().map_err(|problem| format!("messages.{index}.{problem}")))
        .collect::<Result<_, _>>()?;
    // A turn that the API paused within one of its own tools is sent back as it is.
    let paused = |message: &Checked<'_>| matches!(message.blocks.last(), Some(Block::Other));
    match checked.last() {
        Some(last) if last.role == Role::Assistant && !paused(last) => {
            Err("This model does not support assistant message prefill. The conversation must end with a user message."
                .to_owned())
        }
        Some(_) | None => Ok(checked),
    }
}

/// The names of the tools; gives the list itself.
fn read_tools(tools: Option<&RawValue>, seen: &mut Seen) -> Result<Value, String> {
    let tools: Value = parsed("tools", tools)?;
    for (index, tool) in tools.as_array().into_iter().flatten().enumerate() {
        let name = tool.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("tools.{index}.name: Field required"))?;
        let function = tool.get("type").is_none_or(|kind| kind == "custom");
        if function && !tool.get("input_schema").is_some_and(Value::is_object) {
            return Err(format!("tools.{index}.input_schema: Field required"));
        }
        seen.tools.push(name.to_owned());
    }
    Ok(tools)
}

/// The system text; gives the blocks.
fn read_system(system: Option<&RawValue>, seen: &mut Seen) -> Result<Value, String> {
    let system: Value = parsed("system", system)?;
    for (index, text) in texts_of(Some(&system)).into_iter().enumerate() {
        if text.is_empty() && system.is_array() {
            return Err(format!("system.{index}: text content blocks must be non-empty"));
        }
        seen.instruct(text);
    }
    Ok(system)
}

fn parsed(name: &str, part: Option<&RawValue>) -> Result<Value, String> {
    let value = part.map(|part| serde_json::from_str(part.get())).transpose();
    Ok(value.map_err(|error| format!("{name}: {error}"))?.unwrap_or_default())
}

/// How many blocks of a list carry a cache marker, those within the results of tools too.
fn markers(content: &Value) -> usize {
    let marked = |block: &Value| block.get("cache_control").is_some_and(|marker| !marker.is_null());
    let blocks = content.as_array().into_iter().flatten();
    blocks.map(|block| usize::from(marked(block)) + block.get("content").map_or(0, markers)).sum()
}

impl Message {
    /// Whether it begins with what a compaction gave.
    fn is_payload(&self) -> bool {
        let first = self.content.as_array().and_then(|blocks| blocks.first());
        first.and_then(|block| block.get("type")).is_some_and(|kind| kind == "compaction")
    }

    fn check(&self) -> Result<Checked<'_>, String> {
        let blocks = match &self.content {
            Value::String(text) if text.is_empty() => {
                return Err("content: all messages must have non-empty content".to_owned());
            }
            Value::String(text) => vec![Block::Text(text)],
            Value::Array(blocks) if !blocks.is_empty() => blocks
                .iter()
                .enumerate()
                .map(|(index, block)| {
                    self.block(block).map_err(|problem| format!("content.{index}: {problem}"))
                })
                .collect::<Result<_, _>>()?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err("content: a text or at least one block is needed".to_owned());
            }
        };
        Ok(Checked { role: self.role, blocks })
    }

    /// Reads a block.
    ///
    /// # Errors
    /// What the API refuses in it.
    fn block<'a>(&self, block: &'a Value) -> Result<Block<'a>, String> {
        let text = |member: &str| {
            let text = block.get(member).and_then(Value::as_str);
            text.ok_or_else(|| format!("{member}: Field required"))
        };
        let kind = text("type")?;
        let speaker = match kind {
            "tool_use" | "thinking" | "redacted_thinking" => Role::Assistant,
            "tool_result" => Role::User,
            _ => self.role,
        };
        if speaker != self.role {
            return Err(format!("`{kind}` blocks can not be in {} messages", self.role.name()));
        }
        match kind {
            "text" => match text("text")? {
                "" => Err("text content blocks must be non-empty".to_owned()),
                text if text.trim().is_empty() => {
                    Err("text content blocks must contain non-whitespace text".to_owned())
                }
                text => Ok(Block::Text(text)),
            },
            "thinking" => {
                if block.get("cache_control").is_some() {
                    return Err("cache_control cannot be set for thinking blocks".to_owned());
                }
                // As the real one does, so that it is noticed when a client changes a block.
                if text("signature")? != signature_of(text("thinking")?) {
                    return Err("Invalid `signature` in `thinking` block".to_owned());
                }
                Ok(Block::Thinking)
            }
            "tool_use" => {
                let id = text("id")?;
                let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                if id.is_empty() || !id.chars().all(valid) {
                    return Err(format!("id: {id:?} should match ^[a-zA-Z0-9_-]+$"));
                }
                if text("name")?.is_empty() {
                    return Err("name: should have at least 1 character".to_owned());
                }
                if !block.get("input").is_some_and(Value::is_object) {
                    return Err("input: Input should be a valid dictionary".to_owned());
                }
                Ok(Block::ToolUse(id))
            }
            "tool_result" => Ok(Block::ToolResult(text("tool_use_id")?, block.get("content"))),
            _ => Ok(Block::Other),
        }
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl<'a> Checked<'a> {
    /// A text block of a user message counts as a message, since clients join messages here.
    fn read(&self, seen: &mut Seen) {
        for block in &self.blocks {
            match (self.role, block) {
                (Role::System, Block::Text(text)) => seen.instruct(text),
                (Role::User, Block::Text(text)) => seen.user.push((*text).to_owned()),
                (_, Block::ToolResult(_, content)) => seen.outputs.push(texts_of(*content).concat()),
                (_, Block::Text(_) | Block::Thinking | Block::ToolUse(_) | Block::Other) => {}
            }
        }
    }

    fn calls(&self) -> Vec<&'a str> {
        let id = |block: &Block<'a>| if let Block::ToolUse(id) = *block { Some(id) } else { None };
        self.blocks.iter().filter_map(id).collect()
    }

    /// The calls that its results answer, and whether the results stand before everything else.
    fn results(&self) -> (Vec<&'a str>, bool) {
        let id = |block: &Block<'a>| if let Block::ToolResult(id, _) = *block { Some(id) } else { None };
        let results: Vec<&str> = self.blocks.iter().filter_map(id).collect();
        let first = self.blocks.iter().take_while(|block| id(block).is_some()).count();
        (results.clone(), first == results.len())
    }
}

fn faults(messages: &[Checked<'_>]) -> Vec<Fault> {
    let rules = [unpaired, system, not_alternating, without_reasoning, image_in_result];
    rules.iter().filter_map(|rule| rule(messages)).collect()
}

fn image_in_result(messages: &[Checked<'_>]) -> Option<Fault> {
    let shows =
        |block: &Block<'_>| matches!(block, Block::ToolResult(_, content) if has_part(*content, "image"));
    let index = messages.iter().position(|message| message.blocks.iter().any(shows))?;
    Some(Rule::NoOutputImages.broken(format!("messages.{index}: `tool_result` takes only text")))
}

/// The message after one with calls begins with their results, in the order of the calls. No two calls
/// have the same id.
fn unpaired(messages: &[Checked<'_>]) -> Option<Fault> {
    let mut open: Vec<&str> = Vec::new();
    let mut known = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let (results, first) = message.results();
        let missing = open.iter().find(|id| !results.contains(id));
        let unexpected = results.iter().find(|id| !open.contains(id));
        let problem = if let Some(id) = missing {
            Some(format!("call {id:?} has no `tool_result` in the message right after it, messages.{index}"))
        } else if let Some(id) = unexpected {
            Some(format!("messages.{index}: the message before has no `tool_use` for the result of {id:?}"))
        } else if results != open {
            Some(format!("messages.{index}: results must come once each, in the order of the calls {open:?}"))
        } else if !first {
            Some(format!("messages.{index}: `tool_result` blocks must come before all others"))
        } else {
            open = message.calls();
            let again = open.iter().find(|id| !known.insert(**id));
            again.map(|id| format!("messages.{index}: `tool_use` ids must be unique, and {id:?} is not"))
        };
        if let Some(problem) = problem {
            return Some(Rule::Pairing.broken(problem));
        }
    }
    let id = open.first()?;
    Some(Rule::Pairing.broken(format!("no `tool_result` found for call {id:?}")))
}

fn system(messages: &[Checked<'_>]) -> Option<Fault> {
    let index = messages.iter().position(|message| message.role == Role::System)?;
    Some(Rule::SystemFirst.broken(format!("messages.{index}: system text belongs into `system`")))
}

fn not_alternating(messages: &[Checked<'_>]) -> Option<Fault> {
    let second = (1..messages.len()).find(|&second| messages[second].role == messages[second - 1].role)?;
    let problem = format!("messages.{second}: roles must alternate between \"user\" and \"assistant\"");
    Some(Rule::Alternation.broken(problem))
}

/// Thinking that was redacted counts: it is a block that only the API reads.
fn without_reasoning(messages: &[Checked<'_>]) -> Option<Fault> {
    let begins =
        |message: &Checked<'_>| matches!(message.blocks.first(), Some(Block::Thinking | Block::Other));
    let missing = |message: &Checked<'_>| !message.calls().is_empty() && !begins(message);
    let index = messages.iter().position(missing)?;
    let problem = format!("messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`");
    Some(Rule::ReasoningBack.broken(problem))
}

#[cfg(test)]
mod tests;
