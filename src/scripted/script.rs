//! The format of a script.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

pub use self::quirk::Quirk;
use super::{capture::Capture, condition::Condition, seen::Rule};

mod quirk;
mod validate;

/// The script that is played when none is given: it says what it is.
const DEFAULT_SCRIPT: &str = include_str!("../../config/samples/scripts/default.yaml");

/// A script that cannot be played.
#[derive(Debug, Error)]
pub enum ScriptError {
    /// It is no YAML, or has fields that no script has. The text names line and column.
    #[error(transparent)]
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
    /// The key that requests must carry, as a bearer token or in the header of the Messages API. Absent: none
    /// is needed.
    pub api_key: Option<String>,
    /// What every request is checked for, whatever its scenario expects.
    #[serde(default)]
    pub checks: Checks,
    /// In what the server differs from its API's description.
    #[serde(default)]
    pub quirks: BTreeSet<Quirk>,
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
    /// System and developer messages stand before all others, where the API sends them as messages and
    /// servers insist on it.
    pub system_first: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { pairing: true, prefix: false, system_first: true }
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
    /// The request asks for a compaction: the input of the next one begins anew, after the same instructions and with
    /// the same tools, but for those of MCP servers.
    #[serde(default)]
    pub compaction: bool,
    /// How many requests in a row get this reply.
    #[serde(default = "one")]
    pub repeat: u32,
    /// How fast it is written; the script's pace by default.
    pub pace: Option<Pace>,
    /// Quirks beside the script's. Those that judge requests are the script's alone.
    #[serde(default)]
    pub quirks: BTreeSet<Quirk>,
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
    /// Those of them that were put into a cache, where that has a price of its own.
    pub cache_write_input_tokens: u64,
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

    /// Whether a request that breaks the rule is refused.
    pub fn enforces(&self, rule: Rule) -> bool {
        let quirk = match rule {
            Rule::Pairing => return self.checks.pairing,
            Rule::SystemFirst => return self.checks.system_first,
            Rule::SystemOnlyFirst => Quirk::SystemOnlyFirst,
            Rule::Alternation => Quirk::StrictAlternation,
            Rule::KnownParameters => Quirk::RefuseUnknownParameters,
            Rule::ReasoningBack => Quirk::RequireReasoning,
            Rule::NoReasoning => Quirk::RefuseReasoning,
            Rule::NoOutputImages => Quirk::RefuseOutputImages,
        };
        self.quirks.contains(&quirk)
    }

    /// The script that is played when none is given.
    ///
    /// # Errors
    /// None, as the script is part of the program and tested with it.
    pub fn default_script() -> Result<Self, ScriptError> {
        Self::from_yaml(DEFAULT_SCRIPT)
    }
}

#[cfg(test)]
mod tests;
