//! Events of any shape, to each of the folds.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;

/// Names of members that one of the APIs has.
const MEMBERS: [&str; 44] = [
    "arguments",
    "call_id",
    "choices",
    "code",
    "completion_tokens",
    "content",
    "content_block",
    "content_index",
    "delta",
    "encrypted_content",
    "end_turn",
    "error",
    "finish_reason",
    "function",
    "id",
    "incomplete_details",
    "index",
    "input",
    "input_tokens",
    "item",
    "item_id",
    "message",
    "name",
    "output",
    "output_index",
    "output_tokens",
    "partial_json",
    "prompt_tokens",
    "reason",
    "reasoning",
    "reasoning_content",
    "refusal",
    "response",
    "role",
    "signature",
    "status",
    "stop_reason",
    "summary",
    "text",
    "thinking",
    "tool_calls",
    "total_tokens",
    "type",
    "usage",
];

/// What members of these names say: types of events, items and blocks, reasons, roles.
const WORDS: [&str; 42] = [
    "apply_patch",
    "assistant",
    "content_block_delta",
    "content_block_start",
    "content_block_stop",
    "custom_tool_call",
    "end_turn",
    "error",
    "exec_command",
    "function_call",
    "function_call_output",
    "input_json_delta",
    "length",
    "max_output_tokens",
    "max_tokens",
    "message",
    "message_delta",
    "message_start",
    "message_stop",
    "output_text",
    "ping",
    "reasoning",
    "redacted_thinking",
    "refusal",
    "response.completed",
    "response.created",
    "response.custom_tool_call_input.delta",
    "response.failed",
    "response.function_call_arguments.delta",
    "response.incomplete",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "response.reasoning_summary_text.delta",
    "signature_delta",
    "stop",
    "text",
    "text_delta",
    "thinking",
    "thinking_delta",
    "tool_calls",
    "tool_use",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_i64..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(&WORDS[..]).prop_map(Value::from),
        "[a{}\":\\\\]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            members(inner).prop_map(Value::from),
        ]
    })
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((select(&MEMBERS[..]), value), 0..7)
        .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// An object as the APIs have them, as far as its type goes.
fn event() -> impl Strategy<Value = Value> {
    (select(&WORDS[..]), members(value())).prop_map(|(kind, mut members)| {
        members.insert("type".to_owned(), kind.into());
        members.into()
    })
}

proptest! {
    /// Servers send what they like. It is taken in or refused, and what is given as an item can be sent back.
    #[test]
    fn events_of_any_shape_are_taken_or_refused(
        wire in select(vec![Wire::Responses, Wire::Chat, Wire::Messages]),
        events in prop::collection::vec(event(), 0..12),
    ) {
        let asked = Asked { wire, url: "http://llm.test/v1".into(), model: "m".into() };
        let mut fold = Fold::new(asked, vec!["apply_patch".into()], 400);
        let mut told = Vec::new();
        let mut last = Ok(Progress::None);
        for event in events {
            last = fold.event(event.to_string().as_bytes(), &mut told);
            if !matches!(last, Ok(Progress::None | Progress::Advanced)) {
                break;
            }
        }
        if last.is_ok_and(|progress| progress != Progress::Finished) {
            let _ = fold.ended("closed", &mut told);
        }
        for told in told {
            if let StreamEvent::ItemCompleted(item) = told {
                prop_assert!(serde_json::from_slice::<Value>(item.wire.as_bytes()).is_ok(), "{:?}", item);
            }
        }
    }
}

/// It would else be asked again with the model's own words last, which servers refuse, and a finished task would fail.
#[test]
fn w11_an_error_behind_the_stop_reason_takes_nothing_from_a_whole_response() {
    let error = json!({"type": "error", "error": {"type": "api_error", "message": "boom", "code": 500}});
    let chat = [
        json!({"choices": [{"index": 0, "delta": {"content": "Done."}}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    ];
    let messages = [
        json!({"type": "message_start", "message": {"id": "m"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Done."}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
    ];
    for (wire, events) in [(Wire::Chat, &chat[..]), (Wire::Messages, &messages[..])] {
        for whole in [false, true] {
            let asked = Asked { wire, url: "http://llm.test/v1".into(), model: "m".into() };
            let (mut fold, mut told) = (Fold::new(asked, Vec::new(), 400), Vec::new());
            for event in &events[..events.len() - usize::from(!whole)] {
                fold.event(event.to_string().as_bytes(), &mut told).unwrap();
            }
            let last = fold.event(error.to_string().as_bytes(), &mut told);
            assert_eq!(last.ok(), whole.then_some(Progress::Finished), "{wire:?}");
            assert_eq!(matches!(told.last(), Some(StreamEvent::Completed(_))), whole, "{wire:?}: {told:?}");
        }
    }
}
