use serde_json::json;

use super::*;
use crate::agent::journal::record::{ItemAppended, ModelIntent, RequestKind, Retries, ThreadOpened};
use crate::artifacts::{decode, transcript};
use crate::llm::{CallKind, CallOutput, FunctionCall, Message, Reasoning, Role};

fn opened() -> ThreadOpened {
    let (wire, capabilities) =
        (Wire::Responses, Capabilities { image_input: true, ..Capabilities::default() });
    let message = |text: &str| Message {
        role: Role::Developer,
        content: vec![ContentPart::Text { text: text.into() }],
    };
    let prefix = ["base", "rights"].map(|text| wire.message(message(text), &capabilities));
    serde_json::from_value(json!({
        "threadId": "t", "taskUid": "u", "attempt": "a", "baseCommit": "c0", "baselineTree": "t0", "provider": "p",
        "model": "m", "reasoningEffort": null, "shell": "/bin/sh", "wire": wire, "capabilities": capabilities,
        "tools": "[]", "customAsFunction": [],
        "prefix": prefix,
    }))
    .unwrap()
}

fn append(thread: &mut Thread, item: ThreadItem) {
    let ordinal = thread.history.len() as u64;
    thread.apply(&ItemAppended { ordinal, request: None, item }.into()).unwrap();
}

fn said(thread: &mut Thread, item: Item, raw: &str) {
    let wire = WireJson::from(RawValue::from_string(raw.into()).unwrap());
    append(thread, ThreadItem { item, wire });
}

fn asked(thread: &mut Thread) {
    let intent = ModelIntent {
        request: 1,
        kind: RequestKind::Turn,
        items: thread.history.len() as u64,
        body: podwright_sandboxd::protocol::Digest::of(b""),
        estimated_input_tokens: 0,
        retries: Retries::default(),
        left_out: 0,
    };
    thread.apply(&intent.into()).unwrap();
}

/// A thread with reasoning, a call and its output, whose bytes are none that we would write.
fn thread(output: Vec<ContentPart>) -> Thread {
    let mut thread = Thread::open(&opened()).unwrap();
    let (wire, capabilities) = (thread.opened.wire, thread.opened.capabilities);
    append(&mut thread, wire.project(Item::message(Role::User, "do it"), &capabilities).unwrap());
    asked(&mut thread);
    let reasoning = Reasoning { text: vec![], encrypted: true };
    said(&mut thread, Item::Reasoning(reasoning), r#"{ "type":"reasoning", "encrypted_content":"x" }"#);
    let call = FunctionCall { call_id: "c".into(), name: "f".into(), arguments: "{ }".into() };
    said(
        &mut thread,
        Item::FunctionCall(call),
        r#"{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{ }"}"#,
    );
    let output = CallOutput { content: output, ..CallOutput::text("c", "") };
    append(&mut thread, wire.call_output(CallKind::Function, output, &capabilities));
    asked(&mut thread);
    said(
        &mut thread,
        Item::message(Role::Assistant, "Done."),
        r#"{"type":"message","id":"m_1","content":[]}"#,
    );
    thread
}

fn text(text: &str) -> Vec<ContentPart> {
    vec![ContentPart::Text { text: text.into() }]
}

fn document(thread: &Thread) -> (Vec<u8>, bool) {
    let (lines, whole) = lines(thread);
    let transcript = transcript(&lines, whole).unwrap();
    (decode(&transcript.encoded.data, &transcript.encoded.sha256).unwrap(), transcript.cut)
}

#[test]
fn a_thread_is_read_as_it_was() {
    let thread = thread(text("out"));
    let (document, cut) = document(&thread);
    assert!(!cut);
    let former = read(&document).unwrap();
    let items: Vec<_> = thread.history.items().cloned().collect();
    assert_eq!((&former.layers[..], &former.items[..]), (&items[..2], &items[2..]));
    assert_eq!(former.sealed, [1, 4]);
    assert_eq!((former.head.cache_key.as_str(), former.head.tools.as_str()), ("t", "[]"));
    // Ours follow from what they mean, so their bytes are not there twice.
    let lines = String::from_utf8(document).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("\"wire\":\"{")).count(), 3);
}

#[test]
fn a_thread_that_goes_on_sends_what_the_former_one_sent_first() {
    let former_thread = thread(text("out"));
    let former = read(&document(&former_thread).0).unwrap();
    let inherited = Box::new(crate::agent::journal::record::Inherited {
        items: former.items,
        sealed: former.sealed,
        leads: former.leads,
    });
    let opened = ThreadOpened { prefix: former.layers, inherited, thread_id: "t2".into(), ..opened() };
    let next = Thread::open(&opened).unwrap();
    assert_eq!(next.history.input().unwrap().messages, former_thread.history.input().unwrap().messages);
    assert_eq!((next.turn, next.unsent_tokens(), next.answer.as_str()), (0, 0, ""));
    // It can be gone on with in its turn.
    let again = read(&document(&next).0).unwrap();
    assert_eq!(again.items.len(), former_thread.history.len() - 2);
    assert_eq!(again.sealed, [1, 4]);
}

/// Text that compresses badly.
fn noise(length: usize) -> String {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 40) % 90).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn what_a_long_document_has_lost_is_told_in_its_place() {
    let picture = ContentPart::Image { url: format!("data:image/png;base64,{}", noise(2 << 20)) };
    let long = vec![ContentPart::Text { text: noise(2 << 20) }, picture];
    let (document, cut) = document(&thread(long));
    assert!(cut);
    let former = read(&document).unwrap();
    let Item::FunctionCallOutput(output) = &former.items[3].item else { panic!("{:?}", former.items[3]) };
    let [ContentPart::Text { text }, ContentPart::Text { text: image }] = &output.content[..] else {
        panic!("two texts")
    };
    assert!(text.contains("bytes left out]"));
    assert_eq!(image, IMAGE_LOST);
    assert!(serde_json::from_slice::<serde_json::Value>(former.items[3].wire.as_bytes()).is_ok());
}

#[test]
fn another_api_gets_everything_but_reasoning() {
    let former = read(&document(&thread(text("out"))).0).unwrap();
    let items = former.projected(Wire::Messages, &Capabilities::default());
    assert_eq!(items.len(), former.items.len() - 1);
    assert!(String::from_utf8_lossy(items[1].wire.as_bytes()).contains("tool_use"));
}

#[test]
fn what_cannot_be_gone_on_with_says_why() {
    let (document, _) = document(&thread(text("out")));
    let document = String::from_utf8(document).unwrap();
    let old = r#"{"record":"thread","threadId":"t","baseCommit":"c","provider":"p","model":"m"}"#;
    assert_eq!(read(old.as_bytes()), Err(Unusable::Version));
    let left_out = format!("{}\n{{\"leftOut\":{{\"records\":7}}}}\n", document.lines().next().unwrap());
    assert_eq!(read(left_out.as_bytes()), Err(Unusable::LeftOut(7)));
    for damaged in ["", "x\n", "{\"record\":\"request\"}\n", &document[..document.len() - 3]] {
        assert!(matches!(read(damaged.as_bytes()), Err(Unusable::Damaged(_))), "{damaged}");
    }
}
