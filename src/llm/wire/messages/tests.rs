use super::*;
use crate::llm::{item::Reasoning, request::Input};

fn request(capabilities: &Capabilities, effort: Option<&str>) -> Value {
    answering(capabilities, effort, None)
}

fn answering(capabilities: &Capabilities, effort: Option<&str>, answer: Option<AnswerFormat>) -> Value {
    let function = ToolDefinition::Function {
        name: "f".into(),
        description: "Runs.".into(),
        parameters: json!({"type": "object"}),
    };
    let request = Request {
        model: "claude-x".into(),
        input: Input { messages: vec![Bytes::from_static(b"{}")], ..Input::default() },
        tools: tools(&[function]),
        thread_id: "t".into(),
        reasoning_effort: effort.map(str::to_owned),
        compacts: false,
        keeps_long: false,
        answer,
    };
    serde_json::from_slice(&body(&request, capabilities)).unwrap()
}

fn text(item: &ThreadItem) -> &str {
    std::str::from_utf8(item.wire.as_bytes()).unwrap()
}

#[test]
fn w5_a_parameter_without_its_capability_is_never_sent() {
    assert_eq!(
        request(&Capabilities::default(), Some("high")).to_string(),
        r#"{"model":"claude-x","max_tokens":8192,"stream":true,"tools":[{"name":"f","description":"Runs.","input_schema":{"type":"object"}}],"messages":[{}]}"#
    );
}

#[test]
fn w20_thinking_is_adaptive_or_has_a_budget_below_the_limit() {
    let with = |thinking, max_output_tokens| Capabilities {
        thinking: Some(thinking),
        max_output_tokens,
        ..Capabilities::default()
    };
    let adaptive = request(&with(Thinking::Adaptive, Some(64_000)), Some("minimal"));
    assert_eq!(adaptive["max_tokens"], 64_000);
    assert_eq!(adaptive["thinking"], json!({"type": "adaptive"}));
    assert_eq!(adaptive["output_config"], json!({"effort": "low"}));
    assert!(request(&with(Thinking::Adaptive, None), None).get("output_config").is_none());
    for (effort, max_tokens, budget) in [
        ("minimal", None, Some(1024)),
        ("low", None, Some(4096)),
        ("high", None, Some(8192 - 1024)),
        ("high", Some(64_000), Some(32_768)),
        ("low", Some(1500), None),
    ] {
        let body = request(&with(Thinking::Budget, max_tokens), Some(effort));
        let expected = budget.map(|budget| json!({"type": "enabled", "budget_tokens": budget}));
        assert_eq!(body.get("thinking"), expected.as_ref(), "{effort} {max_tokens:?}");
    }
    assert!(request(&with(Thinking::Budget, None), None).get("thinking").is_none());
}

#[test]
fn w19_failures_are_marked_and_empty_outputs_say_so() {
    let output = |text: &str, failed| {
        let output = CallOutput { failed, ..CallOutput::text("a", text) };
        call_output(CallKind::Function, output, &Capabilities::default())
    };
    assert_eq!(text(&output("out", false)), r#"{"type":"tool_result","tool_use_id":"a","content":"out"}"#);
    assert_eq!(
        text(&output("", true)),
        r#"{"type":"tool_result","tool_use_id":"a","content":"(no output)","is_error":true}"#
    );
}

#[test]
fn images_stand_in_messages_and_outputs() {
    let able = Capabilities { image_input: true, image_in_tool_result: true, ..Capabilities::default() };
    let image = ContentPart::Image { url: "data:image/png;base64,AA==".into() };
    let block = r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}"#;
    let words = ContentPart::Text { text: "see".into() };
    let shown = CallOutput { content: vec![words.clone(), image.clone()], ..CallOutput::text("a", "") };
    assert_eq!(
        text(&call_output(CallKind::Function, shown, &able)),
        format!(
            r#"{{"type":"tool_result","tool_use_id":"a","content":[{{"type":"text","text":"see"}},{block}]}}"#
        )
    );
    let said =
        |capabilities| message(Message { role: Role::User, content: vec![image.clone()] }, capabilities);
    assert_eq!(text(&said(&able)), format!("[{block}]"));
    assert_eq!(
        text(&said(&Capabilities::default())),
        format!(r#"[{{"type":"text","text":"{IMAGE_NOTE}"}}]"#)
    );
}

#[test]
fn w5_images_follow_the_results_where_results_hold_none() {
    let able = Capabilities { image_input: true, ..Capabilities::default() };
    let image = ContentPart::Image { url: "data:image/png;base64,AA==".into() };
    let words = |text: &str| ContentPart::Text { text: text.into() };
    let shown = CallOutput { content: vec![image.clone()], ..CallOutput::text("a", "") };
    let told = CallOutput { content: vec![words("see"), image], ..CallOutput::text("b", "") };
    let outputs = [shown, told].map(|output| call_output(CallKind::Function, output, &able));
    let said = message(Message { role: Role::User, content: vec![words("on")] }, &able);
    let fragments: Vec<Fragment> =
        outputs.iter().chain([&said]).filter_map(|item| fragment(item, Place::default())).collect();
    let [(Speaker::User, message)] = &messages(&fragments)[..] else { panic!("one message") };
    let picture =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}});
    assert_eq!(
        serde_json::from_slice::<Value>(message).unwrap(),
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "[image below]"},
            {"type": "tool_result", "tool_use_id": "b", "content": "see"},
            {"type": "text", "text": "Images from the tool outputs above:"},
            picture,
            picture,
            {"type": "text", "text": "on"},
        ]})
    );
}

#[test]
fn no_message_of_the_model_ends_in_reasoning() {
    let reasoning = ThreadItem {
        item: Item::Reasoning(Reasoning { text: vec![], encrypted: true }),
        wire: WireJson::render(&json!({"type": "thinking", "thinking": "", "signature": "s"})),
    };
    let thought = fragment(&reasoning, Place::default()).unwrap();
    assert!(messages(std::slice::from_ref(&thought)).is_empty());
    let words = Fragment::new(Part::Text, Bytes::from_static(br#"{"type":"text","text":"x"}"#));
    let [(Speaker::Assistant, message)] = &messages(&[thought.clone(), words, thought])[..] else { panic!() };
    assert!(message.ends_with(br#"{"type":"text","text":"x"}]}"#));
}

#[test]
fn the_form_of_the_answer_stands_beside_the_effort() {
    let able = Capabilities {
        structured_output: true,
        thinking: Some(Thinking::Adaptive),
        ..Capabilities::default()
    };
    let answer = |strict| Some(AnswerFormat { schema: r#"{"type":"string"}"#.into(), strict });
    let format = json!({"type": "json_schema", "schema": {"type": "string"}});
    let config = |effort, strict| answering(&able, effort, answer(strict)).get("output_config").cloned();
    assert_eq!(config(Some("high"), true), Some(json!({"effort": "high", "format": format})));
    assert_eq!(config(None, true), Some(json!({"format": format})));
    assert_eq!(config(None, false), None, "this API refuses schemas that are not strict");
    assert!(answering(&Capabilities::default(), None, answer(true)).get("output_config").is_none());
}
