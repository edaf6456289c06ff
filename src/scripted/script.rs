//! The format of a script.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{capture::Capture, condition::Condition, template};

/// The script that is played when none is given: it says what it is.
const DEFAULT_SCRIPT: &str = include_str!("../../config/samples/scripts/default.yaml");

/// The longest pause that a script may make: one hour outlasts every timeout that it could test.
const MAX_PAUSE_MILLIS: u64 = 3_600_000;

/// A script that cannot be played.
#[derive(Debug, Error)]
pub enum ScriptError {
    /// It is no YAML, or has fields that no script has. The text names line and column.
    #[error("{0}")]
    Format(#[from] Box<serde_saphyr::Error>),
    /// It contradicts itself.
    #[error("{path}: {problem}")]
    Invalid {
        /// Where: the scenario's name and the number of the reply.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// A whole script.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    /// The models that exist; a request for another is refused as by a real server. Empty: every name.
    #[serde(default)]
    pub models: Vec<String>,
    /// The key that requests must carry as a bearer token. Absent: none is needed.
    pub api_key: Option<String>,
    /// What every request is checked for, whatever its scenario expects.
    #[serde(default)]
    pub checks: Checks,
    /// How fast replies are written.
    #[serde(default)]
    pub pace: Pace,
    /// The conversations. A thread's first request chooses the first one that matches.
    pub scenarios: Vec<Scenario>,
}

/// Checks of every request.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Checks {
    /// Every call has exactly one output.
    pub pairing: bool,
    /// Each request's input begins with its predecessor's, byte for byte.
    pub prefix: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { pairing: true, prefix: false }
    }
}

/// How fast a reply is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Pace {
    /// The pause before the answer begins, in milliseconds.
    pub first_event_millis: u64,
    /// The pause before each further event, in milliseconds.
    pub event_millis: u64,
    /// How many characters one delta has.
    pub delta_characters: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first_event_millis: 0, event_millis: 0, delta_characters: 40 }
    }
}

/// A conversation.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its name, for messages.
    pub name: String,
    /// Which threads it is for, judged by their first request. Absent: all.
    #[serde(default, rename = "match")]
    pub matches: Condition,
    /// Begin again after the last reply, instead of refusing further requests.
    #[serde(default)]
    pub cycle: bool,
    /// The replies, one a request.
    pub replies: Vec<Reply>,
}

/// The answer to one request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reply {
    /// Skip this reply unless the condition holds.
    #[serde(default)]
    pub when: Condition,
    /// Refuse the request with a clear 400 unless the condition holds.
    #[serde(default)]
    pub expect: Condition,
    /// Values to take out of the request; later texts write them as `{{name}}`.
    #[serde(default)]
    pub capture: BTreeMap<String, Capture>,
    /// How many requests in a row get this reply.
    #[serde(default = "one")]
    pub repeat: u32,
    /// How fast it is written; the script's pace by default.
    pub pace: Option<Pace>,
    /// What the model says and calls, in order.
    #[serde(default)]
    pub output: Vec<Output>,
    /// What the response says that it cost; guessed by size when absent.
    pub usage: Option<UsageNumbers>,
    /// Say nothing about the cost.
    #[serde(default)]
    pub omit_usage: bool,
    /// Whether the turn ends, where the model says so itself.
    pub end_turn: Option<bool>,
    /// Bytes put into the stream as they are, to see what a client makes of them.
    #[serde(default)]
    pub inject: Vec<Injection>,
    /// How the stream ends.
    #[serde(default)]
    pub end: End,
    /// An HTTP answer instead of a stream.
    pub http: Option<HttpReply>,
}

/// One thing that the model says or calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Output {
    /// A message.
    Text(String),
    /// Reasoning, shown as a summary.
    Reasoning(String),
    /// A message that refuses the work.
    Refusal(String),
    /// A call of a tool that takes JSON.
    Call(Call),
    /// A call of a tool that takes free text.
    Custom(Custom),
    /// A call of `update_plan`.
    Plan(Vec<PlanStep>),
    /// An item as the API has it, for everything else.
    Item(Value),
}

/// A call of a tool that takes JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// The tool's name; it need not exist.
    pub tool: String,
    /// The arguments: a mapping, sent as JSON, or a string, sent as it is.
    #[serde(default)]
    pub arguments: Value,
    /// The call's id; made up when absent.
    pub call_id: Option<String>,
}

/// A call of a tool that takes free text.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Custom {
    /// The tool's name; it need not exist.
    pub tool: String,
    /// The text.
    pub input: String,
    /// The call's id; made up when absent.
    pub call_id: Option<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// What is to be done.
    pub step: String,
    /// `pending`, `in_progress` or `completed`; not checked, so that mistakes can be played too.
    pub status: String,
}

/// What a response says that it cost.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct UsageNumbers {
    /// All input tokens.
    pub input_tokens: u64,
    /// Those of them that came from a cache.
    pub cached_input_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// Those of them that were reasoning.
    pub reasoning_tokens: u64,
}

/// Bytes put into the stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Injection {
    /// After how many events.
    pub after_events: usize,
    /// The bytes, line ends included.
    pub raw: String,
}

/// How a stream ends. A number of events is cut to those before the last one, so that a stream that is
/// to break never looks whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum End {
    /// Well.
    #[default]
    Completed,
    /// The connection breaks.
    Cut {
        /// After how many events.
        after_events: usize,
    },
    /// The connection is closed in good order, but too early.
    Close {
        /// After how many events.
        after_events: usize,
    },
    /// Nothing comes any more but comments, once a second, until the connection breaks.
    Stall {
        /// After how many events.
        after_events: usize,
        /// For how long.
        seconds: u64,
    },
    /// The provider reports a failure.
    Failed {
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
    /// The response ends early.
    Incomplete {
        /// Why.
        reason: String,
    },
}

/// An HTTP answer instead of a stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body as it is; `error` writes the usual JSON instead.
    pub body: Option<String>,
    /// An error object.
    pub error: Option<HttpError>,
}

/// The error object of an HTTP answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpError {
    /// Its code.
    pub code: Option<String>,
    /// Its words.
    pub message: String,
}

fn one() -> u32 {
    1
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`ScriptError`], which says where the mistake is.
    pub fn from_yaml(text: &str) -> Result<Self, ScriptError> {
        let script: Self = serde_saphyr::from_str(text).map_err(Box::new)?;
        script.validate()?;
        Ok(script)
    }

    /// The script that is played when none is given.
    ///
    /// # Errors
    /// None, as the script is part of the program and tested with it.
    pub fn default_script() -> Result<Self, ScriptError> {
        Self::from_yaml(DEFAULT_SCRIPT)
    }

    fn validate(&self) -> Result<(), ScriptError> {
        let invalid = |path: &str, problem: String| ScriptError::Invalid { path: path.to_owned(), problem };
        if self.scenarios.is_empty() {
            return Err(invalid("scenarios", "at least one is needed".to_owned()));
        }
        self.pace.validate().map_err(|problem| invalid("pace", problem))?;
        let mut names = BTreeSet::new();
        for scenario in &self.scenarios {
            let path = format!("scenario {:?}", scenario.name);
            if !names.insert(&scenario.name) {
                return Err(invalid(&path, "the name is used twice".to_owned()));
            }
            if scenario.replies.is_empty() {
                return Err(invalid(&path, "at least one reply is needed".to_owned()));
            }
            let mut captured = BTreeSet::new();
            for (index, reply) in scenario.replies.iter().enumerate() {
                captured.extend(reply.capture.keys().map(String::as_str));
                let path = format!("{path}, reply {}", index + 1);
                reply.validate(&captured).map_err(|problem| invalid(&path, problem))?;
            }
        }
        Ok(())
    }
}

impl Pace {
    fn validate(&self) -> Result<(), String> {
        if self.first_event_millis.max(self.event_millis) > MAX_PAUSE_MILLIS {
            return Err(format!("pauses may have up to {MAX_PAUSE_MILLIS} ms"));
        }
        if self.delta_characters == 0 {
            return Err("deltaCharacters must be at least 1".to_owned());
        }
        Ok(())
    }
}

impl Reply {
    fn validate(&self, captured: &BTreeSet<&str>) -> Result<(), String> {
        if self.repeat == 0 {
            return Err("repeat must be at least 1".to_owned());
        }
        if let Some(name) = self.capture.keys().find(|name| !template::is_name(name)) {
            return Err(format!("capture {name:?}: a name has letters, digits and _ only"));
        }
        if let Some(pace) = &self.pace {
            pace.validate()?;
        }
        if let End::Stall { seconds, .. } = self.end
            && seconds > MAX_PAUSE_MILLIS / 1000
        {
            return Err(format!("a stall may have up to {} s", MAX_PAUSE_MILLIS / 1000));
        }
        if let Some(http) = &self.http {
            let streams = !self.output.is_empty() || self.usage.is_some() || !self.inject.is_empty();
            if streams || !matches!(self.end, End::Completed) {
                return Err("http stands alone: output, usage, inject and end belong to a stream".to_owned());
            }
            http.validate()?;
        }
        if self.usage.is_some() && self.omit_usage {
            return Err("usage and omitUsage exclude each other".to_owned());
        }
        for output in &self.output {
            output.validate(captured)?;
        }
        Ok(())
    }
}

impl HttpReply {
    fn validate(&self) -> Result<(), String> {
        if !(200..=599).contains(&self.status) {
            return Err(format!("http.status {} is no final HTTP status", self.status));
        }
        if self.body.is_some() && self.error.is_some() {
            return Err("http.body and http.error exclude each other".to_owned());
        }
        for (name, value) in &self.headers {
            let valid = axum::http::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && axum::http::HeaderValue::from_str(value).is_ok();
            if !valid {
                return Err(format!("http.headers: {name:?} is no valid HTTP header"));
            }
        }
        Ok(())
    }
}

impl Output {
    fn validate(&self, captured: &BTreeSet<&str>) -> Result<(), String> {
        if let Self::Item(item) = self
            && !item.get("type").is_some_and(Value::is_string)
        {
            return Err("an item needs a type".to_owned());
        }
        let mut texts = Vec::new();
        self.collect_texts(&mut texts);
        let unknown =
            texts.iter().flat_map(|text| template::names(text)).find(|name| !captured.contains(name));
        match unknown {
            Some(name) => Err(format!(
                "{{{{{name}}}}} is captured neither here nor in an earlier reply; write \\{{{{ for the braces themselves"
            )),
            None => Ok(()),
        }
    }

    fn collect_texts<'a>(&'a self, texts: &mut Vec<&'a str>) {
        match self {
            Self::Text(text) | Self::Reasoning(text) | Self::Refusal(text) => texts.push(text),
            Self::Call(call) => collect_strings(&call.arguments, texts),
            Self::Custom(custom) => texts.push(&custom.input),
            Self::Plan(steps) => texts.extend(steps.iter().map(|step| step.step.as_str())),
            Self::Item(item) => collect_strings(item, texts),
        }
    }
}

fn collect_strings<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|value| collect_strings(value, texts)),
        Value::Object(members) => members.values().for_each(|value| collect_strings(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests;
