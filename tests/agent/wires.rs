//! The same work over each API that a model may speak, with the quirks that its servers have.

use podwright::api::reasons::Reason;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Parallel commands, a patch that fails first, and reasoning in between.
const WORK: &str = r#"
checks: {pairing: true, prefix: true}
@QUIRKS@
scenarios:
  - name: work
    replies:
      - expect: {tools: [apply_patch, exec_command, update_plan, write_stdin]}
        output:
          - reasoning: I look first.
          - text: I look at the greeting.
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
          - call: {tool: exec_command, arguments: {cmd: "echo second; exit 3"}}
      - expect: {lastOutput: {matches: '(?s)exited with code 3.*second'}}
        output:
          - reasoning: I mend it.
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Update File: greet.sh
                @@
                -echo nothing of the kind
                +echo hello
                *** End Patch
      - expect: {lastOutput: apply_patch verification failed}
        output:
          - reasoning: I look at the line again.
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Update File: greet.sh
                @@
                -echo hullo
                +echo hello
                *** End Patch
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - expect: {lastOutput: {matches: '(?s)exited with code 0.*hello'}}
        output:
          - text: The greeting is mended.
"#;

async fn works(api: &str, capabilities: Value, quirks: &str) {
    let quirks = if quirks.is_empty() { String::new() } else { format!("quirks: [{quirks}]") };
    let mut stage = Stage::new(&WORK.replace("@QUIRKS@", &quirks)).await;
    stage.job["model"]["api"] = json!(api);
    stage.job["model"]["capabilities"] = capabilities;
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    let how = format!("{api} with {quirks:?}: {outcome:?}\n{}", stage.log.text());
    assert_eq!(outcome.reason, Reason::Completed, "{how}");
    assert_eq!(outcome.message, "The greeting is mended.", "{how}");
    assert!(stage.file("greet.sh").contains("echo hello\n"), "{how}");
    let usage = status.usage.unwrap();
    assert_eq!((usage.requests, usage.commands), (4, 3), "{how}");
    assert!(usage.input_tokens > 0 && usage.output_tokens > 0, "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_over_chat_completions() {
    works("ChatCompletions", json!({"customTools": true, "developerRole": true, "streamUsage": true}), "")
        .await;
    works("ChatCompletions", json!({}), "refuseUnknownParameters, systemOnlyFirst, refuseReasoning").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_over_chat_completions_of_odd_servers() {
    works("ChatCompletions", json!({}), "repeatedIds, missingIndex, wholeArguments, noUsage").await;
    works("ChatCompletions", json!({}), "repeatedName, usageInLastChunk").await;
    works("ChatCompletions", json!({"strictAlternation": true}), "strictAlternation").await;
    works("ChatCompletions", json!({"reasoningField": "reasoning_content"}), "requireReasoning").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_over_responses_with_a_chat_template_behind_them() {
    works("Responses", json!({}), "refuseUnknownParameters, systemOnlyFirst").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_over_messages() {
    works("Messages", json!({"cacheMarkers": true, "thinking": "Adaptive"}), "").await;
    works("Messages", json!({}), "refuseUnknownParameters, repeatedIds, wholeArguments").await;
}
