//! What a scripted model reads of a request, and the mistakes that a real server would refuse.

mod cache_markers;
mod chat;
mod messages;
mod parameters;
mod responses;

use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

/// The API that a request is written for, and its answer with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// The Responses API.
    #[default]
    Responses,
    /// The Chat Completions API.
    Chat,
    /// The Messages API.
    Messages,
}

/// What conditions and captures look at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The API that was asked.
    pub api: Api,
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
    /// Whether Chat Completions is asked to say what the answer cost.
    pub wants_usage: bool,
    /// How many cache markers a request of the Messages API has.
    pub cache_markers: usize,
    /// Whether the provider itself is asked to compact the thread.
    pub compaction: bool,
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
    /// The bytes that the next request must begin with: the history without its brackets and without cache
    /// markers, after the tools and the system text where the API's cache holds them too.
    pub input: String,
    /// The rules that the request breaks, each once.
    pub faults: Vec<Fault>,
}

/// A rule that a request breaks, which a script may allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule.
    pub rule: Rule,
    /// What breaks it, in words.
    pub problem: String,
}

/// A rule for requests that a script can switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every call has exactly one output, where the API wants it.
    Pairing,
    /// System and developer messages stand before all others.
    SystemFirst,
    /// Only the first message is a system message, and none is a developer's.
    SystemOnlyFirst,
    /// No two messages in a row have the same role.
    Alternation,
    /// Nothing but the parameters that every server knows.
    KnownParameters,
    /// The reasoning before calls is brought back.
    ReasoningBack,
    /// No reasoning is brought back.
    NoReasoning,
    /// No output of a tool holds an image.
    NoOutputImages,
}

impl Rule {
    /// The code in the error object of a request that breaks the rule.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pairing => "unpaired_call",
            Self::SystemFirst | Self::SystemOnlyFirst => "system_not_first",
            Self::Alternation => "roles_not_alternating",
            Self::KnownParameters => "unknown_parameter",
            Self::ReasoningBack => "missing_reasoning",
            Self::NoReasoning => "unexpected_reasoning",
            Self::NoOutputImages => "image_in_output",
        }
    }

    fn broken(self, problem: impl Into<String>) -> Fault {
        Fault { rule: self, problem: problem.into() }
    }
}

impl Received {
    /// Reads a request's body and headers.
    ///
    /// # Errors
    /// What every server would refuse, in words.
    pub fn parse(api: Api, body: &[u8], headers: Vec<(String, String)>) -> Result<Self, String> {
        let seen = Seen { api, headers, body_bytes: body.len() as u64, ..Seen::default() };
        let mut received = match api {
            Api::Responses => responses::parse(body, seen)?,
            Api::Chat => chat::parse(body, seen)?,
            Api::Messages => messages::parse(body, seen)?,
        };
        received.faults.extend(parameters::unknown(api, body));
        Ok(received)
    }
}

impl Seen {
    /// What the thread is known by: the cache key, else the header, else the first user message, which
    /// never changes.
    fn thread(&self, cache_key: Option<String>) -> String {
        let header = || {
            let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case("thread-id"));
            found.map(|(_, value)| value.clone())
        };
        cache_key.or_else(header).unwrap_or_else(|| digest(self.user.first().map_or("", String::as_str)))
    }

    fn instruct(&mut self, text: &str) {
        if !self.instructions.is_empty() {
            self.instructions.push('\n');
        }
        self.instructions.push_str(text);
    }
}

/// What the Messages API signs thinking with here: of another text it is another.
pub fn signature_of(thinking: &str) -> String {
    format!("scripted{}", digest(thinking))
}

/// The text of a content: a string, or its parts of text one after the other.
fn text_of(content: Option<&Value>) -> String {
    texts_of(content).concat()
}

/// The texts of a content: a string, or its parts of text.
fn texts_of(content: Option<&Value>) -> Vec<&str> {
    match content {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}

/// Whether a content has a part of this type.
fn has_part(content: Option<&Value>, kind: &str) -> bool {
    let parts = content.and_then(Value::as_array).into_iter().flatten();
    parts.filter_map(|part| part.get("type")).any(|part| part == kind)
}

/// The entries of a list as they came, or the whole value where it is none.
fn without_brackets(list: &RawValue) -> &str {
    let list = list.get();
    list.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(list)
}

fn must_stream(stream: bool) -> Result<(), String> {
    if stream { Ok(()) } else { Err("the scripted model only streams: set `stream` to true".to_owned()) }
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests;
