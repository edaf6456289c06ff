use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::{
    error::{Misconfiguration, Misconfigured, RetryCause},
    event::{Completed, ItemKind},
    item::{CustomCall, FunctionCall, Item, Opaque, Reasoning, Role, ThreadItem},
    wire::Wire,
};

fn fold() -> MessagesFold {
    let asked =
        Asked { wire: Wire::Messages, url: "http://llm.test/v1/messages".into(), model: "claude-x".into() };
    MessagesFold::new(asked, vec!["apply_patch".into()], 400)
}

/// Folds whole events; what they told, and how it ended.
fn run(events: &[Value]) -> (Vec<StreamEvent>, Result<Progress, ModelError>) {
    let (mut fold, mut told) = (fold(), Vec::new());
    let mut last = Ok(Progress::None);
    for event in events {
        last = fold.event(event.to_string().as_bytes(), &mut told);
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

fn texts(told: &[StreamEvent]) -> Vec<String> {
    items(told).iter().map(|item| String::from_utf8(item.wire.as_bytes().to_vec()).unwrap()).collect()
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [],
        "model": "claude-x", "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 25, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000, "output_tokens": 1}}})
}

fn block(index: u64, block: Value, deltas: &[Value]) -> Vec<Value> {
    let deltas =
        deltas.iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta}));
    [json!({"type": "content_block_start", "index": index, "content_block": block})]
        .into_iter()
        .chain(deltas)
        .chain([json!({"type": "content_block_stop", "index": index})])
        .collect()
}

fn thinking(index: u64, signature: &str) -> Vec<Value> {
    let signed = json!({"type": "signature_delta", "signature": signature});
    let thought = json!({"type": "thinking_delta", "thinking": "hm"});
    block(index, json!({"type": "thinking", "thinking": "", "signature": ""}), &[thought, signed])
}

fn said(index: u64, text: &str) -> Vec<Value> {
    block(index, json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": text})])
}

fn tool_use(index: u64, id: &str, pieces: &[&str]) -> Vec<Value> {
    let deltas: Vec<Value> =
        pieces.iter().map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect();
    block(index, json!({"type": "tool_use", "id": id, "name": "exec_command", "input": {}}), &deltas)
}

fn end(reason: &str) -> Vec<Value> {
    vec![
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 15}}),
        json!({"type": "message_stop"}),
    ]
}

fn call(id: &str, arguments: &str) -> Item {
    Item::FunctionCall(FunctionCall {
        call_id: id.into(),
        name: "exec_command".into(),
        arguments: arguments.into(),
    })
}

fn whole(blocks: &[Vec<Value>], reason: &str) -> (Vec<StreamEvent>, Result<Progress, ModelError>) {
    run(&[vec![start()], blocks.concat(), end(reason)].concat())
}

fn fatal(last: Result<Progress, ModelError>) -> FatalKind {
    match last {
        Err(ModelError::Fatal(fatal)) => {
            assert_eq!(fatal.usage.map(|usage| usage.input_tokens), Some(2125));
            fatal.kind
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn w23_a_compaction_is_put_together_from_its_pieces_and_kept_as_it_is() {
    let delta = |content: &str, more: Value| {
        let mut delta = json!({"type": "compaction_delta", "content": content});
        delta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        delta
    };
    let began = json!({"type": "compaction", "content": null});
    let deltas =
        [delta("I loo", json!({})), delta("ked.", json!({"encrypted_content": "x", "signature": "s"}))];
    let stop = json!({"type": "message_delta", "delta": {"stop_reason": "compaction"}});
    let events: Vec<Value> = [start()]
        .into_iter()
        .chain(block(0, began, &deltas))
        .chain([stop, json!({"type": "message_stop"})])
        .collect();
    let (told, last) = run(&events);
    assert_eq!(last, Ok(Progress::Finished));
    assert_eq!(
        texts(&told),
        [r#"{"type":"compaction","content":"I looked.","encrypted_content":"x","signature":"s"}"#]
    );
    assert!(matches!(&items(&told)[0].item, Item::Opaque(opaque) if opaque.kind == "compaction"));
}

#[test]
fn w6_input_is_total_on_messages() {
    let (told, last) = whole(&[said(0, "hi")], "end_turn");
    assert_eq!(last, Ok(Progress::Finished));
    let expected = Completed {
        response_id: Some("msg_1".into()),
        usage: Usage {
            input_tokens: 2125,
            cached_input_tokens: 2000,
            cache_write_input_tokens: 100,
            output_tokens: 15,
            reasoning_tokens: 0,
            estimated: false,
        },
        end_turn: None,
        items: 1,
    };
    assert_eq!(told.last(), Some(&StreamEvent::Completed(expected)));
}

#[test]
fn w1_blocks_are_kept_as_they_came_and_inputs_are_not_written_again() {
    let (told, _) = whole(
        &[
            thinking(0, "sig"),
            said(1, "I look."),
            tool_use(2, "toolu_1", &["{\"cmd\"", " : \"ls\", \"n\": 1.50}"]),
        ],
        "tool_use",
    );
    assert_eq!(
        texts(&told),
        [
            r#"{"type":"thinking","thinking":"hm","signature":"sig"}"#,
            r#"{"type":"text","text":"I look."}"#,
            r#"{"type":"tool_use","id":"toolu_1","name":"exec_command","input":{"cmd" : "ls", "n": 1.50}}"#,
        ]
    );
    let read: Vec<Item> = items(&told).into_iter().map(|item| item.item).collect();
    assert_eq!(
        read,
        [
            Item::Reasoning(Reasoning { text: vec!["hm".into()], encrypted: true }),
            Item::message(Role::Assistant, "I look."),
            call("toolu_1", "{\"cmd\" : \"ls\", \"n\": 1.50}"),
        ]
    );
}

#[test]
fn w11_a_call_is_whole_when_a_later_block_begins_or_the_stop_reason_is_known() {
    let events = [vec![start()], said(0, "I look."), tool_use(1, "a", &["{}"])].concat();
    let (told, _) = run(&events);
    assert!(items(&told).is_empty(), "stopped, but the limit may have cut it");
    let (told, _) = run(&[events.clone(), vec![tool_use(2, "b", &[])[0].clone()]].concat());
    assert_eq!(items(&told).len(), 2, "the words before the call, and the call");
    let (told, _) = run(&[events, vec![end("tool_use")[0].clone()]].concat());
    assert_eq!(items(&told).len(), 2);
}

#[test]
fn w11_a_broken_stream_is_cut_back_to_its_last_whole_call() {
    let broken = |blocks: &[Vec<Value>]| {
        let (mut fold, mut told) = (fold(), Vec::new());
        for event in [vec![start()], blocks.concat()].concat() {
            fold.event(event.to_string().as_bytes(), &mut told).unwrap();
        }
        assert!(matches!(fold.ended("closed", &mut told), Err(ModelError::Retryable(_))));
        items(&told).into_iter().map(|item| item.item).collect::<Vec<_>>()
    };
    assert!(broken(&[thinking(0, "sig"), said(1, "I look.")]).is_empty(), "without a call nothing is kept");
    let half: Vec<Value> = said(2, "and")[..2].to_vec();
    let kept = broken(&[said(0, "I look."), tool_use(1, "a", &["{}"]), half]);
    assert_eq!(kept, [Item::message(Role::Assistant, "I look."), call("a", "{}")]);
    let (mut fold, mut told) = (fold(), Vec::new());
    for event in [vec![start()], said(0, "hi"), end("end_turn")[..1].to_vec()].concat() {
        fold.event(event.to_string().as_bytes(), &mut told).unwrap();
    }
    assert!(fold.ended("closed", &mut told).is_ok(), "whole with its stop reason");
    assert!(matches!(told.last(), Some(StreamEvent::Completed(_))));
}

#[test]
fn w11_the_output_limit_cuts_the_last_call_off() {
    let (told, last) = whole(&[tool_use(0, "a", &["{}"]), tool_use(1, "b", &["{}"])], "max_tokens");
    assert_eq!(last, Ok(Progress::Finished));
    assert_eq!(items(&told).len(), 1);
    assert_eq!(fatal(whole(&[tool_use(0, "a", &["{}"])], "max_tokens").1), FatalKind::Incomplete);
}

#[test]
fn w13_calls_before_the_limit_are_finished_and_the_work_goes_on() {
    let (told, last) = whole(&[said(0, "x"), tool_use(1, "a", &["{}"]), said(2, "and th")], "max_tokens");
    assert_eq!(last, Ok(Progress::Finished));
    assert_eq!(items(&told).len(), 2, "cut back to the call");
}

#[test]
fn w20_thinking_is_kept_with_its_signature_and_redacted_thinking_as_it_is() {
    let redacted = block(1, json!({"type": "redacted_thinking", "data": "abc"}), &[]);
    let (told, _) = whole(&[thinking(0, "sig"), redacted, said(2, "hi")], "end_turn");
    assert_eq!(texts(&told)[1], r#"{"type":"redacted_thinking","data":"abc"}"#);
    let sent = |item: &ThreadItem| {
        Wire::Messages.fragment(item, crate::llm::wire::Place::default(), &Default::default()).is_some()
    };
    assert!(items(&told).iter().all(sent));
    let (told, _) = whole(&[thinking(0, ""), said(1, "hi")], "end_turn");
    assert!(!sent(&items(&told)[0]), "without a signature it is shown, and not sent again");
}

#[test]
fn w22_a_paused_turn_is_asked_again_and_the_other_ends_have_their_class() {
    let searched =
        block(0, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}), &[]);
    let (told, _) = whole(&[searched], "pause_turn");
    assert_eq!(items(&told)[0].item, Item::Opaque(Opaque { kind: "server_tool_use".into() }));
    let Some(StreamEvent::Completed(completed)) = told.last() else { panic!("{told:?}") };
    assert_eq!(completed.end_turn, Some(false));
    assert_eq!(fatal(whole(&[said(0, "no")], "refusal").1), FatalKind::Refused);
    assert_eq!(
        fatal(whole(&[said(0, "x")], "model_context_window_exceeded").1),
        FatalKind::ContextWindowExceeded
    );
}

#[test]
fn w22_an_error_event_is_retried_and_a_ping_is_no_progress() {
    let error = |kind: &str| {
        let event = json!({"type": "error", "error": {"type": kind, "message": "words"}, "request_id": "r"});
        match run(&[start(), event]).1 {
            Err(ModelError::Retryable(error)) => Some(error.cause),
            _ => None,
        }
    };
    assert_eq!(error("overloaded_error"), Some(RetryCause::Overloaded));
    assert_eq!(error("api_error"), Some(RetryCause::ResponseFailed));
    assert_eq!(error("rate_limit_error"), Some(RetryCause::RateLimited));
    assert_eq!(error("brand_new_error"), Some(RetryCause::ResponseFailed));
    assert_eq!(run(&[start(), json!({"type": "ping"})]).1, Ok(Progress::None));
    assert_eq!(run(&[start()]).1, Ok(Progress::Advanced));
}

#[test]
fn w7_a_custom_tool_comes_back_as_what_it_is() {
    let begin = json!({"type": "tool_use", "id": "a", "name": "apply_patch", "input": {}});
    let delta = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
    let (told, _) =
        whole(&[block(0, begin, &[delta("{\"input\": \"*** "), delta("Begin\\n\"}")])], "tool_use");
    let input = "*** Begin\n".to_owned();
    let expected = Item::CustomCall(CustomCall { call_id: "a".into(), name: "apply_patch".into(), input });
    assert_eq!(items(&told)[0].item, expected);
    let shown: Vec<&StreamEvent> = told[1..4].iter().collect();
    let item_id = || "0".to_owned();
    assert_eq!(
        shown,
        [
            &StreamEvent::ItemStarted { item_id: item_id(), kind: ItemKind::CustomCall },
            &StreamEvent::CallInputDelta { item_id: item_id(), delta: "*** ".into() },
            &StreamEvent::CallInputDelta { item_id: item_id(), delta: "Begin\n".into() },
        ]
    );
}

#[test]
fn inputs_of_other_shapes_are_read() {
    let begun = json!({"type": "tool_use", "id": "a", "name": "exec_command", "input": {"cmd": "ls"}});
    let (told, _) = whole(&[block(0, begun, &[])], "tool_use");
    assert_eq!(items(&told)[0].item, call("a", "{\"cmd\":\"ls\"}"));
    let (told, _) = whole(&[tool_use(0, "a", &["{\"cmd\": "])], "tool_use");
    assert_eq!(items(&told)[0].item, call("a", "{\"cmd\": "), "the tool says that it is no JSON");
    assert!(texts(&told)[0].ends_with(r#""input":{"invalid_json":"{\"cmd\": "}}"#), "{:?}", texts(&told));
    for text in ["", "\n\n", " "] {
        let (told, _) = whole(&[said(0, text), tool_use(1, "a", &["{}"])], "tool_use");
        assert_eq!(
            items(&told)[0].item,
            call("a", "{}"),
            "the API takes no text back without a word: {text:?}"
        );
    }
}

#[test]
fn servers_without_counts_or_stop_reason_are_read() {
    let events = [
        vec![json!({"type": "message_start", "message": {}})],
        said(0, "hi"),
        vec![json!({"type": "message_stop"})],
    ];
    let (told, last) = run(&events.concat());
    assert_eq!(last, Ok(Progress::Finished));
    let Some(StreamEvent::Completed(completed)) = told.last() else { panic!("{told:?}") };
    assert!(completed.usage.estimated);
    assert_eq!(items(&told).len(), 1);
}

#[test]
fn what_is_not_understood_is_skipped_and_another_api_is_recognised() {
    let (mut fold, mut told) = (fold(), Vec::new());
    for data in ["[DONE]", "{not json", "", "7", r#"{"object":"chat.completion.chunk","choices":[]}"#] {
        assert_eq!(fold.event(data.as_bytes(), &mut told), Ok(Progress::None), "{data}");
    }
    let ended = fold.ended("closed", &mut told);
    assert!(matches!(
        ended,
        Err(ModelError::Misconfigured(Misconfigured { kind: Misconfiguration::WrongApi, .. }))
    ));
}

proptest! {
    #[test]
    fn the_cuts_between_deltas_never_matter(
        text in any::<String>(),
        argument in any::<String>(),
        cuts in prop::collection::vec(0usize..200, 0..10),
    ) {
        let cut = |text: &str| {
            let characters: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (characters.len() + 1)).collect();
            cuts.extend([0, characters.len()]);
            cuts.sort_unstable();
            cuts.windows(2).map(|pair| characters[pair[0]..pair[1]].iter().collect()).collect::<Vec<String>>()
        };
        let text = format!("t{text}");
        let arguments = json!({"cmd": argument}).to_string();
        let texts: Vec<Value> = cut(&text).iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect();
        let pieces = cut(&arguments);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let blocks = [block(0, json!({"type": "text", "text": ""}), &texts), tool_use(1, "a", &pieces)];
        let read: Vec<Item> = items(&whole(&blocks, "tool_use").0).into_iter().map(|item| item.item).collect();
        prop_assert_eq!(read, [Item::message(Role::Assistant, text), call("a", &arguments)]);
    }

    #[test]
    fn any_data_is_taken(events in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let mut fold = fold();
        for event in events {
            prop_assert!(fold.event(&event, &mut Vec::new()).is_ok());
        }
    }
}
