//! Limits end the task with what was done so far.

use std::sync::atomic::Ordering;

use podwright::agent::driver::Stopped;
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

#[tokio::test(flavor = "multi_thread")]
async fn money_is_counted_by_the_providers_prices_and_ends_the_task() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: spending
    cycle: true
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo x >> ran"}}
        usage: {inputTokens: 100000, cachedInputTokens: 50000, outputTokens: 10000}
"#;
    let mut stage = Stage::new(script).await;
    // 0.20 for a response: 0.10 for what is new, 0.02 for what is cached and 0.08 for the output.
    stage.job["model"]["prices"] = json!({"input": "2", "cachedInput": "0.40", "output": "8.00"});
    stage.job["limits"] = json!({"cost": "0.50"});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::BudgetExceeded, "{}\n{}", outcome.message, stage.log.text());
    assert!(outcome.message.starts_with("limits.cost (0.50)"), "{}", outcome.message);
    assert_eq!(status.cost.unwrap().to_string(), "0.60");
    assert_eq!(status.usage.unwrap().requests, 3);
    assert!(status.patch.unwrap().inline.unwrap().contains("+x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_runs_out_of_memory_ends_the_task_with_the_patch_so_far() {
    let script = r#"
scenarios:
  - name: hog
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo x >> ran; sleep 600"}}
"#;
    let mut stage = Stage::new(script).await;
    let agent = stage.agent();
    stage.until(|stage| stage.file("ran") == "x\n").await;
    stage.cluster.ran_out_of_memory.store(true, Ordering::Relaxed);
    // The kernel ends the supervisor with the command, and the kubelet starts the container again.
    stage.restart_sandbox();
    assert_eq!(agent.ended().await, Stopped::Published);
    let status = stage.status();
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::OutOfMemory, "{}\n{}", outcome.message, stage.log.text());
    assert!(outcome.message.contains("resources.limits.memory"), "{}", outcome.message);
    assert!(status.patch.unwrap().inline.unwrap().contains("+x"));
}
