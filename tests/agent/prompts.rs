//! What the model is told before its first word, taken from a repository that the setup script changed: the
//! same hands as a command's.

use podwright::api::attempt::Phase;
use podwright::api::message::MessageKind;
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

#[tokio::test(flavor = "multi_thread")]
async fn skills_are_listed_and_come_with_the_prompts_that_name_them() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: skills
    replies:
      - expect:
          prompt: {contains: ["- greet: How to greet. (file: /workspace/", skills/a/SKILL.md], excludes: [Say hello, secret]}
          lastUserMessage: {matches: '^<skill>\n<name>greet</name>\n<path>/workspace/.*/SKILL.md</path>\n---\n(.*\n){3}Say hello.\n</skill>$'}
        output:
          - text: First.
      - expect: {lastUserMessage: {contains: "No $skill here."}}
        output:
          - text: Second.
      - expect: {prompt: "Once more $greet.", lastUserMessage: "Say hello."}
        output:
          - text: Third.
"#;
    let setup = "mkdir -p .agents/skills/a .agents/skills/b .agents/skills/c secret
        printf -- '---\\nname: greet\\ndescription: How to greet.\\n---\\nSay hello.\\n' > .agents/skills/a/SKILL.md
        echo '# Nothing' > .agents/skills/b/SKILL.md
        printf -- '---\\nname: secret\\ndescription: secret\\n---\\n' > secret/SKILL.md
        ln -s ../../../secret/SKILL.md .agents/skills/c/SKILL.md; ln -s ../../secret .agents/skills/d; echo > .agents/skills/README.md";
    let mut stage = Stage::new(script).await;
    stage.job["prompt"] = json!("Greet as $greet says, in $HOME.");
    stage.job["idle"] = json!({"keepSeconds": 86400});
    stage.job["environment"] = json!({"setup": {"script": setup, "timeoutSeconds": 60}});
    let agent = stage.agent();
    let answered =
        |turn| move |stage: &Stage| stage.status().turn == turn && stage.status().phase == Some(Phase::Idle);
    stage.until(answered(1)).await;
    stage.say(1, MessageKind::Prompt, "No $skill here.");
    stage.until(answered(2)).await;
    stage.say(2, MessageKind::Prompt, "Once more $greet.");
    stage.until(answered(3)).await;
    assert_eq!(stage.status().last_message, "Third.", "{}", stage.log.text());
    let warnings = warnings(&stage);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, path) in warnings.iter().zip(["skills/b/", "skills/c/", "skills/d/"]) {
        assert!(warning.starts_with("Left out") && warning.contains(path), "{warning}");
    }
    stage.say(3, MessageKind::Cancel, "");
    agent.ended().await;
}
