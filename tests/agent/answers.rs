//! Final answers that fit a schema.

use podwright::api::reasons::Reason;
use serde_json::json;

use crate::stage::Stage;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {"greeting": {"type": "string"}, "polite": {"type": "boolean"}},
    "required": ["greeting", "polite"],
    "additionalProperties": false
}"#;

/// Answers in words, then with a member too few, then as asked for.
const SLOW: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: slow
    replies:
      - expect: {instructions: {matches: '(?s)<answer_format>.*"greeting":\{"type":"string"\}.*</answer_format>'}}
        output:
          - text: I look at the greeting.
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - expect: {lastOutput: hullo}
        output:
          - text: It says hullo.
      - expect: {lastUserMessage: {matches: '(?s)<answer_rejected>.*it is not one JSON value'}}
        output:
          - text: '{"greeting": "hullo"}'
      - expect: {lastUserMessage: {matches: '(?s)<answer_rejected>.*"polite" is a required property'}}
        output:
          - text: '{"greeting": "hullo", "polite": false}'
"#;

async fn answers(api: &str, capabilities: serde_json::Value) {
    let mut stage = Stage::new(SLOW).await;
    stage.cluster.config_map("schemas", "greeting", SCHEMA);
    stage.job["mode"] = json!("Ask");
    stage.job["model"]["api"] = json!(api);
    stage.job["model"]["capabilities"] = capabilities;
    stage.job["outputSchemaFrom"] = json!({"name": "schemas", "key": "greeting"});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{api}: {} {}", outcome.message, stage.log.text());
    assert_eq!(status.output, Some(json!({"greeting": "hullo", "polite": false})));
    assert_eq!(status.last_message, r#"{"greeting": "hullo", "polite": false}"#);
    assert_eq!((status.turn, status.step), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_fits_its_schema_or_is_asked_for_again_on_every_api() {
    answers("Responses", json!({"developerRole": true, "promptCacheKey": true})).await;
    answers("Responses", json!({"structuredOutput": true})).await;
    answers("ChatCompletions", json!({"structuredOutput": true})).await;
    answers("Messages", json!({"structuredOutput": true, "thinking": "Adaptive"})).await;
}

const STUBBORN: &str = r#"
scenarios:
  - name: stubborn
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo x > new.txt"}}
      - output: [{text: It is polite.}]
      - output: [{text: It is.}]
      - output: [{text: Believe me.}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_fits_ends_the_task_with_the_patch_so_far() {
    let mut stage = Stage::new(STUBBORN).await;
    stage.cluster.config_map("schemas", "greeting", SCHEMA);
    stage.job["outputSchemaFrom"] = json!({"name": "schemas", "key": "greeting"});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::ModelFailed);
    assert!(outcome.message.contains("spec.output asks for, 3 times"), "{}", outcome.message);
    assert_eq!((status.output, status.last_message.as_str()), (None, "Believe me."));
    assert_eq!(status.patch.unwrap().files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_none_ends_the_task_before_it_begins() {
    for (text, part) in [
        (Some(r#"{"type": "sting"}"#), "greeting of ConfigMap schemas, named by spec.output, is no schema"),
        (None, "has no key greeting"),
    ] {
        let mut stage = Stage::new(STUBBORN).await;
        stage.cluster.config_map("schemas", "other", "x");
        if let Some(text) = text {
            stage.cluster.config_map("schemas", "greeting", text);
        }
        stage.job["outputSchemaFrom"] = json!({"name": "schemas", "key": "greeting"});
        let outcome = stage.run().await.outcome.unwrap();
        assert_eq!(outcome.reason, Reason::InvalidSpec);
        assert!(outcome.message.contains(part), "{}", outcome.message);
    }
}
