//! The doctor against scripted models with and without their quirks.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use clap::Parser as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use super::*;
use crate::api::provider::{Capabilities, CompactionMode, Model, ReasoningField, Thinking};
use crate::cli::Cli;
use crate::llm::{Endpoint, ModelClient, Wire};
use crate::scripted::{Script, serve};

/// A model that does what the probes ask for.
const WILLING: &str = r#"
- name: call
  match: {prompt: Call the tool report}
  cycle: true
  replies:
  - output: [{reasoning: hm}, {call: {tool: report, arguments: {word: ready}}}]
  - expect: {lastOutput: Reported}
    output: [{text: done}]
- name: note
  match: {prompt: Call the tool note}
  cycle: true
  replies: [{output: [{reasoning: hm}, {custom: {tool: note, input: ready}}]}]
- name: colour
  match: {prompt: Which colour}
  cycle: true
  replies: [{output: [{text: Red.}]}]
- name: look
  match: {prompt: Call the tool picture}
  cycle: true
  replies:
  - output: [{reasoning: hm}, {call: {tool: picture, arguments: {}}}]
  - output: [{text: Red.}]
- name: form
  match: {prompt: in the form that is asked for}
  cycle: true
  replies: [{output: [{text: '{"word":"ready"}'}]}]
- name: word
  cycle: true
  replies: [{output: [{text: ready}]}]
"#;

/// A script of its scenarios and what stands before them.
fn script(head: &str) -> String {
    format!("{head}\nscenarios:{WILLING}")
}

async fn serving(script: &str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Script::from_yaml(script).unwrap(), std::future::pending()));
    format!("http://{address}/v1").parse().unwrap()
}

async fn at(base_url: Url, wire: Wire) -> Diagnosis {
    let endpoint =
        Endpoint { base_url, headers: vec![], ca_bundle: None, idle_timeout: Duration::from_secs(30) };
    let client = ModelClient::new(&endpoint).unwrap();
    probes::examine(&mut Patient::new(client, None, wire, "m: x".into())).await
}

async fn examined(wire: Wire, head: &str) -> Diagnosis {
    at(serving(&script(head)).await, wire).await
}

/// What a person pastes, as the API server reads it.
fn pasted(diagnosis: &Diagnosis) -> Capabilities {
    #[derive(Deserialize)]
    struct Spec {
        models: Vec<Model>,
    }
    let text = diagnosis.to_string();
    let spec: Spec = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((spec.models.len(), spec.models[0].name.as_str()), (1, "m: x"));
    spec.models[0].capabilities.clone()
}

/// What is found of an endpoint that is as it should be: these capabilities, and no problem.
async fn assert_able(wire: Wire, expected: Capabilities) -> Diagnosis {
    let able = examined(wire, "").await;
    assert_eq!(pasted(&able), expected, "{able}");
    assert!(able.is_usable() && !able.to_string().contains("Problems"), "{able}");
    able
}

#[tokio::test]
async fn an_able_endpoint_has_what_each_api_has() {
    let expected = Capabilities {
        custom_tools: true,
        parallel_tool_calls: true,
        developer_role: true,
        reasoning: true,
        reasoning_summary: true,
        encrypted_reasoning: true,
        prompt_cache_key: true,
        image_input: true,
        image_in_tool_result: true,
        structured_output: true,
        ..Capabilities::default()
    };
    assert_able(Wire::Responses, expected).await;

    let expected = Capabilities {
        custom_tools: true,
        parallel_tool_calls: true,
        developer_role: true,
        reasoning: true,
        prompt_cache_key: true,
        image_input: true,
        structured_output: true,
        stream_usage: true,
        ..Capabilities::default()
    };
    assert_able(Wire::Chat, expected).await;

    let expected = Capabilities {
        image_input: true,
        image_in_tool_result: true,
        structured_output: true,
        thinking: Some(Thinking::Adaptive),
        cache_markers: true,
        ..Capabilities::default()
    };
    let able = assert_able(Wire::Messages, expected).await;
    assert!(able.to_string().contains("maxOutputTokens: the server takes any number"), "{able}");
}

#[tokio::test]
async fn a_plain_endpoint_has_what_it_takes_and_says_why_it_has_no_more() {
    let plain = examined(Wire::Responses, "quirks: [refuseUnknownParameters]").await;
    let expected = Capabilities {
        custom_tools: true,
        developer_role: true,
        reasoning_replay: true,
        image_input: true,
        image_in_tool_result: true,
        ..Capabilities::default()
    };
    assert_eq!(pasted(&plain), expected, "{plain}");
    assert!(plain.to_string().contains("unknown parameter: \"include\""), "{plain}");
    let template = examined(Wire::Responses, "quirks: [systemOnlyFirst]").await;
    assert!(template.is_usable() && !template.to_string().contains("Problems"), "{template}");
    assert!(!pasted(&template).developer_role, "{template}");

    let quirks =
        "quirks: [strictAlternation, systemOnlyFirst, refuseUnknownParameters, requireReasoning, noUsage]";
    let plain = examined(Wire::Chat, quirks).await;
    let expected = Capabilities {
        custom_tools: true,
        image_input: true,
        strict_alternation: true,
        reasoning_field: Some(ReasoningField::ReasoningContent),
        ..Capabilities::default()
    };
    assert_eq!(pasted(&plain), expected, "{plain}");
    assert!(plain.is_usable() && plain.to_string().contains("tokens are estimated"), "{plain}");

    let plain = examined(Wire::Messages, "quirks: [strictAlternation, refuseUnknownParameters]").await;
    let expected = Capabilities {
        image_input: true,
        image_in_tool_result: true,
        strict_alternation: true,
        cache_markers: true,
        ..Capabilities::default()
    };
    assert_eq!(pasted(&plain), expected, "{plain}");
}

#[tokio::test]
async fn a_server_that_counts_nothing_although_asked_is_told_from_one_that_refuses_to() {
    let mute = examined(Wire::Chat, "quirks: [noUsage]").await;
    assert!(!pasted(&mute).stream_usage);
    assert!(
        mute.to_string().contains("streamUsage: the server takes the parameter and counts nothing"),
        "{mute}"
    );
}

#[tokio::test]
async fn a_model_whose_calls_are_text_is_of_no_use_and_the_report_says_what_to_do() {
    for (wire, words) in [
        (Wire::Chat, "tool-call-parser"),
        (Wire::Responses, "Choose a model that can call tools"),
        (Wire::Messages, "Choose a model that can call tools"),
    ] {
        let deaf = examined(wire, "quirks: [textInsteadOfCalls]").await;
        let text = deaf.to_string();
        assert!(deaf.answers && !deaf.is_usable() && text.contains(words), "{wire:?}: {text}");
        // What stands on calls cannot be known.
        assert!(pasted(&deaf).reasoning_field.is_none() && !pasted(&deaf).encrypted_reasoning);
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_ends_the_visit() {
    let refused = examined(Wire::Responses, "apiKey: secret").await;
    let text = refused.to_string();
    assert!(!refused.answers && !refused.is_usable() && refused.requests <= 3, "{text}");
    assert!(text.contains("apiKey") && !text.contains("models:"), "{text}");
    let unknown = examined(Wire::Messages, "models: [other]").await;
    assert!(unknown.to_string().contains("does not know the model"), "{unknown}");
    assert_eq!(unknown.requests, 1);
}

#[tokio::test]
async fn pictures_that_only_messages_may_hold_are_left_out_of_outputs() {
    for wire in [Wire::Responses, Wire::Messages] {
        let picky = examined(wire, "quirks: [refuseOutputImages]").await;
        let (found, text) = (pasted(&picky), picky.to_string());
        assert!(found.image_input && !found.image_in_tool_result, "{text}");
        assert!(text.contains("imageInToolResult: ") && text.contains("only text"), "{text}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_see_is_not_believed() {
    let script = script("").replace("Red.", "I see no picture.");
    let blind = at(serving(&script).await, Wire::Chat).await;
    assert!(blind.to_string().contains("\"I see no picture.\" to what colour"), "{blind}");
}

/// A server of the Messages API that allows so many output tokens.
async fn bounded(most: i64, names_it: bool) -> Url {
    let answer = move |Json(body): Json<Value>| async move {
        let asked = body["max_tokens"].as_i64().unwrap();
        if asked > most {
            let words = if names_it {
                format!(
                    "max_tokens: {asked} > {most}, which is the maximum allowed number of output tokens for m"
                )
            } else {
                "max_tokens is too large".to_owned()
            };
            let error =
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}});
            return (StatusCode::BAD_REQUEST, Json(error)).into_response();
        }
        let events = [
            json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "red"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            json!({"type": "message_stop"}),
        ];
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let response: Response = ([(header::CONTENT_TYPE, "text/event-stream")], stream).into_response();
        response
    };
    let router = axum::Router::new().route("/v1/messages", axum::routing::post(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

#[tokio::test]
async fn the_output_limit_is_the_one_that_the_server_names_or_the_largest_that_it_takes() {
    for (most, names_it, expected) in
        [(20_480, true, 20_480), (20_480, false, 16_000), (128_000, false, 128_000)]
    {
        let diagnosis = at(bounded(most, names_it).await, Wire::Messages).await;
        assert_eq!(pasted(&diagnosis).max_output_tokens, Some(expected), "{diagnosis}");
    }
}

/// Adding a capability without asking for it fails here.
#[tokio::test]
async fn every_capability_is_probed_under_some_api() {
    let every = Capabilities {
        reasoning_field: Some(ReasoningField::Reasoning),
        max_output_tokens: Some(8192),
        thinking: Some(Thinking::Budget),
        compaction: Some(CompactionMode::OnDemand),
        ..Capabilities::default()
    };
    let Ok(Value::Object(every)) = serde_json::to_value(every) else { panic!("an object") };
    let mut told = BTreeSet::new();
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
        let text = examined(wire, "").await.to_string();
        told.extend(every.keys().filter(|name| text.contains(&format!(" {name}: "))).cloned());
    }
    assert_eq!(
        told.into_iter().collect::<Vec<_>>(),
        every.keys().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn the_key_comes_from_a_file_or_the_environment_and_is_shown_nowhere() {
    let url = serving(&script("apiKey: key-4711")).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "key-4711\n").unwrap();
    let run = |more: &[&str]| {
        let mut typed: Vec<String> = ["podwright", "doctor", "model", "--api", "Messages", "--model", "m: x"]
            .map(str::to_owned)
            .into();
        typed.extend(["--base-url".to_owned(), url.to_string()]);
        typed.extend(more.iter().map(|word| (*word).to_owned()));
        let crate::cli::Command::Doctor(DoctorArgs { what: command::Subject::Model(args) }) =
            Cli::try_parse_from(typed).unwrap().command
        else {
            panic!("doctor model")
        };
        args.run()
    };
    let text = run(&["--key-file", file.to_str().unwrap()]).await.unwrap().to_string();
    assert!(text.contains("models:") && !text.contains("4711"), "{text}");
    let missing = run(&["--key-env", "PODWRIGHT_NO_SUCH_VARIABLE"]).await.unwrap_err();
    assert!(missing.to_string().contains("PODWRIGHT_NO_SUCH_VARIABLE"), "{missing}");
    let missing = run(&["--key-file", "/nonexistent/key"]).await.unwrap_err();
    assert!(matches!(missing, DoctorError::Read { .. }));
    assert!(!run(&[]).await.unwrap().answers);
    let typed =
        ["podwright", "doctor", "model", "--api", "Chat", "--model", "m", "--base-url", "http://m/v1"];
    assert!(Cli::try_parse_from(typed).is_err_and(|error| error.to_string().contains("ChatCompletions")));
}
