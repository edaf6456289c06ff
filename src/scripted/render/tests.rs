use std::collections::BTreeMap;

use super::*;
use crate::{
    llm::sse::SseParser,
    scripted::script::{Reply, Script},
};

/// A reply as its script has it, in YAML.
pub(super) fn reply(yaml: &str) -> Reply {
    let script = Script::from_yaml(&format!("scenarios:\n- name: s\n  replies:\n  - {yaml}")).unwrap();
    script.scenarios[0].replies[0].clone()
}

/// A reply rendered as the seventh answer.
pub(super) fn render(reply: &Reply, seen: &Seen) -> Stream {
    let turn = Turn {
        reply,
        quirks: reply.quirks.clone(),
        values: BTreeMap::new(),
        request: 1,
        previous_body_bytes: 100,
    };
    let pace = reply.pace.unwrap_or_default();
    Answer { turn: &turn, seen, pace, number: 7, created_at: 0 }.stream()
}

pub(super) fn rendered(yaml: &str, seen: &Seen) -> Stream {
    render(&reply(yaml), seen)
}

pub(super) fn seen(api: Api) -> Seen {
    Seen {
        api,
        model: "m".into(),
        tools: vec!["exec_command".into(), "apply_patch".into()],
        custom_tools: vec!["apply_patch".into()],
        body_bytes: 400,
        wants_usage: true,
        ..Seen::default()
    }
}

/// All that is written, as text.
pub(super) fn text(stream: &Stream) -> String {
    stream.frames.iter().map(|frame| String::from_utf8(frame.bytes.to_vec()).unwrap()).collect()
}

/// The data of the events, as a client parses them that gets the bytes in chunks of `size`.
pub(super) fn data_in_chunks(stream: &Stream, size: usize) -> Vec<Bytes> {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    for chunk in text(stream).as_bytes().chunks(size) {
        parser.push(chunk, &mut events).unwrap();
    }
    events
}

pub(super) fn data(stream: &Stream) -> Vec<Bytes> {
    data_in_chunks(stream, usize::MAX)
}

#[test]
fn a_stream_that_is_to_break_never_looks_whole() {
    // How many events a whole answer has, and after how many it begins to look whole.
    for (api, whole, unfinished) in [(Api::Responses, 5, 4), (Api::Chat, 5, 2), (Api::Messages, 6, 4)] {
        for (end, events, finish) in [
            ("completed", whole, Finish::Close),
            ("{cut: {afterEvents: 0}}", 0, Finish::Break),
            ("{cut: {afterEvents: 2}}", 2, Finish::Break),
            ("{cut: {afterEvents: 99}}", unfinished, Finish::Break),
            ("{close: {afterEvents: 5}}", unfinished, Finish::Close),
            ("{stall: {afterEvents: 1, seconds: 7}}", 1, Finish::Stall(Duration::from_secs(7))),
        ] {
            let stream = rendered(&format!("{{output: [{{text: hi}}], end: {end}}}"), &seen(api));
            assert_eq!((stream.frames.len(), stream.finish), (events, finish), "{api:?} {end}");
        }
    }
}

#[test]
fn injected_bytes_stand_where_they_should() {
    let stream = rendered(
        "{output: [], inject: [{afterEvents: 1, raw: b}, {afterEvents: 0, raw: a}, {afterEvents: 9, raw: c}]}",
        &seen(Api::Responses),
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
    let stream = rendered("{pace: {firstEventMillis: 5, eventMillis: 2}}", &seen(Api::Responses));
    let pauses: Vec<u128> = stream.frames.iter().map(|frame| frame.pause.as_millis()).collect();
    assert_eq!(pauses, [5, 2]);
}
