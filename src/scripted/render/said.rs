//! What a reply says, with its values filled in, before any API gives it a form.

use serde_json::{Value, json};

use super::Answer;
use crate::scripted::{
    script::{Call, Custom, Output, Quirk},
    seen::Api,
    template::{expand, expand_value},
};

/// One thing that the model says or calls.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// A message.
    Text(String),
    /// Reasoning.
    Reasoning(String),
    /// A refusal.
    Refusal(String),
    /// A call.
    Call(ToolCall),
    /// Something in the form of one API.
    Item(Value),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) tool: String,
    /// Its arguments or its free text.
    pub(super) input: String,
    /// Whether the tool takes free text.
    pub(super) custom: bool,
}

impl Answer<'_> {
    /// What the reply says, in order.
    pub(super) fn said(&self) -> Vec<Said> {
        let said = self.turn.reply.output.iter().enumerate().map(|(index, output)| self.say(output, index));
        if !self.has(Quirk::TextInsteadOfCalls) {
            return said.collect();
        }
        let as_text = |said| if let Said::Call(call) = said { Said::Text(call.as_text()) } else { said };
        said.map(as_text).collect()
    }

    fn say(&self, output: &Output, index: usize) -> Said {
        let values = &self.turn.values;
        let id = |given: &Option<String>| given.clone().unwrap_or_else(|| self.call_id(index));
        match output {
            Output::Text(text) => Said::Text(expand(text, values)),
            Output::Reasoning(text) => Said::Reasoning(expand(text, values)),
            Output::Refusal(text) => Said::Refusal(expand(text, values)),
            Output::Call(Call { tool, arguments, call_id }) => {
                let input = match expand_value(arguments, values) {
                    Value::String(raw) => raw,
                    Value::Null => "{}".to_owned(),
                    value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                        value.to_string()
                    }
                };
                Said::Call(ToolCall { id: id(call_id), tool: tool.clone(), input, custom: false })
            }
            Output::Plan(steps) => {
                let steps: Vec<Value> = steps
                    .iter()
                    .map(|step| json!({"step": expand(&step.step, values), "status": step.status}))
                    .collect();
                let input = json!({"plan": steps}).to_string();
                Said::Call(ToolCall { id: id(&None), tool: "update_plan".to_owned(), input, custom: false })
            }
            Output::Custom(Custom { tool, input, call_id }) => {
                let input = expand(input, values);
                let custom = self.takes_free_text(tool);
                let input = if custom { input } else { json!({"input": input}).to_string() };
                Said::Call(ToolCall { id: id(call_id), tool: tool.clone(), input, custom })
            }
            Output::Item(item) => Said::Item(expand_value(item, values)),
        }
    }

    /// A tool that was declared as a function is called as one. The Messages API knows nothing else.
    fn takes_free_text(&self, tool: &String) -> bool {
        match self.seen.api {
            Api::Responses | Api::Chat => {
                !self.seen.tools.contains(tool) || self.seen.custom_tools.contains(tool)
            }
            Api::Messages => false,
        }
    }

    fn call_id(&self, index: usize) -> String {
        let prefix = match self.seen.api {
            Api::Responses | Api::Chat => "call",
            Api::Messages => "toolu",
        };
        if self.has(Quirk::RepeatedIds) {
            return format!("{prefix}_{index}");
        }
        format!("{prefix}_{}_{index}", self.number)
    }
}

impl ToolCall {
    /// What a model writes whose server does not know how it calls.
    fn as_text(&self) -> String {
        let arguments = if self.custom { json!(self.input).to_string() } else { self.input.clone() };
        format!("<tool_call>\n{{\"name\": {}, \"arguments\": {arguments}}}\n</tool_call>", json!(self.tool))
    }
}

impl Said {
    /// Its size, for a guess at its tokens.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Text(text) | Self::Reasoning(text) | Self::Refusal(text) => text.len(),
            Self::Call(call) => call.tool.len() + call.input.len(),
            Self::Item(item) => item.to_string().len(),
        };
        bytes as u64
    }
}
