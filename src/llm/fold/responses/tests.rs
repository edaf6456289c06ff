use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::{
    error::{Misconfiguration, Misconfigured, RetryCause, RetryLayer, Retryable},
    event::Completed,
    item::{CustomCall, FunctionCall, Message, Opaque, Reasoning, Role},
    wire::Wire,
};

fn fold() -> ResponsesFold {
    let asked =
        Asked { wire: Wire::Responses, url: "http://llm.test/v1/responses".into(), model: "gpt-x".into() };
    ResponsesFold::new(asked, vec!["apply_patch".into()], 400)
}

/// Folds whole events; what they told, and how it ended.
fn run(events: &[Value]) -> (Vec<StreamEvent>, Result<Progress, ModelError>) {
    let mut fold = fold();
    let mut told = Vec::new();
    let mut last = Ok(Progress::None);
    for event in events {
        last = fold.event(event.to_string().as_bytes(), &mut told);
    }
    (told, last)
}

fn done(item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": 0, "item": item})
}

fn completed() -> Value {
    json!({"type": "response.completed", "response": {"id": "resp_1"}})
}

/// The one item that an `output_item.done` gives.
fn item(item: Value) -> Item {
    let (mut told, last) = run(&[done(item)]);
    last.unwrap();
    match told.pop() {
        Some(StreamEvent::ItemCompleted(item)) => item.item,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_item_type_is_read() {
    let call = |name: &str, arguments: &str| {
        Item::FunctionCall(FunctionCall {
            call_id: "c1".into(),
            name: name.into(),
            arguments: arguments.into(),
        })
    };
    let patch = CustomCall { call_id: "c1".into(), name: "apply_patch".into(), input: "*** Begin\n".into() };
    let table = [
        (
            json!({"type": "message", "role": "assistant", "phase": "final_answer",
                "content": [{"type": "output_text", "text": "hi", "annotations": []}, {"type": "audio"}]}),
            Item::message(Role::Assistant, "hi"),
        ),
        (
            json!({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}),
            Item::Message(Message {
                role: Role::Assistant,
                content: vec![ContentPart::Refusal { text: "no".into() }],
            }),
        ),
        (
            json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}],
                "content": [{"type": "reasoning_text", "text": "b"}], "encrypted_content": "xyz"}),
            Item::Reasoning(Reasoning { text: vec!["a".into(), "b".into()], encrypted: true }),
        ),
        (
            json!({"type": "reasoning", "summary": null, "content": null}),
            Item::Reasoning(Reasoning::default()),
        ),
        (
            json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\": 1 }"}),
            call("f", "{\"a\": 1 }"),
        ),
        (
            json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": {"a": 1}}),
            call("f", "{\"a\":1}"),
        ),
        (json!({"type": "function_call", "id": "c1", "name": "f"}), call("f", "")),
        (
            json!({"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin\n"}),
            Item::CustomCall(patch.clone()),
        ),
        (
            json!({"type": "function_call", "call_id": "c1", "name": "apply_patch",
                "arguments": "{\"input\":\"*** Begin\\n\"}"}),
            Item::CustomCall(patch),
        ),
        (
            json!({"type": "function_call", "call_id": "c1", "name": "apply_patch", "arguments": "{\"inp"}),
            call("apply_patch", "{\"inp"),
        ),
        (json!({"type": "web_search_call", "x": 1}), Item::Opaque(Opaque { kind: "web_search_call".into() })),
    ];
    for (received, expected) in table {
        assert_eq!(item(received.clone()), expected, "{received}");
    }
}

#[test]
fn w1_the_raw_bytes_of_an_item_are_kept() {
    let raw = r#"{ "type":"function_call" , "z":1.50, "name":"f","call_id":"c","arguments":"{ }","extra":{"s":"\u00e9"} }"#;
    let event = format!(r#"{{"type":"response.output_item.done","item":{raw}}}"#);
    let mut told = Vec::new();
    fold().event(event.as_bytes(), &mut told).unwrap();
    let [StreamEvent::ItemCompleted(item)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(item.wire.as_bytes(), raw.as_bytes());
}

#[test]
fn a_call_that_cannot_be_answered_is_another_api() {
    for broken in [
        json!({"type": "function_call", "call_id": "c1", "arguments": "{}"}),
        json!({"type": "custom_tool_call", "name": "apply_patch"}),
        json!({"type": "function_call", "call_id": 7, "name": "f"}),
        json!({"no_type": true}),
    ] {
        let (told, last) = run(&[done(broken.clone())]);
        assert!(told.is_empty(), "{broken}");
        assert!(
            matches!(
                last,
                Err(ModelError::Misconfigured(Misconfigured { kind: Misconfiguration::WrongApi, .. }))
            ),
            "{broken}"
        );
    }
}

#[test]
fn w10_an_item_that_was_cut_off_is_no_item() {
    let cut = json!({"type": "function_call", "status": "incomplete", "call_id": "c", "name": "f", "arguments": "{}"});
    assert_eq!(run(&[done(cut)]), (vec![], Ok(Progress::Advanced)));
}

#[test]
fn deltas_and_starts_go_to_surfaces() {
    let (told, last) = run(&[
        json!({"type": "response.created", "response": {"id": "resp_1"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m"}}),
        json!({"type": "response.output_text.delta", "item_id": "m", "delta": "he"}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "reasoning"}}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 1, "delta": "hm"}),
        json!({"type": "response.reasoning_text.delta", "output_index": 1, "delta": "m"}),
        json!({"type": "response.function_call_arguments.delta", "item_id": "f", "delta": "{"}),
        json!({"type": "response.custom_tool_call_input.delta", "item_id": "c", "delta": "***"}),
        json!({"type": "response.audio.delta", "delta": {"strange": true}}),
    ]);
    assert_eq!(last, Ok(Progress::Advanced));
    let id = |id: &str| id.to_owned();
    assert_eq!(
        told,
        [
            StreamEvent::Created { response_id: Some("resp_1".into()) },
            StreamEvent::ItemStarted { item_id: id("m"), kind: ItemKind::Message },
            StreamEvent::TextDelta { item_id: id("m"), delta: "he".into() },
            StreamEvent::ItemStarted { item_id: id("1"), kind: ItemKind::Reasoning },
            StreamEvent::ReasoningDelta { item_id: id("1"), delta: "hm".into() },
            StreamEvent::ReasoningDelta { item_id: id("1"), delta: "m".into() },
            StreamEvent::CallInputDelta { item_id: id("f"), delta: "{".into() },
            StreamEvent::CallInputDelta { item_id: id("c"), delta: "***".into() },
        ]
    );
}

#[test]
fn w6_input_is_total_on_responses() {
    let event = json!({"type": "response.completed", "response": {"id": "resp_1", "end_turn": false, "usage": {
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 5},
        "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 15}, "total_tokens": 120}}});
    let expected = Completed {
        response_id: Some("resp_1".into()),
        usage: Usage {
            input_tokens: 100,
            cached_input_tokens: 80,
            cache_write_input_tokens: 5,
            output_tokens: 20,
            reasoning_tokens: 15,
            estimated: false,
        },
        end_turn: Some(false),
        items: 0,
    };
    assert_eq!(run(&[event]), (vec![StreamEvent::Completed(expected)], Ok(Progress::Finished)));
}

#[test]
fn usage_that_is_missing_or_partly_null_is_no_error() {
    for (usage, expected) in [
        (json!(null), Usage::estimate(400, 0)),
        (
            json!({"input_tokens": 7, "output_tokens": null, "input_tokens_details": null}),
            Usage { input_tokens: 7, ..Usage::default() },
        ),
    ] {
        let event = json!({"type": "response.completed", "response": {"usage": usage}});
        let (told, _) = run(&[event]);
        let [StreamEvent::Completed(completed)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(completed.usage, expected);
    }
}

#[test]
fn the_estimate_counts_the_body_and_the_items() {
    let item = json!({"type": "message", "content": []});
    let bytes = item.to_string().len() as u64;
    let (told, _) = run(&[done(item), completed()]);
    let Some(StreamEvent::Completed(completed)) = told.last() else { panic!("{told:?}") };
    assert_eq!(completed.usage, Usage::estimate(400, bytes));
    assert_eq!(completed.items, 1);
}

#[test]
fn items_that_come_only_with_the_end_are_taken_and_others_not_twice() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "hi"}]});
    let end = json!({"type": "response.completed", "response": {"output": [message]}});
    for events in [vec![end.clone()], vec![done(message), end]] {
        let (told, last) = run(&events);
        assert_eq!(last, Ok(Progress::Finished));
        let items = told.iter().filter(|event| matches!(event, StreamEvent::ItemCompleted(_))).count();
        assert_eq!(items, 1);
    }
}

#[test]
fn w7_a_custom_tool_comes_back_as_what_it_is() {
    let patch = "*** Begin Patch\n+\u{e9}\"\\\n";
    let expected = Item::CustomCall(CustomCall {
        call_id: "c1".into(),
        name: "apply_patch".into(),
        input: patch.into(),
    });
    let arguments = json!({"input": patch}).to_string();
    for received in [
        json!({"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": patch}),
        json!({"type": "function_call", "call_id": "c1", "name": "apply_patch", "arguments": arguments}),
    ] {
        assert_eq!(item(received.clone()), expected, "{received}");
    }
}

#[test]
fn w10_a_call_is_whole_at_its_done_event_and_stays_when_the_stream_breaks() {
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"});
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "x", "summary": []});
    let begun =
        json!({"type": "response.output_item.added", "output_index": 2, "item": {"type": "function_call"}});
    let half = json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{\"cm"});
    let mut fold = fold();
    let mut told = Vec::new();
    for event in [done(reasoning), done(call), begun, half] {
        assert_eq!(fold.event(event.to_string().as_bytes(), &mut told), Ok(Progress::Advanced));
    }
    let items: Vec<&Item> = told
        .iter()
        .filter_map(|event| match event {
            StreamEvent::ItemCompleted(item) => Some(&item.item),
            _ => None,
        })
        .collect();
    assert!(matches!(items[..], [Item::Reasoning(_), Item::FunctionCall(_)]), "{items:?}");
    assert!(matches!(
        fold.broken("cut"),
        ModelError::Retryable(Retryable { cause: RetryCause::StreamBroken, .. })
    ));
}

#[test]
fn w13_calls_before_the_limit_are_finished_and_the_work_goes_on() {
    let call = done(json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}));
    let end = json!({"type": "response.incomplete", "response": {
        "incomplete_details": {"reason": "max_output_tokens"}, "usage": {"input_tokens": 9, "output_tokens": 1}}});
    let (told, last) = run(&[call, end]);
    assert_eq!(last, Ok(Progress::Finished));
    let Some(StreamEvent::Completed(completed)) = told.last() else { panic!("{told:?}") };
    assert_eq!((completed.items, completed.usage.input_tokens), (1, 9));
}

#[test]
fn a_refusal_ends_the_turn_unless_something_was_called() {
    let refusal = done(json!({"type": "message", "content": [{"type": "refusal", "refusal": "I cannot"}]}));
    let call = done(json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}));
    let (_, last) = run(&[refusal.clone(), completed()]);
    assert_eq!(
        last,
        Err(ModelError::Fatal(Fatal {
            kind: FatalKind::Refused,
            message: "The model refuses: I cannot".into(),
            usage: None
        }))
    );
    assert_eq!(run(&[refusal, call, completed()]).1, Ok(Progress::Finished));
}

#[test]
fn an_incomplete_response_says_why_and_what_it_cost() {
    for (reason, kind) in [
        (json!({"reason": "max_output_tokens"}), FatalKind::Incomplete),
        (json!({"reason": "content_filter"}), FatalKind::Refused),
        (json!(null), FatalKind::Incomplete),
    ] {
        let event = json!({"type": "response.incomplete", "response": {
            "incomplete_details": reason, "usage": {"input_tokens": 9, "output_tokens": 1}}});
        let Err(ModelError::Fatal(fatal)) = run(&[event]).1 else { panic!("{reason}") };
        assert_eq!(fatal.kind, kind);
        assert_eq!(fatal.usage.map(|usage| usage.input_tokens), Some(9));
    }
}

#[test]
fn a_failed_response_and_a_bare_error_have_the_class_of_their_code() {
    let error = json!({"code": "rate_limit_exceeded", "message": "Please try again in 1.5s."});
    for event in [
        json!({"type": "response.failed", "response": {"error": error}}),
        json!({"type": "error", "code": "rate_limit_exceeded", "message": "Please try again in 1.5s."}),
        json!({"type": "error", "error": error}),
    ] {
        let Err(ModelError::Retryable(failure)) = run(std::slice::from_ref(&event)).1 else {
            panic!("{event}")
        };
        assert_eq!(failure.cause, RetryCause::RateLimited);
        assert_eq!(failure.server_delay, Some(std::time::Duration::from_millis(1500)));
    }
    for event in [
        json!({"type": "response.failed"}),
        json!({"type": "response.failed", "response": {"error": null}}),
        json!({"type": "error"}),
    ] {
        let Err(ModelError::Retryable(failure)) = run(std::slice::from_ref(&event)).1 else {
            panic!("{event}")
        };
        assert_eq!(failure.cause, RetryCause::ResponseFailed);
    }
}

#[test]
fn what_is_not_understood_is_skipped_and_is_no_progress() {
    let mut fold = fold();
    let mut told = Vec::new();
    for data in ["[DONE]", "{not json", "", "7", r#"{"type":"ping"}"#, r#"{"type":7}"#] {
        assert_eq!(fold.event(data.as_bytes(), &mut told), Ok(Progress::None), "{data}");
    }
    assert!(told.is_empty());
    assert_eq!(
        fold.event(br#"{"type":"response.brand_new","item":{"type":"message"}}"#, &mut told),
        Ok(Progress::Advanced)
    );
    assert!(told.is_empty());
}

#[test]
fn a_broken_stream_is_retryable_unless_it_was_another_apis() {
    let broken = |events: &[&str]| {
        let mut fold = fold();
        for event in events {
            fold.event(event.as_bytes(), &mut Vec::new()).unwrap();
        }
        matches!(
            fold.broken("closed"),
            ModelError::Retryable(Retryable {
                layer: RetryLayer::Stream,
                cause: RetryCause::StreamBroken,
                ..
            })
        )
    };
    let chat = r#"{"object":"chat.completion.chunk","choices":[]}"#;
    let messages = r#"{"type":"message_start","message":{}}"#;
    let ours = r#"{"type":"response.created","response":{}}"#;
    assert!(broken(&[]));
    assert!(broken(&["[DONE]", r#"{"type":"ping"}"#]));
    assert!(broken(&[ours, chat]));
    assert!(!broken(&[chat, "[DONE]"]));
    assert!(!broken(&[messages]));
}

proptest! {
    #[test]
    fn any_data_is_taken(events in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let mut fold = fold();
        for event in events {
            prop_assert!(fold.event(&event, &mut Vec::new()).is_ok());
        }
    }
}
