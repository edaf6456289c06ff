//! Whole threads over each wire: responses as the API streams them, and requests read back as a server would.

mod cache;
mod run;
mod server;
mod thread;

use proptest::sample::Index;
use serde_json::Value;

use self::run::{Run, capabilities, last_messages, variations};
use self::server::{joined, string};
use self::thread::{Move, Response, answered, called, custom, said, thread};
use super::*;
use crate::llm::StreamEvent;
use crate::llm::failure::Asked;
use crate::llm::fold::Fold;

const WIRES: [Wire; 3] = [Wire::Responses, Wire::Chat, Wire::Messages];

proptest! {
    /// Nothing is lost and nothing changes its place on any wire.
    #[test]
    fn w1_every_wire_tells_the_server_what_happened_in_its_order(
        moves in thread(),
        capabilities in variations(),
    ) {
        for wire in WIRES {
            let run = Run::of(wire, Capabilities { strict_alternation: false, ..capabilities }, &moves);
            prop_assert_eq!(run.read(), joined(run.expected.clone()), "{:?}", wire);
        }
    }

    #[test]
    fn w2_each_request_begins_with_the_one_before_byte_for_byte(
        moves in thread(),
        capabilities in variations(),
    ) {
        for wire in WIRES {
            let run = Run::of(wire, capabilities, &moves);
            for (pair, windows) in run.sent.windows(2).zip(run.windows.windows(2)) {
                let same = windows[0] == windows[1];
                prop_assert!(!same || pair[1].messages.starts_with(&pair[0].messages), "{:?}", wire);
                prop_assert_eq!(&pair[1].system, &pair[0].system);
            }
            for input in &run.sent {
                let array = [&b"["[..], &input.messages.join(&b","[..]), b"]"].concat();
                let body = run.body(input);
                prop_assert!(body.windows(array.len()).any(|window| window == array), "{:?}", wire);
            }
        }
    }

    #[test]
    fn w14_speakers_alternate_where_they_must(moves in thread()) {
        for wire in [Wire::Chat, Wire::Messages] {
            let run = Run::of(wire, capabilities(true, false), &moves);
            let body: Value = serde_json::from_slice(&run.body(run.sent.last().unwrap())).unwrap();
            let roles = body["messages"].as_array().unwrap().iter().map(|message| string(&message["role"]));
            let roles: Vec<String> = roles.filter(|role| role != "system").collect();
            for pair in roles.windows(2) {
                let fits = pair[0] != pair[1] || pair[0] == "tool";
                prop_assert!(fits && (pair[0] != "tool" || pair[1] != "user"), "{:?}", roles);
            }
        }
    }

    /// However a thread is cut into requests, what was not sent yet makes no difference to what was.
    #[test]
    fn w2_a_message_that_was_sent_is_sealed(moves in thread(), cut in any::<Index>()) {
        for wire in WIRES {
            let mut run = Run::new(wire, capabilities(true, false));
            let moves: Vec<&Move> = moves.iter().filter(|step| !matches!(step, Move::Compact(_))).collect();
            let cut = cut.index(moves.len());
            for step in &moves[..cut] {
                run.make(step);
            }
            run.send();
            let sent = run.sent.last().unwrap().messages.clone();
            for step in &moves[cut..] {
                run.make(step);
            }
            run.send();
            prop_assert!(run.sent.last().unwrap().messages.starts_with(&sent));
        }
    }
}

proptest! {
    /// What asks for a compaction comes after everything that was sent, byte for byte, and after what was not sent yet.
    #[test]
    fn w24_a_compaction_is_asked_for_behind_the_same_prefix(moves in thread(), strict in any::<bool>()) {
        for wire in WIRES {
            let run = Run::of(wire, capabilities(strict, false), &moves);
            let asked = run.history.input_with(Some(&instruction(&run)), run.history.len(), 0).unwrap();
            let sent = run.sent.last().unwrap();
            prop_assert!(asked.messages.starts_with(&sent.messages), "{:?}", wire);
            prop_assert!(asked.messages.len() > sent.messages.len());
            prop_assert_eq!(&asked.system, &sent.system);
            prop_assert_eq!(asked.previous, sent.messages.len());
        }
    }

    /// However much of it is left out, a server takes what is left: every call with its output, and nothing twice.
    #[test]
    fn w24_what_is_left_out_goes_with_what_belongs_to_it(moves in thread(), strict in any::<bool>()) {
        for wire in WIRES {
            let run = Run::of(wire, capabilities(strict, false), &moves);
            let units = run.history.units(run.history.len());
            let mut most = usize::MAX;
            for left_out in 1..=units {
                let input = run.history.input_with(Some(&instruction(&run)), run.history.len(), left_out).unwrap();
                let facts = run.read_in(&input);
                let (_, last) = facts.last().unwrap();
                prop_assert!(last.ends_with("sum it up"));
                let calls = facts.iter().filter(|(who, _)| *who == "call").count();
                prop_assert!(calls <= most, "{:?} at {}", wire, left_out);
                most = calls;
            }
            let layers = run.layers.clone().unwrap();
            let nothing = run.history.input_with(Some(&instruction(&run)), run.history.len(), units).unwrap();
            let expected = layers.into_iter().chain([("user", "sum it up".to_owned())]).collect();
            prop_assert_eq!(run.read_in(&nothing), joined(expected), "{:?}", wire);
        }
    }
}

fn instruction(run: &Run) -> ThreadItem {
    let content = vec![ContentPart::Text { text: "sum it up".into() }];
    run.wire.message(Message { role: Role::User, content }, &run.capabilities)
}

#[test]
fn w4_ids_that_repeat_or_do_not_fit_get_others_that_stay() {
    let moves = [said("go"), called(&["a", "a", "", "no id!"]), called(&["a"])];
    for (wire, expected) in [
        (Wire::Responses, ["a", "a00000002", "a00000003", "no id!", "a00000009"]),
        (Wire::Chat, ["a", "a00000002", "a00000003", "no id!", "a00000009"]),
        (Wire::Messages, ["a", "a00000002", "a00000003", "a00000004", "a00000009"]),
    ] {
        let text = last_messages(wire, capabilities(false, false), &moves).join(",");
        for id in expected {
            // Once at the call and once at its output.
            assert_eq!(text.matches(&format!("{id:?}")).count(), 2, "{wire:?} {id}: {text}");
        }
    }
}

#[test]
fn w14_one_leading_system_message_and_later_notes_as_the_users() {
    let moves = [
        Move::Developer("base".into()),
        Move::Developer("rules".into()),
        said("go"),
        answered("done"),
        Move::Developer("new rules".into()),
        said("on"),
    ];
    assert_eq!(
        last_messages(Wire::Chat, capabilities(false, false), &moves),
        [
            r#"{"role":"system","content":"base\n\nrules"}"#,
            r#"{"role":"user","content":"go"}"#,
            r#"{"role":"assistant","content":"done"}"#,
            r#"{"role":"user","content":"<developer_note>\nnew rules\n</developer_note>"}"#,
            r#"{"role":"user","content":"on"}"#,
        ]
    );
    let merged = last_messages(Wire::Chat, capabilities(true, false), &moves);
    assert_eq!(
        merged[3],
        r#"{"role":"user","content":"<developer_note>\nnew rules\n</developer_note>\n\non"}"#
    );
}

#[test]
fn w14_between_two_sealed_messages_of_the_user_stands_a_filler() {
    let mut run = Run::new(Wire::Chat, capabilities(true, false));
    for text in ["go", "stop"] {
        run.make(&said(text));
        run.send();
    }
    let messages = &run.sent[1].messages;
    assert_eq!(
        messages[..],
        [
            &br#"{"role":"user","content":"go"}"#[..],
            br#"{"role":"assistant","content":"Understood."}"#,
            br#"{"role":"user","content":"stop"}"#,
        ]
    );
}

#[test]
fn w15_one_tool_message_a_call_in_call_order_before_anything_else() {
    let moves = [said("go"), called(&["a", "b"]), said("steer")];
    assert_eq!(
        last_messages(Wire::Chat, capabilities(false, false), &moves)[1..],
        [
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"exec_command","arguments":"{ \"cmd\" : \"ls\" }"}},{"id":"b","type":"function","function":{"name":"exec_command","arguments":"{ \"cmd\" : \"ls\" }"}}]}"#,
            r#"{"role":"tool","tool_call_id":"a","content":"out"}"#,
            r#"{"role":"tool","tool_call_id":"b","content":"out"}"#,
            r#"{"role":"user","content":"steer"}"#,
        ]
    );
}

#[test]
fn w19_all_results_in_one_user_message_and_the_steer_text_after_them() {
    let moves = [Move::Developer("base".into()), said("go"), called(&["a", "b"]), said("steer")];
    let run = Run::of(Wire::Messages, capabilities(false, false), &moves);
    let input = run.sent.last().unwrap();
    assert_eq!(input.system[..], [&br#"{"type":"text","text":"base"}"#[..]]);
    let messages: Vec<&str> =
        input.messages.iter().map(|message| std::str::from_utf8(message).unwrap()).collect();
    assert_eq!(
        messages,
        [
            r#"{"role":"user","content":[{"type":"text","text":"go"}]}"#,
            r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"exec_command","input":{ "cmd" : "ls" }},{"type":"tool_use","id":"b","name":"exec_command","input":{ "cmd" : "ls" }}]}"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"out"},{"type":"tool_result","tool_use_id":"b","content":"out"},{"type":"text","text":"steer"}]}"#,
        ]
    );
}

#[test]
fn w8_an_image_counts_as_a_constant_and_its_bytes_do_not_matter() {
    let capabilities = Capabilities { image_input: true, ..capabilities(false, false) };
    for wire in WIRES {
        let counted = |bytes: usize| {
            let mut run = Run::new(wire, capabilities);
            let url = format!("data:image/png;base64,{}", "A".repeat(bytes));
            let content = vec![ContentPart::Image { url }, ContentPart::Text { text: "look".into() }];
            let item = wire.message(Message { role: Role::User, content }, &capabilities);
            run.history.append(item).unwrap();
            run.send();
            let prepared = run.prepared(&run.sent[0], false);
            assert!(prepared.body.len() > bytes);
            (run.history.bytes_from(0), prepared.counted_bytes)
        };
        let (small, large) = (counted(4), counted(4_000_000));
        for (small, large) in [(small.0, large.0), (small.1, large.1)] {
            // Messages does not send the few bytes before the data.
            assert!(
                small.abs_diff(large) < 32 && (6_400..7_000).contains(&large),
                "{wire:?} {small} {large}"
            );
        }
        let blind = Capabilities { image_input: false, ..capabilities };
        let mut run = Run::new(wire, blind);
        let content = vec![ContentPart::Image { url: "data:image/png;base64,AA==".into() }];
        run.history.append(wire.message(Message { role: Role::User, content }, &blind)).unwrap();
        assert!(run.history.bytes_from(0) < 200, "a note stands in its place");
    }
}

#[test]
fn w10_what_the_provider_refuses_is_left_out_and_nothing_else() {
    let reasoning = Move::Response(Response { reasoning: true, ..Response::default() });
    let moves = [said("go"), called(&["a"]), reasoning];
    let mut run = Run::of(Wire::Responses, capabilities(false, false), &moves);
    let before = run.sent.last().unwrap().messages.clone();
    let ordinal = run.history.dangling_reasoning().unwrap();
    assert_eq!(ordinal as usize, run.history.len() - 1);
    run.history.leave_out(ordinal);
    assert_eq!(run.history.dangling_reasoning(), None);
    run.make(&said("on"));
    run.send();
    let after = &run.sent.last().unwrap().messages;
    assert_eq!(after[..before.len() - 1], before[..before.len() - 1]);
    assert_eq!(after.len(), before.len());
    assert!(!after.concat().windows(9).any(|bytes| bytes == b"reasoning"));
    // Reasoning that something follows stays, and the other APIs take it or never send it.
    for (wire, text) in [(Wire::Responses, Some("words")), (Wire::Chat, None), (Wire::Messages, None)] {
        let text = text.map(str::to_owned);
        let reasoning = Move::Response(Response { reasoning: true, text, ..Response::default() });
        let run = Run::of(wire, capabilities(false, false), &[said("go"), reasoning]);
        assert_eq!(run.history.dangling_reasoning(), None, "{wire:?}");
    }
}

#[test]
fn w22_a_paused_turn_is_sent_again_as_it_came() {
    let mut run = Run::new(Wire::Messages, capabilities(false, false));
    run.make(&said("go"));
    run.send();
    let searched = r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"x"}}"#;
    let block: Value = serde_json::from_str(searched).unwrap();
    let asked = Asked { wire: Wire::Messages, url: "http://llm.test/v1".into(), model: "m".into() };
    let (mut fold, mut told) = (Fold::new(asked, custom(), 0), Vec::new());
    for event in [
        json!({"type": "message_start", "message": {"id": "m"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}),
        json!({"type": "message_stop"}),
    ] {
        fold.event(event.to_string().as_bytes(), &mut told).unwrap();
    }
    for event in told {
        match event {
            StreamEvent::ItemCompleted(item) => drop(run.history.append(*item).unwrap()),
            StreamEvent::Completed(completed) => assert_eq!(completed.end_turn, Some(false)),
            _ => {}
        }
    }
    run.send();
    let messages = &run.sent[1].messages;
    assert_eq!(messages[0], run.sent[0].messages[0]);
    let expected = format!(r#"{{"role":"assistant","content":[{searched}]}}"#);
    assert_eq!(messages[1..], [expected.into_bytes()]);
}

#[test]
fn w14_one_leading_system_message_and_later_notes_as_the_users_on_responses() {
    let moves = [
        Move::Developer("base".into()),
        Move::Developer("rules".into()),
        said("go"),
        answered("done"),
        Move::Developer("new rules".into()),
    ];
    let sent = |developer_role| {
        let capabilities = Capabilities { developer_role, ..capabilities(false, false) };
        last_messages(Wire::Responses, capabilities, &moves)
    };
    let item = |role: &str, parts: &[&str]| {
        let parts: Vec<String> =
            parts.iter().map(|text| format!(r#"{{"type":"input_text","text":"{text}"}}"#)).collect();
        format!(r#"{{"type":"message","role":"{role}","content":[{}]}}"#, parts.join(","))
    };
    let answer = r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"done"}]}"#;
    let note = r"<developer_note>\nnew rules\n</developer_note>";
    assert_eq!(
        sent(false),
        [item("system", &["base", "rules"]), item("user", &["go"]), answer.to_owned(), item("user", &[note])]
    );
    let as_developer = |text| item("developer", &[text]);
    assert_eq!(
        sent(true),
        [
            as_developer("base"),
            as_developer("rules"),
            item("user", &["go"]),
            answer.to_owned(),
            as_developer("new rules")
        ]
    );
}
