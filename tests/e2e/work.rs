//! The main job: a task that works, and what it leaves.

use std::io::Read;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use podwright::api::{AgentAttempt, AgentTask};
use serde_json::json;

use crate::world::{World, succeeded};

/// Looks, edits by a patch, adds a file by a command, plans, and says so.
const SCRIPT: &str = r#"
scenarios:
  - name: work
    replies:
      - output:
          - text: I look around first.
          - plan: [{step: Look, status: in_progress}, {step: Edit, status: pending}]
          - call: {tool: exec_command, arguments: {cmd: "cat greeting.txt; sleep 6"}}
      - expect: {lastOutput: "hello"}
        output:
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Update File: greeting.txt
                -hello
                +hello, world
                *** End Patch
          - call: {tool: exec_command, arguments: {cmd: "mkdir -p docs && printf 'new\n' > docs/new.txt && chmod +x docs/new.txt"}}
      - output:
          - plan: [{step: Look, status: completed}, {step: Edit, status: completed}]
          - call: {tool: exec_command, arguments: {cmd: "cat greeting.txt docs/new.txt"}}
      - expect: {lastOutput: "hello, world"}
        output:
          - text: The greeting is complete now.
"#;

#[tokio::test]
async fn a_task_brings_back_a_patch_that_applies() {
    let world = World::new("work", SCRIPT).await;
    world.git.repository("app", &[("greeting.txt", "hello\n"), ("AGENTS.md", "Be polite.\n")]);
    world.create_task("greet", "app", &json!({})).await;
    let task = world.ended("greet").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);

    let status = task.status.clone().expect("a status");
    assert_eq!(Some(status.observed_generation), task.metadata.generation);
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    let usage = status.usage.expect("usage");
    assert_eq!((usage.requests, usage.commands), (4, 3));
    assert!(usage.input_tokens > 0 && usage.output_tokens > 0);
    let result = status.result.expect("a result");
    assert_eq!(result.message, "The greeting is complete now.");
    let patch = result.patch.expect("a patch");
    assert_eq!((patch.files, patch.insertions, patch.deletions), (2, 2, 1));
    let resolved = status.resolved.expect("resolved references");
    assert_eq!(resolved.base_commit.as_deref(), Some(patch.base_commit.as_str()));
    // The script sleeps 6 s, since a node tells of a started container a second late, and later when it is busy.
    assert!(resolved.image_digest.is_some_and(|digest| digest.contains("sha256:")));

    let clone = world.patched("app", patch.inline.expect("a small patch is inline").as_bytes());
    let read = |path: &str| std::fs::read_to_string(clone.path().join(path)).expect("a file");
    assert_eq!((read("greeting.txt").as_str(), read("docs/new.txt").as_str()), ("hello, world\n", "new\n"));

    let artifact = patch.artifact.expect("the patch is an artifact, too");
    let config_map =
        world.api::<ConfigMap>().get(&artifact.config_map_name).await.expect("the artifact is there");
    let compressed = &config_map.binary_data.expect("binary data")[&artifact.key].0;
    let mut whole = Vec::new();
    zstd::Decoder::new(compressed.as_slice()).expect("zstd").read_to_end(&mut whole).expect("zstd");
    assert_eq!(whole.len() as i64, patch.bytes);

    let attempt = world.attempt("greet").await;
    let attempt = attempt.status.expect("a status");
    assert_eq!(attempt.plan.len(), 2);
    let transcript = attempt.transcript.expect("a transcript");
    assert!(transcript.bytes > 0);
    nothing_works_any_more(&world).await;
    world.end().await;
}

/// After the end there is neither pod nor right.
async fn nothing_works_any_more(world: &World) {
    for _ in 0..600 {
        let all = ListParams::default();
        let ours = ListParams::default().labels("podwright.dev/task");
        let pods = world.api::<Pod>().list(&all).await.expect("a list").items.len();
        let accounts = world.api::<ServiceAccount>().list(&ours).await.expect("a list").items.len();
        let roles = world.api::<Role>().list(&all).await.expect("a list").items.len();
        let bindings = world.api::<RoleBinding>().list(&all).await.expect("a list").items.len();
        if (pods, accounts, roles, bindings) == (0, 0, 0, 0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    panic!("pods or rights are left in {}", world.namespace.name);
}

#[tokio::test]
async fn a_deleted_task_leaves_nothing() {
    let world = World::new("delete", SCRIPT).await;
    world.git.repository("app", &[("greeting.txt", "hello\n")]);
    // At the end, at the start, and in between.
    for (name, wait) in [("ended", "end"), ("started", "none"), ("running", "pod")] {
        world.create_task(name, "app", &json!({})).await;
        match wait {
            "end" => drop(world.ended(name).await),
            "pod" => drop(world.pod(name).await),
            _ => {}
        }
        world.api::<AgentTask>().delete(name, &Default::default()).await.expect("it can be deleted");
    }
    let mut left = Vec::new();
    for _ in 0..600 {
        left = children(&world).await;
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    assert!(left.is_empty(), "left: {left:?}");
    world.end().await;
}

async fn children(world: &World) -> Vec<String> {
    async fn names<K>(api: Api<K>) -> Vec<String>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let objects = api.list(&ListParams::default()).await.expect("a list").items;
        let kind = K::kind(&()).into_owned();
        let ours = objects
            .iter()
            .filter(|object| !["default", "kube-root-ca.crt"].contains(&object.name_any().as_str()));
        ours.map(|object| format!("{kind}/{}", object.name_any())).collect()
    }
    let mut left = names(world.api::<AgentAttempt>()).await;
    left.extend(names(world.api::<Pod>()).await);
    left.extend(names(world.api::<ConfigMap>()).await);
    left.extend(names(world.api::<ServiceAccount>()).await);
    left.extend(names(world.api::<Role>()).await);
    left.extend(names(world.api::<RoleBinding>()).await);
    left
}

#[tokio::test]
async fn commands_see_no_secret_and_only_their_own_network() {
    let script = r#"
scenarios:
  - name: probe
    replies:
      - output:
          - call:
              tool: exec_command
              arguments:
                cmd: |
                  env | grep -iE 'key|token|secret|password' && echo LEAK-ENV
                  ls /var/run/secrets 2>/dev/null && echo LEAK-TOKEN
                  ls /state /repo 2>/dev/null && echo LEAK-VOLUME
                  python3 - <<'END'
                  import socket, threading
                  server = socket.create_server(("127.0.0.1", 0))
                  threading.Thread(target=lambda: server.accept()[0].sendall(b"LOOPBACK-WORKS"), daemon=True).start()
                  print(socket.create_connection(server.getsockname(), 5).recv(100).decode())
                  for address in [("10.96.0.1", 443), ("10.244.0.1", 6443), ("169.254.169.254", 80)]:
                      try:
                          socket.create_connection(address, 5)
                          print("LEAK-NETWORK", address)
                      except OSError as error:
                          print("REFUSED", address, error)
                  END
                  true
      - expect: {lastOutput: "LOOPBACK-WORKS"}
        output: [{text: "Done."}]
"#;
    let world = World::new("probe", script).await;
    world.git.repository("app", &[("a", "a\n")]);
    world.create_task("probe", "app", &json!({"retention": {"podSeconds": 60}})).await;
    let task = world.ended("probe").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let transcript = outputs(&world, "probe").await;
    assert!(transcript.contains("REFUSED"), "{transcript}");
    assert!(!transcript.contains("LEAK-"), "{}", transcript.replace("echo LEAK-", ""));
    world.end().await;
}

/// The outputs of all commands of a task, from its transcript.
pub(crate) async fn outputs(world: &World, task: &str) -> String {
    let whole = transcript(world, task).await;
    whole.lines().filter(|line| line.contains("CallOutput")).collect::<Vec<_>>().join("\n")
}

/// The transcript of a task.
pub(crate) async fn transcript(world: &World, task: &str) -> String {
    let attempt = world.attempt(task).await.status.expect("a status");
    let artifact = attempt.transcript.expect("a transcript");
    let config_map =
        world.api::<ConfigMap>().get(&artifact.config_map_name).await.expect("the artifact is there");
    let compressed = &config_map.binary_data.expect("binary data")[&artifact.key].0;
    let mut whole = String::new();
    zstd::Decoder::new(compressed.as_slice()).expect("zstd").read_to_string(&mut whole).expect("text");
    whole
}
