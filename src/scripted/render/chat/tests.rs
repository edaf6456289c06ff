use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::scripted::{
    render::tests::{data, data_in_chunks, render, rendered, reply, text},
    script::Output,
    seen::{Api, Received, Seen, tests::enforced},
};

fn seen() -> Seen {
    crate::scripted::render::tests::seen(Api::Chat)
}

/// What a client that follows the API's rules makes of the chunks.
#[derive(Debug, Default, PartialEq)]
struct Folded {
    message: Value,
    finish_reason: Option<String>,
    usage: Option<Value>,
    error: Option<Value>,
    done: bool,
}

fn folded(events: &[Bytes]) -> Folded {
    let mut folded = Folded { message: json!({"role": "assistant", "content": null}), ..Folded::default() };
    for event in events {
        assert!(!folded.done, "nothing comes after [DONE]");
        if event.as_ref() == b"[DONE]" {
            folded.done = true;
            continue;
        }
        let chunk: Value = serde_json::from_slice(event).unwrap();
        if let Some(error) = chunk.get("error") {
            folded.error = Some(error.clone());
            continue;
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| !usage.is_null()) {
            folded.usage = Some(usage.clone());
        }
        for choice in chunk["choices"].as_array().unwrap() {
            assert_eq!(choice["index"], 0);
            for (member, value) in choice["delta"].as_object().unwrap() {
                match member.as_str() {
                    "role" => assert_eq!(value, "assistant"),
                    "tool_calls" => append_calls(&mut folded.message, value.as_array().unwrap()),
                    _ => append_text(&mut folded.message[member], value),
                }
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                folded.finish_reason = Some(reason.to_owned());
            }
        }
    }
    folded
}

/// By index where there is one; else a call begins with its id and goes on without.
fn append_calls(message: &mut Value, deltas: &[Value]) {
    if message.get("tool_calls").is_none() {
        message["tool_calls"] = json!([]);
    }
    let calls = message["tool_calls"].as_array_mut().unwrap();
    for delta in deltas {
        let next = if delta.get("id").is_some() { calls.len() } else { calls.len() - 1 };
        let index = delta.get("index").map_or(next, |index| index.as_u64().unwrap() as usize);
        if index == calls.len() {
            calls.push(json!({"id": delta["id"], "type": delta["type"]}));
        }
        let kind = calls[index]["type"].as_str().unwrap().to_owned();
        for (member, value) in delta[&kind].as_object().unwrap() {
            let place = &mut calls[index][&kind][member];
            if member == "name" {
                *place = value.clone();
            } else {
                append_text(place, value);
            }
        }
    }
}

fn append_text(place: &mut Value, more: &Value) {
    *place = format!("{}{}", place.as_str().unwrap_or_default(), more.as_str().unwrap()).into();
}

#[test]
fn a_reply_is_streamed_as_the_api_does() {
    let stream = rendered(
        "{pace: {deltaCharacters: 4}, output: [{reasoning: hmm}, {text: Hello}, {call: {tool: exec_command, arguments: {cmd: ls}}}]}",
        &seen(),
    );
    insta::assert_snapshot!(text(&stream));
}

#[test]
fn every_output_comes_back_in_the_message() {
    let folded = folded(&data(&rendered(
        r#"{usage: {inputTokens: 9, cachedInputTokens: 8, outputTokens: 7, reasoningTokens: 6}, output: [
            {reasoning: hmm}, {text: "Hel"}, {text: lo}, {refusal: no},
            {custom: {tool: apply_patch, input: "*** \n", callId: x}}, {custom: {tool: exec_command, input: y}},
            {plan: [{step: a, status: pending}]}, {call: {tool: t, arguments: '{"a'}}, {call: {tool: t}},
            {item: {type: delta, thought: deep}}]}"#,
        &seen(),
    )));
    insta::assert_debug_snapshot!(folded);
}

#[test]
fn the_end_is_said_in_the_words_of_the_api() {
    let ended = |reply: &str| {
        let folded = folded(&data(&rendered(reply, &seen())));
        (
            folded.finish_reason,
            folded.error.map(|error| error["code"].as_str().unwrap().to_owned()),
            folded.done,
        )
    };
    let well = |reason: &str| (Some(reason.to_owned()), None, true);
    assert_eq!(ended("output: [{text: hi}]"), well("stop"));
    assert_eq!(ended("output: [{call: {tool: t}}]"), well("tool_calls"));
    assert_eq!(ended("end: {incomplete: {reason: max_output_tokens}}"), well("length"));
    assert_eq!(ended("end: {incomplete: {reason: content_filter}}"), well("content_filter"));
    assert_eq!(ended("end: {failed: {code: c, message: m}}"), (None, Some("c".to_owned()), false));
}

#[test]
fn usage_comes_to_who_asks_for_it() {
    let usage = |reply, asked| folded(&data(&rendered(reply, &Seen { wants_usage: asked, ..seen() }))).usage;
    let guessed = usage("output: [{text: hi}]", true).unwrap();
    assert_eq!(guessed["prompt_tokens"], 100);
    assert_eq!(guessed["prompt_tokens_details"]["cached_tokens"], 25);
    assert_eq!(guessed["completion_tokens"], 1);
    assert_eq!(usage("output: [{text: hi}]", false), None);
    assert_eq!(usage("omitUsage: true", true), None);
    let unasked = text(&rendered("output: [{text: hi}]", &Seen { wants_usage: false, ..seen() }));
    assert!(!unasked.contains("usage"), "{unasked}");
}

#[test]
fn what_was_said_and_answered_is_taken_back() {
    let message = folded(&data(&rendered(
        "{output: [{text: I look.}, {call: {tool: exec_command, arguments: {cmd: ls}}}, {custom: {tool: apply_patch, input: p}}]}",
        &seen(),
    )))
    .message;
    let id = |index: usize| message["tool_calls"][index]["id"].clone();
    assert_ne!(id(0), id(1));
    let body = json!({"model": "m", "stream": true, "messages": [
        {"role": "user", "content": "go"},
        message,
        {"role": "tool", "tool_call_id": id(0), "content": "a file"},
        {"role": "tool", "tool_call_id": id(1), "content": "patched"},
    ]});
    let received = Received::parse(Api::Chat, body.to_string().as_bytes(), vec![]).unwrap();
    assert_eq!(enforced(&received), [] as [&str; 0]);
    assert_eq!(received.seen.outputs, ["a file", "patched"]);
}

/// The message that comes of two calls under the quirks, and all that was written.
fn quirky(quirks: &str, more: &str) -> (Folded, String) {
    let stream = rendered(
        &format!(
            "{{quirks: [{quirks}], pace: {{deltaCharacters: 4}}, output: [{more}
                {{call: {{tool: first, arguments: {{a: long enough for pieces}}}}}}, {{call: {{tool: second, arguments: {{b: 1}}}}}}]}}"
        ),
        &Seen { wants_usage: false, ..seen() },
    );
    (folded(&data(&stream)), text(&stream))
}

#[test]
fn calls_in_odd_pieces_are_the_same_calls() {
    let (plain, written) = quirky("", "");
    assert_eq!((written.matches("first").count(), written.matches("second").count()), (1, 1));
    assert!(written.contains("{\"tool_calls\":[{\"index\":1,"), "{written}");

    let (missing, written) = quirky("missingIndex", "");
    assert!(!written.contains("{\"tool_calls\":[{\"index\""), "{written}");
    let (repeated, written) = quirky("repeatedName", "");
    assert!(written.matches("first").count() > 2, "{written}");
    let (whole, written) = quirky("wholeArguments", "");
    assert_eq!(written.matches("tool_calls\":").count(), 2, "{written}");
    let (all, _) = quirky("missingIndex, repeatedName, wholeArguments", "");
    for folded in [missing, repeated, whole, all] {
        assert_eq!(folded, plain);
    }
}

#[test]
fn ids_may_come_again_in_every_answer() {
    let (folded, _) = quirky("repeatedIds", "");
    let ids =
        [0, 1].map(|index: usize| folded.message["tool_calls"][index]["id"].as_str().unwrap().to_owned());
    assert_eq!(ids, ["call_0", "call_1"]);
}

#[test]
fn calls_may_come_as_text() {
    let (folded, _) = quirky("textInsteadOfCalls", "{text: So.},");
    assert_eq!(folded.finish_reason.as_deref(), Some("stop"));
    assert_eq!(folded.message.get("tool_calls"), None);
    let content = folded.message["content"].as_str().unwrap();
    assert!(content.starts_with("So.<tool_call>\n{\"name\": \"first\", \"arguments\": {\"a\":"), "{content}");
}

#[test]
fn reasoning_may_have_a_short_name() {
    let (folded, _) = quirky("shortReasoning", "{reasoning: hmm},");
    assert_eq!(folded.message["reasoning"], "hmm");
    assert_eq!(folded.message.get("reasoning_content"), None);
}

#[test]
fn usage_comes_where_the_quirks_say() {
    let chunks = |quirks: &str, wants_usage| -> Vec<Value> {
        let stream = rendered(
            &format!("{{quirks: [{quirks}], output: [{{text: hi}}]}}"),
            &Seen { wants_usage, ..seen() },
        );
        data(&stream).iter().filter_map(|event| serde_json::from_slice(event).ok()).collect()
    };
    let told = |chunk: &Value| chunk.get("usage").is_some_and(Value::is_object);
    let unasked = chunks("usageInLastChunk", false);
    assert_eq!(unasked.iter().filter(|chunk| told(chunk)).count(), 1);
    assert_eq!((told(&unasked[3]), &unasked[3]["choices"]), (true, &json!([])));
    let with_finish = chunks("usageWithFinish", true);
    assert_eq!(with_finish.len(), 3);
    assert_eq!(
        (told(&with_finish[2]), &with_finish[2]["choices"][0]["finish_reason"]),
        (true, &json!("stop"))
    );
    assert!(!chunks("noUsage", true).iter().any(told));
    assert!(!chunks("noUsage, usageInLastChunk, usageWithFinish", true).iter().any(told));
}

proptest! {
    #[test]
    fn any_chunking_folds_to_the_same(
        said in "\\PC{0,60}", arguments in "\\PC{0,60}", delta in 1usize..9, chunk in 1usize..99,
        quirks in prop::sample::subsequence(vec![Quirk::MissingIndex, Quirk::RepeatedName, Quirk::WholeArguments], 0..=3),
    ) {
        let mut reply = reply(
            "{output: [{text: x}, {call: {tool: t, arguments: x}}, {call: {tool: u}}], pace: {deltaCharacters: 1000}}",
        );
        reply.output[0] = Output::Text(said);
        if let Output::Call(call) = &mut reply.output[1] {
            call.arguments = arguments.into();
        }
        let whole = folded(&data(&render(&reply, &seen())));
        reply.quirks = quirks.into_iter().collect();
        reply.pace.as_mut().unwrap().delta_characters = delta;
        prop_assert_eq!(folded(&data_in_chunks(&render(&reply, &seen()), chunk)), whole);
    }
}
