//! What the agent does by itself, without a cluster: responses folded, patches computed.

use std::collections::BTreeMap;
use std::time::Instant;

use podwright::agent::tools::apply_patch::{FileBefore, Place, parse};
use podwright::llm::failure::Asked;
use podwright::llm::fold::{Fold, Progress};
use podwright::llm::sse::SseParser;
use podwright::llm::{StreamEvent, Wire};
use serde_json::{Value, json};

use crate::Rounds;
use crate::report::Row;
use crate::samples::{Samples, millis};

/// Events of the response.
const EVENTS: usize = 100;

/// Bytes of the patched file.
const FILE: usize = 10 * 1000 * 1000;

pub(crate) fn measure(rounds: Rounds) -> Vec<Row> {
    vec![folds(rounds.folds), patches(rounds.folds.div_ceil(10))]
}

fn folds(rounds: u32) -> Row {
    let taken = [Wire::Responses, Wire::Chat, Wire::Messages].map(|wire| (wire, fold(wire, rounds)));
    let slowest = taken.iter().max_by(|(_, one), (_, other)| one.p50().total_cmp(&other.p50()));
    let (_, samples) = slowest.expect("three APIs");
    let each: Vec<String> =
        taken.iter().map(|(wire, samples)| format!("{} {}", wire.name(), millis(samples.p50()))).collect();
    Row::time("A response of 100 events, parsed and folded", samples, 1.0).note(format!(
        "Bytes of the stream to whole items: words in deltas of 40 characters and a call. The slowest API; p50 of each: {}.",
        each.join(", ")
    ))
}

fn fold(wire: Wire, rounds: u32) -> Samples {
    let events = events(wire);
    assert_eq!(events.len(), EVENTS);
    let stream: String = events.iter().map(|event| format!("event: e\ndata: {event}\n\n")).collect();
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let asked = Asked { wire, url: "http://model".into(), model: "m".into() };
        let begun = Instant::now();
        let (mut parser, mut fold) = (SseParser::default(), Fold::new(asked, Vec::new(), 1000));
        let (mut data, mut told) = (Vec::new(), Vec::new());
        // As a network brings it.
        for chunk in stream.as_bytes().chunks(1400) {
            parser.push(chunk, &mut data).expect("events of a sound size");
        }
        let mut last = Progress::None;
        for event in &data {
            last = fold.event(event, &mut told).expect("a sound response");
        }
        samples.add(begun.elapsed());
        assert_eq!(last, Progress::Finished);
        let items = told.iter().filter(|event| matches!(event, StreamEvent::ItemCompleted(_))).count();
        assert_eq!(items, 2);
    }
    samples
}

/// A response of a message and a call, in as many events as there shall be.
fn events(wire: Wire) -> Vec<String> {
    let words = "words of forty characters, as they come. ";
    let arguments = json!({"cmd": "ls"}).to_string();
    let events: Vec<Value> = match wire {
        Wire::Responses => {
            let message = json!({"type": "message", "id": "m", "role": "assistant", "content": [
                {"type": "output_text", "text": words.repeat(EVENTS - 5)}]});
            let call = json!({"type": "function_call", "id": "f", "call_id": "c", "name": "exec_command",
                "arguments": arguments});
            let mut events = vec![
                json!({"type": "response.created", "response": {"id": "r"}}),
                json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m"}}),
            ];
            let delta = json!({"type": "response.output_text.delta", "item_id": "m", "delta": words});
            events.extend(vec![delta; EVENTS - 5]);
            events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": message}));
            events.push(json!({"type": "response.output_item.done", "output_index": 1, "item": call}));
            events.push(json!({"type": "response.completed", "response": {"id": "r", "usage": {
                "input_tokens": 9, "output_tokens": 9}}}));
            events
        }
        Wire::Chat => {
            let chunk = |delta: Value| json!({"id": "r", "choices": [{"index": 0, "delta": delta}]});
            let mut events = vec![chunk(json!({"content": words})); EVENTS - 4];
            events.push(chunk(json!({"tool_calls": [{"index": 0, "id": "c", "type": "function",
                "function": {"name": "exec_command", "arguments": arguments}}]})));
            events.push(
                json!({"id": "r", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
            );
            events.push(
                json!({"id": "r", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}),
            );
            events.push(Value::from("[DONE]"));
            events
        }
        Wire::Messages => {
            let mut events = vec![
                json!({"type": "message_start", "message": {"id": "r", "usage": {"input_tokens": 9}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ];
            let delta = json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": words}});
            events.extend(vec![delta; EVENTS - 8]);
            events.extend([
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "content_block_start", "index": 1, "content_block": {
                    "type": "tool_use", "id": "c", "name": "exec_command", "input": {}}}),
                json!({"type": "content_block_delta", "index": 1, "delta": {
                    "type": "input_json_delta", "partial_json": arguments}}),
                json!({"type": "content_block_stop", "index": 1}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
                json!({"type": "message_stop"}),
            ]);
            events
        }
    };
    events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned)).collect()
}

fn patches(rounds: u32) -> Row {
    let line = |number: usize| format!("line {number:08} of a file that is long, and has little in it\n");
    let count = FILE / line(0).len();
    let content: String = (0..count).map(line).collect();
    let at = count / 2;
    let patch = format!(
        "*** Begin Patch\n*** Update File: long.txt\n@@\n {}-{}+another line\n {}*** End Patch",
        line(at),
        line(at + 1),
        line(at + 2)
    );
    let place = Place { root: "/workspace/app", cwd: "/workspace/app" };
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let before = FileBefore::File { content: content.clone().into_bytes(), executable: false };
        let files = BTreeMap::from([("long.txt".to_owned(), before)]);
        let begun = Instant::now();
        let patch = parse(&patch).expect("a patch");
        let paths = patch.paths_to_read(place).expect("its paths");
        let changes = patch.changes(place, &files).expect("it fits");
        samples.add(begun.elapsed());
        assert_eq!((paths, changes.files.len()), (vec!["long.txt".to_owned()], 1));
    }
    Row::time("`apply_patch` on a file of 10 MB, beside the transfer", &samples, 100.0).note(
        "From the patch's text and the file's content to the new content, with the digests of both: one line changed in the \
         middle. Reading the file and sending the new one are left out."
            .to_owned(),
    )
}
