//! Passes that meet lost requests, old views, and objects that are not what they should be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::runtime::controller::Action;
use serde_json::json;

use super::fixtures::{self, NAMESPACE, id};
use super::server::Fault;
use super::{ATTEMPT, TASK, World, agent_ends_well, assert_old_views_are_harmless, is_write, life};
use crate::api::AgentTask;
use crate::controller::caches::Guarded;
use crate::controller::observed::Epoch;
use crate::controller::reconcile::{pass_again_if_stale, reconcile};
use crate::controller::unreadable;

const ATTEMPT_KIND: &str = "AgentAttempt";

#[tokio::test]
async fn whatever_request_fails_the_end_is_the_same() {
    let sound = World::new();
    life(&sound).await;
    let requests = sound.server.asked_count();
    let expected = sound.server.masked();
    assert!(requests > 30, "{requests}");
    assert_eq!(sound.server.names("events").len(), 2);
    for fault in [Fault::LostRequest, Fault::LostAnswer] {
        for nth in 0..requests {
            let world = World::new();
            world.server.fail(nth, fault);
            life(&world).await;
            assert_eq!(world.server.masked(), expected, "{fault:?} of request {nth}");
            assert_eq!(
                world.server.names("events"),
                sound.server.names("events"),
                "{fault:?} of request {nth}"
            );
        }
    }
}

/// As for an end that the agent tells: what the pod told is not forgotten with the pod.
#[tokio::test]
async fn an_end_that_the_controller_finds_is_the_same_whichever_request_fails() {
    let sandbox = |state: serde_json::Value| json!({"name": "sandbox", "image": "sandbox:1", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let no_image = sandbox(json!({"waiting": {"reason": "ErrImageNeverPull", "message": "not there"}}));
    let killed = sandbox(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}));
    for (expected, phase, container) in
        [("ImagePullFailed", "Pending", no_image), ("OutOfMemory", "Failed", killed)]
    {
        let life = async |world: &World| {
            world.settle().await;
            world.kubelet_reports(json!({"phase": phase, "startTime": "1970-01-01T00:16:40Z", "containerStatuses": [container]}));
            world.settle().await;
        };
        let sound = World::new();
        life(&sound).await;
        assert_eq!(sound.succeeded().1, expected);
        let (requests, end) = (sound.server.asked_count(), sound.server.masked());
        for fault in [Fault::LostRequest, Fault::LostAnswer] {
            for nth in 0..requests {
                let world = World::new();
                world.server.fail(nth, fault);
                life(&world).await;
                assert_eq!(world.server.masked(), end, "{fault:?} of request {nth}");
            }
        }
    }
}

/// A watch may show any earlier state of the world. A pass that begins from one must end in the present.
#[tokio::test]
async fn no_old_view_leads_to_a_wrong_step() {
    let mut world = World::new();
    let mut views = vec![world.view()];
    let say = |world: &World, name: &str| world.send(fixtures::message(name, "Prompt", 10));
    world.settle().await;
    views.push(world.view());
    world.kubelet_reports(fixtures::running());
    world.agent_reports(json!({"phase": "Running", "epoch": 1, "turn": 1}));
    world.settle().await;
    views.push(world.view());
    say(&world, "a");
    views.push(world.view());
    world.settle().await;
    views.push(world.view());
    world.agent_reports(json!({"phase": "Running", "epoch": 1, "turn": 1, "inboxSeq": 1}));
    world.settle().await;
    views.push(world.view());
    say(&world, "b");
    world.settle().await;
    assert_old_views_are_harmless(&mut world, &views).await;
    agent_ends_well(&world);
    views.push(world.view());
    world.settle().await;
    views.push(world.view());
    assert_old_views_are_harmless(&mut world, &views).await;
    assert_eq!(world.succeeded().1, "Completed");
}

#[tokio::test]
async fn a_pass_from_a_present_view_reads_nothing_while_all_is_well() {
    let mut world = World::new();
    world.settle().await;
    world.kubelet_reports(fixtures::running());
    world.agent_reports(json!({"phase": "Running", "epoch": 1}));
    world.settle().await;
    let (task, caches) = world.view();
    world.context.caches = caches;
    world.server.take_asked();
    pass_again_if_stale(&world.context, &task, &id()).await.unwrap();
    assert_eq!(world.server.take_asked(), []);
}

#[tokio::test]
async fn a_patch_that_is_not_what_it_says_is_not_passed_on() {
    let world = World::new();
    world.settle().await;
    agent_ends_well(&world);
    world.server.change("configmaps", &format!("{}-patch", id().attempt_name(1)), |config_map| {
        let other = zstd::encode_all(&b"another patch\n"[..], 3).unwrap();
        config_map["binaryData"] = json!({"patch.zst": STANDARD.encode(other)});
    });
    world.settle().await;
    let (_, reason, message) = world.succeeded();
    assert_eq!(reason, "InternalError");
    assert!(message.contains("length and digest"), "{message}");
    let task = world.server.get(TASK, "fix").unwrap();
    assert!(task["status"]["result"].is_null(), "{task}");
}

#[tokio::test]
async fn objects_of_others_with_our_names_are_left_alone() {
    for resource in ["pods", "roles", "configmaps", ATTEMPT] {
        let world = World::new();
        let name = match resource {
            "configmaps" => format!("{}-patch", id().attempt_name(1)),
            ATTEMPT => id().attempt_name(1),
            _ => id().pod_name(1, Epoch::Work),
        };
        let foreign = if resource == ATTEMPT {
            let mut foreign = serde_json::to_value(fixtures::stored_attempt()).unwrap();
            foreign["metadata"]["ownerReferences"][0]["uid"] = json!("somebody");
            foreign
        } else {
            json!({"metadata": {"name": name, "namespace": NAMESPACE}})
        };
        world.server.put(resource, foreign);
        let before = world.server.get(resource, &name);
        for _ in 0..3 {
            let done = world.once().await.unwrap();
            assert!(done.again.is_some_and(|again| again.as_secs() >= 10), "{resource}: {done:?}");
        }
        let (status, reason, message) = world.succeeded();
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "WaitingForReference"), "{resource}");
        assert!(message.contains(&name) && message.contains("kubectl delete"), "{resource}: {message}");
        assert_eq!(world.server.get(resource, &name), before, "{resource}");
        // Whoever put it there takes it away.
        world.server.remove(resource, &name);
        world.settle().await;
        assert_eq!(world.succeeded().1, "Preparing", "{resource}");
    }
}

/// Two controllers that overlap may leave this: the one has recorded the end while the other one made the pod.
#[tokio::test]
async fn a_pod_that_was_made_beside_the_end_goes_with_its_rights() {
    const KINDS: [&str; 4] = ["pods", "roles", "rolebindings", "serviceaccounts"];
    for retention in [0, 60] {
        let world = World::new().with_spec(&json!({"retention": {"podSeconds": retention}}));
        world.settle().await;
        let name = id().pod_name(1, Epoch::Work);
        let made = KINDS.map(|kind| (kind, world.server.get(kind, &name).unwrap()));
        world.server.remove("pods", &name);
        world.settle().await;
        assert_eq!(world.succeeded().1, "SandboxLost");
        assert!(world.has_no_rights());
        made.into_iter().for_each(|(kind, object)| world.server.put(kind, object));
        world.settle().await;
        assert!(world.has_no_rights(), "retention {retention}");
        world.later(61);
        world.settle().await;
        assert_eq!(world.server.names("pods"), [] as [String; 0], "retention {retention}");
    }
}

#[tokio::test]
async fn an_attempt_that_was_replaced_by_somebody_is_a_lost_one() {
    let world = World::new();
    world.settle().await;
    world.server.remove(ATTEMPT, &id().attempt_name(1));
    let mut foreign = serde_json::to_value(fixtures::stored_attempt()).unwrap();
    foreign["metadata"]["ownerReferences"][0]["uid"] = json!("somebody");
    world.server.put(ATTEMPT, foreign);
    world.settle().await;
    assert_eq!(world.succeeded().1, "SandboxLost");
    assert!(!world.server.names(ATTEMPT).is_empty(), "it is left alone");
}

#[tokio::test]
async fn a_task_of_a_newer_version_is_left_alone_and_says_so() {
    let world = World::new();
    world.settle().await;
    let read = |world: &World| {
        let task = world.server.get(TASK, "fix").unwrap();
        Arc::new(serde_json::from_value::<Guarded<AgentTask>>(task).unwrap())
    };
    world.server.change(TASK, "fix", |task| task["spec"]["model"] = json!({"reasoningEffort": "Extreme"}));
    let before = world.server.masked();
    let World { server, clock, context } = world;
    let context = Arc::new(context);
    let world = World { server: server.clone(), ..World::new() };
    let action = reconcile(read(&world), context.clone()).await.unwrap();
    assert_eq!(action, Action::requeue(unreadable::AGAIN));
    let (status, reason, message) = world.succeeded();
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "WaitingForReference"));
    assert!(message.contains("Extreme") && message.contains("upgrade"), "{message}");
    let key = (TASK.to_owned(), "fix".to_owned());
    let mut after = server.masked();
    for field in ["conditions", "observedGeneration"] {
        after.get_mut(&key).unwrap()["status"][field] = before[&key]["status"][field].clone();
    }
    assert_eq!(after, before, "everything else is as it was");

    server.take_asked();
    clock.0.fetch_add(1_000, Ordering::Relaxed);
    reconcile(read(&world), context.clone()).await.unwrap();
    assert_eq!(server.take_asked().into_iter().find(is_write), None, "it is said once");
    server.change(TASK, "fix", |task| task["status"]["conditions"][0]["status"] = json!("True"));
    let end = server.masked();
    reconcile(read(&world), context).await.unwrap();
    assert_eq!(server.masked(), end, "an end is for good");
}

#[tokio::test]
async fn what_a_task_needs_and_a_newer_version_has_stored_is_shown_on_the_task() {
    let attempt = id().attempt_name(1);
    let cases = [
        ("AgentEnvironment", "agentenvironments", "default", "network", json!({"mode": "Dreams"})),
        ("ModelProvider", "modelproviders", "default", "api", json!("Telepathy")),
        (ATTEMPT_KIND, ATTEMPT, attempt.as_str(), "index", json!("first")),
    ];
    for (kind, resource, name, field, value) in cases {
        let world = World::new();
        if kind == ATTEMPT_KIND {
            world.settle().await;
        }
        let sound = world.server.get(resource, name).unwrap();
        world.server.change(resource, name, |object| {
            object["spec"][field] = value.clone();
        });
        let task = world.server.get(TASK, "fix").unwrap();
        let task = Arc::new(serde_json::from_value::<Guarded<AgentTask>>(task).unwrap());
        let World { server, context, .. } = world;
        let context = Arc::new(context);
        let world = World { server: server.clone(), ..World::new() };
        let pods = server.names("pods");
        let action = reconcile(task.clone(), context.clone()).await.unwrap();
        assert_eq!(action, Action::requeue(unreadable::AGAIN), "{kind}");
        let (status, reason, message) = world.succeeded();
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "WaitingForReference"), "{kind}");
        assert!(message.contains(kind) && message.contains("upgrade Podwright"), "{kind}: {message}");
        assert_eq!(server.names("pods"), pods, "{kind}: its pod is left as it is");
        // Whoever mends the object brings a pass, and the task goes on.
        server.change(resource, name, |object| *object = sound.clone());
        reconcile(task, context).await.unwrap();
        assert_eq!(world.succeeded().1, "Preparing", "{kind}");
    }
}
