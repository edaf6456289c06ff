use serde_json::json;

use super::*;
use crate::scripted::seen::{
    Api,
    tests::{broken, enforced},
};

fn parse(body: &Value) -> Result<Received, String> {
    Received::parse(Api::Responses, body.to_string().as_bytes(), vec![])
}

fn paired(items: Value) -> Option<String> {
    let received = parse(&json!({"model": "m", "stream": true, "input": items})).unwrap();
    broken(&received, Rule::Pairing).map(str::to_owned)
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
    assert_eq!(enforced(&received), [] as [&str; 0]);
    assert_eq!(broken(&received, Rule::ReasoningBack), None);
}

#[test]
fn a_thread_is_known_by_key_header_or_first_message() {
    let body = json!({"model": "m", "stream": true, "input": "hello", "prompt_cache_key": "k"});
    assert_eq!(parse(&body).unwrap().thread, "k");
    let body = json!({"model": "m", "stream": true, "input": "hello"}).to_string();
    let headers = vec![("Thread-Id".to_owned(), "t".to_owned())];
    assert_eq!(Received::parse(Api::Responses, body.as_bytes(), headers).unwrap().thread, "t");
    let longer = json!({"model": "m", "stream": true, "input": [{"role": "user", "content": "hello"}, {"role": "user", "content": "more"}]});
    let unnamed = Received::parse(Api::Responses, body.as_bytes(), vec![]).unwrap().thread;
    assert_eq!(parse(&longer).unwrap().thread, unnamed);
}

#[test]
fn unpaired_calls_and_outputs_are_named() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": ""});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": ""});
    assert_eq!(paired(json!([call("a"), call("b"), output("b"), output("a"), call("a"), output("a")])), None);
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

#[test]
fn calls_without_their_reasoning_are_named() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": ""});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": ""});
    let reasoning = json!({"type": "reasoning", "summary": []});
    let without = |items: Value| {
        let received = parse(&json!({"model": "m", "stream": true, "input": items})).unwrap();
        broken(&received, Rule::ReasoningBack).map(str::to_owned)
    };
    assert_eq!(without(json!([reasoning, call("a"), call("b"), output("a"), output("b")])), None);
    assert_eq!(
        without(json!([reasoning, call("a"), output("a"), call("b"), output("b")])).unwrap(),
        "the function_call \"b\" came without its required `reasoning` item"
    );
}

#[test]
fn every_system_message_but_the_first_is_named() {
    let message = |role: &str| json!({"type": "message", "role": role, "content": "x"});
    let broken_by = |items: Value| {
        let received = parse(&json!({"model": "m", "stream": true, "input": items})).unwrap();
        broken(&received, Rule::SystemOnlyFirst).map(str::to_owned)
    };
    assert_eq!(broken_by(json!([message("system"), message("user")])), None);
    for (items, index) in [
        (json!([message("system"), message("system"), message("user")]), 1),
        (json!([message("developer"), message("user")]), 0),
        (json!([message("user"), {"role": "system", "content": "x"}]), 1),
    ] {
        let expected = format!("only the first message may be a system message, not `input[{index}]`");
        assert_eq!(broken_by(items), Some(expected));
    }
}
