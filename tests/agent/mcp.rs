//! MCP servers: real ones in the sandbox and over HTTP, hostile ones, and crashes in the middle of calls.

mod boundary;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use podwright::agent::events::replay::replay;
use podwright::agent::tools::mcp::names::names;
use podwright::api::attempt::AgentAttemptStatus;
use podwright::api::reasons::Reason;
use serde_json::{Value, json};

use crate::stage::Stage;

const SERVER: &str = include_str!("../support/mcp_server.py");

/// A program in the sandbox.
fn program(name: &str, modes: &[&str], more: Value) -> Value {
    let args: Vec<&str> = ["-c", SERVER].into_iter().chain(modes.iter().copied()).collect();
    with(json!({"name": name, "stdio": {"command": "python3", "args": args}}), &more)
}

fn with(mut server: Value, more: &Value) -> Value {
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server
}

/// A server over HTTP, until it is dropped.
struct Http {
    child: Child,
    port: u16,
}

impl Http {
    fn serve(modes: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SERVER, "http"])
            .args(modes)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    fn entry(&self, name: &str, more: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/mcp?team=a", self.port);
        let secret = json!({"name": name, "http": {"url": url, "credentialsSecretName": "mcp"}});
        with(secret, &more)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn stage(script: &str, servers: Value) -> Stage {
    let mut stage = Stage::new(script).await;
    stage.job["environment"]["mcpServers"] = servers;
    stage.job["model"]["capabilities"]["imageInput"] = json!(true);
    let token = BTreeMap::from([("token".to_owned(), b"secret-token\n".to_vec())]);
    stage.cluster.secrets.lock().unwrap().insert("mcp".into(), token);
    stage
}

async fn run(stage: &Stage) -> AgentAttemptStatus {
    completed(stage, stage.run().await)
}

fn completed(stage: &Stage, status: AgentAttemptStatus) -> AgentAttemptStatus {
    let outcome = status.outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
    status
}

/// The name that the model knows a tool by.
fn named(server: &str, tool: &str) -> String {
    let place = (server.to_owned(), tool.to_owned());
    names(&BTreeSet::from([place.clone()]), &BTreeMap::new()).remove(&place).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_the_sandbox_is_called_like_any_tool() {
    let odd = named("t", "odd name/with (signs)");
    let script = format!(
        r#"
checks: {{pairing: true, prefix: true}}
scenarios:
  - name: tools
    replies:
      - expect: {{tools: [exec_command, mcp__t__count, mcp__t__echo, {odd}]}}
        output:
          - call: {{tool: mcp__t__echo, arguments: {{text: "hä?"}}}}
          - call: {{tool: mcp__t__env, arguments: {{}}}}
          - call: {{tool: {odd}, arguments: ''}}
      - expect: {{anyOutput: {{matches: '^Wall time: \d+\.\d{{4}} seconds\nOutput:\necho: hä\?$'}}, lastOutput: {{matches: '\nodd$'}}}}
        output:
          - call: {{tool: mcp__t__data, arguments: {{}}}}
      - expect: {{anyOutput: "Output:\nset for it", lastOutput: {{matches: '\n\{{"b":\[1,2\],"a":null\}}$'}}}}
        output:
          - call: {{tool: mcp__t__fail, arguments: {{}}}}
      - expect: {{lastOutput: it went wrong}}
        output:
          - call: {{tool: mcp__t__long, arguments: {{}}}}
      - expect: {{lastOutput: {{contains: ["Warning: truncated output (original token count: 550000)", "0123456789"]}}}}
        output:
          - call: {{tool: mcp__t__picture, arguments: {{}}}}
      - expect: {{lastOutput: "see:\n[image left out:"}}
        output:
          - call: {{tool: mcp__t__nothing, arguments: {{}}}}
          - call: {{tool: mcp__t__echo, arguments: '[1]'}}
      - expect: {{anyOutput: "unsupported call: mcp__t__nothing", lastOutput: "failed to parse function arguments: "}}
        output:
          - text: Done.
"#
    );
    let server = program("t", &["noise"], json!({"disabledTools": ["die"]}));
    let server = {
        let mut server = server;
        server["stdio"]["env"] = json!([{"name": "MCP_TEST", "value": "set for it"}]);
        server
    };
    let stage = stage(&script, json!([server])).await;
    let status = run(&stage).await;
    // What the server wrote beside its messages disturbed nobody, and its picture was shown.
    let transcript = stage.artifact(&status.transcript.unwrap());
    assert!(transcript.contains("data:image/png;base64,iVBOR"), "{transcript}");
    let calls: Vec<Value> =
        stage.events().into_iter().filter(|event| event["item"]["type"] == "mcp_tool_call").collect();
    let done = calls.iter().find(|event| event["type"] == "item.completed").unwrap();
    assert_eq!(
        done["item"],
        json!({"id": done["item"]["id"], "type": "mcp_tool_call", "server": "t", "tool": "echo", "arguments": {"text": "hä?"},
            "result": "echo: hä?", "error": null, "status": "completed"})
    );
    assert!(calls.iter().any(|event| event["item"]["tool"] == "fail" && event["item"]["status"] == "failed"));
    // Both their beginnings and their ends say where a surface goes on, and the journal tells the same.
    let told: Vec<Value> = replay(&stage.journal(), None)
        .unwrap()
        .iter()
        .map(|told| serde_json::to_value(told).unwrap())
        .collect();
    assert_eq!(calls.iter().filter(|event| event["type"] == "item.started").count(), 7);
    for event in &calls {
        let again = told
            .iter()
            .find(|told| told["type"] == event["type"] && told["item"]["id"] == event["item"]["id"]);
        assert!(event["cursor"]["seq"].is_u64() && again.unwrap()["cursor"] == event["cursor"], "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_elsewhere_gets_its_token_and_answers_in_either_form() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: http
    replies:
      - expect: {tools: [mcp__json__echo, mcp__stream__echo]}
        output:
          - call: {tool: mcp__json__echo, arguments: {text: one}}
          - call: {tool: mcp__stream__echo, arguments: {text: two}}
          - call: {tool: exec_command, arguments: {cmd: "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; true"}}
      - expect: {anyOutput: "echo: one", lastOutput: {contains: exited with code 0, excludes: secret-token}}
        output:
          - call: {tool: mcp__stream__count, arguments: {}}
      - expect: {anyOutput: "echo: two", lastOutput: call 2 in process}
        output:
          - text: Done.
"#;
    let (plain, stream) =
        (Http::serve(&["token=secret-token"]), Http::serve(&["token=secret-token", "events"]));
    let servers =
        json!([plain.entry("json", json!({})), stream.entry("stream", json!({"parallelTools": ["echo"]}))]);
    let stage = stage(script, servers).await;
    run(&stage).await;
    assert!(!stage.log.text().contains("secret-token"), "{}", stage.log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_servers_are_left_out_and_the_work_goes_on() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: hostile
    replies:
      - expect:
          tools: [mcp__fine__echo, mcp__many__count, mcp__many__tool-00001]
          instructions: "their tools are missing: mute, refuse, long, flood, exit, gone, moved, locked."
        output:
          - call: {tool: mcp__fine__echo, arguments: {text: still here}}
          - call: {tool: mcp__many__tool-00001, arguments: {}}
      - expect: {anyOutput: "echo: still here", lastOutput: "The MCP server many refused the call: no such tool"}
        output:
          - text: Done.
"#;
    let script = script.replace("tool-00001", "tool_00001");
    let start = |seconds: u32| json!({"startTimeoutSeconds": seconds});
    let (moved, locked) = (Http::serve(&["redirect"]), Http::serve(&["token=another"]));
    let servers = json!([
        program("mute", &["mute"], start(2)),
        program("refuse", &["refuse"], json!({})),
        program("long", &["long"], json!({})),
        program("flood", &["flood"], json!({})),
        program("exit", &["exit"], json!({})),
        {"name": "gone", "http": {"url": "http://127.0.0.1:9/mcp"}},
        moved.entry("moved", json!({})),
        locked.entry("locked", json!({})),
        program("many", &["many=10000", "without=hang"], json!({})),
        program("fine", &["slow=0.5"], json!({"enabledTools": ["echo"]})),
    ]);
    let stage = stage(&script, servers).await;
    run(&stage).await;
    let log = stage.log.text();
    for words in [
        "The MCP server mute did not start: it did not start within 2 seconds.",
        "The MCP server refuse refused to start: not today",
        "The MCP server long did not start: it wrote a line of more than 4194304 bytes.",
        "The MCP server flood did not start: ",
        "The MCP server exit did not start: it ended with exit code 7. The end of its standard error: cannot find my settings",
        "The MCP server gone did not start: ",
        "The MCP server moved did not start: it redirects to 169.254.169.254, and redirects are refused.",
        "The MCP server locked did not start: it refuses the token (401).",
        "tools of MCP servers are left out",
    ] {
        assert!(log.contains(words), "{words}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_server_that_does_not_start_ends_the_task() {
    let script = "scenarios: [{name: none, replies: [{output: [{text: Never.}]}]}]";
    let stage = stage(script, json!([program("t", &["exit"], json!({"required": true}))])).await;
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::SetupFailed);
    assert!(outcome.message.contains("The MCP server t, which the AgentEnvironment requires, cannot be used: it ended with exit code 7."), "{}", outcome.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_dies_is_told_of_and_started_again() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: lost
    replies:
      - output:
          - call: {tool: mcp__t__count, arguments: {}}
      - expect: {lastOutput: call 1 in process}
        output:
          - call: {tool: mcp__t__hang, arguments: {}}
      - expect: {lastOutput: {matches: '^Wall time: \d+\.\d{4} seconds\nOutput:\nThe MCP server t did not answer within 1 seconds\. Whether the call took effect is not known\.$'}}
        output:
          - call: {tool: mcp__t__count, arguments: {}}
      - expect: {lastOutput: call 3 in process}
        output:
          - call: {tool: mcp__t__die, arguments: {}}
      - expect: {lastOutput: "The MCP server t broke off during the call (it ended with exit code 3). Whether the call took effect is not known."}
        output:
          - call: {tool: mcp__t__count, arguments: {}}
      - expect: {lastOutput: call 1 in process}
        output:
          - call: {tool: mcp__cut__echo, arguments: {}}
      - expect: {lastOutput: The MCP server cut broke off during the call}
        output:
          - text: Done.
"#;
    let cut = Http::serve(&["cut"]);
    let servers = json!([program("t", &[], json!({"callTimeoutSeconds": 1})), cut.entry("cut", json!({}))]);
    run(&stage(script, servers).await).await;
}

/// Waits at the gate, then tells how often it was called and that the server lives.
const GATE: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: gate
    replies:
      - output:
          - call: {tool: mcp__t__gate, arguments: {}}
      - expect: {lastOutput: EXPECTED}
        output:
          - call: {tool: mcp__t__count, arguments: {}}
      - expect: {lastOutput: {matches: 'call \d+ in process'}, instructions: {NOTE: MCP servers (t)}}
        output:
          - call: {tool: exec_command, arguments: {cmd: "cat calls; ps -e -o args | grep -c '[l]og=calls'"}}
      - expect: {lastOutput: "LINES"}
        output:
          - text: Done.
"#;

fn gate(expected: &str, note: &str, lines: &str) -> String {
    GATE.replace("EXPECTED", expected).replace("NOTE", note).replace("LINES", lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_the_agent_a_call_is_unknown_or_repeated_as_the_operator_says() {
    for (retryable, expected, lines) in [
        (json!([]), "The agent was restarted during this call of mcp__t__gate.", r"gate\ncount\n1\n"),
        (json!(["gate"]), "the gate is open", r"gate\ngate\ncount\n1\n"),
    ] {
        let server = program("t", &["log=calls"], json!({"retryableTools": retryable}));
        let stage = stage(&gate(expected, "excludes", lines), json!([server])).await;
        let agent = stage.agent();
        stage.until(|stage| stage.file("calls") == "gate\n").await;
        agent.crash();
        let agent = stage.agent();
        if expected == "the gate is open" {
            stage.until(|stage| stage.file("calls") == "gate\ngate\n").await;
            stage.put("gate");
        }
        agent.ended().await;
        completed(&stage, stage.status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_sandbox_its_servers_run_again_and_the_model_knows() {
    let expected = "\"The MCP server t broke off during the call (the sandbox was restarted).\"";
    let server = program("t", &["log=calls"], json!({}));
    let mut stage = stage(&gate(expected, "contains", r"gate\ncount\n1\n"), json!([server])).await;
    let agent = stage.agent();
    stage.until(|stage| stage.file("calls") == "gate\n").await;
    stage.restart_sandbox();
    agent.ended().await;
    completed(&stage, stage.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_a_server_lost_in_a_restart_answers_an_error_and_new_ones_wait() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: changed
    replies:
      - output:
          - call: {tool: mcp__t__die, arguments: {}}
          - call: {tool: mcp__t__old, arguments: {}}
      - expect: {lastOutput: "The MCP server t has no tool old any more."}
        output:
          - call: {tool: mcp__t__new, arguments: {}}
      - expect: {lastOutput: "unsupported call: mcp__t__new"}
        output:
          - call: {tool: mcp__t__echo, arguments: {text: fine}}
      - expect: {lastOutput: "echo: fine"}
        output:
          - text: Done.
"#;
    let server = other_after_a_start("names=old", "names=new version=second");
    let stage = stage(script, json!([server])).await;
    run(&stage).await;
    let log = stage.log.text();
    for words in [
        "was started again and lacks old now.",
        "describes echo otherwise now.",
        "has 1 tools that the thread does not know of.",
    ] {
        assert!(log.contains(words), "{words}\n{log}");
    }
}

/// A program that has other modes at its second start.
fn other_after_a_start(first: &str, then: &str) -> Value {
    let shell = format!(
        "if test -e started; then set -- {then}; else touch started; set -- {first}; fi; exec python3 -c \"$SERVER\" \"$@\""
    );
    json!({
        "name": "t",
        "stdio": {"command": "sh", "args": ["-c", shell], "env": [{"name": "SERVER", "value": SERVER}]},
    })
}
