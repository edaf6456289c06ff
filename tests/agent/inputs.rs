//! Images and files that come with the prompt.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};
use podwright::api::reasons::Reason;
use serde_json::json;

use crate::stage::Stage;

/// Reads the files with commands, and has their texts before that.
const LOOK: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: look
    replies:
      - expect: {prompt: {matches: '(?s)<input name="crash.log">.*thread panicked.*</input>'}}
        output:
          - call: {tool: exec_command, arguments: {cmd: "cd /home/agent/inputs && cat crash.log && wc -c < core && wc -c < shot.png && git -C /workspace status --short; ls"}}
      - expect: {lastOutput: {matches: '(?s)thread panicked.*\n4\n'}}
        output:
          - text: It panicked.
"#;

fn picture() -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = DynamicImage::from(RgbImage::new(4, 3));
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

async fn looks(api: &str) {
    let mut stage = Stage::new(LOOK).await;
    stage.cluster.config_map("crash", "log", "thread panicked\n");
    stage.cluster.config_map("crash", "core", [0, 159, 146, 150]);
    stage.cluster.config_map("shots", "first", picture());
    let from = |name: &str, key: &str| json!({"name": name, "key": key});
    stage.job["inputs"] = json!([
        {"name": "crash.log", "mediaType": "text/plain", "configMapKeyRef": from("crash", "log")},
        {"name": "core", "mediaType": "application/octet-stream", "configMapKeyRef": from("crash", "core")},
        {"name": "shot.png", "mediaType": "image/png", "configMapKeyRef": from("shots", "first")},
    ]);
    stage.job["model"]["api"] = json!(api);
    stage.job["model"]["capabilities"] = json!({"imageInput": true});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{api}: {} {}", outcome.message, stage.log.text());
    assert_eq!(status.patch.unwrap().files, 0, "inputs are no part of the patch");
    let transcript = stage.artifact(&status.transcript.unwrap());
    assert!(transcript.contains("data:image/png;base64,"), "{transcript}");
    assert!(
        transcript.contains("/home/agent/inputs/core (application/octet-stream, 4 bytes; not shown here)")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_sees_what_can_be_shown_and_commands_have_all_of_it() {
    for api in ["Responses", "ChatCompletions", "Messages"] {
        looks(api).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_cannot_be_used_end_the_task_before_it_begins() {
    let input = |media_type: &str| json!([{"name": "shot", "mediaType": media_type, "configMapKeyRef": {"name": "shots", "key": "first"}}]);
    for (content, able, part) in [
        (
            Some(&b"no picture"[..]),
            true,
            "shot (key first of ConfigMap shots) cannot be shown: it is not a PNG",
        ),
        (Some(b"no picture"), false, "the model takes none"),
        (None, true, "has no key first"),
    ] {
        let mut stage = Stage::new(LOOK).await;
        if let Some(content) = content {
            stage.cluster.config_map("shots", "first", content);
        }
        stage.job["inputs"] = input("image/png");
        stage.job["model"]["capabilities"] = json!({"imageInput": able});
        let outcome = stage.run().await.outcome.unwrap();
        assert_eq!(outcome.reason, Reason::InvalidSpec);
        assert!(outcome.message.contains(part), "{}", outcome.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_finds_its_inputs_in_place() {
    const WAIT: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: wait
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo began >> ran; until test -e go; do sleep 0.05; done; cat /home/agent/inputs/a"}}
      - expect: {lastOutput: words of the input}
        output: [{text: Done.}]
"#;
    let mut stage = Stage::new(WAIT).await;
    stage.cluster.config_map("words", "a", "words of the input");
    stage.job["inputs"] =
        json!([{"name": "a", "mediaType": "text/plain", "configMapKeyRef": {"name": "words", "key": "a"}}]);
    let first = stage.agent();
    stage.until(|stage| stage.file("ran") == "began\n").await;
    first.crash();
    let second = stage.agent();
    stage.put("go");
    second.ended().await;
    assert_eq!(stage.status().outcome.unwrap().reason, Reason::Completed, "{}", stage.log.text());
}
