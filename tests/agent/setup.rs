//! The setup script has Secrets, so it never meets what a model wrote: neither where a patch is verified nor where a
//! task goes on with another one.

use std::fs;
use std::path::PathBuf;

use podwright::agent::driver::Stopped;
use podwright::api::AgentAttemptStatus;
use podwright::api::attempt::{Phase, VerificationState};
use podwright::api::reasons::Reason;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Mends the greeting and adds a file; the next task looks at what it finds.
const WORK: &str = r#"
checks: {pairing: true}
scenarios:
  - name: work
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo 'echo hello' > greet.sh; echo new > new.txt"}}
      - output: [{text: The greeting is mended.}]
      - expect: {lastUserMessage: And now?}
        output:
          - call: {tool: exec_command, arguments: {cmd: "cat seen; sh greet.sh; git status --short"}}
      - expect: {lastOutput: {matches: '(?s)secret hullo AGENTS.md greet.sh\nhello\n M AGENTS.md\n M greet.sh\n\?\? new.txt\n\?\? seen\n'}}
        output:
          - call: {tool: exec_command, arguments: {cmd: "echo more >> new.txt"}}
      - output: [{text: All is well.}]
"#;

/// Says what it sees of the repository, and changes it.
const LOOK: &str =
    "echo \"$TOKEN $(sh greet.sh) $(echo *)\" > seen; echo ran >> ran.log; echo setup >> AGENTS.md";

fn give_setup(stage: &mut Stage, script: &str) {
    let secret = [("TOKEN".to_owned(), b"secret".to_vec())].into();
    stage.cluster.secrets.lock().unwrap().insert("token".into(), secret);
    stage.job["environment"] = json!({
        "patchExcludes": ["ran.log"],
        "setup": {"script": script, "secretNames": ["token"], "timeoutSeconds": 60},
    });
}

/// A stage on which the agent is done and the pod that verifies is there, with this command and setup script.
async fn done(command: &str, setup: &str) -> Stage {
    let mut stage = Stage::new(WORK).await;
    let commands = json!([{"name": "command", "command": command, "timeoutSeconds": 60}]);
    stage.job["verification"] =
        json!({"commands": commands, "pod": {"image": "sandbox", "workspaceSize": "1Gi"}});
    let status = stage.run().await;
    assert_eq!((status.phase, status.outcome), (Some(Phase::Verifying), None), "{}", stage.log.text());
    stage.next_pod();
    give_setup(&mut stage, setup);
    stage
}

fn volume(stage: &Stage, name: &str) -> PathBuf {
    stage.served().parent().unwrap().parent().unwrap().join(name)
}

async fn verified(stage: &Stage) -> AgentAttemptStatus {
    assert_eq!(stage.verifier().ended().await, Stopped::Published, "{}", stage.log.text());
    stage.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_patch_is_verified_it_comes_after_the_setup_script() {
    let stage = done("cat seen; sh greet.sh; cat new.txt; git status --short", LOOK).await;
    let status = verified(&stage).await;
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed, "{:#?}", status.verification);
    assert_eq!(
        status.verification[0].output,
        "secret hullo AGENTS.md greet.sh\nhello\nnew\n M AGENTS.md\nM  greet.sh\nA  new.txt\n?? ran.log\n?? seen\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_task_goes_on_the_former_patch_comes_after_the_setup_script() {
    let mut stage = Stage::new(WORK).await;
    let former = stage.run().await;
    assert_eq!(former.outcome.clone().unwrap().reason, Reason::Completed, "{}", stage.log.text());
    stage.next_task("6f1b2c3d-0000-4000-8000-000000000002");
    give_setup(&mut stage, &LOOK.replace("echo ran >> ran.log; ", ""));
    stage.job["prompt"] = json!("And now?");
    stage.job["repository"]["ref"] = json!(former.workspace.clone().unwrap().base_commit);
    stage.job["continueFrom"] = json!({
        "taskName": "fix", "transcript": former.transcript, "patch": former.patch.clone().unwrap().artifact,
    });
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(
        (outcome.reason, outcome.message.as_str()),
        (Reason::Completed, "All is well."),
        "{}",
        stage.log.text()
    );
    let patch = status.patch.unwrap();
    assert_eq!(
        (patch.files, patch.flags),
        (2, vec![]),
        "the former change and this one, and nothing of setup's"
    );
    let text = patch.inline.unwrap();
    assert!(text.contains("-echo hullo\n+echo hello\n") && text.contains("+new\n+more\n"), "{text}");
    assert_eq!(patch.base_commit, former.patch.unwrap().base_commit);
}

/// The process and the sandbox die while the patch is being put: what is there then is a model's.
#[tokio::test(flavor = "multi_thread")]
async fn the_setup_script_never_runs_again_once_some_of_the_patch_is_there() {
    let mut stage = done("until test -e go; do sleep 0.05; done; cat seen ran.log", LOOK).await;
    let verifier = stage.verifier();
    let runs = |stage: &Stage| {
        stage.status().verification.first().is_some_and(|result| result.state == VerificationState::Running)
    };
    stage.until(runs).await;
    verifier.crash();
    fs::remove_file(volume(&stage, "state").join("verification.json")).unwrap();
    let record = volume(&stage, "repo").join("app/record.json");
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("Patched"), "{text}");
    fs::write(&record, text.replace("Patched", "Patching")).unwrap();
    fs::remove_file(stage.path("new.txt")).unwrap();
    stage.restart_sandbox();
    stage.put("go");
    let status = verified(&stage).await;
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed, "{:#?}", status.verification);
    assert_eq!(status.verification[0].output, "secret hullo AGENTS.md greet.sh\nran\n");
    assert_eq!(stage.file("new.txt"), "new\n", "the rest of the patch came after all");
}

/// The process dies when the sandbox is quiet and before anybody has heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_setup_script_that_failed_never_counts_as_done() {
    let stage = done("true", "echo no tools; exit 3").await;
    let told = verified(&stage).await;
    let outcome = told.outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::SetupFailed, "{}", outcome.message);
    stage.cluster.statuses.lock().unwrap().retain(|status| status.outcome.is_none());
    let status = verified(&stage).await;
    assert_eq!((status.outcome, status.verification), (told.outcome, told.verification));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_setup_script_puts_in_the_patchs_way_is_named() {
    let stage = done("true", "mkdir new.txt && touch new.txt/in").await;
    let status = verified(&stage).await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::SetupFailed, "{}", outcome.message);
    for told in [
        "it could not be verified",
        "new.txt is a directory that is not empty",
        "Make the script leave new.txt",
    ] {
        assert!(outcome.message.contains(told), "{}", outcome.message);
    }
    let states: Vec<Value> =
        status.verification.iter().map(|result| serde_json::to_value(result.state).unwrap()).collect();
    assert_eq!(states, ["Interrupted"]);
    assert!(status.patch.unwrap().inline.unwrap().contains("+echo hello"), "the patch is kept");
}
