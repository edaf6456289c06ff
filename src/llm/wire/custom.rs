//! Tools that take free text, for models that take JSON only: a function of one string `input`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::llm::item::{CustomCall, FunctionCall, Item, WireJson};
use crate::llm::tool::{RenderedTools, ToolDefinition};

/// Renders tools. `function` writes one that takes JSON (name, description, parameters), `custom` one that takes free text
/// (name, description, grammar), where there is such a thing.
pub(super) fn render(
    tools: &[ToolDefinition],
    function: fn(&str, &str, &Value) -> Value,
    custom: Option<fn(&str, &str, &str) -> Value>,
) -> RenderedTools {
    let mut custom_as_function = Vec::new();
    let rendered = tools.iter().map(|tool| match (tool, custom) {
        (ToolDefinition::Function { name, description, parameters }, _) => {
            function(name, description, parameters)
        }
        (ToolDefinition::Custom { name, description, grammar }, Some(custom)) => {
            custom(name, description, grammar)
        }
        (ToolDefinition::Custom { name, description, grammar }, None) => {
            custom_as_function.push(name.clone());
            function(name, description, &parameters(grammar))
        }
    });
    let rendered = Value::Array(rendered.collect());
    RenderedTools { bytes: WireJson::render(&rendered).into_bytes(), custom_as_function }
}

/// The parameters of the function.
fn parameters(grammar: &str) -> Value {
    let input = format!("The whole input of the tool, in this Lark grammar:\n{grammar}");
    json!({
        "type": "object",
        "properties": {"input": {"type": "string", "description": input}},
        "required": ["input"],
        "additionalProperties": false,
    })
}

/// What a call of a function stands for: the custom call behind it, where it is one of `custom_as_function` and its arguments
/// are what was asked for.
pub fn call(call: FunctionCall, custom_as_function: &[String]) -> Item {
    let is_custom = custom_as_function.contains(&call.name);
    match is_custom.then(|| input(&call.arguments)).flatten() {
        Some(input) => Item::CustomCall(CustomCall { call_id: call.call_id, name: call.name, input }),
        None => Item::FunctionCall(call),
    }
}

/// The free text in the arguments of such a function; nothing when they are not what was asked for.
fn input(arguments: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Arguments {
        input: String,
    }
    serde_json::from_str(arguments).ok().map(|Arguments { input }| input)
}
