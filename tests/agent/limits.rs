//! Limits end the task with what was done so far.

use podwright::api::reasons::Reason;
use serde_json::json;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_only_fail_end_the_task_with_the_patch_so_far() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: failing
    cycle: true
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo x >> ran; exit 3"}}
      - output:
          - custom: {tool: apply_patch, input: "*** Begin Patch\n*** Update File: greet.sh\n@@\n-no such line\n+x\n*** End Patch"}
"#;
    let mut stage = Stage::new(script).await;
    stage.job["limits"] = json!({"consecutiveFailures": 4});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::BudgetExceeded, "{}\n{}", outcome.message, stage.log.text());
    assert!(outcome.message.contains("limits.consecutiveFailures (4)"), "{}", outcome.message);
    let usage = status.usage.unwrap();
    assert_eq!((usage.requests, usage.commands, usage.consecutive_failures), (4, 2, 4));
    assert!(status.patch.unwrap().inline.unwrap().contains("+x"));
}
