//! Tasks that go on with the thread and the workspace of another one.

use podwright::api::AgentAttemptStatus;
use podwright::api::reasons::Reason;
use serde_json::json;

use crate::stage::Stage;

/// Two tasks of one thread, as the model sees it: the prefix check holds over both.
const BOTH: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: both
    replies:
      - output:
          - reasoning: I look first.
          - call: {tool: exec_command, arguments: {cmd: "sh greet.sh; echo note > kept.txt"}}
      - expect: {lastOutput: hullo}
        output:
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Update File: greet.sh
                @@
                -echo hullo
                +echo hello
                *** End Patch
      - output: [{text: The greeting is mended.}]
      - expect: {lastUserMessage: Now in French.}
        output:
          - call: {tool: exec_command, arguments: {cmd: "sh greet.sh; git status --short; cat kept.txt"}}
      - expect: {lastOutput: {matches: '(?s)hello\n M greet.sh\n\?\? kept.txt\nnote\n'}}
        output:
          - call: {tool: exec_command, arguments: {cmd: "sed -i s/hello/bonjour/ greet.sh"}}
      - output: [{text: It is French now.}]
"#;

/// Makes the job of a task that goes on with the one that has just ended.
fn go_on(stage: &mut Stage, former: &AgentAttemptStatus) {
    let patch = former.patch.clone().unwrap();
    stage.next_task("6f1b2c3d-0000-4000-8000-000000000002");
    stage.job["prompt"] = json!("Now in French.");
    stage.job["repository"]["ref"] = json!(former.workspace.clone().unwrap().base_commit);
    stage.job["patchArtifactName"] = json!("fix-2-patch");
    stage.job["transcriptArtifactName"] = json!("fix-2-transcript");
    stage.job["continueFrom"] = json!({
        "taskName": "fix", "transcript": former.transcript, "patch": patch.artifact.filter(|_| patch.bytes > 0),
    });
}

async fn continues(api: &str, capabilities: serde_json::Value) {
    let mut stage = Stage::new(BOTH).await;
    stage.job["model"]["api"] = json!(api);
    stage.job["model"]["capabilities"] = capabilities;
    let former = stage.run().await;
    assert_eq!(former.outcome.clone().unwrap().reason, Reason::Completed, "{}", stage.log.text());
    go_on(&mut stage, &former);
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{api}: {} {}", outcome.message, stage.log.text());
    assert_eq!(outcome.message, "It is French now.");
    assert_eq!((status.turn, status.step), (1, 3), "what was done before is not counted again");
    let patch = status.patch.unwrap();
    assert_eq!((patch.files, patch.flags.len()), (2, 0), "both changes, and none of them is setup's");
    let text = patch.inline.unwrap();
    assert!(text.contains("-echo hullo\n+echo bonjour\n") && text.contains("+note\n"), "{text}");
    assert_eq!(patch.base_commit, former.patch.unwrap().base_commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_goes_on_in_another_pod_byte_for_byte_on_every_api() {
    let able = json!({
        "customTools": true, "parallelToolCalls": true, "developerRole": true, "promptCacheKey": true,
        "encryptedReasoning": true
    });
    continues("Responses", able).await;
    continues("ChatCompletions", json!({"customTools": true, "promptCacheKey": true})).await;
    continues("Messages", json!({"thinking": "Adaptive", "cacheMarkers": true})).await;
}

/// The second model knows the former one's words and not its thread.
const OTHER: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: other
    match: {lastUserMessage: Now in French.}
    replies:
      - expect: {anyOutput: hullo, prompt: another model}
        output: [{text: It was hullo.}]
  - name: first
    replies:
      - output:
          - reasoning: I look first.
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - output: [{text: It says hullo.}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn another_model_behind_another_api_goes_on_with_what_was_said() {
    let mut stage = Stage::new(OTHER).await;
    let former = stage.run().await;
    assert_eq!(former.outcome.clone().unwrap().reason, Reason::Completed, "{}", stage.log.text());
    go_on(&mut stage, &former);
    stage.job["model"]["api"] = json!("Messages");
    stage.job["model"]["name"] = json!("other");
    stage.job["model"]["capabilities"] = json!({});
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.message, "It was hullo.", "{}", stage.log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_that_cannot_be_used_ends_the_task_before_it_begins() {
    let mut stage = Stage::new(OTHER).await;
    let former = stage.run().await;
    go_on(&mut stage, &former);
    stage.job["continueFrom"]["transcript"]["sha256"] = json!("00".repeat(32));
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::InvalidSpec);
    assert!(outcome.message.contains("its digest is"), "{}", outcome.message);
}

/// A question about what another task has changed.
const ASKED: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: both
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "sed -i s/hullo/hello/ greet.sh"}}
      - output: [{text: The greeting is mended.}]
      - expect: {lastUserMessage: Now in French.}
        output:
          - call: {tool: exec_command, arguments: {cmd: "sh greet.sh"}}
      - expect: {lastOutput: hello}
        output: [{text: That is not French.}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_a_change_is_not_told_to_have_made_it() {
    let mut stage = Stage::new(ASKED).await;
    let former = stage.run().await;
    assert_eq!(former.outcome.clone().unwrap().reason, Reason::Completed, "{}", stage.log.text());
    go_on(&mut stage, &former);
    stage.job["mode"] = json!("Ask");
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, "That is not French."));
    let patch = status.patch.unwrap();
    assert_eq!((patch.bytes, patch.files, patch.flags), (0, 0, vec![]));
}
