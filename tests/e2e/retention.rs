//! What outlives the end of a task, and for how long.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, LogParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use podwright::api::{AgentAttempt, AgentTask};
use serde_json::{Value, json};

use crate::world::{World, succeeded};

const SCRIPT: &str = "scenarios: [{name: any, cycle: true, replies: [{output: [{text: Done.}]}]}]";

/// How many objects of a kind there are of any task.
async fn count<K>(world: &World) -> usize
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let ours = ListParams::default().labels("podwright.dev/task");
    world.api::<K>().list(&ours).await.expect("a list").items.len()
}

/// Waits until this many pods, artifacts and attempts are left.
async fn left(world: &World, expected: (usize, usize, usize)) {
    let mut found = (0, 0, 0);
    for _ in 0..900 {
        found =
            (count::<Pod>(world).await, count::<ConfigMap>(world).await, count::<AgentAttempt>(world).await);
        if found == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("pods, artifacts and attempts: {found:?} and not {expected:?}");
}

async fn change(world: &World, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    let tasks: Api<AgentTask> = world.api();
    tasks.patch("kept", &PatchParams::default(), &patch).await.expect("it can change");
}

#[tokio::test]
async fn what_is_kept_after_the_end_goes_when_the_spec_says() {
    let world = World::new("retention", SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    world.create_task("kept", "app", &json!({"retention": {"podSeconds": 3600}})).await;
    assert_eq!(succeeded(&world.ended("kept").await).1, "Completed");
    left(&world, (1, 2, 1)).await;
    let pod = world.pod("kept").await.name_any();
    let params = LogParams { container: Some("agent".into()), ..LogParams::default() };
    let mut log = String::new();
    for _ in 0..600 {
        // Until the node has told of the container there is no log to be had, even when the work is over.
        log = world.api::<Pod>().logs(&pod, &params).await.unwrap_or_default();
        if !log.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(!log.is_empty(), "the log is what the pod is kept for");

    change(&world, json!({"retention": {"podSeconds": 0}})).await;
    left(&world, (0, 2, 1)).await;
    change(&world, json!({"retention": {"artifactSeconds": 0}})).await;
    left(&world, (0, 0, 0)).await;
    let task = world.api::<AgentTask>().get("kept").await.expect("the task stays");
    assert!(task.status.expect("a status").result.is_some(), "and its result");
    change(&world, json!({"ttlSecondsAfterFinished": 1})).await;
    gone(&world, "kept").await;
    world.end().await;
}

#[tokio::test]
async fn a_task_goes_by_itself_when_its_time_is_over() {
    let world = World::new("ttl", SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    let spec = json!({"retention": {"podSeconds": 2, "artifactSeconds": 4}, "ttlSecondsAfterFinished": 8});
    world.create_task("brief", "app", &spec).await;
    assert_eq!(succeeded(&world.ended("brief").await).1, "Completed");
    gone(&world, "brief").await;
    left(&world, (0, 0, 0)).await;
    world.end().await;
}

async fn gone(world: &World, task: &str) {
    for _ in 0..900 {
        if world.api::<AgentTask>().get_opt(task).await.expect("an answer").is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("{task} stays:\n{}", world.description(task).await);
}
