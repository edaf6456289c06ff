//! What is said to a task, and what its senders are told.

use serde_json::json;

use super::fixtures::{self, TASK_UID, id};
use super::{ATTEMPT, World, agent_ends_well};
use crate::controller::observe::observe_live;

#[tokio::test]
async fn messages_reach_the_agent_once_and_in_order() {
    let world = World::new();
    let say = |name: &str, kind: &str, second: i64| world.send(fixtures::message(name, kind, second));
    let accepted = |name: &str| world.accepted(name);
    let inbox = || {
        let attempt = world.server.get(ATTEMPT, &id().attempt_name(1)).unwrap();
        let entries = attempt["spec"]["inbox"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| (entry["seq"].as_i64().unwrap(), entry["text"].clone()))
            .collect::<Vec<_>>()
    };
    world.settle().await;
    say("b", "Prompt", 10);
    say("a", "Prompt", 20);
    world.settle().await;
    assert_eq!(inbox(), [(1, json!("text of b")), (2, json!("text of a"))]);
    assert_eq!(accepted("a"), "Unknown/Delivered");
    let owner = world.server.get("agentmessages", "a").unwrap();
    assert_eq!(owner["metadata"]["ownerReferences"][0]["uid"], TASK_UID);

    world.agent_reports(json!({"phase": "Running", "epoch": 1, "inboxSeq": 1}));
    world.settle().await;
    assert_eq!(inbox(), [(2, json!("text of a"))]);
    assert_eq!(accepted("b"), "True/HandedOver");
    assert_eq!(accepted("a"), "Unknown/Delivered");
    say("c", "Prompt", 30);
    world.agent_reports(json!({"phase": "Running", "epoch": 1, "inboxSeq": 2}));
    world.settle().await;
    assert_eq!(inbox(), [(3, json!("text of c"))]);

    agent_ends_well(&world);
    say("d", "Prompt", 40);
    world.settle().await;
    assert_eq!(accepted("a"), "True/HandedOver");
    // The report of its end says nothing of what came last.
    assert_eq!(accepted("c"), "False/NotTaken");
    assert_eq!(accepted("d"), "False/NotTaken");
    say("e", "Prompt", 5_000);
    world.settle().await;
    assert_eq!(accepted("e"), "False/TaskEnded");
}

#[tokio::test]
async fn all_messages_are_read_up_to_a_bound() {
    let world = World::new();
    for n in 0..1_200 {
        world.send(fixtures::message(&format!("m{n:04}"), "Prompt", 10));
    }
    world.send(fixtures::message("stop", "Cancel", 10));
    // One of a kind that only a newer version knows hides none.
    let newer = json!({"metadata": {"name": "m0000-newer"}, "spec": {"taskName": "fix", "kind": "Sing"}});
    world.server.put("agentmessages", newer);
    let observed = observe_live(&world.context.client, &id(), &fixtures::task(|_| {})).await.unwrap();
    assert_eq!(observed.messages.len(), 1_201);
    assert_eq!(observed.messages.last().unwrap().metadata.name.as_deref(), Some("stop"));
}

#[tokio::test]
async fn a_cancelled_agent_that_does_not_end_is_ended() {
    let world = World::new();
    world.settle().await;
    world.kubelet_reports(fixtures::running());
    world.agent_reports(json!({"phase": "Running", "epoch": 1}));
    world.send(fixtures::message("stop", "Cancel", 10));
    world.settle().await;
    assert_eq!(world.succeeded().1, "Running", "the agent has its time");
    let done = world.once().await.unwrap();
    assert!(done.again.is_some_and(|again| again.as_secs() <= 121), "{done:?}");
    world.later(121);
    world.settle().await;
    assert_eq!(world.succeeded().1, "Cancelled");
    assert!(world.server.names("pods").is_empty());
}

#[tokio::test]
async fn a_task_that_is_cancelled_before_its_pod_never_gets_one() {
    let world = World::new();
    world.send(fixtures::message("stop", "Cancel", 10));
    world.settle().await;
    assert_eq!(world.succeeded().1, "Cancelled");
    assert!(world.server.names("pods").is_empty());
    let message = world.server.get("agentmessages", "stop").unwrap();
    assert_eq!(message["status"]["conditions"][0]["status"], "True");
}
