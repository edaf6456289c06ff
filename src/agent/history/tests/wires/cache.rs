//! Where cache markers stand.

use super::run::{Run, capabilities};
use super::thread::{Move, answered, called, said, thread};
use super::*;
use crate::llm::wire::messages::{CACHE_MARKER, LONG_CACHE_MARKER};

proptest! {
    #[test]
    fn w21_markers_are_all_that_caching_adds(moves in thread()) {
        let marked = Run::of(Wire::Messages, capabilities(false, true), &moves);
        let plain = Run::of(Wire::Messages, capabilities(false, false), &moves);
        for (marked_input, plain_input) in marked.sent.iter().zip(&plain.sent) {
            let body = String::from_utf8(marked.body(marked_input).to_vec()).unwrap();
            prop_assert!(body.matches(CACHE_MARKER).count() <= 4);
            prop_assert_eq!(body.replace(CACHE_MARKER, "").into_bytes(), plain.body(plain_input).to_vec());
        }
    }
}

#[test]
fn w21_markers_stand_at_tools_system_the_end_before_and_this_end() {
    let moves = [Move::Developer("base".into()), said("go"), called(&["a"]), called(&["b"])];
    let run = Run::of(Wire::Messages, capabilities(false, true), &moves);
    let body: Value = serde_json::from_slice(&run.body(run.sent.last().unwrap())).unwrap();
    let marker = json!({"type": "ephemeral"});
    assert_eq!(body["system"][0]["cache_control"], marker);
    assert_eq!(body["tools"][0]["cache_control"], marker);
    let messages = body["messages"].as_array().unwrap();
    let marked: Vec<usize> = (0..messages.len())
        .filter(|index| messages[*index]["content"].to_string().contains("cache_control"))
        .collect();
    assert_eq!((messages.len(), marked), (5, vec![2, 4]));
    // A repetition of the same request still finds what the one before it kept.
    let mut again = Run::of(Wire::Messages, capabilities(false, true), &moves);
    again.send();
    assert_eq!(again.body(&again.sent[again.sent.len() - 1]), run.body(run.sent.last().unwrap()));
}

/// Where markers stand: which blocks of the messages, counted from the first.
fn marked_blocks(body: &[u8]) -> (Vec<usize>, usize) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let messages = body["messages"].as_array().unwrap().iter();
    let blocks: Vec<&Value> = messages.flat_map(|message| message["content"].as_array().unwrap()).collect();
    let marked = (0..blocks.len()).filter(|place| blocks[*place].get("cache_control").is_some());
    (marked.collect(), blocks.len())
}

/// A provider finds what it kept at a marker or in the 20 blocks before it.
#[test]
fn w21_what_the_request_before_put_into_the_cache_is_found_however_large_its_step() {
    let ids: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let moves = [said("go"), called(&ids), called(&ids[..1]), called(&ids), answered("done"), said("on")];
    let run = Run::of(Wire::Messages, capabilities(false, true), &moves);
    let mut kept = None;
    for input in &run.sent {
        let (marked, blocks) = marked_blocks(&run.body(input));
        if let Some(kept) = kept {
            assert!(marked.iter().any(|place| (kept..kept + 20).contains(place)), "{kept}: {marked:?}");
        }
        assert!(marked.len() <= 2 && marked.last() == Some(&(blocks - 1)));
        kept = marked.last().copied();
    }
}

#[test]
fn w21_after_a_long_wait_every_marker_asks_for_an_hour() {
    let moves = [Move::Developer("base".into()), said("go"), called(&["a"])];
    let run = Run::of(Wire::Messages, capabilities(false, true), &moves);
    let input = run.sent.last().unwrap();
    let short = String::from_utf8(run.body(input).to_vec()).unwrap();
    let long = String::from_utf8(run.prepared(input, true).body.to_vec()).unwrap();
    assert_eq!(short.matches(CACHE_MARKER).count(), 4);
    assert_eq!(long, short.replace(CACHE_MARKER, LONG_CACHE_MARKER));
    for wire in [Wire::Responses, Wire::Chat] {
        let run = Run::of(wire, capabilities(false, true), &moves);
        let input = run.sent.last().unwrap();
        assert_eq!(run.prepared(input, true), run.prepared(input, false));
    }
}
