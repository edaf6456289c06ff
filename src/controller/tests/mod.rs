//! Whole passes against an API server in memory.

pub(super) mod fixtures;
mod server;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::events::Reporter;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::fixtures::{NAMESPACE, TASK_UID, at, environment_json, id, provider_json, task_json};
use self::server::{Asked, Fault, Server, failure};
use super::caches::{Caches, Guarded};
use super::context::Context;
use super::error::Error;
use super::observe::observe_live;
use super::reconcile::{Done, pass, pass_again_if_stale, reconcile};
use super::unreadable;
use crate::api::AgentTask;
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

const ATTEMPT: &str = "agentattempts";
const TASK: &str = "agenttasks";

#[derive(Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::Relaxed))
    }
}

struct World {
    server: Server,
    clock: Arc<SetClock>,
    context: Context,
}

impl World {
    /// A task that can be run, and what it names.
    fn new() -> Self {
        let server = Server::default();
        server.put(TASK, task_json());
        server.put("agentenvironments", environment_json());
        server.put("modelproviders", provider_json());
        let clock = Arc::new(SetClock::default());
        clock.0.store(1_000, Ordering::Relaxed);
        let client = server.client();
        let reporter = Reporter { controller: "podwright-controller".into(), instance: Some("test".into()) };
        let context = Context {
            client,
            caches: Caches::empty(),
            reporter,
            metrics: Arc::new(Metrics::new().unwrap()),
            agent: fixtures::image(),
            clock: clock.clone(),
            backoff: Mutex::default(),
            pace: Mutex::default(),
        };
        Self { server, clock, context }
    }

    fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn once(&self) -> Result<Done, Error> {
        // As after a restart: nothing is known but that there is a task.
        let known = fixtures::task(|_| {});
        let observed = observe_live(&self.context.client, &id(), &known).await?;
        pass(&self.context, observed).await
    }

    /// What watches show at this moment.
    fn view(&self) -> (Arc<AgentTask>, Caches) {
        let tasks: Vec<AgentTask> = self.server.all(TASK);
        let task = Arc::new(tasks[0].clone());
        let attempts = self.server.all(ATTEMPT);
        (task, Caches::showing(tasks, attempts, self.server.all("pods"), self.server.all("agentmessages")))
    }

    /// Makes passes until one has nothing to write. Failed ones are made again, as the runner does.
    async fn settle(&self) {
        for _ in 0..12 {
            if let Ok(Done { wrote: false, .. }) = self.once().await {
                return;
            }
        }
        panic!("no rest after 12 passes: {:#?}", self.server.take_asked());
    }

    fn agent_reports(&self, status: Value) {
        self.server.change(ATTEMPT, &id().attempt_name(), |attempt| attempt["status"] = status);
    }

    fn kubelet_reports(&self, status: Value) {
        self.server.change("pods", &id().pod_name(), |pod| pod["status"] = status);
    }

    fn succeeded(&self) -> (String, String, String) {
        let task = self.server.get(TASK, "fix").unwrap();
        let conditions = task["status"]["conditions"].as_array().unwrap();
        let of = |type_: &str| conditions.iter().find(|condition| condition["type"] == type_).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let succeeded = of("Succeeded");
        let ended = succeeded["status"] != "Unknown";
        assert_eq!(of("Reconciling")["status"] == "True", !ended, "{task}");
        assert_eq!(of("Stalled")["status"] == "True", succeeded["status"] == "False", "{task}");
        (text(&succeeded["status"]), text(&succeeded["reason"]), text(&succeeded["message"]))
    }

    /// Everything the agent needs to work is there.
    fn has_rights(&self) -> bool {
        ["rolebindings", "roles", "serviceaccounts"]
            .iter()
            .all(|resource| !self.server.names(resource).is_empty())
    }

    fn has_no_rights(&self) -> bool {
        ["rolebindings", "roles", "serviceaccounts"]
            .iter()
            .all(|resource| self.server.names(resource).is_empty())
    }
}

fn is_write(asked: &Asked) -> bool {
    asked.method != Method::GET
}

const PATCH: &str = "diff --git a/x b/x\n";

/// The agent fills the patch artifact and reports a good end.
fn agent_ends_well(world: &World) {
    let sha256: String = Sha256::digest(PATCH).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}-patch", id().attempt_name());
    let packed = zstd::encode_all(PATCH.as_bytes(), 3).unwrap();
    world.server.change("configmaps", &name, |config_map| {
        config_map["binaryData"] = json!({"patch.zst": STANDARD.encode(packed)});
    });
    world.agent_reports(json!({
        "phase": "Ended", "epoch": 1, "step": 4, "turn": 1, "activeSeconds": 30,
        "outcome": {"reason": "Completed", "message": "the work is done"},
        "lastMessage": "I mended it.",
        "workspace": {"baseCommit": "abc"},
        "usage": {"requests": 4, "inputTokens": 100, "outputTokens": 10},
        "patch": {
            "inline": PATCH, "files": 1, "bytes": PATCH.len(), "sha256": sha256, "baseCommit": "abc",
            "artifact": {"configMapName": name, "key": "patch.zst", "sha256": sha256, "bytes": PATCH.len()},
        },
    }));
}

/// A task from its creation to its end.
async fn life(world: &World) {
    world.settle().await;
    world.kubelet_reports(fixtures::running());
    world.agent_reports(
        json!({"phase": "Running", "epoch": 1, "turn": 1, "workspace": {"baseCommit": "abc"}}),
    );
    world.settle().await;
    agent_ends_well(world);
    world.settle().await;
}

#[tokio::test]
async fn a_task_gets_its_pod_works_and_ends() {
    let world = World::new();
    world.settle().await;
    assert_eq!(world.succeeded().1, "Preparing");
    assert!(world.has_rights());
    assert_eq!(world.server.names("pods"), [id().pod_name()]);
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

/// A watch may show any earlier state of the world. A pass that begins from one must end in the present.
#[tokio::test]
async fn no_old_view_leads_to_a_wrong_step() {
    let mut world = World::new();
    let mut views = vec![world.view()];
    let say = |world: &World, name: &str| {
        let message = serde_json::to_value(fixtures::message(name, "Prompt", 10)).unwrap();
        world.server.put("agentmessages", message);
    };
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

async fn assert_old_views_are_harmless(world: &mut World, views: &[(Arc<AgentTask>, Caches)]) {
    // Otherwise mere progress would wait for its time.
    world.later(60);
    world.settle().await;
    let present = world.server.masked();
    for (number, (task, caches)) in views.iter().enumerate() {
        world.context.caches = caches.clone();
        pass_again_if_stale(&world.context, task, &id()).await.unwrap();
        assert_eq!(world.server.masked(), present, "from view {number}");
    }
    world.context.caches = Caches::empty();
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
        assert!(matches!(outcome, Err(Error::Observe(super::error::ObserveError::Gone))), "{outcome:?}");
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
    world.server.remove("pods", &id().pod_name());
    world.settle().await;
    assert_eq!(world.succeeded().1, "SandboxLost");
    assert!(world.server.names("pods").is_empty());
    assert!(world.has_no_rights());
}

#[tokio::test]
async fn a_patch_that_is_not_what_it_says_is_not_passed_on() {
    let world = World::new();
    world.settle().await;
    agent_ends_well(&world);
    world.server.change("configmaps", &format!("{}-patch", id().attempt_name()), |config_map| {
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
async fn a_full_quota_is_waited_for_and_a_refusal_ends_the_task() {
    let world = World::new();
    let quota =
        "pods \"pw\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4";
    world.server.refuse_pods(Some(failure(403, "Forbidden", quota)));
    let done = world.once().await.unwrap();
    assert!(done.again.is_some_and(|again| again.as_secs() <= 30), "{done:?}");
    assert_eq!(world.succeeded().1, "Queued");
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
    let attempt = world.server.get(ATTEMPT, &id().attempt_name()).unwrap();
    assert_eq!(attempt["spec"]["job"]["environment"]["env"][0]["value"], "b");
    assert_eq!(world.succeeded().1, "Preparing");
    // From now on the job is what it is.
    world.server.change("agentenvironments", "default", |environment| {
        environment["spec"]["env"] = json!([]);
    });
    world.settle().await;
    let attempt = world.server.get(ATTEMPT, &id().attempt_name()).unwrap();
    assert_eq!(attempt["spec"]["job"]["environment"]["env"][0]["value"], "b");
}

#[tokio::test]
async fn objects_of_others_with_our_names_are_left_alone() {
    for resource in ["pods", "roles", "configmaps", ATTEMPT] {
        let world = World::new();
        let name = match resource {
            "configmaps" => format!("{}-patch", id().attempt_name()),
            ATTEMPT => id().attempt_name(),
            _ => id().pod_name(),
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

#[tokio::test]
async fn an_attempt_that_was_replaced_by_somebody_is_a_lost_one() {
    let world = World::new();
    world.settle().await;
    world.server.remove(ATTEMPT, &id().attempt_name());
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
async fn messages_reach_the_agent_once_and_in_order() {
    let world = World::new();
    let say = |name: &str, kind: &str, second: i64| {
        let message = serde_json::to_value(fixtures::message(name, kind, second)).unwrap();
        world.server.put("agentmessages", message);
    };
    let accepted = |name: &str| {
        let message = world.server.get("agentmessages", name).unwrap();
        let condition = &message["status"]["conditions"][0];
        format!("{}/{}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
    };
    let inbox = || {
        let attempt = world.server.get(ATTEMPT, &id().attempt_name()).unwrap();
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
        let message = fixtures::message(&format!("m{n:04}"), "Prompt", 10);
        world.server.put("agentmessages", serde_json::to_value(message).unwrap());
    }
    let last = fixtures::message("stop", "Cancel", 10);
    world.server.put("agentmessages", serde_json::to_value(last).unwrap());
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
    world.server.put("agentmessages", serde_json::to_value(fixtures::message("stop", "Cancel", 10)).unwrap());
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
    world.server.put("agentmessages", serde_json::to_value(fixtures::message("stop", "Cancel", 10)).unwrap());
    world.settle().await;
    assert_eq!(world.succeeded().1, "Cancelled");
    assert!(world.server.names("pods").is_empty());
    let message = world.server.get("agentmessages", "stop").unwrap();
    assert_eq!(message["status"]["conditions"][0]["status"], "True");
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
