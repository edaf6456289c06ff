//! Tasks from the first process to the outcome.

use std::sync::atomic::Ordering;

use podwright::agent::driver::{Orders, Stopped};
use podwright::agent::events::Event;
use podwright::agent::events::replay::replay;
use podwright::api::attempt::{EMPTY_REPLY, Phase};
use podwright::api::message::MessageKind;
use podwright::api::reasons::Reason;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Finds the wrong greeting, mends it and shows that it is right.
const MEND: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: mend
    replies:
      - expect: {prompt: Greet politely., tools: [apply_patch, exec_command, update_plan, write_stdin]}
        output:
          - text: I look at the greeting.
          - plan:
              - {step: Look, status: in_progress}
              - {step: Mend, status: pending}
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
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
                *** Add File: notes/why.txt
                +A greeting has an e.
                *** End Patch
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - expect: {lastOutput: {matches: '(?s)exited with code 0.*hello'}}
        output:
          - text: The greeting is mended.
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_from_the_first_process_to_the_patch() {
    let stage = Stage::new(MEND).await;
    let status = stage.run().await;

    let outcome = status.outcome.clone().unwrap();
    assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, "The greeting is mended."));
    assert_eq!(status.phase, Some(Phase::Ended));
    assert_eq!(status.last_message, "The greeting is mended.");
    assert_eq!((status.turn, status.step), (1, 3));
    assert_eq!(status.plan.len(), 2);
    let usage = status.usage.clone().unwrap();
    assert_eq!((usage.requests, usage.commands), (3, 2));
    let patch = status.patch.clone().unwrap();
    assert_eq!((patch.files, patch.insertions, patch.deletions), (2, 2, 1));
    let text = stage.artifact(&patch.artifact.unwrap());
    assert!(text.contains("+echo hello") && text.contains("notes/why.txt"), "{text}");
    assert_eq!(patch.inline.as_deref(), Some(text.as_str()));
    let transcript = stage.artifact(&status.transcript.clone().unwrap());
    assert!(transcript.lines().count() > 8 && transcript.contains("A greeting has an e."), "{transcript}");

    let types: Vec<String> =
        stage.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert!(types.contains(&"thread.started".to_owned()) && types.last().unwrap() == "thread.ended");
    let commands: Vec<_> = stage
        .events()
        .into_iter()
        .filter(|event| event["type"] == "item.completed" && event["item"]["type"] == "command_execution")
        .map(|event| (event["item"]["aggregated_output"].clone(), event["item"]["exit_code"].clone()))
        .collect();
    assert_eq!(commands, [(json!("hullo\n"), json!(0)), (json!("hello\n"), json!(0))]);
    let phases: Vec<_> = {
        let statuses = stage.cluster.statuses.lock().unwrap();
        statuses.iter().map(|status| status.phase.unwrap()).collect()
    };
    assert!(phases.len() <= 6, "one write a phase, and no more within 15 s: {phases:?}");

    // A process that is started once more finds all done.
    let written = stage.cluster.statuses.lock().unwrap().len();
    assert_eq!(stage.agent().ended().await, Stopped::Published);
    assert_eq!(stage.cluster.statuses.lock().unwrap().len(), written);
}

/// Two commands, one after the other, that end when they are told to by a file.
const SLOW: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: slow
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo one >> ran; until test -e go1; do sleep 0.05; done; echo first"}}
      - expect: {lastOutput: {contains: first}}
        output:
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Add File: new.txt
                +new
                *** End Patch
          - call: {tool: exec_command, arguments: {cmd: "echo two >> ran; until test -e go2; do sleep 0.05; done; cat ran new.txt; exit 3"}}
      - expect: {lastOutput: {matches: '(?s)exited with code 3.*one\ntwo\nnew\n'}}
        output:
          - text: Done.
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_goes_on_and_runs_nothing_twice() {
    let stage = Stage::new(SLOW).await;
    let first = stage.agent();
    stage.until(|stage| stage.file("ran") == "one\n").await;
    first.crash();
    let second = stage.agent();
    stage.put("go1");
    stage.until(|stage| stage.file("ran") == "one\ntwo\n").await;
    second.crash();
    stage.put("go2");
    let status = stage.run().await;
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed, "{}", stage.log.text());
    assert_eq!(stage.file("ran"), "one\ntwo\n");
    assert_eq!(status.usage.unwrap().commands, 2);
}

/// The model of [`MEND`] without a memory of its own.
fn mend(newest: &Value) -> Vec<Value> {
    let command = |id: &str| json!({"type": "function_call", "call_id": id, "name": "exec_command", "arguments": "{\"cmd\": \"echo x >> ran; sh greet.sh\"}"});
    let output = newest["output"].as_str().unwrap_or_default();
    if newest["type"] != "function_call_output" {
        return vec![command("c1")];
    }
    if output.contains("hullo") {
        let patch = "*** Begin Patch\n*** Update File: greet.sh\n@@\n-echo hullo\n+echo hello\n*** End Patch";
        let call =
            json!({"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": patch});
        return vec![call, command("c3")];
    }
    let text = if output.contains("hello") { "The greeting is mended." } else { output };
    let content = [json!({"type": "output_text", "text": text})];
    vec![json!({"type": "message", "role": "assistant", "content": content})]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_at_any_time_ends_well() {
    for millis in [0, 20, 60, 120, 200, 250, 300, 350, 400, 450, 500, 600, 800] {
        let stage = Stage::answering(mend).await;
        let first = stage.agent();
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
        first.crash();
        let outcome = stage.run().await.outcome.unwrap();
        let at = format!("after {millis} ms: {outcome:?}\n{}", stage.log.text());
        assert_eq!(outcome.reason, Reason::Completed, "{at}");
        assert_eq!(outcome.message, "The greeting is mended.", "{at}");
        assert_eq!(stage.file("ran"), "x\nx\n", "no command runs twice and none is left out; {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_sandbox_restarts_has_an_unknown_end() {
    let script = r#"
scenarios:
  - name: restart
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo x >> ran; sleep 60"}}
      - expect: {lastOutput: sandbox was restarted}
        output:
          - call: {tool: exec_command, arguments: {cmd: "cat ran"}}
      - expect: {lastOutput: "x\n"}
        output:
          - text: I see.
"#;
    let mut stage = Stage::new(script).await;
    let agent = stage.agent();
    stage.until(|stage| stage.file("ran") == "x\n").await;
    stage.restart_sandbox();
    assert_eq!(agent.ended().await, Stopped::Published);
    assert_eq!(stage.status().outcome.unwrap().reason, Reason::Completed, "{}", stage.log.text());
    assert_eq!(stage.file("ran"), "x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_on_a_terminal_is_written_to_across_a_crash() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: session
    replies:
      - output:
          - call:
              tool: exec_command
              arguments: {cmd: "read a; echo \"got $a\"; echo $a >> ran; read b; echo \"and $b\"", tty: true, yield_time_ms: 250}
      - expect: {lastOutput: session ID}
        capture: {session: 'session ID (\d+)'}
        output:
          - call: {tool: write_stdin, arguments: '{"session_id": {{session}}, "chars": "one\n", "yield_time_ms": 5000}'}
      - expect: {lastOutput: got one}
        output:
          - call: {tool: write_stdin, arguments: '{"session_id": {{session}}, "chars": "two\n"}'}
      - expect: {lastOutput: {contains: and two, excludes: got one}}
        output:
          - call: {tool: write_stdin, arguments: '{"session_id": {{session}}, "chars": ""}'}
      - expect: {lastOutput: Unknown process id}
        output:
          - text: Done.
"#;
    let stage = Stage::new(script).await;
    let first = stage.agent();
    stage.until(|stage| stage.file("ran") == "one\n").await;
    first.crash();
    let status = stage.run().await;
    assert_eq!(
        status.outcome.clone().unwrap().reason,
        Reason::Completed,
        "{:?}\n{}",
        status,
        stage.log.text()
    );
    assert_eq!(stage.file("ran"), "one\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_comes_while_the_results_are_gathered_is_not_acknowledged() {
    let script = "scenarios:\n  - name: short\n    replies:\n      - output:\n          - text: Done.\n";
    let stage = Stage::new(script).await;
    stage.cluster.holds_artifacts.store(true, Ordering::Relaxed);
    let agent = stage.agent();
    stage.logged("turn.completed").await;
    stage.say(1, MessageKind::Prompt, "And now this.");
    stage.cluster.holds_artifacts.store(false, Ordering::Relaxed);
    assert_eq!(agent.ended().await, Stopped::Published);
    let status = stage.status();
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed);
    assert_eq!((status.inbox_seq, status.turn), (0, 1), "{}", stage.log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_keeps_the_patch_so_far() {
    let script = r#"
scenarios:
  - name: long
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo changed > greet.sh; touch begun; sleep 600"}}
"#;
    let stage = Stage::new(script).await;
    let agent = stage.agent();
    stage.until(|stage| stage.file("greet.sh") == "changed\n").await;
    stage.say(1, MessageKind::Cancel, "");
    assert_eq!(agent.ended().await, Stopped::Published);
    let status = stage.status();
    assert_eq!(status.outcome.unwrap().reason, Reason::Cancelled);
    assert_eq!(status.inbox_seq, 1);
    assert!(status.patch.unwrap().inline.unwrap().contains("+changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agent_stands_still_and_a_prompt_begins_another_turn() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: turns
    replies:
      - output:
          - text: First.
      - expect: {lastUserMessage: once more}
        output:
          - text: Second.
"#;
    let mut stage = Stage::new(script).await;
    stage.job["idle"] = json!({"keepSeconds": 86400});
    stage.orders.send_replace(Orders::Work { inbox: Vec::new(), suspend: true });
    let agent = stage.agent();
    stage.until(|stage| stage.status().suspended).await;
    assert_eq!(stage.status().step, 0);
    stage.orders.send_replace(Orders::Work { inbox: Vec::new(), suspend: false });
    stage.until(|stage| stage.status().phase == Some(Phase::Idle) && stage.status().patch.is_some()).await;
    assert_eq!(stage.status().last_message, "First.");
    stage.say(1, MessageKind::Prompt, "once more");
    stage.until(|stage| stage.status().turn == 2 && stage.status().phase == Some(Phase::Idle)).await;
    assert_eq!(stage.status().last_message, "Second.");
    stage.say(2, MessageKind::Cancel, "");
    assert_eq!(agent.ended().await, Stopped::Published);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_script_gets_its_secrets_and_its_files_are_not_the_agents_change() {
    let script = r#"
scenarios:
  - name: setup
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "cat from-setup; echo \"secret: ${TOKEN:-none}\"; echo mine > mine"}}
      - expect: {lastOutput: {contains: [s3cret made this, "secret: none"]}}
        output:
          - text: Done.
"#;
    let mut stage = Stage::new(script).await;
    stage.job["environment"] = json!({"setup": {"script": "echo \"$TOKEN made this\" > from-setup", "secretNames": ["token"], "timeoutSeconds": 60}});
    let secret = [("TOKEN".to_owned(), b"s3cret".to_vec())].into();
    stage.cluster.secrets.lock().unwrap().insert("token".into(), secret);
    let status = stage.run().await;
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed, "{}", stage.log.text());
    let patch = status.patch.unwrap().inline.unwrap();
    assert!(patch.contains("mine") && !patch.contains("from-setup"), "{patch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_end_with_their_reason_and_a_sentence() {
    let nothing = "scenarios:\n  - name: empty\n    replies:\n      - output: []\n";
    let mut stage = Stage::new(nothing).await;
    stage.job["repository"]["ref"] = json!("mian");
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::CloneFailed);
    assert!(outcome.message.contains("main"), "{}", outcome.message);

    let mut stage = Stage::new(nothing).await;
    stage.job["environment"] =
        json!({"setup": {"script": "echo looking; echo 'no compiler' >&2; exit 7", "timeoutSeconds": 60}});
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::SetupFailed);
    assert!(
        outcome.message.contains("code 7") && outcome.message.contains("no compiler"),
        "{}",
        outcome.message
    );

    let mut stage = Stage::new(nothing).await;
    stage.job["model"]["credentialsSecretName"] = json!("model-key");
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::ModelMisconfigured);
    assert!(outcome.message.contains("kubectl create secret generic model-key"), "{}", outcome.message);

    let stage = Stage::new(nothing).await;
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, EMPTY_REPLY));
    assert_eq!(status.last_message, EMPTY_REPLY);

    let mut stage = Stage::new(MEND).await;
    stage.job["limits"] = json!({"patchBytes": 10});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::PatchTooLarge, "{}", outcome.message);
    let told = replay(&stage.journal(), None).unwrap();
    assert!(
        matches!(&told.last().unwrap().event, Event::ThreadEnded { outcome: again } if *again == outcome)
    );
    assert_eq!(status.patch.unwrap().paths, ["greet.sh", "notes/why.txt"]);

    let mut stage = Stage::new(MEND).await;
    stage.job["limits"] = json!({"steps": 1});
    let status = stage.run().await;
    assert_eq!(status.outcome.unwrap().reason, Reason::BudgetExceeded);
    assert!(status.patch.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_in_a_call_is_told_to_the_model() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: wrong
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: no-such-command}}
          - call: {tool: exec_command, arguments: {cmd: ls, workdir: /no/such/directory}}
          - call: {tool: fly, arguments: {}}
          - call: {tool: exec_command, arguments: "{"}
      - expect: {anyOutput: exited with code 127}
        output:
          - custom: {tool: apply_patch, input: "*** Begin Patch\n*** Update File: greet.sh\n@@\n-no such line\n+x\n*** End Patch"}
      - expect: {lastOutput: verification failed}
        output:
          - call: {tool: exec_command, arguments: {cmd: "sleep 60", yield_time_ms: 30000}}
      - expect: {lastOutput: longer than the limit of 10 seconds}
        output:
          - call: {tool: exec_command, arguments: {cmd: "head -c 20000000 /dev/zero | tr '\\0' x"}}
      - expect: {lastOutput: {contains: [bytes omitted, exited with code 0]}}
        output:
          - text: Done.
"#;
    let mut stage = Stage::new(script).await;
    stage.job["limits"] = json!({"commandSeconds": 10});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_an_attempt_stops() {
    let stage = Stage::new("scenarios:\n  - name: x\n    replies:\n      - output: []\n        pace: {firstEventMillis: 600000}\n").await;
    let agent = stage.agent();
    stage.logged("turn.started").await;
    stage.orders.send_replace(Orders::Gone("deleted".into()));
    assert_eq!(agent.ended().await, Stopped::Gone("deleted".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_read_ends_the_task_and_hides_nothing_of_what_it_cost() {
    let stage = Stage::new(MEND).await;
    let before = stage.run().await;
    stage.damage_journal();
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::InternalError);
    assert!(outcome.message.starts_with("JournalCorrupt: "), "{}", outcome.message);
    assert_eq!((status.usage, status.step, status.turn), (before.usage, before.step, before.turn));
}
