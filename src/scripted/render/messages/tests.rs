use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::scripted::{
    render::tests::{data, data_in_chunks, render, rendered, reply, text},
    script::Output,
    seen::{Api, Received, Seen, tests::enforced},
};

fn seen() -> Seen {
    Seen { custom_tools: vec![], ..crate::scripted::render::tests::seen(Api::Messages) }
}

/// What a client that follows the API's rules makes of the events. The input of a call stays text.
#[derive(Debug, Default, PartialEq)]
struct Folded {
    content: Vec<Value>,
    stop_reason: Option<String>,
    usage: Value,
    error: Option<Value>,
    done: bool,
}

fn folded(events: &[Bytes]) -> Folded {
    let mut folded = Folded::default();
    let mut open = None;
    for event in events {
        assert!(!folded.done, "nothing comes after message_stop");
        let event: Value = serde_json::from_slice(event).unwrap();
        match event["type"].as_str().unwrap() {
            "message_start" => {
                assert_eq!(event["message"]["content"], json!([]));
                folded.usage = event["message"]["usage"].clone();
            }
            "content_block_start" => {
                assert_eq!((event["index"].as_u64().unwrap() as usize, open), (folded.content.len(), None));
                let mut block = event["content_block"].clone();
                if block["type"] == "tool_use" {
                    assert_eq!(block["input"], json!({}));
                    block["input"] = "".into();
                }
                open = Some(folded.content.len());
                folded.content.push(block);
            }
            "content_block_delta" => {
                assert_eq!(Some(event["index"].as_u64().unwrap() as usize), open);
                let block = folded.content.last_mut().unwrap();
                let delta = &event["delta"];
                let (place, more) = match delta["type"].as_str().unwrap() {
                    "text_delta" => (&mut block["text"], &delta["text"]),
                    "thinking_delta" => (&mut block["thinking"], &delta["thinking"]),
                    "signature_delta" => (&mut block["signature"], &delta["signature"]),
                    "input_json_delta" => (&mut block["input"], &delta["partial_json"]),
                    other => panic!("{other}"),
                };
                *place = format!("{}{}", place.as_str().unwrap(), more.as_str().unwrap()).into();
            }
            "content_block_stop" => {
                assert_eq!(Some(event["index"].as_u64().unwrap() as usize), open.take());
            }
            "message_delta" => {
                folded.stop_reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                if let Some(output) = event.pointer("/usage/output_tokens") {
                    folded.usage["output_tokens"] = output.clone();
                }
            }
            "message_stop" => folded.done = true,
            "error" => folded.error = Some(event["error"].clone()),
            other => panic!("{other}"),
        }
    }
    folded
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
fn every_output_comes_back_as_its_block() {
    let folded = folded(&data(&rendered(
        r#"{output: [{reasoning: hmm}, {text: Hello}, {refusal: no}, {custom: {tool: apply_patch, input: "*** \n", callId: x}},
            {plan: [{step: a, status: pending}]}, {call: {tool: t, arguments: '{"a'}}, {call: {tool: t}},
            {item: {type: redacted_thinking, data: xyz}}]}"#,
        &seen(),
    )));
    insta::assert_debug_snapshot!(folded);
}

#[test]
fn the_end_is_said_in_the_words_of_the_api() {
    let ended = |reply: &str| {
        let folded = folded(&data(&rendered(reply, &seen())));
        (
            folded.stop_reason,
            folded.error.map(|error| error["type"].as_str().unwrap().to_owned()),
            folded.done,
        )
    };
    let well = |reason: &str| (Some(reason.to_owned()), None, true);
    assert_eq!(ended("output: [{text: hi}]"), well("end_turn"));
    assert_eq!(ended("output: [{text: hi}, {call: {tool: t}}]"), well("tool_use"));
    assert_eq!(ended("output: [{refusal: no}]"), well("refusal"));
    assert_eq!(ended("endTurn: false"), well("pause_turn"));
    assert_eq!(ended("end: {incomplete: {reason: max_output_tokens}}"), well("max_tokens"));
    assert_eq!(ended("end: {incomplete: {reason: content_filter}}"), well("refusal"));
    assert_eq!(
        ended("end: {incomplete: {reason: model_context_window_exceeded}}"),
        well("model_context_window_exceeded")
    );
    assert_eq!(
        ended("end: {failed: {code: overloaded_error, message: m}}"),
        (None, Some("overloaded_error".to_owned()), false)
    );
}

#[test]
fn usage_leaves_out_what_the_cache_gave_and_took() {
    let usage =
        |reply, cache_markers| folded(&data(&rendered(reply, &Seen { cache_markers, ..seen() }))).usage;
    let numbers = |input: u64, written: u64, read: u64, output: u64| {
        json!({"input_tokens": input, "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
            "output_tokens": output})
    };
    let said = "usage: {inputTokens: 9, cachedInputTokens: 5, cacheWriteInputTokens: 3, outputTokens: 7}";
    assert_eq!(usage(said, 0), numbers(1, 3, 5, 7));
    assert_eq!(usage("output: [{text: four}]", 0), numbers(100, 0, 0, 1));
    assert_eq!(usage("output: [{text: four}]", 2), numbers(0, 75, 25, 1));
    assert_eq!(usage("omitUsage: true", 2), Value::Null);
}

#[test]
fn what_was_said_and_answered_is_taken_back() {
    let mut content = folded(&data(&rendered(
        "{output: [{reasoning: hmm}, {text: I look.}, {call: {tool: exec_command, arguments: {cmd: ls}}}, {custom: {tool: apply_patch, input: p}}]}",
        &seen(),
    )))
    .content;
    for block in &mut content {
        if let Some(input) = block.get("input") {
            block["input"] = serde_json::from_str(input.as_str().unwrap()).unwrap();
        }
    }
    assert_eq!(content[3]["input"], json!({"input": "p"}));
    let result = |block: &Value, text: &str| json!({"type": "tool_result", "tool_use_id": block["id"], "content": text});
    let results = [result(&content[2], "a file"), result(&content[3], "patched")];
    let body = json!({"model": "m", "stream": true, "max_tokens": 9, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": results},
    ]});
    let received = Received::parse(Api::Messages, body.to_string().as_bytes(), vec![]).unwrap();
    assert_eq!(enforced(&received), [] as [&str; 0]);
    assert_eq!(received.seen.outputs, ["a file", "patched"]);
}

#[test]
fn quirks_show() {
    let calls = "output: [{call: {tool: t, arguments: {a: long enough for several pieces}}}], pace: {deltaCharacters: 4}";
    let quirky = rendered(&format!("{{quirks: [repeatedIds, wholeArguments, noUsage], {calls}}}"), &seen());
    let pieces = |stream: &Stream| text(stream).matches("partial_json").count();
    assert!(pieces(&rendered(&format!("{{{calls}}}"), &seen())) > 1);
    assert_eq!(pieces(&quirky), 1);
    let quirky = folded(&data(&quirky));
    assert_eq!((&quirky.content[0]["id"], &quirky.usage), (&json!("toolu_0"), &Value::Null));
    let text = folded(&data(&rendered(&format!("{{quirks: [textInsteadOfCalls], {calls}}}"), &seen())));
    assert_eq!(
        (text.content[0]["type"].as_str(), text.stop_reason.as_deref()),
        (Some("text"), Some("end_turn"))
    );
}

proptest! {
    #[test]
    fn any_chunking_folds_to_the_same(
        said in "\\PC{0,60}", arguments in "\\PC{0,60}", delta in 1usize..9, chunk in 1usize..99,
    ) {
        let mut reply = reply(
            "{output: [{text: x}, {call: {tool: t, arguments: x}}, {reasoning: hmm}], pace: {deltaCharacters: 1000}}",
        );
        reply.output[0] = Output::Text(said);
        if let Output::Call(call) = &mut reply.output[1] {
            call.arguments = arguments.into();
        }
        let whole = folded(&data(&render(&reply, &seen())));
        reply.pace.as_mut().unwrap().delta_characters = delta;
        prop_assert_eq!(folded(&data_in_chunks(&render(&reply, &seen()), chunk)), whole);
    }
}
