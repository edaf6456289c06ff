//! Servers whose tools change in the middle of a thread.

use podwright::agent::journal::record::{Record, ToolsReplaced};
use serde_json::{Value, json};

use super::{Http, completed, other_after_a_start, program, run, stage};
use crate::stage::Stage;

/// The server's tools change in the middle of the thread. The model hears of it after the compaction and no sooner.
const CHANGING: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: changing
    replies:
      - expect: {tools: [mcp__t__change, mcp__t__fail]}
        output:
          - call: {tool: mcp__t__change, arguments: {}}
      - expect: {tools: [mcp__t__change, mcp__t__fail], lastOutput: changed}
        output:
          - call: {tool: mcp__t__later, arguments: {}}
          - call: {tool: mcp__t__fail, arguments: {}}
        usage: {inputTokens: 95000, outputTokens: 50}
      - expect: {@ASKED@, anyOutput: "unsupported call: mcp__t__later", lastOutput: "The MCP server t refused the call: no such tool"}
        compaction: true
        output:
          - @SUMMARY@
      - expect: {tools: [exec_command, @AFTER@], prompt: Mend the greeting.}
        output:
          - call: {tool: mcp__t__later, arguments: {}}
          - call: {tool: mcp__t__fail, arguments: {}}
          - call: {tool: mcp__t__echo, arguments: {text: still here}}
      - expect: {anyOutput: "@LATER@", lastOutput: "echo: still here"}
        output:
          - text: Done.
"#;

/// A stage for [`CHANGING`], and what a model on this API is expected to hear after the compaction.
async fn changing(api: &str, native: Option<&str>, server: Value, after: &str, later: &str) -> Stage {
    let (asked, summary) = match (native, api) {
        (None, _) => ("lastUserMessage: Write the handover", r#"text: "State: changed.""#),
        (Some("Endpoint"), _) => ("compaction: true", "item: {type: compaction, encrypted_content: sealed}"),
        (Some(_), "Messages") => (
            "tools: [mcp__t__fail], compaction: true",
            "item: {type: compaction, content: fine, signature: sealed}",
        ),
        (Some(_), _) => {
            ("tools: [mcp__t__fail], compaction: true", "item: {type: compaction, encrypted_content: sealed}")
        }
    };
    let script = CHANGING.replace("@ASKED@", asked).replace("@SUMMARY@", summary);
    let mut stage = stage(&script.replace("@AFTER@", after).replace("@LATER@", later), json!([server])).await;
    let mut capabilities = match api {
        "Responses" => json!({"developerRole": true, "promptCacheKey": true}),
        "ChatCompletions" => json!({"strictAlternation": true, "streamUsage": true}),
        _ => json!({"strictAlternation": true, "cacheMarkers": true}),
    };
    if let Some(mode) = native {
        capabilities["compaction"] = json!(mode);
    }
    stage.job["model"]["api"] = json!(api);
    stage.job["model"]["capabilities"] = capabilities;
    stage.job["model"]["contextWindow"] = json!(100_000);
    stage
}

/// The tools that the newest compaction brought.
fn brought(stage: &Stage) -> Option<ToolsReplaced> {
    let mut replaced = stage.journal().into_iter().filter_map(|entry| match entry.record {
        Record::HistoryReplaced(replaced) => Some(replaced),
        _ => None,
    });
    let first = replaced.next().unwrap();
    assert!(replaced.next().is_none());
    first.tools
}

#[tokio::test(flavor = "multi_thread")]
async fn w9_tools_that_a_server_announces_come_in_with_the_compaction() {
    let elsewhere = Http::serve(&["changes=later"]);
    for (api, native, server) in [
        ("Responses", None, program("t", &["changes=later"], json!({}))),
        ("ChatCompletions", None, program("t", &["changes=later"], json!({}))),
        ("Messages", Some("OnDemand"), program("t", &["changes=later"], json!({}))),
        ("Responses", Some("TriggerItem"), program("t", &["changes=later"], json!({}))),
        ("Responses", Some("Endpoint"), elsewhere.entry("t", json!({}))),
    ] {
        let after = "mcp__t__change, mcp__t__later";
        let stage = changing(api, native, server, after, "later answers").await;
        run(&stage).await;
        let (tools, opened) = (brought(&stage).unwrap(), stage.thread().opened);
        let names: Vec<&str> = tools.mcp_tools.iter().map(|tool| tool.name.as_str()).collect();
        assert!(names.is_sorted() && !names.contains(&"mcp__t__fail"), "{names:?}");
        assert!(opened.tools.contains("Says it again (first)") && !opened.tools.contains("mcp__t__later"));
        assert!(tools.tools.contains("Says it again (second)") && tools.tools.contains("mcp__t__later"));
        let ours = opened.tools.find("mcp__").unwrap();
        assert_eq!(tools.tools[..ours], opened.tools[..ours], "our own stay as they are, byte for byte");
        let told = "The MCP server t has other tools now: 1 new, 1 described otherwise, 1 gone.";
        assert_eq!(stage.log.text().matches(told).count(), 1, "{}", stage.log.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w9_a_server_that_does_not_declare_that_its_tools_change_is_not_asked_again() {
    let server = program("t", &["changes=later", "silent"], json!({}));
    let later = "unsupported call: mcp__t__later";
    let stage = changing("Responses", None, server, "mcp__t__change, mcp__t__fail", later).await;
    run(&stage).await;
    assert_eq!(brought(&stage), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn w9_what_a_restart_of_the_agent_finds_comes_in_with_the_compaction_that_it_broke_off() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: restarted
    replies:
      - output:
          - call: {tool: mcp__t__old, arguments: {}}
        usage: {inputTokens: 95000, outputTokens: 50}
      - when: {lastUserMessage: Write the handover}
        expect: {tools: [mcp__t__old], lastOutput: old answers}
        compaction: true
        pace: {firstEventMillis: 2000}
        output:
          - text: "State: fine."
      # Skipped when the agent died before its request had left.
      - when: {lastUserMessage: Write the handover}
        expect: {tools: [mcp__t__old], lastOutput: old answers}
        compaction: true
        output:
          - text: "State: fine."
      - expect: {tools: [mcp__t__new], lastUserMessage: The conversation before this message}
        output:
          - call: {tool: mcp__t__new, arguments: {}}
          - call: {tool: mcp__t__old, arguments: {}}
      - expect: {anyOutput: new answers, lastOutput: "unsupported call: mcp__t__old"}
        output:
          - text: Done.
"#;
    let mut stage = stage(script, json!([other_after_a_start("names=old", "names=new")])).await;
    stage.job["model"]["contextWindow"] = json!(100_000);
    let agent = stage.agent();
    stage.logged("context_compaction").await;
    agent.crash();
    stage.agent().ended().await;
    completed(&stage, stage.status());
    assert!(brought(&stage).is_some());
}
