//! What is said to an agent that works.

use podwright::api::message::MessageKind;
use podwright::api::reasons::Reason;

use crate::stage::Stage;

const BUILD: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: build
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo x >> begun; until test -e go; do sleep 0.05; done; echo built", yield_time_ms: 30000}}
      - expect: {lastOutput: built, lastUserMessage: And this as well.}
        output:
          - text: Both are done.
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_read_after_the_step_that_is_under_way_and_survives_a_crash() {
    for crashes in [false, true] {
        let stage = Stage::new(BUILD).await;
        let mut agent = stage.agent();
        stage.until(|stage| stage.file("begun") == "x\n").await;
        stage.say(1, MessageKind::Prompt, "And this as well.");
        stage.until(|stage| stage.status().inbox_seq == 1).await;
        if crashes {
            agent.crash();
            agent = stage.agent();
        }
        stage.put("go");
        agent.ended().await;
        let status = stage.status();
        let outcome = status.outcome.unwrap();
        assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
        assert_eq!(outcome.message, "Both are done.");
        assert_eq!((status.turn, status.step), (1, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_comes_with_the_final_answer_makes_the_turn_go_on() {
    let script = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: answer
    replies:
      - output:
          - text: Done.
        pace: {firstEventMillis: 5000}
      - expect: {lastUserMessage: And this as well.}
        output:
          - text: That as well.
"#;
    let stage = Stage::new(script).await;
    let agent = stage.agent();
    stage.logged("turn.started").await;
    stage.say(1, MessageKind::Prompt, "And this as well.");
    agent.ended().await;
    let status = stage.status();
    let outcome = status.outcome.unwrap();
    assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, "That as well."));
    assert_eq!((status.turn, status.step, status.inbox_seq), (1, 2, 1));
}
