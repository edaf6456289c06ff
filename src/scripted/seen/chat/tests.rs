use serde_json::json;

use super::*;
use crate::scripted::seen::{
    Api,
    tests::{broken, enforced},
};

fn parse(body: &Value) -> Result<Received, String> {
    Received::parse(Api::Chat, body.to_string().as_bytes(), vec![])
}

fn with(messages: Value) -> Received {
    parse(&json!({"model": "m", "stream": true, "messages": messages})).unwrap()
}

fn faults(messages: Value) -> Vec<String> {
    enforced(&with(messages))
}

fn calls(ids: &[&str]) -> Value {
    let call =
        |id: &&str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    json!({"role": "assistant", "content": null, "tool_calls": ids.iter().map(call).collect::<Vec<_>>()})
}

fn output(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": id})
}

#[test]
fn a_request_is_read_as_scripts_see_it() {
    let received = parse(&json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true}, "prompt_cache_key": "k",
        "messages": [
            {"role": "system", "content": "base"},
            {"role": "developer", "content": [{"type": "text", "text": "dev"}]},
            {"role": "user", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "image_url"}, {"type": "text", "text": "three"}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "out"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "put"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "g"}}, {"type": "other"}],
    }))
    .unwrap();
    assert_eq!(received.thread, "k");
    assert_eq!(received.seen.instructions, "base\ndev");
    assert_eq!(received.seen.user, ["one", "two", "three"]);
    assert_eq!(received.seen.outputs, ["out", "put"]);
    assert_eq!(received.seen.tools, ["f", "g"]);
    assert_eq!(received.seen.custom_tools, ["g"]);
    assert!(received.seen.wants_usage);
    assert_eq!(enforced(&received), [] as [&str; 0]);
}

#[test]
fn the_prefix_is_the_tools_and_the_messages_as_they_came() {
    let body = r#"{"model":"m","stream":true,"tools":[ ],"messages":[{"role":"user","content":"\u0061"},{"role":"assistant","content":""}]}"#;
    let received = Received::parse(Api::Chat, body.as_bytes(), vec![]).unwrap();
    assert_eq!(
        received.input,
        "[ ]\n{\"role\":\"user\",\"content\":\"\\u0061\"},{\"role\":\"assistant\",\"content\":\"\"}"
    );
}

#[test]
fn outputs_follow_their_calls_at_once_and_in_order() {
    let user = json!({"role": "user", "content": "u"});
    let none = [] as [&str; 0];
    assert_eq!(faults(json!([user, calls(&["a", "b"]), output("a"), output("b"), user])), none);
    assert_eq!(
        faults(json!([calls(&["f", "f"]), output("f"), output("f"), calls(&["f"]), output("f")])),
        none
    );
    for (messages, problem) in [
        (json!([calls(&["a"])]), "no tool output found for call \"a\""),
        (
            json!([calls(&["a"]), user, output("a")]),
            "no tool output found for call \"a\" before `messages[1]`",
        ),
        (
            json!([calls(&["a", "b"]), output("b"), output("a")]),
            "`messages[1]` is the output of call \"b\", and call \"a\" is next",
        ),
        (
            json!([calls(&["a"]), output("a"), output("a")]),
            "no unanswered tool call found for the output of call \"a\", `messages[2]`",
        ),
        (json!([calls(&["a"]), calls(&["b"])]), "no tool output found for call \"a\" before `messages[1]`"),
    ] {
        assert_eq!(faults(messages), [format!("unpaired_call: {problem}")]);
    }
}

#[test]
fn system_messages_stand_at_the_beginning() {
    let message = |role: &str| json!({"role": role, "content": "x"});
    let none = [] as [&str; 0];
    assert_eq!(faults(json!([message("system"), message("developer"), message("user")])), none);
    for late in ["system", "developer"] {
        assert_eq!(
            faults(json!([message("system"), message("user"), message(late)])),
            ["system_not_first: system message must be at the beginning, not `messages[2]`"]
        );
    }
}

#[test]
fn what_a_server_would_refuse_is_refused() {
    let only = |message: Value| json!({"model": "m", "stream": true, "messages": [message]});
    for (body, problem) in [
        (json!({"model": "m", "messages": []}), "set `stream` to true"),
        (json!({"model": "m", "stream": true, "messages": []}), "at least one"),
        (json!({"model": "m", "stream": true}), "missing field `messages`"),
        (json!({"stream": true, "messages": []}), "missing field `model`"),
        (only(json!({"role": "function"})), "`messages[0]`: unknown variant `function`"),
        (only(json!({"role": "user"})), "`messages[0]`: `content` is missing"),
        (only(json!({"role": "assistant", "content": null})), "`tool_calls` is needed"),
        (only(json!({"role": "tool", "content": "x"})), "`tool_call_id` is missing"),
        (
            only(json!({"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url"}]})),
            "the content of a tool message is text",
        ),
        (
            only(json!({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]})),
            "the type of a call",
        ),
        (
            only(
                json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}]}),
            ),
            "a call has no text `function.arguments`",
        ),
    ] {
        let error = parse(&body).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn two_messages_of_a_role_in_a_row_are_named() {
    let message = |role: &str| json!({"role": role, "content": "x"});
    let fine = json!([
        message("system"),
        message("user"),
        calls(&["a", "b"]),
        output("a"),
        output("b"),
        message("user"),
        message("assistant"),
    ]);
    assert_eq!(broken(&with(fine), Rule::Alternation), None);
    for role in ["user", "assistant"] {
        assert_eq!(
            broken(&with(json!([message("system"), message(role), message(role)])), Rule::Alternation),
            Some("conversation roles must alternate user/assistant, and `messages[2]` does not")
        );
    }
}

#[test]
fn every_system_message_but_the_first_is_named() {
    let message = |role: &str| json!({"role": role, "content": "x"});
    assert_eq!(broken(&with(json!([message("system"), message("user")])), Rule::SystemOnlyFirst), None);
    let only = |index| format!("only the first message may be a system message, not `messages[{index}]`");
    for (messages, index) in [
        (json!([message("system"), message("system"), message("user")]), 1),
        (json!([message("developer"), message("user")]), 0),
        (json!([message("user"), message("system")]), 1),
    ] {
        assert_eq!(broken(&with(messages), Rule::SystemOnlyFirst), Some(only(index).as_str()));
    }
}

#[test]
fn reasoning_is_missed_and_noticed() {
    let mut reasoned = calls(&["a"]);
    reasoned["reasoning_content"] = "hmm".into();
    let received = with(json!([reasoned, output("a"), calls(&["b"]), output("b")]));
    assert_eq!(
        broken(&received, Rule::ReasoningBack),
        Some("the `reasoning_content` of `messages[2]` must be passed back to the API")
    );
    assert_eq!(
        broken(&received, Rule::NoReasoning),
        Some("`messages[0]` has `reasoning_content`, which is no input")
    );
    let mut short = calls(&["b"]);
    short["reasoning"] = "hmm".into();
    assert_eq!(broken(&with(json!([reasoned, output("a"), short, output("b")])), Rule::ReasoningBack), None);
    let answer = json!({"role": "assistant", "content": "x"});
    let plain = with(json!([answer]));
    assert_eq!((broken(&plain, Rule::ReasoningBack), broken(&plain, Rule::NoReasoning)), (None, None));
}
