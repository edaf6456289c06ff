//! Patches that are verified in a pod of their own, on the real kubelet.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use podwright::api::attempt::{AgentAttemptStatus, VerificationState};
use podwright::api::{AgentTask, Reason};
use serde_json::json;

use crate::life::kill_container;
use crate::world::{World, succeeded};

/// Mends the greeting.
const SCRIPT: &str = r#"
scenarios:
  - name: mend
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "echo hello > greeting.txt; touch $HOME/litter"}}}]
      - output: [{text: The greeting is mended.}]
"#;

async fn world(prefix: &str) -> World {
    let world = World::new(prefix, SCRIPT).await;
    world.git.repository("app", &[("greeting.txt", "hullo\n")]);
    world
}

async fn status(world: &World, task: &str) -> AgentAttemptStatus {
    world.attempt(task).await.status.expect("a status")
}

fn verified(task: &AgentTask) -> Option<bool> {
    task.status.as_ref().and_then(|status| status.result.as_ref()).and_then(|result| result.verified)
}

#[tokio::test]
async fn a_patch_is_verified_on_a_clean_checkout_by_a_pod_without_the_models_key() {
    let world = world("verify").await;
    world
        .apply_environment("setup", &json!({"setup": {"script": "cp greeting.txt /workspace/from-setup"}}))
        .await;
    let commands = json!([
        {"name": "greets", "command": "test \"$(cat greeting.txt)\" = hello; cat /workspace/from-setup"},
        {"name": "clean", "command": "test ! -e $HOME/litter; git diff --exit-code; git log --format=%s"},
        {"name": "waits", "command": "sleep 20"},
    ]);
    world.create_task("mend", "app", &json!({"verification": commands, "environmentName": "setup"})).await;
    world.reason("mend", Reason::Verifying).await;
    world.pod_named("mend", "-1-2-").await;
    let rights = world.api::<Role>().list(&ListParams::default()).await.expect("roles").items;
    assert_eq!(rights.len(), 1, "{rights:#?}");
    let secrets = rights[0].rules.iter().flatten().filter(|rule| {
        rule.resources.as_ref().is_some_and(|resources| resources.contains(&"secrets".to_owned()))
    });
    assert_eq!(secrets.count(), 0, "no Secret is needed, so none may be read");

    let task = world.ended("mend").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    assert_eq!(succeeded(&task).2, "The greeting is mended.");
    assert_eq!(verified(&task), Some(true));
    let status = status(&world, "mend").await;
    assert_eq!(status.epoch, 2);
    let states: Vec<_> = status.verification.iter().map(|result| result.state).collect();
    assert_eq!(states, [VerificationState::Passed; 3]);
    assert_eq!(status.verification[0].output, "hullo\n", "the setup script met the base commit alone");
    assert_eq!(world.api::<RoleBinding>().list(&ListParams::default()).await.expect("a list").items.len(), 0);
    let accounts = world.api::<ServiceAccount>().list(&ListParams::default()).await.expect("a list").items;
    assert!(accounts.iter().all(|account| !account.name_any().starts_with("pw-")), "{accounts:#?}");
    world.end().await;
}

#[tokio::test]
async fn a_command_that_fails_fails_the_task_and_keeps_the_patch() {
    let world = world("verify-fails").await;
    let commands = json!([
        {"name": "fails", "command": "echo it greets wrongly; exit 3"},
        {"name": "passes", "command": "true"},
    ]);
    world.create_task("mend", "app", &json!({"verification": commands})).await;
    let task = world.ended("mend").await;
    let (_, reason, message) = succeeded(&task);
    assert_eq!(reason, "VerificationFailed", "{message}");
    assert!(message.contains("fails exited with code 3"), "{message}");
    assert_eq!(verified(&task), Some(false));
    let patch =
        task.status.and_then(|status| status.result).and_then(|result| result.patch).expect("a patch");
    assert!(patch.inline.expect("a small patch").contains("+hello"));
    let status = status(&world, "mend").await;
    assert_eq!(status.verification[0].exit_code, Some(3));
    assert_eq!(status.verification[0].output, "it greets wrongly\n");
    world.end().await;
}

#[tokio::test]
async fn the_agent_container_may_restart_while_it_verifies() {
    let world = world("verify-restart").await;
    let commands = json!([
        {"name": "before", "command": "echo before >> ../ran"},
        {"name": "under", "command": "echo under >> ../ran; sleep 30"},
        {"name": "after", "command": "echo after >> ../ran; cat ../ran"},
    ]);
    world.create_task("mend", "app", &json!({"verification": commands})).await;
    let pod = world.pod_named("mend", "-1-2-").await;
    let runs = |task: &AgentTask| {
        let attempts = task.status.as_ref().map(|status| status.attempts.clone()).unwrap_or_default();
        attempts.first().is_some_and(|attempt| attempt.last_message == "verifying: under")
    };
    world.task_when("mend", "verifying its second command", runs).await;
    kill_container(&world, &pod, "agent").await;
    let task = world.ended("mend").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let status = status(&world, "mend").await;
    assert_eq!(status.verification[2].output, "before\nunder\nafter\n", "each command ran once");
    world.end().await;
}

/// Deletes a pod that verifies as somebody would by hand, or as a node that goes takes it.
async fn lose(world: &World, pod: &str) {
    let now = DeleteParams::default().grace_period(0);
    world.api::<Pod>().delete(pod, &now).await.expect("it can be deleted");
}

#[tokio::test]
async fn a_lost_pod_that_verifies_is_made_again() {
    let world = world("verify-again").await;
    let commands = json!([
        {"name": "clean", "command": "test ! -e ../ran; echo once > ../ran"},
        {"name": "long", "command": "sleep 20; test \"$(cat greeting.txt)\" = hello"},
    ]);
    world.create_task("mend", "app", &json!({"verification": commands})).await;
    let pod = world.pod_named("mend", "-1-2-").await;
    world
        .task_when("mend", "verifying its second command", |task| {
            let attempts = task.status.as_ref().map(|status| status.attempts.clone()).unwrap_or_default();
            attempts.first().is_some_and(|attempt| attempt.last_message == "verifying: long")
        })
        .await;
    lose(&world, &pod).await;
    world.pod_named("mend", "-1-3-").await;
    let task = world.ended("mend").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    assert_eq!(verified(&task), Some(true));
    let status = status(&world, "mend").await;
    assert_eq!(status.epoch, 3);
    let states: Vec<_> = status.verification.iter().map(|result| result.state).collect();
    assert_eq!(states, [VerificationState::Passed; 2], "on a clean checkout again");
    assert_eq!(world.api::<Role>().list(&ListParams::default()).await.expect("a list").items.len(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_pod_that_is_lost_again_and_again_says_nothing_about_the_patch() {
    let world = world("verify-lost").await;
    let commands = json!([{"name": "long", "command": "sleep 600", "timeoutSeconds": 900}]);
    world.create_task("mend", "app", &json!({"verification": commands})).await;
    for number in 2..=4 {
        // One that is not on record yet would be made again under its own number.
        let is_recorded = |task: &AgentTask| {
            let attempts = task.status.as_ref().map(|status| status.attempts.clone()).unwrap_or_default();
            attempts.first().is_some_and(|attempt| attempt.epoch == number)
        };
        world.task_when("mend", "verifying in its next pod", is_recorded).await;
        let pod = world.pod_named("mend", &format!("-1-{number}-")).await;
        lose(&world, &pod).await;
    }
    let task = world.ended("mend").await;
    let (_, reason, message) = succeeded(&task);
    assert_eq!(reason, "SandboxLost", "{message}");
    assert!(message.contains("could not be verified: three pods"), "{message}");
    assert_eq!(verified(&task), None);
    assert!(task.status.and_then(|status| status.result).and_then(|result| result.patch).is_some());
    world.end().await;
}
