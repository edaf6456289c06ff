//! The pod after the agent's own, in which the patch is verified.

use podwright::agent::driver::{Orders, Stopped};
use podwright::api::AgentAttemptStatus;
use podwright::api::attempt::{Phase, VerificationState};
use podwright::api::message::MessageKind;
use podwright::api::reasons::Reason;
use serde_json::{Value, json};

use crate::stage::{Stage, git};

/// Mends the greeting by a command, and adds a file.
const WORK: &str = r#"
scenarios:
  - name: work
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo 'echo hello' > greet.sh; echo new > new.txt"}}
      - output:
          - text: The greeting is mended.
"#;

/// A stage on which the agent is done and the next pod is there, with these commands.
async fn done(script: &str, commands: &Value) -> Stage {
    let mut stage = Stage::new(script).await;
    let pod = json!({"image": "sandbox", "workspaceSize": "1Gi"});
    stage.job["verification"] = json!({"commands": commands, "pod": pod});
    let status = stage.run().await;
    assert_eq!((status.phase, status.outcome), (Some(Phase::Verifying), None), "{}", stage.log.text());
    assert!(status.patch.unwrap().artifact.is_some());
    assert_eq!(status.last_message, "The greeting is mended.");
    stage.next_pod();
    stage
}

async fn verified(stage: &Stage) -> AgentAttemptStatus {
    assert_eq!(stage.verifier().ended().await, Stopped::Published, "{}", stage.log.text());
    let status = stage.status();
    assert_eq!((status.phase, status.epoch), (Some(Phase::Ended), 2));
    status
}

fn states(status: &AgentAttemptStatus) -> Vec<(VerificationState, Option<i32>)> {
    status.verification.iter().map(|result| (result.state, result.exit_code)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_on_a_clean_checkout_with_the_patch() {
    let commands = json!([
        {"name": "greets", "command": "test \"$(sh greet.sh)\" = hello\ncat new.txt\necho by $HOME", "timeoutSeconds": 60},
        {"name": "staged", "command": "git diff --exit-code && test -z \"$(git status --porcelain | grep -v '^[AM] ')\"",
            "timeoutSeconds": 60},
        {"name": "clean", "command": "test ! -e .gitignore && test \"$(git log --format=%s)\" = first", "timeoutSeconds": 60},
    ]);
    let stage = done(WORK, &commands).await;
    let before = stage.status();
    let status = verified(&stage).await;
    let outcome = status.outcome.clone().unwrap();
    assert_eq!(
        (outcome.reason, outcome.message.as_str()),
        (Reason::Completed, "The greeting is mended."),
        "{:#?}",
        status.verification
    );
    assert_eq!(states(&status), [(VerificationState::Passed, Some(0)); 3]);
    assert_eq!(status.verification[0].output, "new\nby /home/agent\n");
    // What the agent left stays as it is.
    assert_eq!((&status.patch, &status.usage, status.step), (&before.patch, &before.usage, before.step));
    assert_eq!((&status.transcript, status.turn), (&before.transcript, before.turn));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_runs_and_what_fails_is_told() {
    let commands = json!([
        {"name": "fails", "command": "echo out; echo err >&2; false; echo never", "timeoutSeconds": 60},
        {"name": "hangs", "command": "echo begun; sleep 600", "timeoutSeconds": 1},
        {"name": "passes", "command": "true", "timeoutSeconds": 60},
        {"name": "talks", "command": "yes talk | head -c 100000; exit 7", "timeoutSeconds": 60},
    ]);
    let stage = done(WORK, &commands).await;
    let status = verified(&stage).await;
    let outcome = status.outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::VerificationFailed, "{}", outcome.message);
    let told =
        "fails exited with code 1; hangs ran longer than its timeoutSeconds (1); talks exited with code 7.";
    assert!(outcome.message.contains(told), "{}", outcome.message);
    assert_eq!(
        states(&status),
        [
            (VerificationState::Failed, Some(1)),
            (VerificationState::TimedOut, None),
            (VerificationState::Passed, Some(0)),
            (VerificationState::Failed, Some(7)),
        ]
    );
    assert_eq!(status.verification[0].output, "out\nerr\n");
    let output = &status.verification[3].output;
    assert!(output.len() <= 2048 && output.len() > 2000 && output.ends_with("talk\n"), "{}", output.len());
    assert!(status.patch.unwrap().inline.unwrap().contains("+echo hello"), "the patch is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_patch_is_verified_as_well() {
    let script = "scenarios:\n  - name: none\n    replies:\n      - output:\n          - text: The greeting is mended.\n";
    let commands =
        json!([{"name": "greets", "command": "test \"$(sh greet.sh)\" = hello", "timeoutSeconds": 60}]);
    let stage = done(script, &commands).await;
    assert_eq!(verified(&stage).await.outcome.unwrap().reason, Reason::VerificationFailed);
}

/// The branch has moved meanwhile: verified is what the patch was made for.
#[tokio::test(flavor = "multi_thread")]
async fn the_base_commit_is_checked_out_wherever_its_branch_is() {
    let commands = json!([{"name": "base", "command": "test ! -e later && test $(git rev-parse HEAD) = $BASE", "timeoutSeconds": 60}]);
    let mut stage = done(WORK, &commands).await;
    let base = stage.status().patch.unwrap().base_commit;
    stage.job["environment"]["env"] = json!([{"name": "BASE", "value": base}]);
    std::fs::write(stage.served().join("later"), "").unwrap();
    for args in [&["add", "-A"][..], &["commit", "-q", "-m", "later"]] {
        git(&stage.served(), args);
    }
    let status = verified(&stage).await;
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed, "{:#?}", status.verification);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_goes_on_where_it_was() {
    let commands = json!([
        {"name": "first", "command": "echo first >> ran", "timeoutSeconds": 60},
        {"name": "second", "command": "echo second >> ran; until test -e go; do sleep 0.05; done", "timeoutSeconds": 60},
        {"name": "third", "command": "echo third >> ran", "timeoutSeconds": 60},
    ]);
    let stage = done(WORK, &commands).await;
    let verifier = stage.verifier();
    stage.until(|stage| stage.file("ran") == "first\nsecond\n").await;
    verifier.crash();
    let verifier = stage.verifier();
    stage.until(|stage| states(&stage.status()).get(1) == Some(&(VerificationState::Running, None))).await;
    stage.put("go");
    assert_eq!(verifier.ended().await, Stopped::Published);
    let status = stage.status();
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed, "{:#?}", status.verification);
    assert_eq!(stage.file("ran"), "first\nsecond\nthird\n", "no command ran twice");
    // One that is started when all is over has nothing to do but to say so again.
    assert_eq!(verified(&stage).await.outcome.unwrap().reason, Reason::Completed);
    assert_eq!(stage.file("ran"), "first\nsecond\nthird\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_is_lost_says_nothing_about_the_patch() {
    let commands = json!([{"name": "long", "command": "touch begun; sleep 600", "timeoutSeconds": 900}]);
    let mut stage = done(WORK, &commands).await;
    let verifier = stage.verifier();
    stage.until(|stage| stage.path("begun").exists()).await;
    stage.restart_sandbox();
    assert_eq!(verifier.ended().await, Stopped::Published);
    let status = stage.status();
    let outcome = status.outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::SandboxLost, "{}", outcome.message);
    assert!(
        outcome.message.contains("its patch is kept, but it could not be verified"),
        "{}",
        outcome.message
    );
    assert_eq!(states(&status), [(VerificationState::Interrupted, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_was_changed_is_not_verified() {
    let commands = json!([{"name": "passes", "command": "true", "timeoutSeconds": 60}]);
    let stage = done(WORK, &commands).await;
    let other = podwright::artifacts::encode(b"something else").unwrap();
    stage.cluster.artifacts.lock().unwrap().insert("fix-1-patch".into(), other);
    let outcome = verified(&stage).await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::InternalError);
    assert!(outcome.message.contains("digest"), "{}", outcome.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_can_be_cancelled_and_held_back() {
    let commands = json!([
        {"name": "first", "command": "touch begun; sleep 600", "timeoutSeconds": 900},
        {"name": "second", "command": "true", "timeoutSeconds": 900},
    ]);
    let stage = done(WORK, &commands).await;
    stage.orders.send_replace(Orders::Work { inbox: Vec::new(), suspend: true });
    let verifier = stage.verifier();
    stage.until(|stage| stage.status().suspended).await;
    assert_eq!(stage.status().phase, Some(Phase::Verifying));
    stage.orders.send_replace(Orders::Work { inbox: Vec::new(), suspend: false });
    stage.until(|stage| stage.path("begun").exists()).await;
    stage.say(1, MessageKind::Cancel, "");
    assert_eq!(verifier.ended().await, Stopped::Published);
    let status = stage.status();
    assert_eq!(status.outcome.clone().unwrap().reason, Reason::Cancelled);
    assert_eq!((status.inbox_seq, status.suspended), (1, false));
    assert_eq!(states(&status), [(VerificationState::Interrupted, None); 2]);
    assert!(status.patch.unwrap().artifact.is_some());
}
