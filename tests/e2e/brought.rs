//! What tasks bring along and what they answer: modes, inputs, answers as JSON, and tasks that go on with others.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;

use crate::world::{World, succeeded};

const SCRIPT: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: both
    match: {prompt: Begin.}
    replies:
      - expect: {prompt: '<input name="note.txt">'}
        output:
          - call: {tool: exec_command, arguments: {cmd: "cat /home/agent/inputs/note.txt; wc -c < /home/agent/inputs/raw; echo b > b"}}
      - expect: {lastOutput: {matches: '(?s)a word\n3\n'}}
        output: [{text: It is done.}]
      - expect: {lastUserMessage: {matches: '(?s)<answer_rejected>'}}
        output: [{text: '{"files": ["b"]}'}]
      - expect: {lastUserMessage: Go on.}
        output:
          - call: {tool: exec_command, arguments: {cmd: "cat b; echo c > c"}}
      - expect: {lastOutput: {matches: '(?s)b\n'}}
        output: [{text: '{"files": ["b", "c"]}'}]
  - name: ask
    match: {prompt: Answer.}
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "echo x > a"}}}]
      - output: [{text: It says a.}]
"#;

async fn config_map(world: &World, name: &str, text: (&str, &str), binary: (&str, &[u8])) {
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(text.0.into(), text.1.into())])),
        binary_data: Some(BTreeMap::from([(binary.0.into(), ByteString(binary.1.into()))])),
        ..ConfigMap::default()
    };
    world.api::<ConfigMap>().create(&PostParams::default(), &map).await.expect("a ConfigMap");
}

#[tokio::test]
async fn a_task_with_inputs_and_a_schema_and_one_that_goes_on_with_it() {
    let world = World::new("brought", SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    let schema = r#"{"type": "object", "properties": {"files": {"type": "array", "items": {"type": "string"}}}, "required": ["files"]}"#;
    config_map(&world, "files", ("note", "a word\n"), ("raw", &[0, 1, 2])).await;
    config_map(&world, "schemas", ("files", schema), ("none", &[])).await;
    let output = json!({"schemaFrom": {"configMapKeyRef": {"name": "schemas", "key": "files"}}});
    let input = |name: &str, media_type: &str, key: &str| json!({"name": name, "mediaType": media_type, "configMapKeyRef": {"name": "files", "key": key}});
    let inputs = [input("note.txt", "text/plain", "note"), input("raw", "application/octet-stream", "raw")];
    // The second one waits for the first.
    let from = json!({"taskName": "first"});
    let second = json!({"prompt": "Go on.", "output": output, "continueFrom": from});
    world.create_task("second", "app", &second).await;
    let waits = |task: &podwright::api::AgentTask| succeeded(task).1 == "WaitingForReference";
    world.task_when("second", "waiting", waits).await;
    world.create_task("first", "app", &json!({"prompt": "Begin.", "inputs": inputs, "output": output})).await;

    let first = world.ended("first").await;
    assert_eq!(succeeded(&first).1, "Completed", "{}", succeeded(&first).2);
    let result = first.status.expect("a status").result.expect("a result");
    assert_eq!(result.output, Some(json!({"files": ["b"]})));
    assert_eq!(result.patch.expect("a patch").files, 1);

    let second = world.ended("second").await;
    assert_eq!(succeeded(&second).1, "Completed", "{}", succeeded(&second).2);
    let result = second.status.expect("a status").result.expect("a result");
    assert_eq!(result.output, Some(json!({"files": ["b", "c"]})));
    let patch = result.patch.expect("a patch").inline.expect("inline");
    assert!(patch.contains("+b\n") && patch.contains("+c\n"), "{patch}");
    world.end().await;
}

#[tokio::test]
async fn a_question_delivers_no_patch_whatever_the_model_does() {
    let world = World::new("ask", SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    world.create_task("ask", "app", &json!({"prompt": "Answer.", "mode": "Ask"})).await;
    let task = world.ended("ask").await;
    let (_, reason, message) = succeeded(&task);
    assert_eq!(reason, "Completed", "{message}");
    assert!(message.contains("mode Ask leaves the repository alone"), "{message}");
    let result = task.status.expect("a status").result.expect("a result");
    assert_eq!(result.message, "It says a.");
    let patch = result.patch.expect("a patch");
    assert_eq!((patch.bytes, patch.flags.len()), (0, 1));
    world.end().await;
}
