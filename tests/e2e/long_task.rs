//! A task of sixty steps on each API, as people have them: commands side by side, a terminal that stays open, a patch
//! that fails first, an MCP server, a thread that outgrows the model's window, a further prompt, and verification.

use std::fmt::Write as _;

use podwright::agent::transcript::Line;
use podwright::api::attempt::VerificationState;
use podwright::llm::{ContentPart, Item, Role};
use regex::Regex;
use serde_json::{Value, json};

use crate::work::transcript;
use crate::world::{World, succeeded};

/// All steps of the task.
const STEPS: usize = 60;
/// The step whose outputs fill the model's window.
const FULL: usize = 31;
/// The step that answers the first prompt.
const ANSWERED: usize = 48;
const SUMMARY: &str = "State: every second step was taken.";
const WINDOW_TOKENS: i64 = 100_000;

/// A reply of the model, and what its calls come to.
struct Step {
    calls: Vec<Call>,
    /// What the model says when it calls nothing.
    answer: Option<String>,
}

struct Call {
    entry: Value,
    /// The tool and its input, as the transcript has them.
    written: String,
    /// What the output must match.
    output: String,
}

impl Call {
    fn function(tool: &str, arguments: Value, output: &str) -> Self {
        let written = format!("{tool} {arguments}");
        Self {
            entry: json!({"call": {"tool": tool, "arguments": arguments}}),
            written,
            output: output.into(),
        }
    }

    fn command(command: &str, output: &str) -> Self {
        let output = format!(r"(?s)exited with code 0\n.*{output}\n$");
        Self::function("exec_command", json!({"cmd": command, "yield_time_ms": 30_000}), &output)
    }

    /// Writes into the terminal that the second step has opened.
    fn typed(words: &str) -> Self {
        let arguments =
            format!(r#"{{"session_id": {{{{session}}}}, "chars": "{words}\n", "yield_time_ms": 1000}}"#);
        let entry = json!({"call": {"tool": "write_stdin", "arguments": arguments}});
        Self { entry, written: format!("write_stdin {words}"), output: format!("(?s)session ID.*{words}") }
    }

    fn patch(from: &str, to: &str, output: &str) -> Self {
        let input = format!(
            "*** Begin Patch\n*** Update File: counter\n@@\n-step {from}\n+step {to}\n*** End Patch\n"
        );
        let entry = json!({"custom": {"tool": "apply_patch", "input": input}});
        Self { entry, written: format!("apply_patch {input}"), output: output.into() }
    }

    fn plan(look: &str, leave: &str) -> Self {
        let steps = json!([{"step": "look", "status": look}, {"step": "leave", "status": leave}]);
        let written = format!("update_plan {}", json!({"plan": steps}));
        Self { entry: json!({"plan": steps}), written, output: "^Plan updated$".into() }
    }
}

/// The steps in order; the first has the number 1.
fn steps() -> Vec<Step> {
    let mut counted = 0;
    (1..=STEPS).map(|number| step(number, &mut counted)).collect()
}

/// `counted` is the number that the repository's counter shows.
fn step(number: usize, counted: &mut usize) -> Step {
    let log = format!("echo step {number} >> log; tail -n 1 log");
    let logged = format!("step {number}");
    let mut count = |output: &str| {
        let call = Call::patch(&counted.to_string(), &number.to_string(), output);
        *counted = number;
        call
    };
    let calls = match number {
        1 => vec![Call::plan("in_progress", "pending"), Call::command(&log, &logged)],
        2 => vec![Call::function(
            "exec_command",
            json!({"cmd": "cat", "tty": true, "yield_time_ms": 250}),
            r"running with session ID \d+",
        )],
        4 => vec![Call::patch("no such", "4", "^apply_patch verification failed")],
        47 => vec![Call::plan("completed", "completed"), Call::command(&log, &logged)],
        ANSWERED | STEPS => {
            return Step { calls: Vec::new(), answer: Some(format!("Step {number} was the last.")) };
        }
        // Each waits for the other, so they end only if they run side by side.
        _ if number % 5 == 1 => {
            let (left, right) = (format!("/tmp/left-{number}"), format!("/tmp/right-{number}"));
            let meet = |mine: &str, other: &str| {
                format!("touch {mine}; until test -e {other}; do sleep 0.05; done; echo met in {number}")
            };
            let met = format!("met in {number}");
            vec![Call::command(&meet(&left, &right), &met), Call::command(&meet(&right, &left), &met)]
        }
        _ if number % 5 == 2 => vec![Call::typed(&format!("words of step {number}"))],
        _ if number % 5 == 3 => {
            let words = format!("words of step {number}");
            vec![Call::function("mcp__t__echo", json!({"text": words}), &format!("echo: {words}$"))]
        }
        _ if number % 5 == 4 => vec![Call::command(&log, &logged)],
        // One after the other.
        _ => vec![count("(?s)Success.*M counter"), Call::command("cat counter", &logged)],
    };
    Step { calls, answer: None }
}

/// What the model does, for all three APIs.
fn script(steps: &[Step]) -> String {
    let mut replies = Vec::new();
    for (before, step) in steps.iter().enumerate() {
        let number = before + 1;
        let mut reply = json!({"output": output(number, step)});
        let calls_before =
            before.checked_sub(1).map(|before| steps[before].calls.as_slice()).unwrap_or_default();
        if number == FULL + 1 {
            let carried = json!({"contains": [": cat", "[in progress] look", "[pending] leave"]});
            reply["expect"] = json!({"prompt": SUMMARY, "lastUserMessage": carried});
        } else if let Some(call) = calls_before.last() {
            reply["expect"] = json!({"lastOutput": {"matches": call.output}});
        }
        match number {
            3 => reply["capture"] = json!({"session": r"session ID (\d+)"}),
            FULL => reply["usage"] = json!({"inputTokens": 95_000, "outputTokens": 100}),
            _ => {}
        }
        replies.push(reply);
        if number == FULL {
            replies.push(json!({
                "expect": {"lastUserMessage": "Write the handover", "anyOutput": "met in 31"},
                "compaction": true,
                "output": [{"reasoning": "I sum up."}, {"text": SUMMARY}],
            }));
        }
    }
    let checks = json!({"pairing": true, "prefix": true});
    json!({"checks": checks, "quirks": ["strictAlternation", "requireReasoning"],
        "scenarios": [{"name": "sixty", "replies": replies}]})
    .to_string()
}

fn output(number: usize, step: &Step) -> Vec<Value> {
    let reasoning = json!({"reasoning": reasoning(number)});
    let answer = step.answer.iter().map(|answer| json!({"text": answer}));
    [reasoning].into_iter().chain(answer).chain(step.calls.iter().map(|call| call.entry.clone())).collect()
}

fn reasoning(number: usize) -> String {
    format!("I take step {number}.")
}

/// The lines that the transcript must have after the thread's own messages, each as an expression.
fn expected(steps: &[Step]) -> Vec<String> {
    let mut lines = vec!["^user: Do it over ".to_owned(), "^request$".into()];
    for (before, step) in steps.iter().enumerate() {
        let number = before + 1;
        lines.push(format!("^reasoning: {}$", reasoning(number)));
        lines.extend(step.answer.iter().map(|answer| format!("^assistant: {answer}$")));
        lines.extend(step.calls.iter().map(|call| format!("^call: {}$", regex::escape(&call.written))));
        lines.extend(
            step.calls.iter().map(|call| format!("(?s)^output: .*{}", call.output.trim_start_matches('^'))),
        );
        match number {
            // The request for the summary adds nothing to the thread.
            FULL => {
                let summary = format!("(?s)^user: .*{SUMMARY}$");
                let carried = "(?s)^user: .*: cat.*look.*leave";
                lines.extend(
                    ["^compaction: 2$", "^user: Do it over ", &summary, carried, "^request$"]
                        .map(str::to_owned),
                );
            }
            ANSWERED => lines.extend(["^user: And now the rest.$".to_owned(), "^request$".into()]),
            STEPS => {}
            _ => lines.push("^request$".into()),
        }
    }
    lines
}

/// The lines of a transcript after the thread's own messages.
fn told(document: &str) -> Vec<String> {
    let mut layers = 0;
    let mut told = Vec::new();
    for line in document.lines() {
        match serde_json::from_str(line).expect("a line of a transcript") {
            Line::Thread(head) => layers = head.layers,
            Line::Item { item, .. } => told.push(one(item)),
            Line::Request {} => told.push("request".into()),
            Line::Compaction { window, .. } => told.push(format!("compaction: {window}")),
        }
    }
    told.split_off(layers)
}

fn one(item: Item) -> String {
    let words = |content: &[ContentPart]| {
        let mut words = String::new();
        for part in content {
            match part {
                ContentPart::Text { text } | ContentPart::Refusal { text } => words.push_str(text),
                ContentPart::Image { .. } => words.push_str("[image]"),
            }
        }
        words
    };
    match item {
        Item::Message(message) => {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
                Role::Developer => "developer",
            };
            format!("{role}: {}", words(&message.content))
        }
        Item::Reasoning(reasoning) => format!("reasoning: {}", reasoning.text.concat()),
        Item::FunctionCall(call) => format!("call: {} {}", call.name, arguments(&call.arguments)),
        Item::CustomCall(call) => format!("call: {} {}", call.name, call.input),
        Item::FunctionCallOutput(output) | Item::CustomCallOutput(output) => {
            format!("output: {}", words(&output.content))
        }
        Item::Opaque(opaque) => format!("opaque: {}", opaque.kind),
    }
}

/// The arguments of a call; of what is typed, only that, since a session's number is not known beforehand.
fn arguments(text: &str) -> String {
    let arguments: Value = serde_json::from_str(text).expect("the script writes JSON");
    match (arguments.get("session_id"), arguments.get("chars").and_then(Value::as_str)) {
        (Some(_), Some(chars)) => chars.trim_end().to_owned(),
        _ => arguments.to_string(),
    }
}

fn compare(how: &str, told: &[String], expected: &[String]) {
    let is =
        |(told, expected): (&String, &String)| Regex::new(expected).expect("an expression").is_match(told);
    let same = told.iter().zip(expected).take_while(|pair| is(*pair)).count();
    let mut differs = String::new();
    for place in same.saturating_sub(3)..same + 6 {
        let _ = writeln!(
            differs,
            "{place}\n  told     {:?}\n  expected {:?}",
            told.get(place),
            expected.get(place)
        );
    }
    assert_eq!((same, told.len()), (expected.len(), expected.len()), "{how}\n{differs}");
}

fn capabilities(api: &str) -> Value {
    match api {
        "Responses" => json!({"customTools": true, "parallelToolCalls": true, "developerRole": true,
            "promptCacheKey": true, "encryptedReasoning": true}),
        "ChatCompletions" => {
            json!({"strictAlternation": true, "streamUsage": true, "reasoningField": "reasoning_content"})
        }
        _ => json!({"strictAlternation": true, "cacheMarkers": true, "thinking": "Adaptive"}),
    }
}

async fn works(world: &World, api: &str, steps: &[Step]) {
    let name = api.to_lowercase();
    let models =
        json!([{"name": "scripted", "contextWindow": WINDOW_TOKENS, "capabilities": capabilities(api)}]);
    world.apply_provider(&name, &json!({"api": api, "models": models})).await;
    let task = json!({
        "prompt": format!("Do it over {api}."),
        "model": {"providerName": name},
        "idle": {"keepSeconds": 45},
        "verification": [
            {"name": "counted", "command": "test \"$(cat counter)\" = 'step 55'"},
            {"name": "logged", "command": "test \"$(tail -n 1 log)\" = 'step 59'"},
        ],
    });
    world.create_task(&name, "app", &task).await;
    // The status may be 15 s late, and the pod stays for 45.
    world.logged(&name, &format!("Step {ANSWERED} was the last.")).await;
    let said = format!("more-{name}");
    world.say(&said, &json!({"taskName": name, "kind": "Prompt", "text": "And now the rest."})).await;
    assert_eq!(world.told(&said, "HandedOver").await, "True");

    let task = world.ended(&name).await;
    let (_, reason, message) = succeeded(&task);
    assert_eq!((reason.as_str(), message.as_str()), ("Completed", "Step 60 was the last."), "{api}");
    let attempt = world.attempt(&name).await.status.expect("a status");
    let usage = attempt.usage.expect("usage");
    let commands =
        steps.iter().flat_map(|step| &step.calls).filter(|call| call.written.starts_with("exec_command"));
    assert_eq!((attempt.turn, attempt.step), (2, STEPS as i64), "{api}");
    assert_eq!((usage.requests, usage.commands), (STEPS as i64 + 1, commands.count() as i64), "{api}");
    let states: Vec<_> = attempt.verification.iter().map(|result| result.state).collect();
    assert_eq!(states, [VerificationState::Passed; 2], "{api}");
    compare(api, &told(&transcript(world, &name).await), &expected(steps));

    let patch =
        task.status.and_then(|status| status.result).and_then(|result| result.patch).expect("a patch");
    let clone = world.patched("app", patch.inline.expect("a small patch").as_bytes());
    let read = |path: &str| std::fs::read_to_string(clone.path().join(path)).expect("a file");
    assert_eq!(read("counter"), "step 55\n", "{api}");
    let logged: Vec<String> = (1..=STEPS)
        .filter(|n| [1, 47].contains(n) || n % 5 == 4 && *n != 4)
        .map(|n| format!("step {n}\n"))
        .collect();
    assert_eq!(read("log"), logged.concat(), "{api}");
}

#[tokio::test]
async fn sixty_steps_on_each_api() {
    let steps = steps();
    let world = World::new("sixty", &script(&steps)).await;
    world.git.repository(
        "app",
        &[("counter", "step 0\n"), ("server.py", include_str!("../support/mcp_server.py"))],
    );
    let server = json!({"name": "t", "stdio": {"command": "python3", "args": ["server.py"]}, "enabledTools": ["echo"]});
    world.apply_environment("default", &json!({"mcpServers": [server]})).await;
    tokio::join!(
        works(&world, "Responses", &steps),
        works(&world, "ChatCompletions", &steps),
        works(&world, "Messages", &steps),
    );
    world.end().await;
}
