use serde_json::json;

use super::*;
use crate::scripted::seen::{
    Api,
    tests::{broken, enforced},
};

fn body(messages: &Value) -> Value {
    json!({"model": "m", "stream": true, "max_tokens": 9, "messages": messages})
}

fn parse(body: &Value) -> Result<Received, String> {
    Received::parse(Api::Messages, body.to_string().as_bytes(), vec![])
}

fn faults(messages: &Value) -> Vec<String> {
    enforced(&parse(&body(messages)).unwrap())
}

fn user(blocks: &[Value]) -> Value {
    json!({"role": "user", "content": blocks})
}

fn text() -> Value {
    json!({"type": "text", "text": "u"})
}

fn calls(ids: &[&str]) -> Value {
    let call = |id: &&str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    json!({"role": "assistant", "content": ids.iter().map(call).collect::<Vec<_>>()})
}

fn result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": id})
}

#[test]
fn a_request_is_read_as_scripts_see_it() {
    let mut asked = body(&json!([
        {"role": "user", "content": "one"},
        {"role": "user", "content": [text(), {"type": "image", "source": {}}, {"type": "text", "text": "three"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hmm", "signature": signature_of("hmm")},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "out"}]},
            {"type": "tool_result", "tool_use_id": "b", "is_error": true},
            {"type": "text", "text": "steer", "cache_control": {"type": "ephemeral"}},
        ]},
    ]));
    asked["system"] = json!([{"type": "text", "text": "base"}, {"type": "text", "text": "dev", "cache_control": {"type": "ephemeral"}}]);
    asked["tools"] =
        json!([{"name": "f", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}]);
    let received = parse(&asked).unwrap();
    assert_eq!(received.seen.instructions, "base\ndev");
    assert_eq!(received.seen.user, ["one", "u", "three", "steer"]);
    assert_eq!(received.seen.outputs, ["out", ""]);
    assert_eq!(received.seen.tools, ["f", "web_search"]);
    assert_eq!(received.seen.cache_markers, 2);
    assert_eq!(enforced(&received), [] as [&str; 0]);
    assert_eq!(broken(&received, Rule::ReasoningBack), None);
}

#[test]
fn the_prefix_is_all_that_is_cached_but_for_the_markers() {
    let body = r#"{"model":"m","stream":true,"max_tokens":1,"system":[{"type":"text","text":"s","cache_control":{}}],
        "tools":[{"name":"f","cache_control":{},"input_schema":{}}],"messages":[{"role":"user","content":"\u0061"}]}"#;
    let received = Received::parse(Api::Messages, body.as_bytes(), vec![]).unwrap();
    assert_eq!(
        received.input,
        "[{\"name\":\"f\",\"input_schema\":{}}]\n[{\"type\":\"text\",\"text\":\"s\"}]\n{\"role\":\"user\",\"content\":\"\\u0061\"}"
    );
}

#[test]
fn results_come_first_in_the_next_message_and_in_order() {
    let none = [] as [&str; 0];
    let good = json!([
        user(&[text()]),
        calls(&["a", "b"]),
        user(&[result("a"), result("b"), text()]),
        user(&[text()])
    ]);
    assert_eq!(faults(&good), none);
    for (messages, problem) in [
        (
            json!([user(&[text()]), calls(&["a"]), user(&[text()])]),
            "call \"a\" has no `tool_result` in the message right after it, messages.2",
        ),
        (
            json!([user(&[text()]), calls(&["a", "b"]), user(&[result("a")]), user(&[result("b")])]),
            "call \"b\" has no `tool_result` in the message right after it, messages.2",
        ),
        (
            json!([user(&[text()]), calls(&["a"]), user(&[result("a")]), user(&[result("a")])]),
            "messages.3: the message before has no `tool_use` for the result of \"a\"",
        ),
        (
            json!([user(&[text()]), calls(&["a", "b"]), user(&[result("b"), result("a")])]),
            "messages.2: results must come once each, in the order of the calls [\"a\", \"b\"]",
        ),
        (
            json!([user(&[text()]), calls(&["a"]), user(&[text(), result("a")])]),
            "messages.2: `tool_result` blocks must come before all others",
        ),
        (
            json!([
                user(&[text()]),
                calls(&["a"]),
                user(&[result("a")]),
                calls(&["a"]),
                user(&[result("a")])
            ]),
            "messages.3: `tool_use` ids must be unique, and \"a\" is not",
        ),
    ] {
        assert_eq!(faults(&messages), [format!("unpaired_call: {problem}")]);
    }
    let system = json!([user(&[text()]), {"role": "system", "content": "s"}, user(&[text()])]);
    assert_eq!(faults(&system), ["system_not_first: messages.1: system text belongs into `system`"]);
}

#[test]
fn no_more_than_four_markers_are_taken() {
    let marked = json!({"type": "text", "text": "u", "cache_control": {"type": "ephemeral"}});
    let four = user(&vec![marked.clone(); 4]);
    assert_eq!(parse(&body(&json!([four]))).unwrap().seen.cache_markers, 4);
    let within = json!({"type": "tool_result", "tool_use_id": "a", "content": [marked]});
    let error = parse(&body(&json!([four, calls(&["a"]), user(&[within])]))).unwrap_err();
    assert_eq!(error, "A maximum of 4 blocks with cache_control may be provided. Found 5.");
}

#[test]
fn what_the_api_refuses_is_refused() {
    let said =
        |block: Value| json!([user(&[text()]), {"role": "assistant", "content": [block]}, user(&[text()])]);
    for (messages, problem) in [
        (json!([]), "first message must use the \"user\" role"),
        (json!([calls(&["a"]), user(&[result("a")])]), "first message must use the \"user\" role"),
        (
            json!([user(&[text()]), {"role": "assistant", "content": "Sure"}]),
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ),
        (
            json!([{"role": "user", "content": ""}]),
            "messages.0.content: all messages must have non-empty content",
        ),
        (
            json!([{"role": "user", "content": []}]),
            "messages.0.content: a text or at least one block is needed",
        ),
        (
            json!([user(&[json!({"type": "text", "text": ""})])]),
            "messages.0.content.0: text content blocks must be non-empty",
        ),
        (
            said(json!({"type": "text", "text": "\n\n"})),
            "messages.1.content.0: text content blocks must contain non-whitespace text",
        ),
        (json!([user(&[json!({"text": "x"})])]), "messages.0.content.0: type: Field required"),
        (
            json!([user(&[json!({"type": "tool_use"})])]),
            "messages.0.content.0: `tool_use` blocks can not be in user messages",
        ),
        (said(result("a")), "messages.1.content.0: `tool_result` blocks can not be in assistant messages"),
        (
            said(json!({"type": "thinking", "thinking": "hm!", "signature": signature_of("hmm")})),
            "messages.1.content.0: Invalid `signature` in `thinking` block",
        ),
        (
            said(json!({"type": "thinking", "thinking": "hm"})),
            "messages.1.content.0: signature: Field required",
        ),
        (
            said(json!({"type": "tool_use", "id": "a:0", "name": "f", "input": {}})),
            "messages.1.content.0: id: \"a:0\" should match ^[a-zA-Z0-9_-]+$",
        ),
        (
            said(json!({"type": "tool_use", "id": "a", "name": "f", "input": "{}"})),
            "messages.1.content.0: input: Input should be a valid dictionary",
        ),
    ] {
        let error = parse(&body(&messages)).unwrap_err();
        assert!(error.ends_with(problem), "{error}");
    }
    let good = body(&json!([user(&[text()])]));
    assert!(parse(&good).is_ok());
    for (member, value, problem) in [
        ("max_tokens", Value::Null, "the body: invalid type: null"),
        ("max_tokens", json!(0), "max_tokens: must be at least 1"),
        ("thinking", json!({"type": "enabled", "budget_tokens": 9}), "`max_tokens` must be greater"),
        ("stream", json!(false), "the scripted model only streams"),
        ("system", json!([{"type": "text", "text": ""}]), "system.0: text content blocks must be non-empty"),
        ("tools", json!([{"name": "f"}]), "tools.0.input_schema: Field required"),
        ("tools", json!([{"input_schema": {}}]), "tools.0.name: Field required"),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        let error = parse(&bad).unwrap_err();
        assert!(error.starts_with(problem), "{error}");
    }
    let mut without = good;
    without.as_object_mut().unwrap().remove("max_tokens");
    assert!(parse(&without).unwrap_err().contains("missing field `max_tokens`"));
}

#[test]
fn a_turn_that_the_api_paused_may_end_the_request() {
    let paused = json!([user(&[text()]), {"role": "assistant", "content": [text(), {"type": "server_tool_use", "id": "s"}]}]);
    assert_eq!(faults(&paused), [] as [&str; 0]);
}

#[test]
fn roles_in_a_row_and_calls_without_thinking_are_named() {
    let broken_by =
        |messages: Value, rule| broken(&parse(&body(&messages)).unwrap(), rule).map(str::to_owned);
    let fine = json!([user(&[text()]), calls(&["a"]), user(&[result("a"), text()])]);
    assert_eq!(broken_by(fine.clone(), Rule::Alternation), None);
    assert_eq!(
        broken_by(json!([user(&[text()]), user(&[text()])]), Rule::Alternation).unwrap(),
        "messages.1: roles must alternate between \"user\" and \"assistant\""
    );
    assert_eq!(
        broken_by(fine, Rule::ReasoningBack).unwrap(),
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`"
    );
    let redacted = json!({"role": "assistant", "content": [
        {"type": "redacted_thinking", "data": "x"}, {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]});
    assert_eq!(
        broken_by(json!([user(&[text()]), redacted, user(&[result("a")])]), Rule::ReasoningBack),
        None
    );
}
