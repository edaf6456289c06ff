//! A thread that outgrows the model's context window, on each API.

use podwright::api::reasons::Reason;
use serde_json::{Value, json};

use crate::stage::{Stage, counting};

/// In the middle of a turn, with a plan and a command on a terminal that goes on.
const LONG: &str = r#"
checks: {pairing: true, prefix: true}
@QUIRKS@
scenarios:
  - name: long
    replies:
      - output:
          - reasoning: I begin.
          - plan: [{step: greet, status: in_progress}, {step: leave, status: pending}]
          - call: {tool: exec_command, arguments: {cmd: cat, tty: true, yield_time_ms: 250}}
      - expect: {lastOutput: running with session ID}
        capture: {session: 'session ID (\d+)'}
        output:
          - reasoning: I look.
          - call: {tool: exec_command, arguments: {cmd: "echo a look"}}
        usage: {inputTokens: 95000, outputTokens: 50}
      - expect: {lastUserMessage: Write the handover, anyOutput: a look}
        compaction: true
        pace: {firstEventMillis: @PAUSE@}
        repeat: @ASKED@
        output:
          - reasoning: I sum up.
          - call: {tool: exec_command, arguments: {cmd: touch ignored}}
          - text: "State: cat waits for words."
      - expect: {prompt: "State: cat waits for words.", lastUserMessage: {contains: [": cat", "[in progress] greet", "[pending] leave"]}}
        output:
          - reasoning: I go on.
          - call: {tool: write_stdin, arguments: '{"session_id": {{session}}, "chars": "still here\n"}'}
      - expect: {lastOutput: still here, prompt: Mend the greeting.}
        output:
          - text: The session outlived it.
"#;

const WIRES: [(&str, &str); 3] = [
    ("Responses", "requireReasoning"),
    ("ChatCompletions", "strictAlternation, systemOnlyFirst"),
    ("Messages", "strictAlternation"),
];

fn capabilities(api: &str) -> Value {
    match api {
        "Responses" => json!({
            "customTools": true, "parallelToolCalls": true, "developerRole": true, "promptCacheKey": true,
            "encryptedReasoning": true
        }),
        "ChatCompletions" => json!({"strictAlternation": true, "streamUsage": true}),
        _ => json!({"strictAlternation": true, "cacheMarkers": true, "thinking": "Adaptive"}),
    }
}

async fn stage(script: &str, api: &str, quirks: &str) -> Stage {
    let mut stage = Stage::new(&script.replace("@QUIRKS@", &format!("quirks: [{quirks}]"))).await;
    stage.job["model"]["api"] = json!(api);
    stage.job["model"]["capabilities"] = capabilities(api);
    stage.job["model"]["contextWindow"] = json!(100_000);
    stage
}

/// The states that events tell of compactions.
fn compactions(stage: &Stage) -> Vec<String> {
    let items = stage.events().into_iter().filter(|event| event["item"]["type"] == "context_compaction");
    items.map(|event| event["item"]["status"].as_str().unwrap().to_owned()).collect()
}

fn check(stage: &Stage, api: &str, requests: i64) {
    let status = stage.status();
    let outcome = status.outcome.unwrap();
    let how = format!("{api}: {outcome:?}\n{}", stage.log.text());
    assert_eq!(outcome.reason, Reason::Completed, "{how}");
    assert_eq!(outcome.message, "The session outlived it.", "{how}");
    let usage = status.usage.unwrap();
    assert_eq!((usage.requests, usage.commands, status.step), (requests, 2, 4), "{how}");
    assert_eq!(stage.file("greet.sh"), "#!/bin/sh\necho hullo\n", "{how}");
    assert_eq!(status.patch.unwrap().files, 0, "what is called in a summary is ignored: {how}");
    assert_eq!(compactions(stage), ["in_progress", "completed"], "{how}");
    let transcript = stage.artifact(&status.transcript.unwrap());
    let records = transcript.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records: Vec<String> = records.map(|record| record["record"].as_str().unwrap().to_owned()).collect();
    assert_eq!(records.iter().filter(|record| *record == "compaction").count(), 1);
    assert!(transcript.contains("a look") && transcript.contains("State: cat waits"), "all of it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_goes_on_from_a_summary_with_its_session_and_its_plan() {
    let script = LONG.replace("@PAUSE@", "0").replace("@ASKED@", "1");
    for (api, quirks) in WIRES {
        let stage = stage(&script, api, quirks).await;
        stage.run().await;
        check(&stage, api, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_compacts_by_itself_gets_its_payload_back() {
    let script = r#"
checks: {pairing: true, prefix: true}
@QUIRKS@
scenarios:
  - name: native
    replies:
      - output:
          - reasoning: I look.
          - call: {tool: exec_command, arguments: {cmd: "echo a look"}}
        usage: {inputTokens: 95000, outputTokens: 50}
      - expect: {compaction: true, lastOutput: a look}
        compaction: true
        output:
          - item: {type: compaction, @PAYLOAD@}
      - expect: {compaction: false, prompt: Mend the greeting.}
        output:
          - reasoning: I look again.
          - call: {tool: exec_command, arguments: {cmd: "echo again"}}
        usage: {inputTokens: 95000, outputTokens: 50}
      - expect: {compaction: true, lastOutput: again}
        compaction: true
        output:
          - text: No compaction today.
      - expect: {compaction: false, lastUserMessage: Write the handover}
        compaction: true
        output:
          - text: "State: echoed twice."
      - expect: {lastUserMessage: "State: echoed twice."}
        output:
          - text: Done.
"#;
    for (api, mode, payload) in [
        ("Responses", "TriggerItem", "id: cmp_1, encrypted_content: sealed"),
        ("Responses", "Endpoint", "id: cmp_1, encrypted_content: sealed"),
        ("Messages", "OnDemand", "content: 'I looked.', signature: sealed"),
    ] {
        let mut stage = stage(&script.replace("@PAYLOAD@", payload), api, "strictAlternation").await;
        stage.job["model"]["capabilities"]["compaction"] = json!(mode);
        stage.run().await;
        let status = stage.status();
        let outcome = status.outcome.unwrap();
        let how = format!("{api}: {outcome:?}\n{}", stage.log.text());
        assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, "Done."), "{how}");
        assert_eq!((status.usage.unwrap().requests, status.step), (6, 3), "{how}");
        assert_eq!(compactions(&stage), ["in_progress", "completed", "in_progress", "completed"], "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_the_summary_costs_a_request_and_nothing_else() {
    let script = LONG.replace("@PAUSE@", "2000").replace("@ASKED@", "2");
    let mut stage = stage(&script, "Responses", "").await;
    let (model, mut requests) = counting(&script.replace("@QUIRKS@", "quirks: []")).await;
    stage.job["model"]["baseURL"] = json!(model);
    let agent = stage.agent();
    // The third request is the summary's. Its event comes before the request does.
    requests.wait_for(|requests| *requests == 3).await.unwrap();
    agent.crash();
    stage.agent().ended().await;
    check(&stage, "Responses", 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_provider_finds_too_long_is_summed_up() {
    let script = r#"
checks: {pairing: true, prefix: true}
@QUIRKS@
scenarios:
  - name: refused
    replies:
      - output:
          - reasoning: I look.
          - call: {tool: exec_command, arguments: {cmd: "echo first"}}
      - output:
          - reasoning: I look again.
          - call: {tool: exec_command, arguments: {cmd: "echo second"}}
      - expect: {lastOutput: second}
        @REFUSED@
      - expect: {lastUserMessage: Write the handover, anyOutput: first}
        compaction: true
        http: {status: 400, error: @TOO_LONG@}
      - expect: {lastUserMessage: Write the handover, lastOutput: second}
        compaction: true
        output:
          - text: "State: both were echoed."
      - expect: {prompt: "Mend the greeting.", lastUserMessage: "State: both were echoed."}
        output:
          - text: Done.
"#;
    for (api, quirks) in WIRES {
        let too_long = match api {
            "Messages" => "{message: 'prompt is too long: 210000 tokens > 200000 maximum'}",
            _ => "{code: context_length_exceeded, message: the input is too long}",
        };
        // On Messages the model may also have begun to answer.
        let refused = match api {
            "Messages" => {
                "output: [{text: half}]\n        end: {incomplete: {reason: model_context_window_exceeded}}"
            }
            _ => "http: {status: 400, error: @TOO_LONG@}",
        };
        let script = script.replace("@REFUSED@", refused);
        let mut stage = stage(&script.replace("@TOO_LONG@", too_long), api, quirks).await;
        stage.job["model"]["contextWindow"] = Value::Null;
        stage.run().await;
        let status = stage.status();
        let outcome = status.outcome.unwrap();
        let how = format!("{api}: {outcome:?}\n{}", stage.log.text());
        assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, "Done."), "{how}");
        assert_eq!((status.usage.unwrap().requests, status.step), (6, 3), "{how}");
        assert_eq!(compactions(&stage), ["in_progress", "completed"], "{how}");
    }
}
