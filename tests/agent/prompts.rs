//! What the model is told before its first word, taken from a repository that the setup script changed: the
//! same hands as a command's.

use podwright::api::reasons::Reason;
use serde_json::json;

use crate::stage::Stage;

/// A stage on which the setup script `setup` runs and the model asserts `expect` of its first request.
async fn opening(setup: &str, expect: &str) -> Stage {
    let script = format!(
        "scenarios:\n  - name: opening\n    replies:\n      - expect: {expect}\n        output:\n          - text: Done.\n"
    );
    let mut stage = Stage::new(&script).await;
    stage.job["environment"] = json!({"setup": {"script": setup, "timeoutSeconds": 60}});
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
    stage
}

fn warnings(stage: &Stage) -> Vec<String> {
    let events = stage.events().into_iter().filter(|event| event["type"] == "error");
    events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_wins_unless_it_says_nothing() {
    let expect = r#"{prompt: {contains: "/app\n\n<INSTRUCTIONS>\nGreet loudly.\n", excludes: politely}}"#;
    let stage = opening("echo 'Greet loudly.' > AGENTS.override.md", expect).await;
    assert_eq!(warnings(&stage), [""; 0]);
    opening("printf ' \\n\\t\\n' > AGENTS.override.md", "{prompt: Greet politely.}").await;
    opening("mkdir sub; echo deep > sub/AGENTS.md", "{prompt: {contains: Greet politely., excludes: deep}}")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_pipes_and_directories_are_left_out_with_a_warning() {
    for make in
        ["ln -s /etc/hostname AGENTS.md", "ln -s greet.sh AGENTS.md", "mkfifo AGENTS.md", "mkdir AGENTS.md"]
    {
        let stage = opening(
            &format!("rm AGENTS.md; {make}"),
            "{prompt: {contains: environment_context, excludes: INSTRUCTIONS}}",
        )
        .await;
        let [warning] = &warnings(&stage)[..] else { panic!("{make}: {}", stage.log.text()) };
        assert!(
            warning.starts_with("Left out /workspace/") && warning.contains("app/AGENTS.md ("),
            "{warning}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instructions_are_cut_at_the_byte_with_a_warning() {
    let setup = "head -c 32770 /dev/zero | tr '\\0' x > AGENTS.md";
    let stage = opening(setup, r#"{prompt: {matches: '<INSTRUCTIONS>\nx{999}'}}"#).await;
    let [warning] = &warnings(&stage)[..] else { panic!("{}", stage.log.text()) };
    assert!(warning.contains("Took the first 32768 bytes of /workspace/"), "{warning}");
}
