//! What the tools do and answer, through the supervisor and back: scripts whose expectations are the model's
//! side of it.

use podwright::api::attempt::AgentAttemptStatus;
use podwright::api::reasons::Reason;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Runs a task to its end, which must be that of its script.
async fn run(stage: &Stage) -> AgentAttemptStatus {
    let status = stage.run().await;
    let outcome = status.outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_where_and_how_they_ask_and_say_how_they_ended() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: commands
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "mkdir -p sub; cd sub; printf 'at %s with %s\n' \"$PWD\" \"${0##*/}\"", shell: /bin/sh, login: false}}
      - expect: {lastOutput: {matches: '^Chunk ID: [0-9a-f]{6}\nWall time: \d+\.\d{4} seconds\nProcess exited with code 0\nOriginal token count: \d+\nOutput:\nat /workspace/.*/app/sub with sh\n$'}}
        output:
          - call: {tool: exec_command, arguments: {cmd: pwd, workdir: sub}}
      - expect: {lastOutput: {matches: '\nOutput:\n/workspace/.*/app/sub\n$'}}
        output:
          - call: {tool: exec_command, arguments: {cmd: "read line; echo \"read $? <$line>\""}}
      - expect: {lastOutput: "Output:\nread 1 <>\n"}
        output:
          - call: {tool: exec_command, arguments: {cmd: "kill -KILL $$"}}
      - expect: {lastOutput: Process exited with code 137}
        output:
          - call: {tool: exec_command, arguments: {cmd: "printf 'a\\377b\\0c\\033[1m\\r'"}}
      - expect: {lastOutput: "Original token count: 3\nOutput:\na\uFFFDb\0c\e[1m\r"}
        output:
          - call: {tool: exec_command, arguments: {cmd: "echo $TERM-$NO_COLOR-$PAGER-$GIT_PAGER-$GH_PAGER-$LANG-$LC_ALL-${COLORTERM-unset}; env | grep -c -i key", tty: true}}
      - expect: {lastOutput: "\ndumb-1-cat-cat-cat-C.UTF-8-C.UTF-8-\r\n0\r\n"}
        output:
          - call: {tool: exec_command, arguments: {cmd: "stty size", tty: true}}
      - expect: {lastOutput: "24 80\r\n"}
        output:
          - call: {tool: exec_command, arguments: {cmd: "seq 1 20000", max_output_tokens: 5}}
      - expect: {lastOutput: "Original token count: 27224\nOutput:\nWarning: truncated output (original token count: 27224)\nTotal output lines: 20000\n\n1\n2\n3\n4\n5\n…27219 tokens truncated…999\n20000\n"}
        output:
          - text: Done.
"#;
    run(&Stage::new(script).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_is_told_once_and_then_unknown() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: sessions
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "until test -e go; do sleep 0.05; done; exit 3", yield_time_ms: 1}}
      - expect: {lastOutput: {matches: 'Process running with session ID \d{5}\nOriginal token count: 0\nOutput:\n$'}}
        capture: {session: 'session ID (\d+)'}
        output:
          - call: {tool: write_stdin, arguments: '{"session_id": {{session}}, "chars": "x"}'}
      - expect: {lastOutput: "write_stdin failed: stdin is closed for this session; rerun exec_command with tty=true"}
        output:
          - call: {tool: exec_command, arguments: {cmd: touch go}}
          - call: {tool: write_stdin, arguments: '{"session_id": {{session}}}'}
      - expect: {lastOutput: "Process exited with code 3\n"}
        output:
          - call: {tool: write_stdin, arguments: '{"session_id": {{session}}}'}
      - expect: {lastOutput: {matches: '^write_stdin failed: Unknown process id \d{5}$'}}
        output:
          - text: Done.
"#;
    run(&Stage::new(script).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_in_shell_commands_are_taken_for_the_tool() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: shell
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "mkdir -p sub/dir"}}
      - output:
          - call: {tool: exec_command, arguments: {cmd: "cd dir && apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: new.txt\n+here\n*** End Patch\nEOF\n", workdir: sub}}
      - expect: {lastOutput: {matches: '^Wall time: \d+\.\d{4} seconds\nOutput:\nExit code: 0\nWall time: [\d.]+ seconds\nOutput:\nSuccess\. Updated the following files:\nA new.txt\n$'}}
        output:
          - call: {tool: exec_command, arguments: {cmd: "*** Begin Patch\n*** Delete File: greet.sh\n*** End Patch"}}
      - expect: {lastOutput: "apply_patch verification failed: patch detected without explicit call to apply_patch."}
        output:
          - call: {tool: exec_command, arguments: {cmd: "cat sub/dir/new.txt greet.sh"}}
      - expect: {lastOutput: "\nhere\n#!/bin/sh\n"}
        output:
          - text: Done.
"#;
    let status = run(&Stage::new(script).await).await;
    assert_eq!(status.patch.unwrap().files, 1);
}

/// One red point.
const RED: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC";

/// Looks at one picture after the other; says at last what it saw of them.
fn look(newest: &Value) -> Vec<Value> {
    let view = |id: &str, path: &str| json!({"type": "function_call", "call_id": id, "name": "view_image", "arguments": json!({"path": path}).to_string()});
    let output = &newest["output"];
    match newest["call_id"].as_str() {
        None => {
            let command =
                format!("echo {RED} | base64 -d > red.png; ln -s red.png link.png; echo text > text.png");
            let arguments = json!({"cmd": command}).to_string();
            vec![
                json!({"type": "function_call", "call_id": "make", "name": "exec_command", "arguments": arguments}),
            ]
        }
        Some("make") => {
            let paths = ["/etc/hostname", "link.png", "text.png", "none.png", "red.png"];
            paths.iter().map(|path| view(path, path)).collect()
        }
        Some(_) => {
            let seen = format!(
                "{}",
                *output
                    == json!([{"type": "input_image", "image_url": format!("data:image/png;base64,{RED}")}])
            );
            vec![
                json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": seen}]}),
            ]
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_the_workspace_is_shown_and_nothing_else() {
    let mut stage = Stage::answering(look).await;
    stage.job["model"]["capabilities"]["imageInput"] = json!(true);
    stage.job["model"]["capabilities"]["imageInToolResult"] = json!(true);
    let status = run(&stage).await;
    assert_eq!(status.last_message, "true", "{}", stage.log.text());
    let calls = stage.events().into_iter().filter(|event| event["item"]["type"] == "tool_call");
    let mut told: Vec<String> =
        calls.map(|event| event["item"]["output"].as_str().unwrap().to_owned()).collect();
    told.sort();
    let [picture, missing, text, outside, link] = &told[..] else { panic!("{told:?}") };
    assert_eq!(picture, "image/png, 1 by 1 points, 69 bytes");
    for (told, path, why) in [
        (outside, "/etc/hostname", "only files beneath"),
        (link, "/app/link.png", "a link"),
        (missing, "/app/none.png", "unable to locate"),
        (text, "", "invalid or unsupported image data"),
    ] {
        assert!(told.starts_with("unable to") && told.contains(path) && told.contains(why), "{told}");
    }
}

/// Many servers take pictures from people only.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_follows_the_outputs_where_they_hold_none() {
    const SCRIPT: &str = r#"
checks: {pairing: true, prefix: true}
quirks: [refuseOutputImages]
scenarios:
  - name: look
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo @RED@ | base64 -d > red.png"}}
      - output:
          - call: {tool: view_image, arguments: {path: red.png}}
          - call: {tool: exec_command, arguments: {cmd: "echo beside it"}}
      - expect: {lastOutput: beside it, lastUserMessage: "Images from the tool outputs above:"}
        output:
          - call: {tool: exec_command, arguments: {cmd: rm red.png}}
      - output:
          - text: Done.
"#;
    for api in ["Responses", "ChatCompletions", "Messages"] {
        let mut stage = Stage::new(&SCRIPT.replace("@RED@", RED)).await;
        stage.job["model"]["api"] = json!(api);
        stage.job["model"]["capabilities"] = json!({"imageInput": true});
        run(&stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generic_surface_does_the_same_work() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: generic
    replies:
      - expect: {tools: [plan, shell, shell_input, str_replace, write_file], instructions: {contains: "`str_replace`", excludes: apply_patch}}
        output:
          - call: {tool: plan, arguments: {steps: [{step: Mend, status: in_progress}]}}
          - call: {tool: shell, arguments: {command: sh greet.sh}}
          - call: {tool: shell, arguments: {command: "read line; echo got $line", terminal: true, wait_seconds: 1}}
      - expect: {anyOutput: "exited with code 0\nOriginal token count: 2\nOutput:\nhullo\n", lastOutput: session ID}
        capture: {session: 'session ID (\d+)'}
        output:
          - call: {tool: str_replace, arguments: {path: greet.sh, old_str: "echo hullo", new_str: "echo hello"}}
          - call: {tool: str_replace, arguments: {path: greet.sh, old_str: "echo hullo", new_str: "echo hello"}}
          - call: {tool: write_file, arguments: {path: notes/why.txt, content: "An e.\n"}}
          - call: {tool: write_file, arguments: {path: ../other.txt, content: x}}
          - call: {tool: shell_input, arguments: '{"session_id": {{session}}, "input": "that\n"}'}
      - expect: {anyOutput: "Replaced 1 occurrence in greet.sh.", lastOutput: {contains: got that}}
        output:
          - call: {tool: shell_input, arguments: '{"session_id": {{session}}}'}
      - expect: {lastOutput: There is no session, anyOutput: Created notes/why.txt}
        output:
          - call: {tool: shell, arguments: {command: "sh greet.sh; cat notes/why.txt; ls .."}}
      - expect: {lastOutput: {contains: "Output:\nhello\nAn e.\n", excludes: other.txt}, anyOutput: "old_str does not occur"}
        output:
          - text: Done.
"#;
    for api in ["Responses", "ChatCompletions", "Messages"] {
        let mut stage = Stage::new(script).await;
        stage.job["model"]["surface"] = json!("Generic");
        stage.job["model"]["api"] = json!(api);
        stage.job["model"]["capabilities"] = json!({});
        let status = run(&stage).await;
        assert_eq!(status.plan.len(), 1, "{api}");
        let patch = status.patch.unwrap();
        assert_eq!((patch.files, patch.insertions, patch.deletions), (2, 2, 1), "{api}");
    }
}
