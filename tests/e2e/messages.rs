//! What people say to tasks, and what they are told.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use podwright::api::attempt::Phase;
use podwright::api::{AgentTask, Reason};
use serde_json::json;

use crate::work::transcript;
use crate::world::{World, succeeded};

const SCRIPT: &str = "scenarios: [{name: any, cycle: true, replies: [{output: [{text: Done.}]}]}]";

async fn world(prefix: &str) -> World {
    let world = World::new(prefix, SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    world
}

async fn set_suspend(world: &World, task: &str, suspend: bool) {
    let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
    let tasks: Api<AgentTask> = world.api();
    tasks.patch(task, &PatchParams::default(), &patch).await.expect("it can change");
}

#[tokio::test]
async fn more_messages_than_an_inbox_holds_arrive_all_and_in_order() {
    const SAID: usize = 20;
    let world = world("inbox").await;
    world.create_task("chat", "app", &json!({"suspend": true, "idle": {"keepSeconds": 600}})).await;
    world.reason("chat", Reason::Suspended).await;
    // Their names are in the opposite order.
    for n in 0..SAID {
        let text = format!("This is prompt number {n:02}.");
        let name = format!("m{:02}", SAID - n);
        world.say(&name, &json!({"taskName": "chat", "kind": "Prompt", "text": text})).await;
        assert_eq!(world.told(&name, "NoPodYet").await, "Unknown");
    }
    set_suspend(&world, "chat", false).await;
    world.pod("chat").await;
    for n in 0..SAID {
        let name = format!("m{:02}", SAID - n);
        assert_eq!(world.told(&name, "HandedOver").await, "True");
        let waiting = world.attempt("chat").await.spec.inbox.len();
        assert!(waiting <= 15, "{waiting} wait for the agent");
    }
    // It rests only when it has answered everything that it has taken in. In how many turns depends on when the
    // prompts came.
    let is_through = async || {
        let status = world.attempt("chat").await.status.unwrap_or_default();
        status.phase == Some(Phase::Idle) && status.inbox_seq >= i64::try_from(SAID).unwrap_or(i64::MAX)
    };
    let through = async {
        while !is_through().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), through).await.expect("it gets through with all prompts");
    world.say("stop", &json!({"taskName": "chat", "kind": "Cancel"})).await;
    world.ended("chat").await;
    let transcript = transcript(&world, "chat").await;
    let places: Vec<_> =
        (0..SAID).map(|n| transcript.find(&format!("prompt number {n:02}")).expect("it was said")).collect();
    assert!(places.is_sorted(), "{transcript}");
    world.end().await;
}

#[tokio::test]
async fn whoever_speaks_after_the_end_is_told_so() {
    let world = world("late").await;
    world.create_task("short", "app", &json!({})).await;
    assert_eq!(succeeded(&world.ended("short").await).1, "Completed");
    // Times of creation are whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for (name, kind) in [("more", "Prompt"), ("stop", "Cancel")] {
        world.say(name, &json!({"taskName": "short", "kind": kind, "text": "More."})).await;
        assert_eq!(world.told(name, "TaskEnded").await, "False");
    }
    assert_eq!(succeeded(&world.api::<AgentTask>().get("short").await.expect("the task")).1, "Completed");
    world.end().await;
}

#[tokio::test]
async fn a_stale_cancellation_does_not_end_a_later_task_of_the_name() {
    let world = world("stale").await;
    // Said to nobody, before there was a task.
    world.say("early", &json!({"taskName": "early", "kind": "Cancel"})).await;
    // Said to an earlier task.
    world.create_task("again", "app", &json!({"suspend": true})).await;
    world.say("stop", &json!({"taskName": "again", "kind": "Cancel"})).await;
    let first = world.ended("again").await;
    assert_eq!(succeeded(&first).1, "Cancelled");
    let tasks: Api<AgentTask> = world.api();
    tasks.delete("again", &Default::default()).await.expect("it can be deleted");
    let uid = first.uid().expect("a UID");
    let gone = kube::runtime::conditions::is_deleted(&uid);
    kube::runtime::wait::await_condition(tasks, "again", gone).await.expect("it goes");
    tokio::time::sleep(Duration::from_millis(1100)).await;

    for name in ["early", "again"] {
        world.create_task(name, "app", &json!({})).await;
    }
    for name in ["early", "again"] {
        let task = world.ended(name).await;
        assert_eq!(succeeded(&task).1, "Completed", "{name}: {}", succeeded(&task).2);
    }
    assert_eq!(world.told("early", "EarlierTask").await, "False");
    world.end().await;
}
