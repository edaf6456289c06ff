use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    llm::{event::StreamEvent, failure::Asked, fold::Fold, item::Item as ThreadEntry, wire::Wire},
    scripted::{
        render::tests::{data, data_in_chunks, render, rendered, reply, text},
        script::Output,
        seen::{Api, Received, Seen, tests::enforced},
        template::expand,
    },
};

fn seen() -> Seen {
    crate::scripted::render::tests::seen(Api::Responses)
}

/// What a client makes of the events.
fn folded(events: &[Bytes]) -> Vec<StreamEvent> {
    let mut fold = Fold::new(
        Asked { wire: Wire::Responses, url: String::new(), model: String::new() },
        vec!["declared".into()],
        0,
    );
    let mut told = Vec::new();
    for event in events {
        fold.event(event, &mut told).unwrap();
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
    insta::assert_snapshot!(text(&stream));
    assert_eq!(stream.finish, crate::scripted::render::Finish::Close);
}

#[test]
fn every_output_comes_back_as_the_item_that_it_stands_for() {
    let mut events = data(&rendered(
        r#"{usage: {inputTokens: 9, cachedInputTokens: 8, outputTokens: 7, reasoningTokens: 6}, output: [
            {refusal: no}, {custom: {tool: apply_patch, input: "*** \n", callId: x}}, {custom: {tool: exec_command, input: y}},
            {plan: [{step: a, status: pending}]}, {call: {tool: t, arguments: '{"a'}}, {call: {tool: t}}, {item: {type: odd, n: 1}}]}"#,
        &seen(),
    ));
    // Without `response.completed`, which a refusal would turn into an error.
    events.pop();
    let items: Vec<ThreadEntry> = folded(&events).into_iter().filter_map(completed_item).collect();
    insta::assert_debug_snapshot!(items);
}

#[test]
fn usage_is_said_guessed_or_left_out() {
    let completed = |reply| match folded(&data(&rendered(reply, &seen()))).pop() {
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
fn what_was_said_and_answered_is_taken_back() {
    let told = folded(&data(&rendered(
        "{output: [{reasoning: hmm}, {text: I look.}, {call: {tool: exec_command, arguments: {cmd: ls}}}]}",
        &seen(),
    )));
    let mut input = vec![json!({"role": "user", "content": "go"})];
    for event in told {
        if let StreamEvent::ItemCompleted(item) = event {
            input.push(serde_json::from_slice(item.wire.as_bytes()).unwrap());
        }
    }
    let id = input[3]["call_id"].clone();
    input.push(json!({"type": "function_call_output", "call_id": id, "output": "a file"}));
    let body = json!({"model": "m", "stream": true, "input": input}).to_string();
    let received = Received::parse(Api::Responses, body.as_bytes(), vec![]).unwrap();
    assert_eq!(enforced(&received), [] as [&str; 0]);
    assert_eq!(received.seen.outputs, ["a file"]);
}

#[test]
fn quirks_show() {
    let calls = "output: [{call: {tool: t, arguments: {a: long enough for several pieces}}}, {custom: {tool: apply_patch, input: p}}], pace: {deltaCharacters: 4}";
    let plain = text(&rendered(&format!("{{{calls}}}"), &seen()));
    assert!(plain.contains("call_7_0") && plain.matches("arguments.delta\"").count() > 1);
    let quirky =
        text(&rendered(&format!("{{quirks: [repeatedIds, wholeArguments, noUsage], {calls}}}"), &seen()));
    assert!(quirky.contains("\"call_0\"") && quirky.contains("\"call_1\""), "{quirky}");
    assert_eq!(quirky.matches("arguments.delta\"").count(), 1);
    assert!(quirky.contains("\"usage\":null"), "{quirky}");
    let told = folded(&data(&rendered(&format!("{{quirks: [textInsteadOfCalls], {calls}}}"), &seen())));
    let items: Vec<ThreadEntry> = told.into_iter().filter_map(completed_item).collect();
    let message = |text: &str| ThreadEntry::message(crate::llm::Role::Assistant, text);
    assert_eq!(
        items,
        [
            message(
                "<tool_call>\n{\"name\": \"t\", \"arguments\": {\"a\":\"long enough for several pieces\"}}\n</tool_call>"
            ),
            message("<tool_call>\n{\"name\": \"apply_patch\", \"arguments\": \"p\"}\n</tool_call>"),
        ]
    );
}

proptest! {
    #[test]
    fn deltas_add_up_to_the_text_however_they_are_cut(said in "\\PC{0,60}", delta in 1usize..9, chunk in 1usize..99) {
        let mut reply = reply("{output: [{text: x}], pace: {deltaCharacters: 1}}");
        reply.output = vec![Output::Text(said.clone())];
        reply.pace.as_mut().unwrap().delta_characters = delta;
        let stream = render(&reply, &seen());
        let mut deltas = String::new();
        let mut whole = None;
        for event in folded(&data_in_chunks(&stream, chunk)) {
            if let StreamEvent::TextDelta { delta, .. } = &event {
                deltas.push_str(delta);
            }
            whole = whole.or(completed_item(event));
        }
        let said = expand(&said, &std::collections::BTreeMap::new());
        prop_assert_eq!(&deltas, &said);
        prop_assert_eq!(whole, Some(ThreadEntry::message(crate::llm::Role::Assistant, said)));
    }
}
