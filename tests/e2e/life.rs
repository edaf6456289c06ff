//! What people do to a task while it lives, and what machines do to its parts.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, WatchEvent, WatchParams};
use podwright::api::{AgentTask, Reason};
use serde_json::json;

use crate::cluster::kubeconfig;
use crate::work::outputs;
use crate::world::{World, succeeded};

/// Counts in a file, slowly; every command runs exactly once or the file shows it.
const COUNTING: &str = r#"
scenarios:
  - name: count
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "sleep 2; echo one >> count.txt"}}}]
      - output: [{call: {tool: exec_command, arguments: {cmd: "sleep 6; echo two >> count.txt; cat count.txt", yield_time_ms: 30000}}}]
      - output: [{call: {tool: exec_command, arguments: {cmd: "sleep 2; echo three >> count.txt; cat count.txt"}}}]
      - output: [{text: Counted.}]
      - output: [{call: {tool: exec_command, arguments: {cmd: "echo four >> count.txt"}}}]
      - output: [{text: Counted again.}]
"#;

async fn world(prefix: &str) -> World {
    let world = World::new(prefix, COUNTING).await;
    world.git.repository("app", &[("a", "a\n")]);
    world
}

fn inline(task: &AgentTask) -> String {
    let result = task.status.as_ref().and_then(|status| status.result.clone()).expect("a result");
    result.patch.and_then(|patch| patch.inline).expect("a small patch")
}

/// Lines that a patch adds.
fn added(patch: &str) -> usize {
    patch.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++")).count()
}

#[tokio::test]
async fn the_controller_may_restart_at_any_moment() {
    let world = world("restart").await;
    world.create_task("count", "app", &json!({})).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "podwright-system");
    let controller = ListParams::default().labels("app.kubernetes.io/component=controller");
    for pause in [0, 1500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        for pod in pods.list(&controller).await.expect("a list") {
            let now = DeleteParams::default().grace_period(0);
            match pods.delete(&pod.name_any(), &now).await {
                Ok(_) => {}
                // Deleted since the list was made.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(asked_to_end(&pods, &controller).await, 0, "it ends by itself, before the kubelet kills it");
    let task = world.ended("count").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    assert_eq!(added(&inline(&task)), 3, "{}", inline(&task));
    assert_eq!(task.status.expect("a status").usage.expect("usage").requests, 4);
    world.end().await;
}

/// Ends the controller as a roll-out does, and gives its exit code: 137 if it had to be killed.
async fn asked_to_end(pods: &Api<Pod>, controller: &ListParams) -> i32 {
    let name = ready(pods, controller).await;
    let deleted = pods.delete(&name, &DeleteParams::default()).await.expect("it can be deleted");
    let since = deleted.left().and_then(|pod| pod.resource_version()).expect("it is given time to end");
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = pods.watch(&params, &since).await.expect("it can be watched").boxed();
    while let Some(event) = events.try_next().await.expect("the watch goes on") {
        let WatchEvent::Deleted(pod) = event else { continue };
        let status = pod.status.and_then(|status| status.container_statuses?.pop());
        let ended = status.and_then(|status| status.state?.terminated);
        return ended.expect("the node told how it ended").exit_code;
    }
    panic!("{name} is still there");
}

/// The name of the controller's pod, as soon as it is ready: before, it may not know yet how to be asked.
async fn ready(pods: &Api<Pod>, controller: &ListParams) -> String {
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        pod.metadata.deletion_timestamp.is_none()
            && conditions
                .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    for _ in 0..600 {
        let list = pods.list(controller).await.expect("a list");
        if let Some(pod) = list.iter().find(|pod| is_ready(pod)) {
            return pod.name_any();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the controller does not become ready");
}

#[tokio::test]
async fn the_agent_container_may_restart_twice() {
    let world = world("agent").await;
    world.create_task("count", "app", &json!({})).await;
    // In the middle of a command each time.
    for command in ["echo one", "echo two"] {
        world.logged("count", command).await;
        let pod = world.pod("count").await.name_any();
        kill_container(&world, &pod, "agent").await;
    }
    let task = world.ended("count").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    assert_eq!(added(&inline(&task)), 3, "each command ran once: {}", inline(&task));
    world.end().await;
}

#[tokio::test]
async fn the_sandbox_container_may_end_under_a_command() {
    let script = r#"
scenarios:
  - name: killed
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "echo before >> a; sleep 600; echo never >> a", yield_time_ms: 30000}}}]
      - output: [{call: {tool: exec_command, arguments: {cmd: "echo after >> a; cat a"}}}]
      - expect: {lastOutput: "after"}
        output: [{text: Done.}]
"#;
    let world = World::new("sandbox", script).await;
    world.git.repository("app", &[("a", "a\n")]);
    world.create_task("killed", "app", &json!({})).await;
    world.logged("killed", "sleep 600").await;
    let pod = world.pod("killed").await.name_any();
    kill_container(&world, &pod, "sandbox").await;
    // The model is told that its command was cut off, and goes on in the same workspace.
    let task = world.ended("killed").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let patch = inline(&task);
    assert!(patch.contains("+after") && !patch.contains("+never"), "{patch}");
    let outputs = outputs(&world, "killed").await;
    assert!(outputs.contains("The sandbox was restarted while this command ran"), "{outputs}");
    world.end().await;
}

/// Kills a container's first process, as the kernel would.
pub(crate) async fn kill_container(world: &World, pod: &str, container: &str) {
    let before = restarts(world, pod, container).await;
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/cluster");
    let id = running_container(world, pod, container).await;
    let output = std::process::Command::new(script)
        .args(["ctr", "task", "kill", "-s", "SIGKILL", id.trim_start_matches("containerd://")])
        .env("KUBECONFIG", kubeconfig())
        .output()
        .expect("hack/cluster can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for _ in 0..600 {
        if restarts(world, pod, container).await > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{container} of {pod} was not started again");
}

/// The id of a running container. A node tells of it later than the container's own log does.
async fn running_container(world: &World, pod: &str, container: &str) -> String {
    for _ in 0..600 {
        let status = world.api::<Pod>().get(pod).await.expect("the pod").status.unwrap_or_default();
        let mut statuses = status.container_statuses.unwrap_or_default().into_iter();
        let found = statuses.find(|status| status.name == container);
        let runs =
            |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
        if let Some(id) = found.filter(runs).and_then(|status| status.container_id) {
            return id;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{container} of {pod} does not run");
}

async fn restarts(world: &World, pod: &str, container: &str) -> i32 {
    let status = world.api::<Pod>().get(pod).await.expect("the pod").status.expect("a status");
    let statuses = status.container_statuses.unwrap_or_default();
    statuses.iter().find(|status| status.name == container).map_or(0, |status| status.restart_count)
}

fn step(task: &AgentTask) -> i64 {
    task.status.as_ref().and_then(|status| status.attempts.first()).map_or(0, |attempt| attempt.step)
}

#[tokio::test]
async fn a_cancelled_task_keeps_its_patch() {
    let world = world("cancel").await;
    world.create_task("count", "app", &json!({})).await;
    world.logged("count", "echo two").await;
    world.say("stop", &json!({"taskName": "count", "kind": "Cancel"})).await;
    let task = world.ended("count").await;
    assert_eq!(world.told("stop", "HandedOver").await, "True");
    assert_eq!(succeeded(&task).1, "Cancelled", "{}", succeeded(&task).2);
    assert!(inline(&task).contains("+one"), "{}", inline(&task));
    world.end().await;
}

#[tokio::test]
async fn a_task_can_be_cancelled_before_it_has_a_pod() {
    let world = world("early").await;
    world.create_task("never", "app", &json!({"suspend": true})).await;
    world.reason("never", Reason::Suspended).await;
    world.say("stop", &json!({"taskName": "never", "kind": "Cancel"})).await;
    assert_eq!(succeeded(&world.ended("never").await).1, "Cancelled");
    world.end().await;
}

#[tokio::test]
async fn a_suspended_task_goes_on_where_it_was() {
    let world = world("suspend").await;
    world.create_task("count", "app", &json!({})).await;
    let suspend = |value: bool| Patch::Merge(json!({"spec": {"suspend": value}}));
    let tasks: Api<AgentTask> = world.api();
    let pod = world.pod("count").await.name_any();
    tasks.patch("count", &PatchParams::default(), &suspend(true)).await.expect("it can change");
    world.reason("count", Reason::Suspended).await;
    let log = async || {
        let params = LogParams { container: Some("agent".into()), ..LogParams::default() };
        world.api::<Pod>().logs(&pod, &params).await.expect("the agent's log")
    };
    // Before the node has told of the container there is no log to be had.
    running_container(&world, &pod, "agent").await;
    let before = log().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(log().await, before, "nothing happens while it is suspended");
    tasks.patch("count", &PatchParams::default(), &suspend(false)).await.expect("it can change");
    let task = world.ended("count").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    assert_eq!(added(&inline(&task)), 3);
    world.end().await;
}

#[tokio::test]
async fn a_further_prompt_begins_a_further_turn() {
    let world = world("prompt").await;
    world.create_task("count", "app", &json!({"idle": {"keepSeconds": 600}})).await;
    world.reason("count", Reason::Idle).await;
    world.say("more", &json!({"taskName": "count", "kind": "Prompt", "text": "Once more."})).await;
    let task = world
        .task_when("count", "in its second turn", |task| {
            let attempts = task.status.as_ref().map(|status| status.attempts.clone()).unwrap_or_default();
            attempts.first().is_some_and(|attempt| attempt.turn == 2 && succeeded(task).1 == "Idle")
        })
        .await;
    assert_eq!(step(&task), 6);
    world.say("stop", &json!({"taskName": "count", "kind": "Cancel"})).await;
    let task = world.ended("count").await;
    assert!(inline(&task).contains("+four"), "{}", inline(&task));
    assert!(outputs(&world, "count").await.contains("three"));
    world.end().await;
}
