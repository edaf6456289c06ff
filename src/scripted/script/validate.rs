//! What the form of a script cannot say: bounds, and parts that contradict each other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{End, HttpReply, Output, Pace, Quirk, Reply, Script, ScriptError};
use crate::scripted::template;

/// The longest pause that a script may make: one hour outlasts every timeout that it could test.
const MAX_PAUSE_MILLIS: u64 = 3_600_000;

impl Script {
    /// The first mistake in the script.
    pub(super) fn validate(&self) -> Result<(), ScriptError> {
        let invalid = |path: &str, problem: String| ScriptError::Invalid { path: path.to_owned(), problem };
        if self.scenarios.is_empty() {
            return Err(invalid("scenarios", "at least one is needed".to_owned()));
        }
        self.pace.validate().map_err(|problem| invalid("pace", problem))?;
        if self.quirks.contains(&Quirk::RequireReasoning) && self.quirks.contains(&Quirk::RefuseReasoning) {
            return Err(invalid(
                "quirks",
                "requireReasoning and refuseReasoning exclude each other".to_owned(),
            ));
        }
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
                if self.quirks.contains(&Quirk::RequireReasoning) && reply.calls_without_reasoning() {
                    let problem = "requireReasoning: the calls need a reasoning before them";
                    return Err(invalid(&path, problem.to_owned()));
                }
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
        if let Some(quirk) = self.quirks.iter().find(|quirk| quirk.judges_requests()) {
            return Err(format!("{quirk:?} judges requests: it belongs to the quirks of the whole script"));
        }
        for output in &self.output {
            output.validate(captured)?;
        }
        Ok(())
    }

    fn calls_without_reasoning(&self) -> bool {
        let before = self.output.iter().take_while(|output| !output.is_call());
        let reasoned = before.clone().any(|output| matches!(output, Output::Reasoning(_)));
        before.count() < self.output.len() && !reasoned
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

    fn is_call(&self) -> bool {
        match self {
            Self::Call(_) | Self::Custom(_) | Self::Plan(_) => true,
            Self::Text(_) | Self::Reasoning(_) | Self::Refusal(_) | Self::Item(_) => false,
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
