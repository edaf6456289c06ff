//! What models do, and what becomes of the task.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use podwright::api::{Reason, conditions};
use serde_json::json;

use crate::work::outputs;
use crate::world::{World, serve, succeeded};

async fn world(prefix: &str, script: &str) -> World {
    let world = World::new(prefix, script).await;
    world.git.repository("app", &[("a", "a\n")]);
    world
}

#[tokio::test]
async fn mistakes_are_told_to_the_model_and_the_task_goes_on() {
    let script = r#"
scenarios:
  - name: mistakes
    replies:
      - output: [{call: {tool: launch_rocket, arguments: {}}}]
      - expect: {lastOutput: "unsupported call: launch_rocket"}
        output: [{call: {tool: exec_command, arguments: "{not json"}}]
      - expect: {lastOutput: "failed to parse function arguments"}
        output: [{call: {tool: exec_command, arguments: {cmd: "no-such-program --help"}}}]
      - expect: {lastOutput: "exited with code 127"}
        output: [{call: {tool: exec_command, arguments: {cmd: "sleep 600", yield_time_ms: 30000}}}]
      - expect: {lastOutput: "limit"}
        output: [{call: {tool: exec_command, arguments: {cmd: "head -c 1073741824 /dev/zero | tr '\\0' x", yield_time_ms: 30000}}}]
      - output:
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Update File: a
                -not there
                +anything
                *** End Patch
      - expect: {lastOutput: "apply_patch verification failed"}
        output: [{text: All told.}]
"#;
    let world = world("mistakes", script).await;
    world.create_task("mistakes", "app", &json!({"limits": {"commandSeconds": 5}})).await;
    let task = world.ended("mistakes").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let outputs = outputs(&world, "mistakes").await;
    assert!(outputs.contains("truncated"), "{outputs}");
    world.end().await;
}

#[tokio::test]
async fn an_empty_reply_ends_the_turn_well() {
    let world = world("silent", "scenarios: [{name: silent, replies: [{output: []}]}]").await;
    world.create_task("silent", "app", &json!({})).await;
    let task = world.ended("silent").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let message = task.status.expect("a status").result.expect("a result").message;
    assert!(message.contains("EmptyReply"), "{message}");
    assert_eq!(world.event("silent", "Started").await.type_.as_deref(), Some("Normal"));
    assert_eq!(world.event("silent", "EmptyReply").await.type_.as_deref(), Some("Warning"));
    world.end().await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used() {
    let world = world("endpoint", "scenarios: [{name: any, replies: [{output: [{text: Done.}]}]}]").await;
    let refuse = |http: &str| format!("scenarios: [{{name: any, cycle: true, replies: [{{http: {http}}}]}}]");
    let locked = serve("apiKey: right\nscenarios: [{name: any, replies: [{output: [{text: Done.}]}]}]").await;
    let other =
        serve("models: [large]\nscenarios: [{name: any, replies: [{output: [{text: Done.}]}]}]").await;
    let html =
        serve(&refuse("{status: 200, headers: {content-type: text/html}, body: '<html>Welcome</html>'}"))
            .await;
    let down = serve(&refuse("{status: 500, error: {message: out of order}}")).await;
    for (name, url) in [("locked", &locked), ("other", &other), ("html", &html), ("down", &down)] {
        world.apply_provider(name, &json!({"baseURL": url})).await;
    }
    world.apply_provider("closed", &json!({"baseURL": "http://10.244.0.1:9/v1"})).await;
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "key"}, "stringData": {"apiKey": "wrong"}}))
            .expect("a secret");
    world.api::<Secret>().create(&PostParams::default(), &secret).await.expect("it is taken");
    let wrong_key = json!({"baseURL": locked, "credentialsSecretName": "key"});
    world.apply_provider("wrong-key", &wrong_key).await;
    let set_key = format!("kubectl create secret generic key -n {} --from-literal", world.namespace.name);
    let cases: [(&str, Reason, &[&str]); 6] = [
        ("locked", Reason::ModelMisconfigured, &["kubectl create secret", "credentialsSecretName"]),
        ("wrong-key", Reason::ModelMisconfigured, &[set_key.as_str()]),
        ("other", Reason::ModelMisconfigured, &["scripted", "Correct spec.model.name"]),
        ("html", Reason::ModelMisconfigured, &["Check the ModelProvider's baseURL"]),
        ("down", Reason::ModelFailed, &["500", "outageSeconds"]),
        ("closed", Reason::ModelFailed, &["10.244.0.1:9", "outageSeconds"]),
    ];
    for (name, _, _) in &cases {
        let model = json!({"providerName": name, "outageSeconds": 3});
        world.create_task(name, "app", &json!({"model": model})).await;
    }
    for (name, reason, words) in cases {
        let (_, got, message) = succeeded(&world.ended(name).await);
        assert_eq!(got, reason.as_str(), "{name}: {message}");
        for word in words {
            assert!(message.contains(word), "{name}: {word:?} is missing in: {message}");
        }
    }
    assert_eq!(world.event("down", "ModelUnavailable").await.type_.as_deref(), Some("Warning"));
    world.end().await;
}

#[tokio::test]
async fn a_model_that_comes_back_is_waited_for() {
    // Four requests of the provider's retries, then single ones after 1, 2, 4 and 8 s.
    let script =
        "scenarios: [{name: back, replies: [{repeat: 8, http: {status: 503}}, {output: [{text: Done.}]}]}]";
    let world = world("outage", script).await;
    world.create_task("patient", "app", &json!({})).await;
    world.reason("patient", Reason::ModelUnavailable).await;
    let task = world.ended("patient").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let status = task.status.expect("a status");
    let available = conditions::find(&status.conditions, conditions::MODEL_AVAILABLE).expect("it was out");
    assert_eq!(available.status, "True");
    world.end().await;
}

#[tokio::test]
async fn limits_end_the_task_and_keep_the_patch() {
    let script = r#"
scenarios:
  - name: slow
    match: {prompt: Take your time.}
    cycle: true
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "date +%N >> a; sleep 2"}}}]
  - name: failing
    match: {prompt: Fail.}
    cycle: true
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "date +%N >> a; exit 3"}}}]
  - name: endless
    cycle: true
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "date +%N >> a; head -c 100000 /dev/urandom | base64 > big"}}}]
        usage: {inputTokens: 100000, outputTokens: 100}
"#;
    let world = world("limits", script).await;
    let cases = [
        ("steps", json!({"steps": 3}), Reason::BudgetExceeded, "steps"),
        ("commands", json!({"commands": 2}), Reason::BudgetExceeded, "commands"),
        ("input", json!({"uncachedInputTokens": 250000}), Reason::BudgetExceeded, "uncachedInputTokens"),
        ("output", json!({"outputTokens": 250}), Reason::BudgetExceeded, "outputTokens"),
        ("failures", json!({"consecutiveFailures": 3}), Reason::BudgetExceeded, "consecutiveFailures"),
        // Long enough for a first command on a busy machine: what is left of the fetch when the sandbox is up counts as well.
        ("time", json!({"activeSeconds": 25}), Reason::DeadlineExceeded, "activeSeconds"),
    ];
    for (name, limits, _, _) in &cases {
        let prompt = match *name {
            "time" => "Take your time.",
            "failures" => "Fail.",
            _ => "Do it.",
        };
        world.create_task(name, "app", &json!({"limits": limits, "prompt": prompt})).await;
    }
    for (name, _, reason, word) in cases {
        let task = world.ended(name).await;
        let (_, got, message) = succeeded(&task);
        assert_eq!(got, reason.as_str(), "{name}: {message}");
        assert!(message.contains(word), "{name}: {word:?} is missing in: {message}");
        let patch = task.status.expect("a status").result.expect("a result").patch.expect("a patch");
        assert!(patch.files > 0 && !patch.sha256.is_empty(), "{name}: the patch so far is kept: {patch:?}");
        assert!(patch.artifact.is_some(), "{name}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_patch_that_is_too_large_keeps_its_figures() {
    let script = r#"
scenarios:
  - name: large
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "seq 1000 > big; seq 2000 > bigger"}}}]
      - output: [{text: Done.}]
"#;
    let world = world("large", script).await;
    world.create_task("large", "app", &json!({"limits": {"patchBytes": 1000}})).await;
    let task = world.ended("large").await;
    let (_, reason, message) = succeeded(&task);
    assert_eq!(reason, "PatchTooLarge", "{message}");
    assert!(message.contains("patchBytes") && message.contains("patchExcludes"), "{message}");
    let patch = task.status.expect("a status").result.expect("a result").patch.expect("a patch");
    assert_eq!((patch.files, patch.insertions, patch.artifact), (2, 3000, None));
    assert_eq!(patch.paths, ["big", "bigger"]);
    assert!(patch.bytes > 1000 && patch.sha256.len() == 64);
    world.end().await;
}

#[tokio::test]
async fn a_sandbox_out_of_memory() {
    let script = r#"
scenarios:
  - name: hog
    cycle: true
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "python3 -c \"x = [bytearray(1 << 20) for _ in range(4096)]\""}}}]
      - output: [{text: The command was killed.}]
"#;
    let world = world("memory", script).await;
    let small = json!({"resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}}});
    world.apply_environment("default", &small).await;
    world.create_task("hog", "app", &json!({})).await;
    // On cgroup v1 the kernel ends the command alone and the model is told; on v2 the whole container ends.
    let (_, reason, message) = succeeded(&world.ended("hog").await);
    assert!(["Completed", "OutOfMemory"].contains(&reason.as_str()), "{reason}: {message}");
    if reason == "Completed" {
        assert!(outputs(&world, "hog").await.contains("exited with code 137"));
    }
    world.end().await;
}
