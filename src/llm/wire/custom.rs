//! Tools that take free text, for models that take JSON only: a function of one string `input`.

use serde::Deserialize;
use serde_json::{Value, json};

/// The parameters of the function.
pub(super) fn parameters(grammar: &str) -> Value {
    let input = format!("The whole input of the tool, in this Lark grammar:\n{grammar}");
    json!({
        "type": "object",
        "properties": {"input": {"type": "string", "description": input}},
        "required": ["input"],
        "additionalProperties": false,
    })
}

/// The free text in the arguments of such a function; nothing when they are not what was asked for.
pub fn input(arguments: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Arguments {
        input: String,
    }
    serde_json::from_str(arguments).ok().map(|Arguments { input }| input)
}
