use serde_json::json;

use super::*;
use crate::scripted::Script;
use crate::scripted::script::{End, Output};

fn stream(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn exchange(request: Value, response: String) -> Exchange {
    Exchange { request: request.to_string(), status: 200, response }
}

#[test]
fn what_belongs_to_an_account_is_taken_out_and_what_belongs_together_stays_together() {
    let mut sanitiser = Sanitiser::new(["the-key-4711\n".to_owned()]).unwrap();
    let first = exchange(
        json!({"model": "m", "prompt_cache_key": "6f1b2c3d-0000-4000-8000-000000000001", "said": "on 2026-11-23, the-key-4711 or sk-abcdefghijklmnop"}),
        stream(&[json!({"id": "resp_0a1b2c3d4e5f", "created_at": 1_795_000_000, "item": {
            "type": "reasoning", "id": "rs_0123456789ab", "encrypted_content": "gAAAA\"bc=="},
            "call_id": "call_AbCdEfGh12345678", "at": "2026-11-23T14:00:00.123Z", "org": "org-QWERTYUIOP10"})]),
    );
    let second =
        exchange(json!({"call_id": "call_AbCdEfGh12345678", "other": "call_zzzzzzzz9999"}), String::new());
    let (first, second) = (sanitiser.exchange(&first), sanitiser.exchange(&second));
    let all = json!([first, second]).to_string();
    for taken in [
        "4711",
        "sk-abc",
        "0a1b2c3d",
        "0123456789ab",
        "gAAAA",
        "AbCdEf",
        "1795",
        "2026",
        "QWERTY",
        "6f1b2c3d",
    ] {
        assert!(!all.contains(taken), "{taken}: {all}");
    }
    assert!(first.response.contains("\"call_1\"") && second.request.contains("\"call_1\""), "{all}");
    assert!(second.request.contains("\"call_2\""), "{all}");
    let body = first.response.trim_start_matches("data: ").trim();
    assert!(serde_json::from_str::<Value>(body).is_ok(), "{body}");
    // A second look changes nothing, so a trace can be cleaned again.
    assert_eq!(sanitiser.exchange(&second), second);
}

#[test]
fn words_of_a_model_are_left_alone() {
    let mut sanitiser = Sanitiser::new([String::new()]).unwrap();
    for text in
        ["call_it a day", "a user-friendly message", "msg-board", "in 1999-12-31", "{\"created\": 12}"]
    {
        assert_eq!(sanitiser.text(text), text);
    }
}

#[test]
fn a_trace_of_each_api_becomes_the_script_of_its_answers() {
    let patch = "*** Begin Patch\n+{{name}}\n*** End Patch";
    let arguments = json!({"input": patch}).to_string();
    let responses = exchange(
        json!({"tools": [{"type": "function", "name": "apply_patch", "parameters": {"type": "object", "properties": {"input": {"type": "string"}}}}]}),
        stream(&[
            json!({"type": "response.output_item.done", "item": {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}}),
            json!({"type": "response.output_item.done", "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I mend."}]}}),
            json!({"type": "response.output_item.done", "item": {"type": "function_call", "call_id": "c", "name": "apply_patch", "arguments": arguments}}),
            json!({"type": "response.completed", "response": {"usage": {"input_tokens": 9, "output_tokens": 3}}}),
        ]),
    );
    let chat = exchange(
        json!({"tools": [{"type": "function", "function": {"name": "apply_patch", "parameters": {"type": "object", "properties": {"input": {"type": "string"}}}}}]}),
        stream(&[
            json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm", "content": "I mend."}}]}),
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "apply_patch", "arguments": arguments}}]}}]}),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}),
        ]) + "data: [DONE]\n\n",
    );
    let messages = exchange(
        json!({"tools": [{"name": "apply_patch", "input_schema": {"type": "object", "properties": {"input": {"type": "string"}}}}]}),
        stream(&[
            json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "hm", "signature": "left out"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "I mend."}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "c", "name": "apply_patch", "input": {}}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": arguments}}),
            json!({"type": "content_block_stop", "index": 2}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}),
            json!({"type": "message_stop"}),
        ]),
    );
    for (wire, whole) in [(Wire::Responses, responses), (Wire::Chat, chat), (Wire::Messages, messages)] {
        let refused = Exchange { status: 503, response: "busy".into(), ..whole.clone() };
        let text = script("recorded", wire, &[refused, whole]).unwrap();
        let played = Script::from_yaml(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let replies = &played.scenarios[0].replies;
        let http = replies[0].http.as_ref().unwrap();
        assert_eq!((http.status, http.body.as_deref()), (503, Some("busy")));
        let [Output::Reasoning(thought), Output::Text(words), Output::Custom(call)] = &replies[1].output[..]
        else {
            panic!("{wire:?}: {text}");
        };
        assert_eq!((thought.as_str(), words.as_str(), call.tool.as_str()), ("hm", "I mend.", "apply_patch"));
        assert_eq!(call.input, patch.replace("{{", "\\{{"), "the braces stand for themselves");
        assert_eq!(replies[1].usage.unwrap().input_tokens, 9);
        assert!(matches!(replies[1].end, End::Completed));
    }
}

#[test]
fn a_stream_that_broke_is_played_as_one_that_breaks() {
    let half = exchange(
        json!({}),
        stream(&[
            json!({"type": "response.output_item.done", "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}}),
            json!({"type": "response.output_text.delta", "delta": "ha"}),
        ]),
    );
    let text = script("recorded", Wire::Responses, &[half]).unwrap();
    let played = Script::from_yaml(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(matches!(played.scenarios[0].replies[0].end, End::Close { after_events: 2 }), "{text}");
    assert!(matches!(script("none", Wire::Responses, &[]), Err(TraceError::Empty)));
}
