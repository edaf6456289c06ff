mod windows;
mod wires;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::{CallKind, CallOutput, ContentPart, CustomCall, FunctionCall, Message, Reasoning, WireJson};

const CAPABILITIES: Capabilities = Capabilities {
    custom_tools: true,
    parallel_tool_calls: true,
    developer_role: true,
    reasoning: true,
    reasoning_summary: false,
    encrypted_reasoning: false,
    reasoning_replay: false,
    prompt_cache_key: false,
    image_input: false,
    image_in_tool_result: false,
    structured_output: false,
    reasoning_field: None,
    stream_usage: false,
    strict_alternation: false,
    max_output_tokens: None,
    thinking: None,
    cache_markers: false,
    compaction: None,
};

fn history() -> History {
    History::new(Wire::Responses, CAPABILITIES)
}

fn received(item: Item) -> ThreadItem {
    let wire = WireJson::render(&json!({"type": "x", "id": "i", "debug": format!("{item:?}")}));
    ThreadItem { item, wire }
}

fn call(id: &str) -> ThreadItem {
    received(Item::FunctionCall(FunctionCall {
        call_id: id.into(),
        name: "exec_command".into(),
        arguments: "{}".into(),
    }))
}

fn custom(id: &str) -> ThreadItem {
    received(Item::CustomCall(CustomCall {
        call_id: id.into(),
        name: "apply_patch".into(),
        input: "x".into(),
    }))
}

fn output(id: &str) -> ThreadItem {
    Wire::Responses.call_output(CallKind::Function, CallOutput::text(id, "out"), &CAPABILITIES)
}

fn message(role: Role) -> ThreadItem {
    let content = vec![ContentPart::Text { text: "text".into() }];
    Wire::Responses.message(Message { role, content }, &CAPABILITIES)
}

#[test]
fn an_output_answers_the_oldest_open_call_and_no_other() {
    let mut history = history();
    history.append(call("a")).unwrap();
    history.append(custom("b")).unwrap();
    let wrong = |expected: &str, got: &str| {
        Err(PairingError::WrongOutput { expected: Some(expected.into()), got: got.into() })
    };
    assert_eq!(history.append(output("b")), wrong("a", "b"));
    assert_eq!(history.input(), Err(PairingError::CallsOpen(2)));
    assert_eq!(history.append(output("a")), Ok(2));
    assert_eq!(history.append(output("b")), wrong("b", "b"), "a custom call has an output of its own kind");
    let custom_output =
        Wire::Responses.call_output(CallKind::Custom, CallOutput::text("b", "out"), &CAPABILITIES);
    assert_eq!(history.append(custom_output), Ok(3));
    let none = PairingError::WrongOutput { expected: None, got: "b".into() };
    assert_eq!(history.append(output("b")), Err(none));
    assert_eq!(history.input().unwrap().messages.len(), 4);
}

#[test]
fn nobody_but_the_model_speaks_between_a_call_and_its_output() {
    let mut history = history();
    history.append(call("a")).unwrap();
    for role in [Role::User, Role::Developer] {
        assert_eq!(history.append(message(role)), Err(PairingError::CallsOpen(1)));
    }
    history.append(message(Role::Assistant)).unwrap();
    history.append(received(Item::Reasoning(Reasoning::default()))).unwrap();
    assert_eq!(history.append(output("a")), Ok(3));
}

proptest! {
    #[test]
    fn what_was_sent_is_sent_again_and_nothing_is_lost(choices in prop::collection::vec(0..6_u8, 0..60)) {
        let mut history = history();
        let mut open = Vec::new();
        let mut sent: Vec<Bytes> = Vec::new();
        let mut appended = 0;
        for (n, choice) in choices.into_iter().enumerate() {
            // Providers repeat ids: three are enough for everything.
            let id = format!("c{}", n % 3);
            let item = match choice {
                0 => { open.push(id.clone()); call(&id) }
                1 | 2 if !open.is_empty() => output(&open.remove(0)),
                3 => received(Item::Reasoning(Reasoning { text: vec![], encrypted: true })),
                4 => message(Role::Assistant),
                _ if open.is_empty() => message(Role::User),
                _ => continue,
            };
            prop_assert_eq!(history.append(item), Ok(appended));
            appended += 1;
            if let Ok(Input { messages: input, .. }) = history.input() {
                prop_assert!(open.is_empty());
                history.seal();
                prop_assert_eq!(&input[..sent.len()], &sent[..]);
                prop_assert_eq!(history.bytes_from(0), input.iter().map(|item| item.len() as u64).sum::<u64>());
                sent = input;
            } else {
                prop_assert!(!open.is_empty());
            }
        }
        prop_assert_eq!(history.len(), appended);
    }
}
