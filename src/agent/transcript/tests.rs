use serde_json::json;

use super::*;
use crate::agent::journal::record::{
    HistoryReplaced, ItemAppended, ModelEnd, ModelEnded, ModelIntent, RequestKind, Retries, ThreadOpened,
    fixture,
};
use crate::artifacts::{decode, transcript};
use crate::llm::{CallKind, CallOutput, FunctionCall, Message, Opaque, Reasoning, Role, Usage};

fn opened() -> ThreadOpened {
    opened_by(Wire::Responses, Capabilities { image_input: true, ..Capabilities::default() })
}

fn opened_by(wire: Wire, capabilities: Capabilities) -> ThreadOpened {
    let message = |text: &str| Message {
        role: Role::Developer,
        content: vec![ContentPart::Text { text: text.into() }],
    };
    let prefix = ["base", "rights"].map(|text| wire.message(message(text), &capabilities));
    ThreadOpened { wire, capabilities, prefix: prefix.into(), ..fixture::opened() }
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
    thinking(&opened(), "x", output)
}

/// The same with what the provider encrypted.
fn thinking(opened: &ThreadOpened, encrypted: &str, output: Vec<ContentPart>) -> Thread {
    let mut thread = Thread::open(opened).unwrap();
    let (wire, capabilities) = (thread.opened.wire, thread.opened.capabilities);
    append(&mut thread, wire.project(Item::message(Role::User, "do it"), &capabilities).unwrap());
    asked(&mut thread);
    let reasoning = Item::Reasoning(Reasoning { text: vec![], encrypted: true });
    said(&mut thread, reasoning, &format!(r#"{{ "type":"reasoning", "encrypted_content":"{encrypted}" }}"#));
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

/// A thread that goes on with another one.
fn goes_on(thread: &Thread) -> Thread {
    let former = read(&document(thread).0).unwrap();
    let inherited = Box::new(crate::agent::journal::record::Inherited {
        items: former.items,
        sealed: former.sealed,
        leads: former.leads,
    });
    let Head { wire, capabilities, .. } = former.head;
    let opened = opened_by(wire, capabilities);
    let opened = ThreadOpened { prefix: former.layers, inherited, thread_id: "t2".into(), ..opened };
    Thread::open(&opened).unwrap()
}

fn sent(thread: &Thread) -> Vec<String> {
    let messages = thread.history.input().unwrap().messages;
    messages.iter().map(|message| String::from_utf8(message.to_vec()).unwrap()).collect()
}

/// A thread of the Messages API with words of people at the end of its layers.
fn spoken_to() -> Thread {
    let (wire, capabilities) = (Wire::Messages, Capabilities::default());
    let mut opened = opened_by(wire, capabilities);
    opened.prefix.extend(wire.project(Item::message(Role::User, "here"), &capabilities));
    let mut thread = Thread::open(&opened).unwrap();
    append(&mut thread, wire.project(Item::message(Role::User, "do it"), &capabilities).unwrap());
    asked(&mut thread);
    said(&mut thread, Item::message(Role::Assistant, "On it."), r#"{"type":"text","text":"On it."}"#);
    thread
}

/// It goes on from what was made of it.
fn compacted(thread: &mut Thread, payload: Option<ThreadItem>) {
    let Thread { opened, .. } = thread;
    let words = opened.wire.project(Item::message(Role::User, "do it"), &opened.capabilities);
    let leads = payload.is_some();
    let replaced = HistoryReplaced {
        window: 2,
        removed: (0, 0),
        unsent: 0,
        tools: None,
        items: payload.into_iter().chain(words).collect(),
        leads,
        said: 1,
        sessions: vec![],
        plan: vec![],
    };
    thread.apply(&replaced.into()).unwrap();
    asked(thread);
    said(thread, Item::message(Role::Assistant, "Done."), r#"{"type":"text","text":"Done."}"#);
}

#[test]
fn what_leads_does_so_in_every_thread_that_goes_on() {
    let mut thread = spoken_to();
    let wire = WireJson::render(&json!({"type": "compaction", "content": "x"}));
    compacted(
        &mut thread,
        Some(ThreadItem { item: Item::Opaque(Opaque { kind: "compaction".into() }), wire }),
    );
    let before = sent(&thread);
    assert!(before[0].contains("compaction"), "{before:?}");
    let second = goes_on(&thread);
    assert_eq!(sent(&second), before);
    assert_eq!(sent(&goes_on(&second)), before);
}

#[test]
fn a_request_that_was_too_long_is_of_the_window_before() {
    let mut thread = spoken_to();
    asked(&mut thread);
    compacted(&mut thread, None);
    assert_eq!(sent(&goes_on(&thread)), sent(&thread));
}

#[test]
fn what_the_provider_refused_is_not_gone_on_with() {
    let capabilities = Capabilities { encrypted_reasoning: true, ..Capabilities::default() };
    let mut thread = Thread::open(&opened_by(Wire::Responses, capabilities)).unwrap();
    let prompt = Wire::Responses.project(Item::message(Role::User, "do it"), &capabilities);
    append(&mut thread, prompt.unwrap());
    asked(&mut thread);
    let reasoning = Item::Reasoning(Reasoning { text: vec!["alone".into()], encrypted: true });
    said(&mut thread, reasoning, r#"{"type":"reasoning","id":"rs_1","encrypted_content":"x"}"#);
    asked(&mut thread);
    let leave_out = Some(thread.history.len() as u64 - 1);
    let retries = Retries { left_out: true, ..Retries::default() };
    let message = "refused".to_owned();
    let end = ModelEnd::Retry { message, after_ms: 0, retries, reread_credential: false, leave_out };
    thread.apply(&ModelEnded { request: 1, end, usage: Usage::default() }.into()).unwrap();
    asked(&mut thread);
    said(
        &mut thread,
        Item::message(Role::Assistant, "Done."),
        r#"{"type":"message","id":"m_1","content":[]}"#,
    );
    assert!(!sent(&thread).concat().contains("rs_1"));
    assert_eq!(sent(&goes_on(&thread)), sent(&thread));
    assert!(String::from_utf8(document(&thread).0).unwrap().contains("alone"), "people can read it");
}

#[test]
fn no_item_goes_by_its_id_without_the_reasoning_that_it_was_made_with() {
    let capabilities = Capabilities { encrypted_reasoning: true, ..Capabilities::default() };
    let opened = opened_by(Wire::Responses, capabilities);
    let whole = sent(&goes_on(&thinking(&opened, "x", text("out")))).concat();
    assert!(whole.contains("encrypted_content") && whole.contains("fc_1") && whole.contains("m_1"));
    let cut = sent(&goes_on(&thinking(&opened, &letters(2 << 20), text("out")))).concat();
    assert!(!cut.contains("encrypted_content") && !cut.contains("fc_1"), "{cut}");
    assert!(
        cut.contains(r#""call_id":"c""#) && cut.contains("m_1"),
        "the next response was made without: {cut}"
    );
}

#[test]
fn a_repository_cannot_fill_a_transcript_with_its_skills() {
    let letters = letters(1 << 20);
    let skill = |number: usize| Skill {
        name: format!("s{number}"),
        description: "d".into(),
        path: format!("/workspace/main/.agents/skills/s{number}/SKILL.md"),
        text: letters[number << 15..(number + 1) << 15].to_owned(),
    };
    let opened = ThreadOpened { skills: (0..32).map(skill).collect(), ..opened() };
    let (document, cut) = document(&thinking(&opened, "x", text("out")));
    assert!(!cut && read(&document).unwrap().head.skills.len() == 32);
}

/// Text that compresses badly and stands in JSON as it is.
fn letters(length: usize) -> String {
    noise(length).replace(['"', '\\'], "-")
}

#[test]
fn a_thread_that_goes_on_sends_what_the_former_one_sent_first() {
    let former_thread = thread(text("out"));
    let next = goes_on(&former_thread);
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

#[test]
fn a_payload_that_was_cut_is_known_to_be_lost() {
    for (length, is_lost) in [(100, false), (2 << 20, true)] {
        let mut thread = spoken_to();
        let wire = WireJson::render(&json!({"type": "compaction", "content": letters(length)}));
        let item = Item::Opaque(Opaque { kind: "compaction".into() });
        compacted(&mut thread, Some(ThreadItem { item, wire }));
        let former = read(&document(&thread).0).unwrap();
        assert_eq!((former.lacks_payload, former.leads), (is_lost, !is_lost));
        assert_eq!(former.items.len(), if is_lost { 2 } else { 3 });
        assert!(goes_on(&thread).history.input().is_ok());
    }
}
