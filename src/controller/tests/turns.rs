//! Tasks that wait for one another.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::fixtures::{self, at, task_json};
use super::server::failure;
use super::{TASK, World};
use crate::api::AgentTask;
use crate::controller::caches::Guarded;
use crate::controller::observe::observe_live;
use crate::controller::observed::TaskId;
use crate::controller::reconcile::{Done, pass, reconcile};
use crate::controller::turns::next;

/// A world in which so many tasks run beside each other, with tasks of these names, a second between them.
fn world(limit: i64, names: &[&str]) -> World {
    let mut world = World::new();
    world.server.remove(TASK, "fix");
    world.server.change("modelproviders", "default", |provider| {
        provider["spec"]["limits"] = json!({"concurrentTasks": limit});
    });
    for (second, name) in (10..).zip(names) {
        let mut task = task_json();
        let uid = format!("0b3c7f0e-2c5e-4b8e-9a53-0000000000{second}");
        task["metadata"]["name"] = json!(name);
        task["metadata"]["uid"] = json!(uid);
        task["metadata"]["creationTimestamp"] = json!(at(second).to_string());
        world.server.put(TASK, task);
    }
    catch_up(&mut world);
    world
}

/// The watches show everything.
fn catch_up(world: &mut World) {
    world.context.caches = world.view().1;
}

async fn look(world: &World, name: &str) -> Done {
    let task: AgentTask = fixtures::read(world.server.get(TASK, name).unwrap());
    let id = TaskId::of(&task).unwrap();
    let observed = observe_live(&world.context.client, &id, &task).await.unwrap();
    pass(&world.context, observed).await.unwrap()
}

fn reason(world: &World, name: &str) -> String {
    let task = world.server.get(TASK, name).unwrap();
    task["status"]["conditions"][0]["reason"].as_str().unwrap().to_owned()
}

fn woken(world: &World) -> Vec<String> {
    let mut queue = world.context.queue.lock().unwrap();
    next(&world.context.caches, &mut queue).into_iter().map(|task| task.name).collect()
}

fn end(world: &mut World, name: &str) {
    world.server.change(TASK, name, |task| {
        task["status"]["conditions"][0] = json!({
            "type": "Succeeded", "status": "True", "reason": "Completed", "message": "",
            "lastTransitionTime": Timestamp::UNIX_EPOCH.to_string(),
        });
    });
    catch_up(world);
}

#[tokio::test]
async fn tasks_over_the_bound_wait_and_the_oldest_begins_when_one_ends() {
    let mut world = world(1, &["a", "b", "c"]);
    // The younger are looked at first, and let the oldest go ahead.
    look(&world, "c").await;
    look(&world, "b").await;
    assert_eq!((reason(&world, "b"), reason(&world, "c")), ("Queued".into(), "Queued".into()));
    look(&world, "a").await;
    assert_eq!(reason(&world, "a"), "Preparing");
    assert_eq!(world.server.names("pods").len(), 1);
    assert_eq!(world.server.names("agentattempts").len(), 1, "those that wait have nothing yet");
    catch_up(&mut world);
    assert_eq!(woken(&world), Vec::<String>::new());
    // Looked at again, they write nothing, and are not looked at again soon.
    let done = look(&world, "b").await;
    assert!(!done.wrote && done.again.is_some_and(|again| again.as_secs() >= 300), "{done:?}");

    end(&mut world, "a");
    assert_eq!(woken(&world), ["b"]);
    look(&world, "c").await;
    assert_eq!(reason(&world, "c"), "Queued", "it is older's turn");
    look(&world, "b").await;
    assert_eq!(reason(&world, "b"), "Preparing");
    catch_up(&mut world);
    assert_eq!(woken(&world), Vec::<String>::new());

    world.server.change("modelproviders", "default", |provider| provider["spec"]["limits"] = json!({}));
    look(&world, "c").await;
    assert_eq!(reason(&world, "c"), "Preparing");
}

#[tokio::test]
async fn passes_beside_each_other_do_not_take_the_same_place() {
    let world = world(2, &["a", "b", "c", "d"]);
    // No watch shows anything of it meanwhile.
    for name in ["a", "b", "c", "d"] {
        look(&world, name).await;
    }
    let reasons: Vec<String> = ["a", "b", "c", "d"].iter().map(|name| reason(&world, name)).collect();
    assert_eq!(reasons, ["Preparing", "Preparing", "Queued", "Queued"]);
    assert_eq!(world.server.names("pods").len(), 2);
}

#[tokio::test]
async fn a_task_that_waits_for_something_else_holds_nobody_up() {
    let mut world = world(1, &["a", "b"]);
    world.server.change(TASK, "a", |task| task["spec"]["environmentName"] = json!("missing"));
    look(&world, "a").await;
    assert_eq!(reason(&world, "a"), "WaitingForReference");
    catch_up(&mut world);
    assert_eq!(woken(&world), ["b"]);
    look(&world, "b").await;
    assert_eq!(reason(&world, "b"), "Preparing");
}

#[tokio::test]
async fn nobody_begins_before_it_is_known_who_runs() {
    let mut world = world(1, &["a"]);
    world.context.caches = crate::controller::caches::Caches::empty();
    let done = look(&world, "a").await;
    assert_eq!(reason(&world, "a"), "Queued");
    assert!(done.again.is_some_and(|again| again.as_secs() <= 2), "{done:?}");
    catch_up(&mut world);
    look(&world, "a").await;
    assert_eq!(reason(&world, "a"), "Preparing");
}

/// Makes a pass over each of these tasks in turn, as the runner does; says whether it went through.
async fn run(world: World, names: &[&str]) -> (World, Vec<bool>) {
    let World { server, clock, context } = world;
    let context = Arc::new(context);
    let mut outcomes = Vec::new();
    for name in names {
        let task: Guarded<AgentTask> = fixtures::read(server.get(TASK, name).unwrap());
        outcomes.push(reconcile(Arc::new(task), context.clone()).await.is_ok());
    }
    let context = Arc::into_inner(context).expect("no pass goes on");
    (World { server, clock, context }, outcomes)
}

#[tokio::test]
async fn a_task_whose_passes_fail_holds_nobody_up() {
    // Before it has an AgentAttempt, and after.
    for resource in ["agentattempts", "serviceaccounts", "pods"] {
        let mut world = world(1, &["a", "b", "c"]);
        world.server.refuse(resource, Some(failure(500, "InternalError", "a webhook is away")));
        let (failing, outcomes) = run(world, &["a", "a"]).await;
        assert_eq!(outcomes, [false, false], "{resource}");
        world = failing;
        catch_up(&mut world);
        assert_eq!(woken(&world), ["b"], "{resource}");
        world.server.refuse(resource, None);
        let (running, outcomes) = run(world, &["b", "a"]).await;
        assert_eq!(outcomes, [true, true], "{resource}");
        world = running;
        assert_eq!(
            (reason(&world, "a"), reason(&world, "b")),
            ("Queued".into(), "Preparing".into()),
            "{resource}"
        );
        // In its turn again, it comes before the younger.
        end(&mut world, "b");
        assert_eq!(woken(&world), ["a"], "{resource}");
    }
}

#[tokio::test]
async fn a_task_whose_pass_fails_after_its_pod_was_made_keeps_its_place() {
    let world = world(1, &["a", "b"]);
    world.server.refuse("roles", Some(failure(500, "InternalError", "a webhook is away")));
    let (world, outcomes) = run(world, &["a", "b"]).await;
    assert_eq!(outcomes, [false, true]);
    assert_eq!((world.server.names("pods").len(), reason(&world, "b").as_str()), (1, "Queued"));
}
