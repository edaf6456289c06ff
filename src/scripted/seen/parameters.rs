//! The parameters that every server knows.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::{Api, Fault, Rule};

/// The first parameter of the request that a careful client would not send to a server that it does not know.
pub(super) fn unknown(api: Api, body: &[u8]) -> Option<Fault> {
    let known: &[&str] = match api {
        Api::Responses => &["input", "instructions", "max_output_tokens", "store"],
        Api::Chat => &["max_tokens", "messages", "stop"],
        Api::Messages => &["max_tokens", "messages", "stop_sequences", "system"],
    };
    let everywhere = ["model", "stream", "temperature", "tool_choice", "tools", "top_p"];
    let sent: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body).unwrap_or_default();
    let unknown =
        sent.keys().find(|name| !known.contains(&name.as_str()) && !everywhere.contains(&name.as_str()))?;
    Some(Rule::KnownParameters.broken(format!("unknown parameter: {unknown:?}")))
}
