use super::*;
use crate::llm::{
    item::{FunctionCall, Opaque, Reasoning},
    request::Input,
};

fn able() -> Capabilities {
    Capabilities {
        custom_tools: true,
        parallel_tool_calls: true,
        developer_role: true,
        reasoning: true,
        prompt_cache_key: true,
        image_input: true,
        reasoning_field: Some(ReasoningField::ReasoningContent),
        stream_usage: true,
        ..Capabilities::default()
    }
}

fn received(item: Item, wire: Value) -> ThreadItem {
    ThreadItem { item, wire: WireJson::render(&wire) }
}

fn call() -> ThreadItem {
    let call = FunctionCall { call_id: "a".into(), name: "f".into(), arguments: "{}".into() };
    received(
        Item::FunctionCall(call),
        json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}),
    )
}

fn reasoning() -> ThreadItem {
    let item = Item::Reasoning(Reasoning { text: vec!["hm".into()], encrypted: false });
    received(item, json!({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text"}]}))
}

fn said(text: &str) -> ThreadItem {
    received(Item::message(Role::Assistant, text), json!({"content": text}))
}

fn rendered(items: &[ThreadItem], capabilities: &Capabilities) -> Vec<String> {
    let fragments: Vec<Fragment> =
        items.iter().filter_map(|item| fragment(item, Place::default(), capabilities)).collect();
    let messages = messages(&fragments, capabilities).into_iter();
    messages.map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap()).collect()
}

fn definitions() -> [ToolDefinition; 2] {
    [
        ToolDefinition::Function {
            name: "f".into(),
            description: "Runs.".into(),
            parameters: json!({"type": "object"}),
        },
        ToolDefinition::Custom {
            name: "p".into(),
            description: "Patches.".into(),
            grammar: "start: X".into(),
        },
    ]
}

fn body_text(capabilities: &Capabilities) -> String {
    String::from_utf8(body(&request(capabilities), capabilities).to_vec()).unwrap()
}

fn request(capabilities: &Capabilities) -> Request {
    Request {
        model: "qwen".into(),
        input: Input { messages: vec![Bytes::from_static(b"{}")], ..Input::default() },
        tools: tools(&definitions(), capabilities),
        thread_id: "t".into(),
        reasoning_effort: Some("high".into()),
        compacts: false,
        keeps_long: false,
        answer: None,
    }
}

#[test]
fn w5_a_parameter_without_its_capability_is_never_sent() {
    assert_eq!(
        body_text(&Capabilities::default()),
        r#"{"model":"qwen","stream":true,"messages":[{}],"tools":[{"type":"function","function":{"name":"f","description":"Runs.","parameters":{"type":"object"}}},{"type":"function","function":{"name":"p","description":"Patches.","parameters":{"type":"object","properties":{"input":{"type":"string","description":"The whole input of the tool, in this Lark grammar:\nstart: X"}},"required":["input"],"additionalProperties":false}}}]}"#
    );
    assert_eq!(
        body_text(&able()),
        r#"{"model":"qwen","stream":true,"messages":[{}],"tools":[{"type":"function","function":{"name":"f","description":"Runs.","parameters":{"type":"object"}}},{"type":"custom","custom":{"name":"p","description":"Patches.","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"start: X"}}}}],"parallel_tool_calls":true,"reasoning_effort":"high","stream_options":{"include_usage":true},"prompt_cache_key":"t"}"#
    );
}

#[test]
fn w17_reasoning_goes_back_in_the_member_that_the_server_takes() {
    let items = [reasoning(), call()];
    let with = |field| Capabilities { reasoning_field: field, ..Capabilities::default() };
    let calls = r#""tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
    let details = r#""reasoning_details":[{"type":"reasoning.text"}]"#;
    assert_eq!(
        rendered(&items, &with(None)),
        [format!(r#"{{"role":"assistant","content":null,{details},{calls}}}"#)]
    );
    let item = Item::Reasoning(Reasoning { text: vec!["hm".into()], encrypted: false });
    let bare = received(item, json!({"reasoning": "hm"}));
    assert_eq!(
        rendered(&[bare, call()], &with(None)),
        [format!(r#"{{"role":"assistant","content":null,{calls}}}"#)]
    );
    for (field, name) in
        [(ReasoningField::ReasoningContent, "reasoning_content"), (ReasoningField::Reasoning, "reasoning")]
    {
        assert_eq!(
            rendered(&items, &with(Some(field))),
            [format!(r#"{{"role":"assistant","content":null,"{name}":"hm",{details},{calls}}}"#)]
        );
    }
    // Some servers refuse its absence, even where the model showed none.
    let silent = rendered(&[said("hi")], &with(Some(ReasoningField::ReasoningContent)));
    assert_eq!(silent, [r#"{"role":"assistant","content":"hi","reasoning_content":""}"#]);
    for field in [None, Some(ReasoningField::ReasoningContent), Some(ReasoningField::Reasoning)] {
        assert!(rendered(&[reasoning()], &with(field)).is_empty(), "neither content nor calls: {field:?}");
    }
}

#[test]
fn w15_images_of_outputs_follow_in_one_user_message_after_all_of_them() {
    let image = || ContentPart::Image { url: "data:image/png;base64,AA==".into() };
    let shown = |id: &str| CallOutput { content: vec![image()], ..CallOutput::text(id, "") };
    let items = |capabilities: &Capabilities| {
        [
            call_output(CallKind::Function, shown("a"), capabilities),
            call_output(CallKind::Function, CallOutput::text("b", "out"), capabilities),
        ]
    };
    assert_eq!(
        rendered(&items(&able()), &able()),
        [
            r#"{"role":"tool","tool_call_id":"a","content":""}"#,
            r#"{"role":"tool","tool_call_id":"b","content":"out"}"#,
            r#"{"role":"user","content":[{"type":"text","text":"Images from the tool outputs above:"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}"#,
        ]
    );
    let blind = Capabilities::default();
    assert_eq!(
        rendered(&items(&blind), &blind)[0],
        format!(r#"{{"role":"tool","tool_call_id":"a","content":"{IMAGE_NOTE}"}}"#)
    );
}

#[test]
fn words_stay_a_string_and_images_make_parts() {
    let user = |content| message(Message { role: Role::User, content }, &able());
    let words = |text: &str| ContentPart::Text { text: text.into() };
    let image = ContentPart::Image { url: "data:image/png;base64,AA==".into() };
    assert_eq!(
        rendered(&[user(vec![words("a \"b\""), words("c")]), user(vec![words("d"), image])], &able()),
        [
            r#"{"role":"user","content":"a \"b\"\n\nc"}"#,
            r#"{"role":"user","content":[{"type":"text","text":"d"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}"#,
        ]
    );
}

#[test]
fn w1_what_only_the_provider_understands_goes_back_in_its_message() {
    let opaque = received(
        Item::Opaque(Opaque { kind: "message members".into() }),
        json!({"extra_content": {"google": {"thought_signature": "x"}}}),
    );
    assert_eq!(
        rendered(&[opaque, said("hi")], &Capabilities::default()),
        [r#"{"role":"assistant","content":"hi","extra_content":{"google":{"thought_signature":"x"}}}"#]
    );
    let details = json!([{"type": "reasoning.encrypted", "data": "sealed", "index": 0}]);
    let item = Item::Reasoning(Reasoning { text: vec![], encrypted: false });
    let sealed = received(item, json!({"reasoning_details": details}));
    assert_eq!(
        rendered(&[sealed, said("hi")], &Capabilities::default()),
        [format!(r#"{{"role":"assistant","content":"hi","reasoning_details":{details}}}"#)]
    );
}

#[test]
fn instructions_have_the_role_that_the_server_knows() {
    let developer = message(
        Message { role: Role::Developer, content: vec![ContentPart::Text { text: "be good".into() }] },
        &able(),
    );
    let place = Place { leading: true, call_id: None };
    let leading = fragment(&developer, place, &able()).unwrap();
    let text = |capabilities: &Capabilities| {
        String::from_utf8(messages(std::slice::from_ref(&leading), capabilities)[0].1.to_vec()).unwrap()
    };
    assert_eq!(text(&able()), r#"{"role":"developer","content":"be good"}"#);
    assert_eq!(text(&Capabilities::default()), r#"{"role":"system","content":"be good"}"#);
}

#[test]
fn the_form_of_the_answer_is_a_parameter_where_there_is_one() {
    let answer = Some(crate::llm::AnswerFormat { schema: r#"{"type":"string"}"#.into(), strict: false });
    let able = Capabilities { structured_output: true, ..Capabilities::default() };
    let asked = Request { answer, ..request(&able) };
    let text = |capabilities| String::from_utf8(body(&asked, capabilities).to_vec()).unwrap();
    assert!(text(&able).ends_with(
        r#","response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":false,"schema":{"type":"string"}}}}"#
    ));
    assert!(!text(&Capabilities::default()).contains("response_format"));
}
