use proptest::prelude::*;

use super::*;
use crate::llm::{
    error::{RetryCause, RetryLayer, Retryable},
    item::{CustomCall, FunctionCall},
    wire::Wire,
};

fn fold() -> ChatFold {
    let asked =
        Asked { wire: Wire::Chat, url: "http://llm.test/v1/chat/completions".into(), model: "qwen".into() };
    ChatFold::new(asked, vec!["apply_patch".into()], 400)
}

/// Folds whole events; what they told, and how it ended.
fn run(events: &[&str]) -> (Vec<StreamEvent>, Result<Progress, ModelError>) {
    let (mut fold, mut told) = (fold(), Vec::new());
    let mut last = Ok(Progress::None);
    for event in events {
        last = fold.event(event.as_bytes(), &mut told);
        if last.is_err() {
            break;
        }
    }
    (told, last)
}

fn items(told: &[StreamEvent]) -> Vec<ThreadItem> {
    let items = told.iter().filter_map(|event| match event {
        StreamEvent::ItemCompleted(item) => Some(ThreadItem::clone(item)),
        _ => None,
    });
    items.collect()
}

fn usage(told: &[StreamEvent]) -> Usage {
    match told.last() {
        Some(StreamEvent::Completed(completed)) => completed.usage,
        other => panic!("{other:?}"),
    }
}

fn chunk(delta: Value) -> String {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string()
}

fn finish(reason: &str) -> String {
    json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
}

/// The items of a response made of deltas, with their bytes as text.
fn whole(deltas: &[Value], reason: &str) -> Vec<(Item, String)> {
    let mut events: Vec<String> = deltas.iter().cloned().map(chunk).collect();
    events.extend([finish(reason), "[DONE]".to_owned()]);
    let (told, last) = run(&events.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(last, Ok(Progress::Finished), "{told:?}");
    let text = |item: &ThreadItem| String::from_utf8(item.wire.as_bytes().to_vec()).unwrap();
    items(&told).into_iter().map(|item| (item.item.clone(), text(&item))).collect()
}

fn call(id: &str, name: &str, arguments: &str) -> Item {
    Item::FunctionCall(FunctionCall { call_id: id.into(), name: name.into(), arguments: arguments.into() })
}

const OPENAI: [&str; 7] = [
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":null},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"exec_command","arguments":""}}]},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"cmd\":"}}]},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" \"ls\"}"}}]},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":80},"completion_tokens_details":{"reasoning_tokens":15}}}"#,
    "[DONE]",
];

#[test]
fn w6_input_is_total_on_chat() {
    let (told, last) = run(&OPENAI);
    assert_eq!(last, Ok(Progress::Finished));
    let expected = Usage {
        input_tokens: 100,
        cached_input_tokens: 80,
        output_tokens: 20,
        reasoning_tokens: 15,
        ..Usage::default()
    };
    assert_eq!(usage(&told), expected);
}

#[test]
fn w6_servers_name_what_was_cached_in_many_ways() {
    for counts in [
        json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}),
        json!({"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 4}),
        json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": null}),
    ] {
        let last = json!({"choices": [], "usage": counts}).to_string();
        let (told, _) = run(&[&finish("stop"), &last, "[DONE]"]);
        let usage = usage(&told);
        assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (9, 4, 1));
    }
}

#[test]
fn w6_output_is_total_where_reasoning_is_counted_beside_it() {
    for (said, total) in [(12, 72), (42, 72)] {
        let counts = json!({"prompt_tokens": 30, "completion_tokens": said, "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": 30}});
        let last = json!({"choices": [], "usage": counts}).to_string();
        let usage = usage(&run(&[&chunk(json!({"content": "hi"})), &finish("stop"), &last, "[DONE]"]).0);
        assert_eq!((usage.output_tokens, usage.reasoning_tokens), (42, 30), "{counts}");
    }
}

#[test]
fn w12_calls_start_at_the_finish_reason_and_no_earlier() {
    let (mut fold, mut told) = (fold(), Vec::new());
    for event in &OPENAI[..4] {
        fold.event(event.as_bytes(), &mut told).unwrap();
        assert!(items(&told).is_empty());
    }
    fold.event(OPENAI[4].as_bytes(), &mut told).unwrap();
    assert_eq!(items(&told)[0].item, call("call_1", "exec_command", "{\"cmd\": \"ls\"}"));
    assert_eq!(
        items(&told)[0].wire.as_bytes(),
        &br#"{"id":"call_1","type":"function","function":{"name":"exec_command","arguments":"{\"cmd\": \"ls\"}"}}"#[..]
    );
}

#[test]
fn w12_a_broken_stream_keeps_nothing_unless_its_finish_reason_came() {
    for whole in [false, true] {
        let (mut fold, mut told) = (fold(), Vec::new());
        for event in &OPENAI[..if whole { 5 } else { 4 }] {
            fold.event(event.as_bytes(), &mut told).unwrap();
        }
        let ended = fold.ended("closed", &mut told);
        assert_eq!(ended.is_ok(), whole);
        assert_eq!(items(&told).len(), usize::from(whole));
        if whole {
            assert!(usage(&told).estimated, "the chunk with the usage never came");
        } else {
            assert!(matches!(
                ended,
                Err(ModelError::Retryable(Retryable {
                    layer: RetryLayer::Stream,
                    cause: RetryCause::StreamBroken,
                    ..
                }))
            ));
        }
    }
    assert!(run(&[OPENAI[0], "[DONE]"]).1.is_err(), "[DONE] without a finish reason");
}

#[test]
fn w12_stop_with_calls_present_is_a_step_too() {
    let delta =
        json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]});
    assert_eq!(whole(&[delta], "stop")[0].0, call("a", "f", "{}"));
}

#[test]
fn w12_length_discards_the_last_call() {
    let delta = |index: u64, id: &str| json!({"tool_calls": [{"index": index, "id": id, "function": {"name": "f", "arguments": "{}"}}]});
    assert_eq!(whole(&[delta(0, "a"), delta(1, "b")], "length").len(), 1);
    let cut = [chunk(json!({"content": "half"})), chunk(delta(0, "a")), finish("length")];
    let (told, last) = run(&[&cut[0], &cut[1], &cut[2], "[DONE]"]);
    assert!(matches!(last, Err(ModelError::Fatal(Fatal { kind: FatalKind::Incomplete, .. }))));
    assert_eq!(items(&told)[0].item, Item::message(Role::Assistant, "half"));
}

#[test]
fn w6_what_a_response_cost_that_was_cut_off_is_counted() {
    let usage = OPENAI[5];
    for reason in ["length", "content_filter"] {
        let cost = |events: &[&str]| match run(events).1 {
            Err(ModelError::Fatal(fatal)) => fatal.usage.unwrap(),
            other => panic!("{reason}: {other:?}"),
        };
        let (half, end) = (chunk(json!({"content": "half"})), finish(reason));
        let counted = cost(&[&half, &end, usage, "[DONE]"]);
        assert_eq!((counted.input_tokens, counted.output_tokens), (100, 20), "{reason}");
        assert!(cost(&[&half, &end, "[DONE]"]).estimated, "{reason}");
    }
}

#[test]
fn w13_calls_before_the_limit_are_finished_and_the_work_goes_on() {
    let calls = json!({"tool_calls": [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"index": 1, "id": "b", "function": {"name": "f", "arguments": "{\"x\":"}},
    ]});
    let (told, last) = run(&[&chunk(calls), &finish("length"), "[DONE]"]);
    assert_eq!(last, Ok(Progress::Finished));
    assert_eq!(items(&told)[0].item, call("a", "f", "{}"));
}

#[test]
fn w16_calls_are_found_however_a_server_numbers_them() {
    let one = |index: Value, id: &str, name: &str, arguments: &str| {
        let mut call =
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        if !index.is_null() {
            call["index"] = index;
        }
        json!({"tool_calls": [call]})
    };
    let none = Value::Null;
    let two = [call("a", "f", "{\"x\":1}"), call("b", "g", "{\"y\":2}")];
    let table: [(&str, Vec<Value>, &[Item]); 6] = [
        (
            "by index, interleaved",
            vec![
                one(json!(0), "a", "f", "{\"x\":"),
                one(json!(1), "b", "g", "{\"y\":"),
                one(json!(0), "", "", "1}"),
                one(json!(1), "", "", "2}"),
            ],
            &two,
        ),
        (
            "without index, whole",
            vec![one(none.clone(), "a", "f", "{\"x\":1}"), one(none.clone(), "b", "g", "{\"y\":2}")],
            &two,
        ),
        (
            "without index, in pieces",
            vec![
                one(none.clone(), "a", "f", "{\"x\":"),
                one(none.clone(), "", "", "1}"),
                one(none.clone(), "b", "g", "{\"y\":2}"),
            ],
            &two,
        ),
        (
            "all numbered 0",
            vec![one(json!(0), "a", "f", "{\"x\":1}"), one(json!(0), "b", "g", "{\"y\":2}")],
            &two,
        ),
        (
            "name and id repeated with every delta",
            vec![
                one(json!(0), "a", "f", "{\"x\":"),
                one(json!(0), "a", "f", "1}"),
                one(json!(1), "b", "g", "{\"y\":2}"),
            ],
            &two,
        ),
        (
            "the function's name as id, without index",
            vec![one(none.clone(), "f", "f", "{}"), one(none, "f", "f", "{\"x\":1}")],
            &[call("f", "f", "{}"), call("f", "f", "{\"x\":1}")],
        ),
    ];
    for (what, deltas, expected) in table {
        let calls: Vec<Item> = whole(&deltas, "tool_calls").into_iter().map(|(item, _)| item).collect();
        assert_eq!(calls, expected, "{what}");
    }
}

#[test]
fn w16_odd_shapes_of_calls_are_read() {
    let object = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": [1, 2]}}}]});
    assert_eq!(whole(&[object], "tool_calls")[0].0, call("a", "f", "{\"x\":[1,2]}"));
    let bare = json!({"tool_calls": [{"index": 0, "function": {"name": "f"}}]});
    assert_eq!(whole(&[bare], "tool_calls")[0].0, call("", "f", "{}"));
    let nameless = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]});
    assert!(whole(&[nameless], "tool_calls").is_empty());
}

#[test]
fn w16_no_usage_is_an_estimate_and_one_in_the_last_chunk_is_taken() {
    let (told, _) = run(&[&chunk(json!({"content": "hi"})), &finish("stop"), "[DONE]"]);
    assert!(usage(&told).estimated && usage(&told).input_tokens == 100);
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
    assert_eq!(usage(&run(&[&last.to_string(), "[DONE]"]).0).input_tokens, 7);
}

#[test]
fn w7_a_custom_tool_comes_back_as_what_it_is() {
    let patch = Item::CustomCall(CustomCall {
        call_id: "a".into(),
        name: "apply_patch".into(),
        input: "*** Begin\n".into(),
    });
    let function = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "apply_patch", "arguments": "{\"input\":\"*** Begin\\n\"}"}}]});
    let own = json!({"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin\n"}}]});
    assert_eq!(whole(&[function], "tool_calls")[0].0, patch);
    let (item, wire) = whole(&[own], "tool_calls").remove(0);
    assert_eq!(item, patch);
    assert_eq!(wire, r#"{"id":"a","type":"custom","custom":{"name":"apply_patch","input":"*** Begin\n"}}"#);
    let broken = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "apply_patch", "arguments": "{\"inp"}}]});
    assert_eq!(whole(&[broken], "tool_calls")[0].0, call("a", "apply_patch", "{\"inp"));
}

#[test]
fn w1_members_that_only_the_provider_understands_are_kept() {
    let signed = json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "c2ln"}}}]});
    let (_, wire) = whole(&[signed], "tool_calls").remove(0);
    assert!(wire.contains(r#""extra_content":{"google":{"thought_signature":"c2ln"}}"#), "{wire}");
    let kept = whole(
        &[
            json!({"reasoning": "h", "reasoning_details": [{"type": "reasoning.text", "text": "h"}]}),
            json!({"reasoning": "m", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}),
            json!({"content": "hi", "extra_content": {"google": {"thought_signature": "c2ln"}}}),
        ],
        "stop",
    );
    assert_eq!(
        kept.iter().map(|(_, wire)| wire.as_str()).collect::<Vec<_>>(),
        [
            r#"{"reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"h"},{"type":"reasoning.encrypted","data":"x"}]}"#,
            r#"{"extra_content":{"google":{"thought_signature":"c2ln"}}}"#,
            r#"{"content":"hi"}"#,
        ]
    );
}

#[test]
fn labels_of_chunks_are_no_members_of_the_message() {
    let deltas = [
        json!({"role": "assistant", "content": null, "channel": "analysis", "reasoning": "h"}),
        json!({"channel": "analysis", "reasoning": "m"}),
        json!({"token_id": 5, "content": "hi", "is_last": true}),
    ];
    let kept: Vec<String> = whole(&deltas, "stop").into_iter().map(|(_, wire)| wire).collect();
    assert_eq!(kept, [r#"{"reasoning":"hm"}"#, r#"{"content":"hi"}"#]);
}

#[test]
fn w17_reasoning_is_read_under_each_of_its_names() {
    for delta in [
        json!({"reasoning_content": "hm"}),
        json!({"reasoning": "hm"}),
        json!({"reasoning_content": "hm", "reasoning": "hm"}),
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
    ] {
        let (item, _) = whole(std::slice::from_ref(&delta), "stop").remove(0);
        assert_eq!(item, Item::Reasoning(Reasoning { text: vec!["hm".into()], encrypted: false }), "{delta}");
    }
}

#[test]
fn w18_calls_written_as_text_are_a_misconfiguration() {
    for text in ["<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "I run it: <function=f><parameter=x>1"] {
        let events = [chunk(json!({"content": text})), finish("stop")];
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let Err(ModelError::Misconfigured(error)) = run(&events).1 else { panic!("{text}") };
        assert!(error.message.contains("--tool-call-parser") && error.message.contains("--jinja"));
        // Somebody who has called before only talks about calls.
        let mut fold = fold();
        fold.after_calls(true);
        for event in events {
            fold.event(event.as_bytes(), &mut Vec::new()).unwrap();
        }
    }
}

#[test]
fn a_refusal_and_a_filtered_response_end_the_work() {
    let refused = |events: &[&str]| {
        matches!(run(events).1, Err(ModelError::Fatal(Fatal { kind: FatalKind::Refused, .. })))
    };
    assert!(refused(&[&chunk(json!({"refusal": "I cannot"})), &finish("stop"), "[DONE]"]));
    assert!(refused(&[&chunk(json!({"content": "I"})), &finish("content_filter"), "[DONE]"]));
}

#[test]
fn errors_in_the_stream_have_the_class_of_their_code() {
    let cause = |event: &str| match run(&[OPENAI[0], event]).1 {
        Err(ModelError::Retryable(error)) => Some(error.cause),
        _ => None,
    };
    assert_eq!(
        cause(
            r#"{"error":{"code":429,"message":"slow down"},"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#
        ),
        Some(RetryCause::RateLimited)
    );
    assert_eq!(
        cause(r#"{"error":{"message":"boom","type":"server_error","code":500}}"#),
        Some(RetryCause::ResponseFailed)
    );
    assert_eq!(cause(&finish("error")), Some(RetryCause::ResponseFailed));
    let too_long = r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#;
    assert!(matches!(
        run(&[too_long]).1,
        Err(ModelError::Fatal(Fatal { kind: FatalKind::ContextWindowExceeded, .. }))
    ));
}

#[test]
fn what_is_not_understood_is_skipped_and_another_api_is_recognised() {
    let (mut fold, mut told) = (fold(), Vec::new());
    for data in ["{not json", "", "7", r#"{"type":"ping"}"#] {
        assert_eq!(fold.event(data.as_bytes(), &mut told), Ok(Progress::None), "{data}");
    }
    assert!(told.is_empty());
    let ended = fold.ended("closed", &mut told);
    assert!(matches!(
        ended,
        Err(ModelError::Misconfigured(Misconfigured { kind: Misconfiguration::WrongApi, .. }))
    ));
}

#[test]
fn surfaces_are_told_of_everything_while_it_arrives() {
    let (told, _) = run(&[
        &chunk(json!({"reasoning_content": "hm"})),
        &chunk(json!({"content": "he"})),
        &chunk(
            json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "apply_patch", "arguments": "{\"input\":\"x\\n"}}]}),
        ),
    ]);
    let id = |id: &str| id.to_owned();
    assert_eq!(
        told,
        [
            StreamEvent::Created { response_id: Some(id("chatcmpl-1")) },
            StreamEvent::ItemStarted { item_id: id("reasoning"), kind: ItemKind::Reasoning },
            StreamEvent::ReasoningDelta { item_id: id("reasoning"), delta: "hm".into() },
            StreamEvent::ItemStarted { item_id: id("message"), kind: ItemKind::Message },
            StreamEvent::TextDelta { item_id: id("message"), delta: "he".into() },
            StreamEvent::ItemStarted { item_id: id("call-0"), kind: ItemKind::CustomCall },
            StreamEvent::CallInputDelta { item_id: id("call-0"), delta: "x\n".into() },
        ]
    );
}

/// A text cut into pieces at any characters.
fn pieces(text: &str, cuts: &[usize]) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (characters.len() + 1)).collect();
    cuts.extend([0, characters.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| characters[pair[0]..pair[1]].iter().collect()).collect()
}

proptest! {
    #[test]
    fn the_cuts_between_deltas_never_matter(
        text in any::<String>(),
        argument in any::<String>(),
        cuts in prop::collection::vec(0usize..200, 0..10),
    ) {
        let arguments = json!({"cmd": argument}).to_string();
        let mut deltas: Vec<Value> = pieces(&text, &cuts).into_iter().map(|piece| json!({"content": piece})).collect();
        deltas.push(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}));
        deltas.extend(pieces(&arguments, &cuts).into_iter().map(|piece| {
            json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        }));
        let items: Vec<Item> = whole(&deltas, "tool_calls").into_iter().map(|(item, _)| item).collect();
        let said = (!text.is_empty()).then(|| Item::message(Role::Assistant, text));
        let expected: Vec<Item> = said.into_iter().chain([call("a", "f", &arguments)]).collect();
        prop_assert_eq!(items, expected);
    }

    #[test]
    fn any_data_is_taken(events in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let mut fold = fold();
        for event in events {
            prop_assert!(fold.event(&event, &mut Vec::new()).is_ok());
        }
    }
}
