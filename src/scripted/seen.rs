//! What a scripted model reads of a request, and the mistakes that a real server would refuse.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

/// What conditions and captures look at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The model's name.
    pub model: String,
    /// All developer and system text.
    pub instructions: String,
    /// The user messages.
    pub user: Vec<String>,
    /// The tool outputs.
    pub outputs: Vec<String>,
    /// The names of the tools that are offered.
    pub tools: Vec<String>,
    /// The names of those that take free text.
    pub custom_tools: Vec<String>,
    /// The HTTP headers that are text.
    pub headers: Vec<(String, String)>,
    /// The number of the request in its thread, counted from 1.
    pub request: u32,
    /// Whether encrypted reasoning is asked for.
    pub wants_encrypted_reasoning: bool,
    /// The size of the body in bytes.
    pub body_bytes: u64,
}

/// A request as it came.
#[derive(Debug)]
pub struct Received {
    /// What scripts see, but for the number of the request, which the thread's state knows.
    pub seen: Seen,
    /// What the request's thread is known by.
    pub thread: String,
    /// The bytes of the input array without its brackets.
    pub input: String,
    /// A call without output, an output without call, or a second output; in words.
    pub unpaired: Option<String>,
}

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

impl Received {
    /// Reads a request's body and headers.
    ///
    /// # Errors
    /// What a server would refuse, in words.
    pub fn parse(body: &[u8], headers: Vec<(String, String)>) -> Result<Self, String> {
        let request: Body<'_> = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
        if !request.stream {
            return Err("the scripted model only streams: set `stream` to true".to_owned());
        }
        let items: Vec<InputItem> = match serde_json::from_str(request.input.get()) {
            Ok(Value::String(text)) => vec![InputItem::user(text)],
            Ok(list) => serde_json::from_value(list).map_err(|error| format!("`input`: {error}"))?,
            Err(error) => return Err(format!("`input`: {error}")),
        };
        let custom = |tool: &&Tool| tool.kind == "custom";
        let mut seen = Seen {
            model: request.model,
            instructions: request.instructions.unwrap_or_default(),
            tools: request.tools.iter().filter_map(|tool| tool.name.clone()).collect(),
            custom_tools: request.tools.iter().filter(custom).filter_map(|tool| tool.name.clone()).collect(),
            wants_encrypted_reasoning: request
                .include
                .iter()
                .any(|part| part == "reasoning.encrypted_content"),
            body_bytes: body.len() as u64,
            headers,
            ..Seen::default()
        };
        for item in &items {
            item.read(&mut seen);
        }
        let header = |name: &str| {
            let found = seen.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let thread =
            request.prompt_cache_key.or_else(|| header("thread-id")).unwrap_or_else(|| digest(&seen.user));
        let input = request.input.get();
        let input =
            input.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(input).to_owned();
        Ok(Self { seen, thread, input, unpaired: unpaired(&items) })
    }
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
                if !seen.instructions.is_empty() {
                    seen.instructions.push('\n');
                }
                seen.instructions.push_str(&text_of(self.content.as_ref()));
            }
            (Some("function_call_output" | "custom_tool_call_output"), _) => {
                seen.outputs.push(text_of(self.output.as_ref()));
            }
            (Some(_) | None, _) => {}
        }
    }
}

/// The text of a content: a string, or its parts of text one after the other.
fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    }
}

/// Every call has exactly one output, after it and of its kind. Ids may come again once answered.
fn unpaired(items: &[InputItem]) -> Option<String> {
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
            Some(kind @ ("function_call_output" | "custom_tool_call_output")) => match open.remove(id) {
                Some(expected) if expected == kind => {}
                Some(expected) => return Some(format!("call {id:?} needs a {expected}, not a {kind}")),
                None => return Some(format!("no unanswered tool call found for the {kind} of call {id:?}")),
            },
            Some(_) | None => {}
        }
    }
    let id = open.keys().min()?;
    Some(format!("no tool output found for call {id:?}"))
}

/// A name for a thread that has none: its first user messages never change.
fn digest(user: &[String]) -> String {
    let first = user.first().map_or("", String::as_str);
    Sha256::digest(first).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<Received, String> {
        Received::parse(body.to_string().as_bytes(), vec![])
    }

    fn paired(items: Value) -> Option<String> {
        parse(&json!({"model": "m", "stream": true, "input": items})).unwrap().unpaired
    }

    #[test]
    fn a_request_is_read_as_scripts_see_it() {
        let received = parse(&json!({
            "model": "m", "stream": true, "instructions": "base", "include": ["reasoning.encrypted_content"],
            "input": [
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "dev"}]},
                {"role": "user", "content": "one"},
                {"type": "message", "role": "user", "content": [{"text": "two "}, {"image_url": "x"}, {"text": "three"}]},
                {"type": "message", "role": "assistant", "content": []},
                {"type": "reasoning", "summary": []},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "out"},
            ],
            "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}, {"type": "web_search"}],
        }))
        .unwrap();
        assert_eq!(received.seen.instructions, "base\ndev");
        assert_eq!(received.seen.user, ["one", "two three"]);
        assert_eq!(received.seen.outputs, ["out"]);
        assert_eq!(received.seen.tools, ["f", "g"]);
        assert_eq!(received.seen.custom_tools, ["g"]);
        assert!(received.seen.wants_encrypted_reasoning);
        assert_eq!(received.unpaired, None);
    }

    #[test]
    fn a_thread_is_known_by_key_header_or_first_message() {
        let body = json!({"model": "m", "stream": true, "input": "hello", "prompt_cache_key": "k"});
        assert_eq!(parse(&body).unwrap().thread, "k");
        let body = json!({"model": "m", "stream": true, "input": "hello"}).to_string();
        let headers = vec![("Thread-Id".to_owned(), "t".to_owned())];
        assert_eq!(Received::parse(body.as_bytes(), headers).unwrap().thread, "t");
        let longer = json!({"model": "m", "stream": true, "input": [{"role": "user", "content": "hello"}, {"role": "user", "content": "more"}]});
        let unnamed = Received::parse(body.as_bytes(), vec![]).unwrap().thread;
        assert_eq!(parse(&longer).unwrap().thread, unnamed);
    }

    #[test]
    fn unpaired_calls_and_outputs_are_named() {
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": ""});
        let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": ""});
        assert_eq!(
            paired(json!([call("a"), call("b"), output("b"), output("a"), call("a"), output("a")])),
            None
        );
        assert_eq!(paired(json!([call("a")])).unwrap(), "no tool output found for call \"a\"");
        assert!(paired(json!([output("a")])).is_some());
        assert!(paired(json!([call("a"), output("a"), output("a")])).is_some());
        let custom = json!({"type": "custom_tool_call", "call_id": "a", "name": "f", "input": ""});
        assert!(paired(json!([custom, output("a")])).unwrap().contains("custom_tool_call_output"));
    }

    #[test]
    fn what_a_server_would_refuse_is_refused() {
        for body in [
            json!({"model": "m", "input": []}),
            json!({"stream": true, "input": []}),
            json!({"model": "m", "stream": true}),
            json!({"model": "m", "stream": true, "input": [7]}),
        ] {
            assert!(parse(&body).is_err(), "{body}");
        }
    }
}
