//! Threads as they may come, and responses as each API streams them.

use proptest::sample::select;

use super::*;
use crate::llm::StreamEvent;
use crate::llm::failure::Asked;
use crate::llm::fold::{Fold, Progress};

/// A response: reasoning, what only the provider understands, words, calls with their outputs.
#[derive(Clone, Debug, Default)]
pub(super) struct Response {
    pub(super) reasoning: bool,
    pub(super) opaque: bool,
    pub(super) text: Option<String>,
    pub(super) calls: Vec<Called>,
}

/// One thing that happens in a thread.
#[derive(Clone, Debug)]
pub(super) enum Move {
    Developer(String),
    User(String),
    Response(Response),
    /// History is replaced by this.
    Compact(String),
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| format!("t{text}"))
}

fn response() -> impl Strategy<Value = Response> {
    // Ids that repeat, are missing, or are not valid everywhere.
    let id = select(vec!["a", "b", "", "no id!"]).prop_map(str::to_owned);
    let call = (id, any::<bool>(), any::<String>(), any::<String>(), any::<bool>());
    let call = call.prop_map(|(id, is_custom, argument, output, shows)| Called {
        id,
        is_custom,
        argument,
        output,
        shows,
    });
    (any::<bool>(), any::<bool>(), prop::option::of(text()), prop::collection::vec(call, 0..4)).prop_map(
        |(reasoning, opaque, text, calls)| {
            let text = text.or_else(|| calls.is_empty().then(|| "done".to_owned()));
            Response { reasoning, opaque, text, calls }
        },
    )
}

pub(super) fn thread() -> impl Strategy<Value = Vec<Move>> {
    let said = prop_oneof![
        text().prop_map(Move::Developer),
        text().prop_map(Move::User),
        response().prop_map(Move::Response),
        response().prop_map(Move::Response),
        text().prop_map(Move::Compact),
    ];
    (prop::collection::vec(text(), 0..3), text(), prop::collection::vec(said, 0..14)).prop_map(
        |(layers, prompt, moves)| {
            let begin = layers.into_iter().map(Move::Developer).chain([Move::User(prompt)]);
            begin.chain(moves).collect()
        },
    )
}

pub(super) fn custom() -> Vec<String> {
    vec!["apply_patch".to_owned()]
}

/// A call's name and arguments as a model writes them.
pub(super) fn written(call: &Called, as_text: bool) -> (&'static str, String) {
    let argument = &call.argument;
    match (call.is_custom, as_text) {
        (true, true) => ("apply_patch", argument.clone()),
        (true, false) => ("apply_patch", json!({"input": argument}).to_string()),
        (false, _) => ("exec_command", format!("{{ \"cmd\" : {} }}", json!(argument))),
    }
}

/// The data of the events by which an API streams a response.
fn events(wire: Wire, response: &Response, as_text: bool) -> Vec<String> {
    let calls = response.calls.iter().map(|call| {
        let (name, arguments) = written(call, as_text);
        (call.id.clone(), name, arguments, call.is_custom && as_text)
    });
    let events: Vec<Value> = match wire {
        Wire::Responses => {
            let reasoning = response
                .reasoning
                .then(|| json!({"type": "reasoning", "encrypted_content": "sealed", "summary": []}));
            let text = response.text.iter().map(|text| {
                json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
            });
            let calls = calls.map(|(id, name, arguments, is_text)| {
                if is_text {
                    json!({"type": "custom_tool_call", "call_id": id, "name": name, "input": arguments})
                } else {
                    json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
                }
            });
            let opaque = response.opaque.then(|| json!({"type": "web_search_call", "id": "sealed"}));
            let items = reasoning.into_iter().chain(opaque).chain(text).chain(calls);
            items
                .map(|item| json!({"type": "response.output_item.done", "item": item}))
                .chain([json!({"type": "response.completed", "response": {}})])
                .collect()
        }
        Wire::Chat => {
            let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
            let reasoning = response.reasoning.then(|| delta(json!({"reasoning_content": "sealed"})));
            let text = response.text.iter().map(|text| delta(json!({"content": text})));
            let calls = calls.enumerate().map(|(index, (id, name, arguments, is_text))| {
                let call = if is_text {
                    json!({"index": index, "id": id, "type": "custom", "custom": {"name": name, "input": arguments}})
                } else {
                    json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
                };
                delta(json!({"tool_calls": [call]}))
            });
            let opaque = response.opaque.then(|| delta(json!({"extra_content": {"id": "sealed"}})));
            let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            let deltas = reasoning.into_iter().chain(opaque).chain(text).chain(calls);
            deltas.chain([finish, json!("[DONE]")]).collect()
        }
        Wire::Messages => {
            let mut events = vec![json!({"type": "message_start", "message": {"id": "m"}})];
            let mut index = 0;
            let mut block = |block: Value, delta: Value| {
                events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
                events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
                events.push(json!({"type": "content_block_stop", "index": index}));
                index += 1;
            };
            if response.reasoning {
                block(
                    json!({"type": "thinking", "thinking": "sealed"}),
                    json!({"type": "signature_delta", "signature": "s"}),
                );
            }
            if response.opaque {
                block(
                    json!({"type": "server_tool_use", "id": "sealed", "name": "web_search", "input": {}}),
                    json!({"type": "input_json_delta", "partial_json": "{}"}),
                );
            }
            if let Some(text) = &response.text {
                block(json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}));
            }
            for (id, name, arguments, _) in calls {
                block(
                    json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                    json!({"type": "input_json_delta", "partial_json": arguments}),
                );
            }
            events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}));
            events.push(json!({"type": "message_stop"}));
            events
        }
    };
    events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned)).collect()
}

/// The items of a response, read from its stream.
pub(super) fn folded(wire: Wire, response: &Response, as_text: bool) -> Vec<ThreadItem> {
    let asked = Asked { wire, url: "http://llm.test/v1".into(), model: "m".into() };
    let mut fold = Fold::new(asked, if as_text { vec![] } else { custom() }, 0);
    let (mut told, mut last) = (Vec::new(), Progress::None);
    for event in events(wire, response, as_text) {
        last = fold.event(event.as_bytes(), &mut told).unwrap();
    }
    assert_eq!(last, Progress::Finished);
    let items = told.into_iter().filter_map(|event| match event {
        StreamEvent::ItemCompleted(item) => Some(*item),
        _ => None,
    });
    items.collect()
}

pub(super) fn said(text: &str) -> Move {
    Move::User(text.into())
}

pub(super) fn called(ids: &[&str]) -> Move {
    let calls = ids.iter().map(|id| Called {
        id: (*id).to_owned(),
        is_custom: false,
        argument: "ls".to_owned(),
        output: "out".to_owned(),
        shows: false,
    });
    Move::Response(Response { calls: calls.collect(), ..Response::default() })
}

pub(super) fn answered(text: &str) -> Move {
    Move::Response(Response { text: Some(text.into()), ..Response::default() })
}

/// A call with its output.
#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) id: String,
    pub(super) is_custom: bool,
    pub(super) argument: String,
    pub(super) output: String,
    /// Whether a picture comes with the output.
    pub(super) shows: bool,
}

/// The one picture.
pub(super) const PIXEL: &str = "data:image/png;base64,AA==";

/// Whether tools take free text, and not a function's JSON in its place.
pub(super) fn takes_text(wire: Wire, capabilities: &Capabilities) -> bool {
    capabilities.custom_tools && wire != Wire::Messages
}
