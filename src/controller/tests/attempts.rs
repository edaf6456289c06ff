//! Several attempts at one task, and which of them counts.

use serde_json::{Value, json};

use super::fixtures::{self, id, task_json};
use super::{ATTEMPT, PATCH, TASK, World, work_of};
use crate::api::AgentTask;
use crate::controller::observe::observe_live;
use crate::controller::observed::{Epoch, TaskId};
use crate::controller::reconcile::pass;
use crate::names::TRANSCRIPT_KEY;

fn world(count: i32, policy: &str) -> World {
    let spec = json!({"attempts": {"count": count, "selection": {"policy": policy}}});
    let world = World::new().with_spec(&spec);
    if policy == "FirstVerified" {
        return world.with_spec(&json!({"verification": [{"name": "test", "command": "make test"}]}));
    }
    world
}

fn works(world: &World, index: i32) {
    world.agent_of_reports(
        index,
        json!({"phase": "Running", "epoch": 1, "step": index, "activeSeconds": 10, "cost": "0.50",
            "usage": {"inputTokens": 100, "consecutiveFailures": index}}),
    );
}

fn ends(world: &World, index: i32, reason: &str) {
    let mut report = work_of(world, index);
    report["phase"] = json!("Ended");
    report["lastMessage"] = json!(format!("the answer of {index}"));
    report["outcome"] = json!({"reason": reason, "message": format!("attempt {index} says {reason}")});
    world.agent_of_reports(index, report);
}

/// The attempt's agent is done, and then the pod that verifies says this.
async fn verifies(world: &World, index: i32, passed: bool) {
    let mut report = work_of(world, index);
    report["phase"] = json!("Verifying");
    world.agent_of_reports(index, report.clone());
    world.settle().await;
    let (state, reason) = if passed { ("Passed", "Completed") } else { ("Failed", "VerificationFailed") };
    report["phase"] = json!("Ended");
    report["epoch"] = json!(2);
    report["verification"] = json!([{"name": "test", "state": state}]);
    report["outcome"] = json!({"reason": reason, "message": "so it is"});
    world.agent_of_reports(index, report);
    world.settle().await;
}

fn attempts(world: &World) -> Vec<Value> {
    world.task()["status"]["attempts"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn attempts_run_side_by_side_each_with_what_is_its_own() {
    let world = world(3, "Manual");
    world.settle().await;
    for resource in ["pods", "roles", "rolebindings", "serviceaccounts", ATTEMPT] {
        assert_eq!(world.server.names(resource).len(), 3, "{resource}");
    }
    assert_eq!(world.server.names("configmaps").len(), 6);
    let users: std::collections::BTreeSet<_> = (1..=3)
        .map(|index| {
            let pod = world.server.get("pods", &id().pod_name(index, Epoch::Work)).unwrap();
            pod["spec"]["securityContext"]["runAsUser"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(users.len(), 3, "each attempt has a user of its own");
    (1..=3).for_each(|index| works(&world, index));
    world.settle().await;
    assert_eq!(world.succeeded().1, "Running");
    let status = world.task()["status"].clone();
    assert_eq!(status["usage"]["inputTokens"], 300);
    assert_eq!(status["usage"]["consecutiveFailures"], 3, "in a row: those of different attempts are not");
    assert_eq!((&status["cost"], &status["activeSeconds"]), (&json!("1.50"), &json!(30)));
    let steps: Vec<_> = attempts(&world).iter().map(|attempt| attempt["step"].clone()).collect();
    assert_eq!(steps, [1, 2, 3]);
}

#[tokio::test]
async fn a_task_ends_when_all_its_attempts_have_and_is_good_when_one_is() {
    let world = world(3, "Manual");
    world.settle().await;
    ends(&world, 1, "ModelFailed");
    world.settle().await;
    assert_eq!(world.succeeded().0, "Unknown");
    assert_eq!(world.server.names("pods").len(), 2, "the first one's pod is gone");
    assert_eq!(world.server.names("rolebindings").len(), 2);
    assert_eq!(attempts(&world)[0]["reason"], "ModelFailed");
    ends(&world, 3, "Completed");
    world.settle().await;
    // What an attempt has come to is for good, whatever it says afterwards.
    ends(&world, 1, "Completed");
    ends(&world, 2, "BudgetExceeded");
    world.settle().await;
    let (status, reason, message) = world.succeeded();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Completed"));
    assert!(
        message.starts_with("1 of 3 attempts succeeded (3)") && message.contains("SelectAttempt"),
        "{message}"
    );
    let status = world.task()["status"].clone();
    assert_eq!((&status["result"], &status["selectedAttempt"]), (&Value::Null, &Value::Null));
    let reasons: Vec<_> = attempts(&world).iter().map(|attempt| attempt["reason"].clone()).collect();
    assert_eq!(reasons, ["ModelFailed", "BudgetExceeded", "Completed"]);
    assert!(world.has_no_rights() && world.server.names("pods").is_empty());
}

#[tokio::test]
async fn when_no_attempt_succeeds_each_ones_reason_is_told() {
    let world = world(2, "Manual");
    world.settle().await;
    ends(&world, 1, "ModelFailed");
    world.server.remove("pods", &id().pod_name(2, Epoch::Work));
    world.settle().await;
    let (status, reason, message) = world.succeeded();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ModelFailed"));
    assert!(
        message.contains("attempt 1 ModelFailed: attempt 1 says")
            && message.contains("attempt 2 SandboxLost"),
        "{message}"
    );
}

#[tokio::test]
async fn a_person_selects_an_attempt_once_all_have_ended_and_only_one() {
    let world = world(2, "Manual");
    world.settle().await;
    world.say("early", &json!({"kind": "SelectAttempt", "attempt": 2}), 10);
    world.say("none", &json!({"kind": "SelectAttempt", "attempt": 4}), 11);
    world.settle().await;
    assert_eq!(
        (world.accepted("early").as_str(), world.accepted("none").as_str()),
        ("Unknown/NotEndedYet", "False/NoSuchAttempt")
    );
    ends(&world, 1, "Completed");
    ends(&world, 2, "Completed");
    world.settle().await;
    let end = world.succeeded();
    assert_eq!(world.accepted("early"), "True/Selected");
    let status = world.task()["status"].clone();
    assert_eq!((&status["selectedAttempt"], &status["result"]["attempt"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&status["result"]["message"], &status["result"]["patch"]["inline"]),
        (&json!("the answer of 2"), &json!(PATCH))
    );
    world.say("late", &json!({"kind": "SelectAttempt", "attempt": 1}), 5_000);
    world.say("again", &json!({"kind": "SelectAttempt", "attempt": 2}), 5_001);
    world.settle().await;
    assert_eq!(
        (world.accepted("late").as_str(), world.accepted("again").as_str()),
        ("False/AlreadySelected", "True/Selected")
    );
    assert_eq!(world.task()["status"]["selectedAttempt"], 2);
    assert_eq!(world.succeeded(), end, "nothing else changes");
}

#[tokio::test]
async fn a_task_goes_on_with_the_selected_attempt_and_waits_for_its_selection() {
    let world = world(2, "Manual");
    world.settle().await;
    let transcript = |index| format!("{}-transcript", id().attempt_name(index));
    for index in 1..=2 {
        let name = transcript(index);
        world.server.change("configmaps", &name, |map| map["binaryData"] = json!({(TRANSCRIPT_KEY): ""}));
        ends(&world, index, "Completed");
        world.server.change(ATTEMPT, &id().attempt_name(index), |attempt| {
            attempt["status"]["workspace"]["baseCommit"] = json!("ab".repeat(20));
            attempt["status"]["transcript"] =
                json!({"configMapName": name, "key": TRANSCRIPT_KEY, "sha256": "00", "bytes": 1});
        });
    }
    world.settle().await;
    let mut anew = task_json();
    anew["metadata"]["name"] = json!("anew");
    anew["metadata"]["uid"] = json!("another");
    anew["spec"]["continueFrom"] = json!({"taskName": "fix"});
    world.server.put(TASK, anew);
    let task: AgentTask = fixtures::read(world.server.get(TASK, "anew").unwrap());
    let anew = TaskId::of(&task).unwrap();
    let look = async || {
        let observed = observe_live(&world.context.client, &anew, &task).await.unwrap();
        pass(&world.context, observed).await.unwrap();
        world.server.get(TASK, "anew").unwrap()["status"]["conditions"][0]["message"].clone()
    };
    let waits = look().await;
    assert!(waits.as_str().unwrap().contains("none is selected"), "{waits}");

    world.say("choice", &json!({"kind": "SelectAttempt", "attempt": 2}), 10);
    world.settle().await;
    look().await;
    let attempt = world.server.get(ATTEMPT, &anew.attempt_name(1)).unwrap();
    assert_eq!(attempt["spec"]["job"]["continueFrom"]["transcript"]["configMapName"], transcript(2));
}

#[tokio::test]
async fn an_attempt_without_a_result_can_not_be_selected() {
    let world = world(2, "Manual");
    world.settle().await;
    ends(&world, 1, "Completed");
    world.server.remove("pods", &id().pod_name(2, Epoch::Work));
    world.settle().await;
    world.say("lost", &json!({"kind": "SelectAttempt", "attempt": 2}), 2_000);
    world.say("good", &json!({"kind": "SelectAttempt", "attempt": 1}), 2_001);
    world.settle().await;
    assert_eq!(
        (world.accepted("lost").as_str(), world.accepted("good").as_str()),
        ("False/NoResult", "True/Selected")
    );
    assert_eq!(world.task()["status"]["selectedAttempt"], 1);
}

#[tokio::test]
async fn the_lowest_attempt_that_was_verified_is_taken() {
    let world = world(3, "FirstVerified");
    world.settle().await;
    verifies(&world, 3, true).await;
    verifies(&world, 1, false).await;
    assert_eq!(world.task()["status"]["result"], Value::Null, "not before all have ended");
    verifies(&world, 2, true).await;
    let (status, reason, message) = world.succeeded();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Completed"));
    assert!(message.contains("2 of 3 attempts succeeded (2, 3); attempt 2 is selected"), "{message}");
    let status = world.task()["status"].clone();
    assert_eq!((&status["selectedAttempt"], &status["result"]["verified"]), (&json!(2), &json!(true)));
    let verified: Vec<_> = attempts(&world).iter().map(|attempt| attempt["verified"].clone()).collect();
    assert_eq!(verified, [false, true, true]);
}

#[tokio::test]
async fn an_attempt_that_was_deleted_meanwhile_is_not_taken() {
    let world = world(2, "FirstVerified");
    world.settle().await;
    verifies(&world, 1, true).await;
    world.server.remove(ATTEMPT, &id().attempt_name(1));
    verifies(&world, 2, true).await;
    let (_, reason, message) = world.succeeded();
    assert_eq!(reason, "Completed");
    assert!(message.contains("attempt 2 is selected"), "{message}");
    assert_eq!(world.task()["status"]["result"]["attempt"], 2);
}

#[tokio::test]
async fn where_none_was_verified_a_person_may_choose() {
    let world = world(2, "FirstVerified");
    world.settle().await;
    verifies(&world, 1, false).await;
    verifies(&world, 2, false).await;
    assert_eq!(world.succeeded().1, "VerificationFailed");
    assert_eq!(world.task()["status"]["result"], Value::Null);
    world.say("anyway", &json!({"kind": "SelectAttempt", "attempt": 2}), 5_000);
    world.settle().await;
    assert_eq!(world.accepted("anyway"), "True/Selected");
    let result = world.task()["status"]["result"].clone();
    assert_eq!((&result["attempt"], &result["verified"]), (&json!(2), &json!(false)));
    assert_eq!(world.succeeded().1, "VerificationFailed");
}

#[tokio::test]
async fn messages_reach_the_attempt_that_they_name_or_all() {
    let world = world(2, "Manual");
    world.settle().await;
    (1..=2).for_each(|index| works(&world, index));
    world.say("one", &json!({"kind": "Prompt", "text": "a", "attempt": 2}), 10);
    world.say("all", &json!({"kind": "Prompt", "text": "b"}), 11);
    world.settle().await;
    let inbox = |index: i32| {
        let attempt = world.server.get(ATTEMPT, &id().attempt_name(index)).unwrap();
        let entries = attempt["spec"]["inbox"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((inbox(1), inbox(2)), (vec!["b".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
    let takes = |index: i32, seq: i64| {
        world.agent_of_reports(index, json!({"phase": "Running", "epoch": 1, "inboxSeq": seq}));
    };
    takes(1, 1);
    world.settle().await;
    assert_eq!(world.accepted("all"), "Unknown/Delivered", "not every one that it is meant for has it");
    takes(2, 2);
    world.settle().await;
    assert_eq!(
        (world.accepted("one").as_str(), world.accepted("all").as_str()),
        ("True/HandedOver", "True/HandedOver")
    );
    assert_eq!((inbox(1), inbox(2)), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn one_attempt_or_all_can_be_cancelled_and_all_are_held_back() {
    let world = world(2, "Manual");
    world.server.change(TASK, "fix", |task| task["spec"]["suspend"] = json!(true));
    world.settle().await;
    world.say("one", &json!({"kind": "Cancel", "attempt": 1}), 10);
    world.settle().await;
    assert_eq!(
        (world.succeeded().1.as_str(), world.accepted("one").as_str()),
        ("Suspended", "True/HandedOver")
    );
    assert_eq!(attempts(&world)[0]["reason"], "Cancelled");
    world.server.change(TASK, "fix", |task| task["spec"]["suspend"] = json!(false));
    world.settle().await;
    assert_eq!(
        world.server.names("pods"),
        [id().pod_name(2, Epoch::Work)],
        "the cancelled one never gets a pod"
    );
    works(&world, 2);
    world.say("all", &json!({"kind": "Cancel"}), 20);
    world.settle().await;
    assert_eq!(world.accepted("all"), "Unknown/Delivered");
    ends(&world, 2, "Cancelled");
    world.settle().await;
    assert_eq!(
        (world.succeeded().1.as_str(), world.accepted("all").as_str()),
        ("Cancelled", "True/HandedOver")
    );
}

#[tokio::test]
async fn deletion_and_retention_take_every_attempt() {
    let retained =
        world(2, "Manual").with_spec(&json!({"retention": {"podSeconds": 60, "artifactSeconds": 600}}));
    retained.settle().await;
    (1..=2).for_each(|index| ends(&retained, index, "Completed"));
    retained.settle().await;
    assert_eq!(retained.server.names("pods").len(), 2);
    retained.later(61);
    retained.settle().await;
    assert!(retained.server.names("pods").is_empty());
    retained.later(600);
    retained.settle().await;
    for resource in [ATTEMPT, "configmaps"] {
        assert!(retained.server.names(resource).is_empty(), "{resource}");
    }
    let deleted = world(2, "Manual");
    deleted.settle().await;
    deleted.server.remove(TASK, "fix");
    for resource in [ATTEMPT, "pods", "configmaps", "roles", "rolebindings", "serviceaccounts"] {
        assert!(deleted.server.names(resource).is_empty(), "{resource}");
    }
}
