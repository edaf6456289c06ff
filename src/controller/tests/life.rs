//! A task from its creation to its end, and what it costs.

use serde_json::json;

use super::fixtures::{self, id};
use super::server::failure;
use super::{ATTEMPT, PATCH, TASK, World, agent_ends_well, is_write, life};
use crate::controller::error::{Error, ObserveError};
use crate::controller::observed::Epoch;
use crate::controller::reconcile::Done;

#[tokio::test]
async fn a_task_gets_its_pod_works_and_ends() {
    let world = World::new();
    world.settle().await;
    assert_eq!(world.succeeded().1, "Preparing");
    assert!(world.has_rights());
    assert_eq!(world.server.names("pods"), [id().pod_name(1, Epoch::Work)]);
    assert_eq!(world.server.names("configmaps").len(), 2);

    world.kubelet_reports(fixtures::running());
    world.agent_reports(
        json!({"phase": "Running", "epoch": 1, "turn": 1, "workspace": {"baseCommit": "abc"}}),
    );
    world.settle().await;
    assert_eq!(world.succeeded().1, "Running");

    agent_ends_well(&world);
    world.settle().await;
    let (status, reason, message) = world.succeeded();
    assert_eq!(
        (status.as_str(), reason.as_str(), message.as_str()),
        ("True", "Completed", "the work is done")
    );
    assert!(world.has_no_rights());
    assert!(world.server.names("pods").is_empty());
    let task = world.server.get(TASK, "fix").unwrap();
    assert_eq!(task["status"]["result"]["patch"]["inline"], PATCH);
    assert_eq!(task["status"]["result"]["message"], "I mended it.");
    assert_eq!(task["status"]["resolved"]["baseCommit"], "abc");
    assert_eq!(task["status"]["resolved"]["environmentGeneration"], 3);
    assert_eq!(task["status"]["resolved"]["imageDigest"], "sandbox@sha256:1");
    assert_eq!(world.server.names("configmaps").len(), 2, "artifacts outlive the end");
}

#[tokio::test]
async fn the_writes_of_a_task_stay_within_their_budget() {
    let world = World::new();
    life(&world).await;
    let asked = world.server.take_asked();
    let writes: Vec<_> = asked.iter().filter(|asked| is_write(asked)).collect();
    let of = |resource: &str| writes.iter().filter(|asked| asked.resource == resource).count();
    assert_eq!(of(TASK), 3, "{writes:#?}");
    assert_eq!(of("events"), 2);
    assert_eq!(of(ATTEMPT), 1);
    // With the agent's own: 2 artifacts filled, 2 statuses.
    assert!(writes.len() + 4 <= 20, "{} writes: {writes:#?}", writes.len());
}

#[tokio::test]
async fn a_settled_task_causes_no_write() {
    let world = World::new();
    world.settle().await;
    world.server.take_asked();
    world.once().await.unwrap();
    world.later(100);
    world.once().await.unwrap();
    let asked = world.server.take_asked();
    assert!(!asked.is_empty());
    assert_eq!(asked.into_iter().find(is_write), None);
    life(&world).await;
    world.server.take_asked();
    world.once().await.unwrap();
    assert_eq!(world.server.take_asked().into_iter().find(is_write), None);
}

#[tokio::test]
async fn deletion_at_any_moment_leaves_nothing() {
    let sound = World::new();
    life(&sound).await;
    // Deleted before the first pass, and after each of the steps of a life.
    for steps in 0..4 {
        let world = World::new();
        if steps > 0 {
            world.settle().await;
        }
        if steps > 1 {
            world.agent_reports(json!({"phase": "Running", "epoch": 1}));
            world.settle().await;
        }
        if steps > 2 {
            agent_ends_well(&world);
            world.settle().await;
        }
        world.server.remove(TASK, "fix");
        let outcome = world.once().await;
        assert!(matches!(outcome, Err(Error::Observe(ObserveError::Gone))), "{outcome:?}");
        for resource in [ATTEMPT, "pods", "configmaps", "roles", "rolebindings", "serviceaccounts"] {
            assert!(world.server.names(resource).is_empty(), "{resource} after {steps} steps");
        }
    }
}

#[tokio::test]
async fn an_end_is_for_good() {
    let world = World::new();
    life(&world).await;
    let end = world.succeeded();
    world.later(60);
    world.agent_reports(json!({"phase": "Running", "epoch": 1}));
    world.server.change(TASK, "fix", |task| {
        task["spec"]["suspend"] = json!(true);
        task["metadata"]["generation"] = json!(2);
    });
    world.settle().await;
    assert_eq!(world.succeeded(), end);
    assert!(world.server.names("pods").is_empty());
    let task = world.server.get(TASK, "fix").unwrap();
    assert_eq!(task["status"]["observedGeneration"], 2, "the change was seen");
}

#[tokio::test]
async fn a_lost_pod_is_never_made_again() {
    let world = World::new();
    world.settle().await;
    world.server.remove("pods", &id().pod_name(1, Epoch::Work));
    world.settle().await;
    assert_eq!(world.succeeded().1, "SandboxLost");
    assert!(world.server.names("pods").is_empty());
    assert!(world.has_no_rights());
}

#[tokio::test]
async fn a_full_quota_is_waited_for_and_a_refusal_ends_the_task() {
    let world = World::new();
    let quota =
        "pods \"pw\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4";
    world.server.refuse_pods(Some(failure(403, "Forbidden", quota)));
    let done = world.once().await.unwrap();
    assert!(done.again.is_some_and(|again| again.as_secs() <= 30), "{done:?}");
    let (_, reason, message) = world.succeeded();
    assert_eq!(reason, "Queued");
    assert!(message.contains(quota) && message.contains("raise the ResourceQuota"), "{message}");
    world.server.refuse_pods(None);
    world.settle().await;
    assert_eq!(world.succeeded().1, "Preparing");

    let world = World::new();
    let security = "pods \"pw\" is forbidden: violates PodSecurity \"restricted:latest\": seccompProfile";
    world.server.refuse_pods(Some(failure(403, "Forbidden", security)));
    world.settle().await;
    let (status, reason, message) = world.succeeded();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Refused"));
    assert!(message.contains("violates PodSecurity"), "{message}");
    assert!(world.has_no_rights(), "what was made for the pod goes with it");
}

/// A quota may count more than pods.
#[tokio::test]
async fn a_quota_on_anything_that_a_pod_needs_is_waited_for_and_shown() {
    for resource in [ATTEMPT, "configmaps", "serviceaccounts", "roles", "rolebindings"] {
        let world = World::new();
        let quota =
            format!("{resource} \"a\" is forbidden: exceeded quota: team, requested: count/{resource}=1");
        world.server.refuse(resource, Some(failure(403, "Forbidden", &quota)));
        let done = world.once().await.unwrap();
        assert!(done.again.is_some_and(|again| again.as_secs() <= 30), "{resource}: {done:?}");
        let (_, reason, message) = world.succeeded();
        assert_eq!(reason, "Queued", "{resource}");
        assert!(message.contains(&quota), "{message}");
        assert!(world.server.names("pods").is_empty(), "{resource}: no pod begins without what it needs");
        world.server.take_asked();
        world.once().await.unwrap();
        let asked = world.server.take_asked();
        assert!(asked.iter().all(|asked| asked.resource != "pods" || !is_write(asked)), "{asked:#?}");
        world.server.refuse(resource, None);
        world.settle().await;
        assert_eq!(world.succeeded().1, "Preparing", "{resource}");
        assert!(world.has_rights() && world.server.names("pods").len() == 1, "{resource}");
    }
}

/// The API server looks at the quota before it looks whether there is such an object.
#[tokio::test]
async fn what_a_task_has_is_not_asked_of_a_full_quota_again() {
    let refusal = Some(failure(403, "Forbidden", "exceeded quota: team"));
    for resource in ["configmaps", "serviceaccounts", "roles", "rolebindings"] {
        let world = World::new();
        world.server.refuse_pods(refusal.clone());
        world.once().await.unwrap();
        assert_eq!(world.succeeded().1, "Queued", "{resource}");
        world.server.refuse(resource, refusal.clone());
        world.settle().await;
        assert_eq!(world.succeeded().1, "Preparing", "{resource}");
    }
}

#[tokio::test]
async fn a_job_that_no_agent_has_seen_follows_what_it_names() {
    let world = World::new();
    world.server.refuse_pods(Some(failure(403, "Forbidden", "exceeded quota: team")));
    world.once().await.unwrap();
    world.server.change("agentenvironments", "default", |environment| {
        environment["spec"]["env"] = json!([{"name": "A", "value": "b"}]);
    });
    world.server.refuse_pods(None);
    world.settle().await;
    let attempt = world.server.get(ATTEMPT, &id().attempt_name(1)).unwrap();
    assert_eq!(attempt["spec"]["job"]["environment"]["env"][0]["value"], "b");
    assert_eq!(world.succeeded().1, "Preparing");
    // From now on the job is what it is.
    world.server.change("agentenvironments", "default", |environment| {
        environment["spec"]["env"] = json!([]);
    });
    world.settle().await;
    let attempt = world.server.get(ATTEMPT, &id().attempt_name(1)).unwrap();
    assert_eq!(attempt["spec"]["job"]["environment"]["env"][0]["value"], "b");
}

#[tokio::test]
async fn retention_keeps_and_collects() {
    let world = World::new();
    world.server.change(TASK, "fix", |task| {
        task["spec"]["retention"] = json!({"podSeconds": 60, "artifactSeconds": 600});
        task["spec"]["ttlSecondsAfterFinished"] = json!(6000);
    });
    life(&world).await;
    assert!(world.has_no_rights(), "rights go at once");
    assert_eq!(world.server.names("pods").len(), 1);
    let wait = |done: Done| done.again.map(|again| again.as_secs());
    assert_eq!(wait(world.once().await.unwrap()), Some(61));
    world.later(61);
    world.settle().await;
    assert!(world.server.names("pods").is_empty());
    assert_eq!(world.server.names("configmaps").len(), 2);
    world.later(540);
    world.settle().await;
    assert!(world.server.names("configmaps").is_empty());
    assert!(world.server.names(ATTEMPT).is_empty());
    assert_eq!(world.succeeded().1, "Completed");
    world.later(5400);
    world.once().await.unwrap();
    assert!(world.server.names(TASK).is_empty());
}

#[tokio::test]
async fn progress_is_copied_at_a_bounded_rate() {
    let world = World::new();
    world.settle().await;
    world.agent_reports(json!({"phase": "Running", "epoch": 1, "step": 1}));
    world.settle().await;
    world.server.take_asked();
    for step in 2..50 {
        world.agent_reports(json!({"phase": "Running", "epoch": 1, "step": step}));
        let done = world.once().await.unwrap();
        assert!(done.again.is_some_and(|again| again.as_secs() <= 10), "it is not forgotten: {done:?}");
    }
    assert_eq!(world.server.take_asked().into_iter().find(is_write), None);
    world.later(10);
    world.once().await.unwrap();
    let task = world.server.get(TASK, "fix").unwrap();
    assert_eq!(task["status"]["attempts"][0]["step"], 49);
}
