use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    llm::{
        event::StreamEvent, failure::Asked, fold::Fold, item::Item as ThreadEntry, sse::SseParser, wire::Wire,
    },
    scripted::script::{Reply, Script},
};

fn rendered(reply: &str, seen: &Seen) -> Stream {
    let script = Script::from_yaml(&format!("scenarios:\n- name: s\n  replies:\n  - {reply}")).unwrap();
    let reply: &Reply = &script.scenarios[0].replies[0];
    let turn = Turn { reply, values: BTreeMap::new(), request: 1, previous_body_bytes: 100 };
    let pace = reply.pace.unwrap_or(script.pace);
    stream(&turn, seen, pace, "resp_7", 0)
}

fn seen() -> Seen {
    Seen {
        model: "m".into(),
        tools: vec!["exec_command".into(), "apply_patch".into()],
        custom_tools: vec!["apply_patch".into()],
        body_bytes: 400,
        ..Seen::default()
    }
}

/// The data of the events, as a client parses them.
fn data(stream: &Stream) -> Vec<Bytes> {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    for frame in &stream.frames {
        parser.push(&frame.bytes, &mut events).unwrap();
    }
    events
}

/// What a client makes of the stream.
fn folded(stream: &Stream) -> Vec<StreamEvent> {
    let asked = Asked { wire: Wire::Responses, url: String::new(), model: String::new() };
    let mut fold = Fold::new(asked, vec!["declared".into()], 0);
    let mut told = Vec::new();
    for event in data(stream) {
        fold.event(&event, &mut told).unwrap();
    }
    told
}

fn completed_item(event: StreamEvent) -> Option<ThreadEntry> {
    if let StreamEvent::ItemCompleted(item) = event { Some(item.item) } else { None }
}

#[test]
fn a_reply_is_streamed_as_the_api_does() {
    let stream = rendered(
        "{pace: {deltaCharacters: 4}, endTurn: true, output: [{reasoning: hmm}, {text: Hello}, {call: {tool: exec_command, arguments: {cmd: ls}}}]}",
        &Seen { wants_encrypted_reasoning: true, ..seen() },
    );
    let lines: Vec<String> =
        stream.frames.iter().map(|frame| String::from_utf8(frame.bytes.to_vec()).unwrap()).collect();
    insta::assert_snapshot!(lines.concat());
    assert_eq!(stream.finish, Finish::Close);
}

#[test]
fn every_output_comes_back_as_the_item_that_it_stands_for() {
    let told = folded(&rendered(
        r#"{usage: {inputTokens: 9, cachedInputTokens: 8, outputTokens: 7, reasoningTokens: 6}, output: [
            {refusal: no}, {custom: {tool: apply_patch, input: "*** \n", callId: x}}, {custom: {tool: exec_command, input: y}},
            {plan: [{step: a, status: pending}]}, {call: {tool: t, arguments: '{"a'}}, {call: {tool: t}}, {item: {type: odd, n: 1}}]}"#,
        &seen(),
    )
    .clone_without_end());
    let items: Vec<ThreadEntry> = told.into_iter().filter_map(completed_item).collect();
    insta::assert_debug_snapshot!(items);
}

impl Stream {
    /// Without `response.completed`, which a refusal would turn into an error.
    fn clone_without_end(&self) -> Self {
        let mut stream = self.clone();
        stream.frames.pop();
        stream
    }
}

#[test]
fn usage_is_said_guessed_or_left_out() {
    let completed = |reply| match folded(&rendered(reply, &seen())).pop() {
        Some(StreamEvent::Completed(completed)) => completed.usage,
        other => panic!("{other:?}"),
    };
    let said =
        completed("usage: {inputTokens: 9, cachedInputTokens: 8, outputTokens: 7, reasoningTokens: 6}");
    assert_eq!(
        (said.input_tokens, said.cached_input_tokens, said.output_tokens, said.reasoning_tokens),
        (9, 8, 7, 6)
    );
    let guessed = completed("output: [{text: hi}]");
    assert_eq!((guessed.input_tokens, guessed.cached_input_tokens), (100, 25));
    assert!(guessed.output_tokens > 0 && !guessed.estimated);
    assert!(completed("omitUsage: true").estimated);
}

#[test]
fn a_stream_that_is_to_break_never_looks_whole() {
    for (end, events, finish) in [
        ("completed", 5, Finish::Close),
        ("{cut: {afterEvents: 0}}", 0, Finish::Break),
        ("{cut: {afterEvents: 2}}", 2, Finish::Break),
        ("{cut: {afterEvents: 99}}", 4, Finish::Break),
        ("{close: {afterEvents: 5}}", 4, Finish::Close),
        ("{stall: {afterEvents: 1, seconds: 7}}", 1, Finish::Stall(Duration::from_secs(7))),
    ] {
        let stream = rendered(&format!("{{output: [{{text: hi}}], end: {end}}}"), &seen());
        assert_eq!((stream.frames.len(), stream.finish), (events, finish), "{end}");
    }
}

#[test]
fn injected_bytes_stand_where_they_should() {
    let stream = rendered(
        "{output: [], inject: [{afterEvents: 1, raw: b}, {afterEvents: 0, raw: a}, {afterEvents: 9, raw: c}]}",
        &seen(),
    );
    let raw: Vec<usize> = stream
        .frames
        .iter()
        .enumerate()
        .filter_map(|(index, frame)| (frame.bytes.len() == 1).then_some(index))
        .collect();
    assert_eq!(raw, [0, 2, 4]);
}

#[test]
fn pauses_are_those_of_the_pace() {
    let stream = rendered("{pace: {firstEventMillis: 5, eventMillis: 2}}", &seen());
    let pauses: Vec<u128> = stream.frames.iter().map(|frame| frame.pause.as_millis()).collect();
    assert_eq!(pauses, [5, 2]);
}

proptest! {
    #[test]
    fn deltas_add_up_to_the_text(text in "\\PC{0,60}", delta in 1usize..9) {
        let script = Script::from_yaml("scenarios: [{name: s, replies: [{output: [{text: x}]}]}]").unwrap();
        let mut reply = script.scenarios[0].replies[0].clone();
        reply.output = vec![Output::Text(text.clone())];
        let turn = Turn { reply: &reply, values: BTreeMap::new(), request: 1, previous_body_bytes: 0 };
        let pace = Pace { delta_characters: delta, ..script.pace };
        let mut deltas = String::new();
        let mut whole = None;
        for event in folded(&stream(&turn, &seen(), pace, "resp_1", 0)) {
            if let StreamEvent::TextDelta { delta, .. } = &event {
                deltas.push_str(delta);
            }
            whole = whole.or(completed_item(event));
        }
        let text = expand(&text, &BTreeMap::new());
        prop_assert_eq!(&deltas, &text);
        prop_assert_eq!(whole, Some(ThreadEntry::message(crate::llm::Role::Assistant, text)));
    }
}
