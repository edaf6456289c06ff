//! Several attempts side by side on the real kubelet, and the one that counts.

use podwright::api::AgentTask;
use serde_json::json;

use crate::world::{World, succeeded};

/// Each attempt writes its own user's number.
const SCRIPT: &str = r#"
scenarios:
  - name: count
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "sleep 2; id -u > user.txt"}}}]
      - output: [{text: Written.}]
"#;

async fn world(prefix: &str) -> World {
    let world = World::new(prefix, SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    world
}

fn selected(task: &AgentTask) -> Option<i32> {
    task.status.as_ref().and_then(|status| status.selected_attempt)
}

#[tokio::test]
async fn attempts_run_side_by_side_and_a_person_selects_one() {
    let world = world("attempts").await;
    world.create_task("many", "app", &json!({"attempts": {"count": 2}})).await;
    let task = world.ended("many").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    assert_eq!(selected(&task), None, "nobody has chosen");
    let status = task.status.clone().expect("a status");
    assert_eq!((status.attempts.len(), status.result), (2, None));
    assert_eq!(status.usage.expect("usage").requests, 4, "both attempts count");
    world.say("choose", &json!({"taskName": "many", "kind": "SelectAttempt", "attempt": 2})).await;
    let task = world.task_when("many", "selected", |task| selected(task) == Some(2)).await;
    assert_eq!(world.told("choose", "Selected").await, "True");
    let result = task.status.and_then(|status| status.result).expect("a result");
    assert_eq!(result.attempt, 2);
    let patch = result.patch.expect("a patch");
    assert!(patch.inline.expect("a small patch").contains("user.txt"));
    world.end().await;
}

#[tokio::test]
async fn the_lowest_verified_attempt_is_selected() {
    let world = world("first-verified").await;
    let verification = json!([{"name": "there", "command": "test -s user.txt"}]);
    let attempts = json!({"count": 2, "selection": {"policy": "FirstVerified"}});
    world.create_task("many", "app", &json!({"attempts": attempts, "verification": verification})).await;
    let task = world.ended("many").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    assert_eq!(selected(&task), Some(1));
    let status = task.status.expect("a status");
    assert!(status.attempts.iter().all(|attempt| attempt.verified == Some(true)), "{:#?}", status.attempts);
    assert_eq!(status.result.expect("a result").verified, Some(true));
    world.end().await;
}

#[tokio::test]
async fn a_cancellation_reaches_every_attempt() {
    let script = r#"
scenarios:
  - name: long
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "echo changed > a; sleep 600"}}}]
"#;
    let world = World::new("attempts-cancel", script).await;
    world.git.repository("app", &[("a", "a\n")]);
    world.create_task("many", "app", &json!({"attempts": {"count": 2}})).await;
    world
        .task_when("many", "at work in both attempts", |task| {
            let attempts = task.status.as_ref().map(|status| status.attempts.clone()).unwrap_or_default();
            attempts.len() == 2 && attempts.iter().all(|attempt| attempt.step > 0)
        })
        .await;
    world.say("stop", &json!({"taskName": "many", "kind": "Cancel"})).await;
    let task = world.ended("many").await;
    assert_eq!(succeeded(&task).1, "Cancelled", "{}", succeeded(&task).2);
    assert_eq!(world.told("stop", "HandedOver").await, "True");
    world.end().await;
}
