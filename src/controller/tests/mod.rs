//! Whole passes against an API server in memory.

mod archive;
mod attempts;
mod faults;
pub(super) mod fixtures;
mod life;
mod messages;
mod search;
mod server;
mod turns;
mod verification;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use kube::runtime::events::Reporter;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::fixtures::{at, environment_json, id, provider_json, task_json};
use self::server::{Asked, Server};
use super::caches::Caches;
use super::context::Context;
use super::error::Error;
use super::observe::observe_live;
use super::observed::Epoch;
use super::reconcile::{Done, pass, pass_again_if_stale};
use crate::api::{AgentMessage, AgentTask};
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

pub(super) struct World {
    pub(super) server: Server,
    clock: Arc<SetClock>,
    pub(super) context: Context,
}

impl World {
    /// A task that can be run, and what it names.
    pub(super) fn new() -> Self {
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
            store: None,
            clock: clock.clone(),
            backoff: Mutex::default(),
            pace: Mutex::default(),
            queue: Mutex::default(),
        };
        Self { server, clock, context }
    }

    pub(super) fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn once(&self) -> Result<Done, Error> {
        // As after a restart: nothing is known but that there is a task.
        let mut known = self.server.all::<AgentTask>(TASK).pop().unwrap_or_else(|| fixtures::task(|_| {}));
        known.status = None;
        let observed = observe_live(&self.context.client, &id(), &known).await?;
        pass(&self.context, observed).await
    }

    /// What watches show at this moment.
    fn view(&self) -> View {
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
        self.agent_of_reports(1, status);
    }

    fn agent_of_reports(&self, index: i32, status: Value) {
        self.server.change(ATTEMPT, &id().attempt_name(index), |attempt| attempt["status"] = status);
    }

    /// Changes the spec of the task before anything is made of it.
    fn with_spec(self, spec: &Value) -> Self {
        self.server.change(TASK, "fix", |task| {
            for (field, value) in spec.as_object().unwrap() {
                task["spec"][field] = value.clone();
            }
        });
        self
    }

    /// The task as it is stored.
    fn task(&self) -> Value {
        self.server.get(TASK, "fix").unwrap()
    }

    /// Stores a message as if somebody had sent it.
    fn send(&self, message: AgentMessage) {
        self.server.put("agentmessages", serde_json::to_value(message).unwrap());
    }

    fn say(&self, name: &str, spec: &Value, second: i64) {
        let mut message = serde_json::to_value(fixtures::message(name, "Prompt", second)).unwrap();
        message["spec"] = json!({"taskName": "fix"});
        for (field, value) in spec.as_object().unwrap() {
            message["spec"][field] = value.clone();
        }
        self.server.put("agentmessages", message);
    }

    /// What the sender of a message was told.
    fn accepted(&self, name: &str) -> String {
        let message = self.server.get("agentmessages", name).unwrap();
        let condition = &message["status"]["conditions"][0];
        format!(
            "{}/{}",
            condition["status"].as_str().unwrap_or("-"),
            condition["reason"].as_str().unwrap_or("-")
        )
    }

    fn kubelet_reports(&self, status: Value) {
        self.server.change("pods", &id().pod_name(1, Epoch::Work), |pod| pod["status"] = status);
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

const PATCH: &str = "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n";

/// The agent fills the patch artifact and reports a good end.
fn agent_ends_well(world: &World) {
    let mut report = work_of(world, 1);
    report["phase"] = json!("Ended");
    report["outcome"] = json!({"reason": "Completed", "message": "the work is done"});
    world.agent_reports(report);
}

/// The agent of an attempt fills the patch artifact. What it reports then, but for phase and outcome.
fn work_of(world: &World, index: i32) -> Value {
    let sha256: String = Sha256::digest(PATCH).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}-patch", id().attempt_name(index));
    let packed = zstd::encode_all(PATCH.as_bytes(), 3).unwrap();
    world.server.change("configmaps", &name, |config_map| {
        config_map["binaryData"] = json!({"patch.zst": STANDARD.encode(packed)});
    });
    json!({
        "epoch": 1, "step": 4, "turn": 1, "activeSeconds": 30,
        "lastMessage": "I mended it.",
        "workspace": {"baseCommit": "abc"},
        "usage": {"requests": 4, "inputTokens": 100, "outputTokens": 10},
        "patch": {
            "inline": PATCH, "files": 1, "bytes": PATCH.len(), "sha256": sha256, "baseCommit": "abc",
            "artifact": {"configMapName": name, "key": "patch.zst", "sha256": sha256, "bytes": PATCH.len()},
        },
    })
}

/// What watches showed at a moment: a task, and everything.
type View = (Arc<AgentTask>, Caches);

/// A pass from any of these views changes nothing of the present.
async fn assert_old_views_are_harmless(world: &mut World, views: &[View]) {
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
