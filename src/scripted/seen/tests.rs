use serde_json::json;

use super::*;
use crate::scripted::script::Script;

/// What a script without quirks refuses in a request, with its code.
pub(in crate::scripted) fn enforced(received: &Received) -> Vec<String> {
    let plain = Script::default_script().unwrap();
    let faults = received.faults.iter().filter(|fault| plain.enforces(fault.rule));
    faults.map(|fault| format!("{}: {}", fault.rule.code(), fault.problem)).collect()
}

/// How a request breaks a rule.
pub(in crate::scripted) fn broken(received: &Received, rule: Rule) -> Option<&str> {
    received.faults.iter().find(|fault| fault.rule == rule).map(|fault| fault.problem.as_str())
}

#[test]
fn parameters_that_not_every_server_knows_are_named() {
    let message = json!([{"role": "user", "content": "x"}]);
    for (api, careful, unknown) in [
        (
            Api::Responses,
            json!({"model": "m", "stream": true, "input": "x", "instructions": "i", "tools": [], "tool_choice": "auto", "store": false}),
            "prompt_cache_key",
        ),
        (
            Api::Chat,
            json!({"model": "m", "stream": true, "messages": message, "tools": [], "tool_choice": "auto"}),
            "stream_options",
        ),
        (
            Api::Messages,
            json!({"model": "m", "stream": true, "max_tokens": 9, "messages": message, "system": "s", "tools": []}),
            "service_tier",
        ),
    ] {
        let parse = |body: &Value| Received::parse(api, body.to_string().as_bytes(), vec![]).unwrap();
        assert_eq!(broken(&parse(&careful), Rule::KnownParameters), None);
        let mut careless = careful.clone();
        careless[unknown] = Value::Null;
        let problem = format!("unknown parameter: {unknown:?}");
        assert_eq!(broken(&parse(&careless), Rule::KnownParameters), Some(problem.as_str()));
    }
}

#[test]
fn images_in_outputs_are_noticed() {
    let picture = |kind: &str| json!([{"type": kind}]);
    for (api, member, kind, call, output) in [
        (
            Api::Responses,
            "input",
            "input_image",
            json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": ""}),
            json!({"type": "function_call_output", "call_id": "a", "output": "text"}),
        ),
        (
            Api::Messages,
            "messages",
            "image",
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "text"}]}),
        ),
    ] {
        let asked = json!({"role": "user", "content": picture(kind)});
        let parse = |output: &Value| {
            let mut body = json!({"model": "m", "stream": true, "max_tokens": 9});
            body[member] = json!([asked, call, output]);
            Received::parse(api, body.to_string().as_bytes(), vec![]).unwrap()
        };
        assert_eq!(broken(&parse(&output), Rule::NoOutputImages), None);
        let mut shown = output.clone();
        match api {
            Api::Responses => shown["output"] = picture(kind),
            Api::Chat | Api::Messages => shown["content"][0]["content"] = picture(kind),
        }
        assert!(broken(&parse(&shown), Rule::NoOutputImages).is_some(), "{api:?}");
    }
}
