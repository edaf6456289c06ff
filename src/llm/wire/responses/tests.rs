use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::llm::{
    item::{CustomCall, FunctionCall, Opaque, Reasoning},
    request::Input,
};

const CAUTIOUS: Capabilities = Capabilities {
    custom_tools: false,
    parallel_tool_calls: false,
    developer_role: false,
    reasoning: false,
    encrypted_reasoning: false,
    reasoning_replay: false,
    reasoning_summary: false,
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

const FULL: Capabilities = Capabilities {
    custom_tools: true,
    parallel_tool_calls: true,
    developer_role: true,
    reasoning: true,
    encrypted_reasoning: true,
    reasoning_replay: true,
    reasoning_summary: true,
    prompt_cache_key: true,
    image_input: true,
    image_in_tool_result: true,
    structured_output: true,
    reasoning_field: None,
    stream_usage: false,
    strict_alternation: false,
    max_output_tokens: None,
    thinking: None,
    cache_markers: false,
    compaction: None,
};

fn text(item: &ThreadItem) -> &str {
    std::str::from_utf8(item.wire.as_bytes()).unwrap()
}

fn of(role: Role, content: Vec<ContentPart>) -> Message {
    Message { role, content }
}

fn words(text: &str) -> ContentPart {
    ContentPart::Text { text: text.into() }
}

fn image() -> ContentPart {
    ContentPart::Image { url: "data:image/png;base64,AA==".into() }
}

fn received(item: Item, raw: &str) -> ThreadItem {
    ThreadItem { item, wire: RawValue::from_string(raw.into()).unwrap().into() }
}

fn fragment(item: &ThreadItem, capabilities: &Capabilities) -> Option<Bytes> {
    super::fragment(item, Place::default(), capabilities).map(|fragment| fragment.bytes)
}

fn tool_definitions() -> [ToolDefinition; 2] {
    [
        ToolDefinition::Function {
            name: "exec_command".into(),
            description: "Runs.".into(),
            parameters: json!({"type": "object", "properties": {"cmd": {"type": "string"}}}),
        },
        ToolDefinition::Custom {
            name: "apply_patch".into(),
            description: "Patches.".into(),
            grammar: "start: X".into(),
        },
    ]
}

fn request(input: Vec<Bytes>, capabilities: &Capabilities) -> Request {
    Request {
        model: "gpt-x".into(),
        input: Input { messages: input, ..Input::default() },
        tools: tools(&tool_definitions(), capabilities),
        thread_id: "thread-1".into(),
        reasoning_effort: Some("high".into()),
        compacts: false,
        keeps_long: false,
        answer: None,
    }
}

fn body_text(request: &Request, capabilities: &Capabilities) -> String {
    String::from_utf8(body(request, capabilities).to_vec()).unwrap()
}

#[test]
fn messages_have_the_parts_of_their_role() {
    let content = vec![words("a \"b\"\n"), image()];
    assert_eq!(
        text(&message(of(Role::User, content.clone()), &FULL)),
        r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"a \"b\"\n"},{"type":"input_image","image_url":"data:image/png;base64,AA=="}]}"#
    );
    assert_eq!(
        text(&message(of(Role::User, content), &CAUTIOUS)),
        r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"a \"b\"\n"},{"type":"input_text","text":"[image left out: this model takes no images]"}]}"#
    );
    assert_eq!(
        text(&message(
            of(Role::Assistant, vec![words("a"), ContentPart::Refusal { text: "b".into() }]),
            &FULL
        )),
        r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"},{"type":"refusal","refusal":"b"}]}"#
    );
    let developer = of(Role::Developer, vec![words("a")]);
    assert!(text(&message(developer.clone(), &FULL)).contains(r#""role":"developer""#));
    assert!(text(&message(developer, &CAUTIOUS)).contains(r#""role":"system""#));
}

#[test]
fn outputs_have_the_shape_in_which_their_tool_was_declared() {
    let output = CallOutput::text("c1", "done");
    assert_eq!(
        text(&call_output(CallKind::Function, output.clone(), &FULL)),
        r#"{"type":"function_call_output","call_id":"c1","output":"done"}"#
    );
    assert_eq!(
        text(&call_output(CallKind::Custom, output.clone(), &FULL)),
        r#"{"type":"custom_tool_call_output","call_id":"c1","output":"done"}"#
    );
    assert_eq!(
        text(&call_output(CallKind::Custom, output, &CAUTIOUS)),
        r#"{"type":"function_call_output","call_id":"c1","output":"done"}"#
    );
    let shown = CallOutput { content: vec![image()], ..CallOutput::text("c1", "") };
    assert_eq!(
        text(&call_output(CallKind::Function, shown, &FULL)),
        r#"{"type":"function_call_output","call_id":"c1","output":[{"type":"input_image","image_url":"data:image/png;base64,AA=="}]}"#
    );
}

#[test]
fn w5_images_follow_the_outputs_where_outputs_hold_none() {
    let able = Capabilities { image_in_tool_result: false, ..FULL };
    let shown = CallOutput { content: vec![image()], ..CallOutput::text("a", "") };
    let told = CallOutput { content: vec![words("see"), image()], ..CallOutput::text("b", "") };
    let outputs = [shown, told].map(|output| call_output(CallKind::Function, output, &able));
    let said = message(of(Role::User, vec![words("on")]), &able);
    let fragments: Vec<Fragment> = outputs
        .iter()
        .chain([&said])
        .filter_map(|item| super::fragment(item, Place::default(), &able))
        .collect();
    let items = items(&fragments);
    let items: Vec<&str> = items.iter().map(|item| std::str::from_utf8(item).unwrap()).collect();
    let picture = r#"{"type":"input_image","image_url":"data:image/png;base64,AA=="}"#;
    assert_eq!(
        items,
        [
            r#"{"type":"function_call_output","call_id":"a","output":"[image below]"}"#.to_owned(),
            r#"{"type":"function_call_output","call_id":"b","output":"see"}"#.to_owned(),
            format!(
                r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":"Images from the tool outputs above:"}},{picture},{picture}]}}"#
            ),
            r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"on"}]}"#.to_owned(),
        ]
    );
}

#[test]
fn a_body_has_its_members_in_the_observed_order() {
    let input = vec![Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{\"b\":2}")];
    insta::assert_snapshot!("full", body_text(&request(input.clone(), &FULL), &FULL));
    insta::assert_snapshot!("cautious", body_text(&request(input, &CAUTIOUS), &CAUTIOUS));
}

#[test]
fn w5_a_parameter_without_its_capability_is_never_sent() {
    let bare = Request {
        tools: tools(&[], &CAUTIOUS),
        reasoning_effort: None,
        ..request(vec![Bytes::from_static(b"{}")], &CAUTIOUS)
    };
    assert_eq!(body_text(&bare, &CAUTIOUS), r#"{"model":"gpt-x","stream":true,"input":[{}],"store":false}"#);
}

#[test]
fn reasoning_goes_back_only_where_it_is_taken() {
    let plain = received(Item::Reasoning(Reasoning::default()), r#"{"type":"reasoning","id":"rs_1"}"#);
    let encrypted = Reasoning { encrypted: true, ..Reasoning::default() };
    let encrypted =
        received(Item::Reasoning(encrypted), r#"{"type":"reasoning","id":"rs_2","encrypted_content":"x"}"#);
    let only_encrypted = Capabilities { encrypted_reasoning: true, ..CAUTIOUS };
    for (item, capabilities, sent) in [
        (&plain, CAUTIOUS, false),
        (&encrypted, CAUTIOUS, false),
        (&plain, only_encrypted, false),
        (&encrypted, only_encrypted, true),
        (&plain, FULL, true),
    ] {
        let expected = sent.then(|| item.wire.as_bytes().clone());
        assert_eq!(fragment(item, &capabilities), expected, "{item:?} {capabilities:?}");
    }
}

#[test]
fn w1_what_the_model_sent_goes_back_byte_for_byte() {
    let raw = r#"{ "id":"fc_1", "type":"function_call","call_id":"c","name":"f","arguments":"{ \"a\" : 1.0 }","x":{"id":"y","n":1e2} }"#;
    let call = FunctionCall { call_id: "c".into(), name: "f".into(), arguments: r#"{ "a" : 1.0 }"#.into() };
    let call = received(Item::FunctionCall(call), raw);
    assert_eq!(fragment(&call, &FULL).unwrap(), raw.as_bytes());
    // Without reasoning only the item's own id is left out.
    let bare = r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{ \"a\" : 1.0 }","x":{"id":"y","n":1e2}}"#;
    assert_eq!(fragment(&call, &CAUTIOUS).unwrap(), bare.as_bytes());
    let opaque = received(Item::Opaque(Opaque { kind: "web_search_call".into() }), r#"{"id":"ws_1"}"#);
    assert_eq!(fragment(&opaque, &CAUTIOUS).unwrap(), opaque.wire.as_bytes());
}

/// Items of every kind with texts that need escaping.
fn thread_item() -> impl Strategy<Value = ThreadItem> {
    let authored = (any::<String>(), 0..5usize, any::<bool>()).prop_map(|(text, kind, full)| {
        let capabilities = if full { FULL } else { CAUTIOUS };
        match kind {
            0 => message(of(Role::User, vec![words(&text)]), &capabilities),
            1 => message(of(Role::Developer, vec![words(&text), image()]), &capabilities),
            2 => message(of(Role::Assistant, vec![words(&text)]), &capabilities),
            3 => call_output(CallKind::Function, CallOutput::text("c", text), &capabilities),
            _ => call_output(CallKind::Custom, CallOutput::text("c", text), &capabilities),
        }
    });
    let sent = (any::<String>(), 0..3usize).prop_map(|(text, kind)| {
        let item = match kind {
            0 => Item::message(Role::Assistant, text.clone()),
            1 => Item::Reasoning(Reasoning { text: vec![], encrypted: text.len() % 2 == 0 }),
            _ => Item::CustomCall(CustomCall { call_id: "c".into(), name: "f".into(), input: text.clone() }),
        };
        received(item, &json!({"type": "x", "id": text, "text": text, "deep": {"id": [text]}}).to_string())
    });
    prop_oneof![authored, sent]
}

proptest! {
    /// The whole point of keeping bytes: whatever a provider cached for request n, request n+1 hits.
    #[test]
    fn a_request_begins_with_its_predecessor(
        items in prop::collection::vec(thread_item(), 1..30),
        earlier in any::<prop::sample::Index>(),
        full in any::<bool>(),
    ) {
        let capabilities = if full { FULL } else { CAUTIOUS };
        let input = |items: &[ThreadItem]| -> Vec<Bytes> {
            items.iter().filter_map(|item| fragment(item, &capabilities)).collect()
        };
        let whole = body(&request(input(&items), &capabilities), &capabilities);
        let part = body(&request(input(&items[..earlier.index(items.len())]), &capabilities), &capabilities);
        // What follows the input array of the earlier request, its closing bracket included.
        let empty = body(&request(vec![], &capabilities), &capabilities);
        let head = b"{\"model\":\"gpt-x\",\"stream\":true,\"input\":[".len();
        let tail = empty.len() - head;
        prop_assert_eq!(&whole[..part.len() - tail], &part[..part.len() - tail]);
        prop_assert_eq!(&whole[whole.len() - tail..], &part[part.len() - tail..]);
        prop_assert!(serde_json::from_slice::<Value>(&whole).is_ok());
    }

    #[test]
    fn an_item_survives_a_journal(item in thread_item()) {
        let line = serde_json::to_string(&item).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<ThreadItem>(&line).unwrap(), item);
    }
}

#[test]
fn the_form_of_the_answer_is_a_parameter_where_there_is_one() {
    let answer = Some(crate::llm::AnswerFormat { schema: r#"{"type":"string"}"#.into(), strict: true });
    let asked = Request { answer, ..request(vec![], &FULL) };
    assert!(body_text(&asked, &FULL).ends_with(
        r#","text":{"format":{"type":"json_schema","strict":true,"name":"answer","schema":{"type":"string"}}}}"#
    ));
    assert!(!body_text(&asked, &CAUTIOUS).contains("json_schema"));
}
