//! Questions and reviews: work that leaves the repository alone.

use podwright::api::attempt::PatchFlagKind;
use podwright::api::reasons::Reason;
use serde_json::json;

use crate::stage::Stage;

const ASK: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: ask
    replies:
      - expect: {instructions: {matches: '(?s)<task_mode>.*Task mode is Ask.*Leave the repository as it is'}}
        output:
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - expect: {lastOutput: hullo}
        output:
          - text: It says hullo (greet.sh, line 2).
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_and_its_patch_is_empty() {
    let mut stage = Stage::new(ASK).await;
    stage.job["mode"] = json!("Ask");
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(
        (outcome.reason, outcome.message.as_str()),
        (Reason::Completed, "It says hullo (greet.sh, line 2).")
    );
    let patch = status.patch.unwrap();
    assert_eq!((patch.files, patch.bytes, patch.flags.len()), (0, 0, 0));
    assert_eq!(stage.artifact(&patch.artifact.unwrap()), "");
}

const DISOBEDIENT: &str = r#"
scenarios:
  - name: disobedient
    replies:
      - output:
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Update File: greet.sh
                @@
                -echo hullo
                +echo hello
                *** End Patch
          - call: {tool: exec_command, arguments: {cmd: "echo x > scratch.txt"}}
      - output:
          - text: Mended all the same.
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_all_the_same_is_dropped_and_flagged() {
    let mut stage = Stage::new(DISOBEDIENT).await;
    stage.job["mode"] = json!("Ask");
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}", stage.log.text());
    assert!(
        outcome.message.ends_with(
            "The agent changed 2 files; mode Ask leaves the repository alone, so that was dropped."
        ),
        "{}",
        outcome.message
    );
    assert_eq!(status.last_message, "Mended all the same.");
    let patch = status.patch.unwrap();
    assert_eq!((patch.files, patch.bytes, patch.insertions), (0, 0, 0));
    assert_eq!(patch.inline.as_deref(), Some(""));
    assert_eq!(stage.artifact(&patch.artifact.unwrap()), "");
    let flags: Vec<_> = patch.flags.iter().map(|flag| (flag.kind, flag.path.as_str())).collect();
    assert_eq!(flags, [(PatchFlagKind::Dropped, "greet.sh"), (PatchFlagKind::Dropped, "scratch.txt")]);
}

const REVIEW: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: review
    replies:
      - expect:
          instructions: {matches: '(?s)Task mode is Review.*`feature` .*adds to `main` .*git diff [0-9a-f]{40} [0-9a-f]{40}'}
        output:
          - call: {tool: exec_command, arguments: {cmd: "git diff origin/main...HEAD && git log --format=%s origin/main..HEAD"}}
      - expect: {lastOutput: {matches: '(?s)-echo hullo.*\+echo salve.*Greet in Latin'}}
        output:
          - text: >-
              {"verdict": "Incorrect", "explanation": "It greets in the wrong language.", "confidence": 0.9, "findings":
              [{"title": "Latin", "body": "Nobody here reads it.", "priority": 1, "confidence": 0.8, "path": "greet.sh",
              "startLine": 2, "endLine": 2}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_review_sees_what_the_branch_adds_to_its_base() {
    let mut stage = Stage::new(REVIEW).await;
    stage.job["mode"] = json!("Review");
    stage.job["review"] = json!({"base": "main"});
    stage.job["repository"]["ref"] = json!("feature");
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{} {}", outcome.message, stage.log.text());
    let words =
        "Incorrect: It greets in the wrong language.\n\n- [P1] Latin (`greet.sh:2`)\n  Nobody here reads it.";
    assert_eq!(outcome.message, words);
    assert_eq!(status.last_message, words);
    assert_eq!(status.output.unwrap()["findings"][0]["path"], "greet.sh");
    assert_eq!(status.patch.unwrap().bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_the_server_does_not_have_ends_the_review() {
    let mut stage = Stage::new(REVIEW).await;
    stage.job["mode"] = json!("Review");
    stage.job["review"] = json!({"base": "mian"});
    stage.job["repository"]["ref"] = json!("feature");
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::CloneFailed);
    assert!(outcome.message.contains("mian") && outcome.message.contains("main"), "{}", outcome.message);
}
