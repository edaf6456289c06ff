//! Objects for tests, as small as the schema allows.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{AgentAttempt, AgentEnvironment, AgentMessage, AgentTask, ModelProvider};
use crate::controller::build::{AgentImage, StoredAttempt, attempt, children};
use crate::controller::observed::{Epoch, Observed, References, SecretFacts, SeenAttempt, TaskId};
use crate::controller::queue::Turn;
use crate::controller::validate::{ValidTask, Validity, validate};

pub(crate) const NAMESPACE: &str = "team";
pub(crate) const TASK_UID: &str = "0b3c7f0e-2c5e-4b8e-9a53-0a4f1c6d2e77";
pub(crate) const ATTEMPT_UID: &str = "5d1f7a52-5e8b-4f0a-8a35-3f1f0f6d9c11";

pub(crate) fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn id() -> TaskId {
    TaskId { namespace: NAMESPACE.into(), name: "fix".into(), uid: TASK_UID.into() }
}

pub(crate) fn task_json() -> Value {
    json!({
        "apiVersion": "podwright.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "fix", "namespace": NAMESPACE, "uid": TASK_UID, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "prompt": "mend the test",
            "repositories": [{"url": "https://git.example.com/team/app.git"}],
        },
        "status": {"observedGeneration": -1},
    })
}

pub(crate) fn task(change: impl FnOnce(&mut Value)) -> AgentTask {
    let mut value = task_json();
    change(&mut value);
    read(value)
}

pub(crate) fn environment_json() -> Value {
    json!({
        "apiVersion": "podwright.dev/v1alpha1",
        "kind": "AgentEnvironment",
        "metadata": {"name": "default", "namespace": NAMESPACE, "generation": 3},
        "spec": {"image": "sandbox:1"},
    })
}

pub(crate) fn environment(change: impl FnOnce(&mut Value)) -> AgentEnvironment {
    let mut value = environment_json();
    change(&mut value);
    read(value)
}

pub(crate) fn provider_json() -> Value {
    json!({
        "apiVersion": "podwright.dev/v1alpha1",
        "kind": "ModelProvider",
        "metadata": {"name": "default", "namespace": NAMESPACE, "generation": 5},
        "spec": {
            "api": "Responses",
            "baseURL": "https://api.example.com/v1",
            "models": [{"name": "first"}, {"name": "second", "capabilities": {"reasoning": true}}],
        },
    })
}

pub(crate) fn provider(change: impl FnOnce(&mut Value)) -> ModelProvider {
    let mut value = provider_json();
    change(&mut value);
    read(value)
}

pub(crate) fn references() -> References {
    References {
        environment: Some(environment(|_| {})),
        provider: Some(provider(|_| {})),
        ..References::default()
    }
}

pub(crate) fn secret(hosts: Option<&str>, keys: &[&str]) -> SecretFacts {
    let keys: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    SecretFacts { hosts: hosts.map(str::to_owned), keys }
}

pub(crate) fn valid(task: &AgentTask, references: &References) -> ValidTask {
    let validity = validate(task, &id(), references);
    let Validity::Ready(valid) = validity else { panic!("{validity:?}") };
    *valid
}

/// The stored AgentAttempt of the smallest task.
pub(crate) fn stored_attempt() -> AgentAttempt {
    let mut stored = attempt::attempt(&id(), 1, &valid(&task(|_| {}), &references()));
    stored.metadata.uid = Some(ATTEMPT_UID.into());
    stored.metadata.resource_version = Some("7".into());
    stored
}

/// The same with a status of its agent.
pub(crate) fn reporting(status: Value) -> AgentAttempt {
    AgentAttempt { status: Some(read(status)), ..stored_attempt() }
}

pub(crate) fn image() -> AgentImage {
    AgentImage {
        reference: "podwright:1".into(),
        pull_policy: "IfNotPresent".into(),
        closed_networks: Vec::new(),
    }
}

/// The pod of [`stored_attempt`] with a status.
pub(crate) fn pod(status: Value) -> Pod {
    let stored = stored_attempt();
    let parts = valid(&task(|_| {}), &references()).pod;
    let built = children(&StoredAttempt::of(&stored, Epoch::Work).unwrap(), &parts, &image());
    Pod { status: Some(read(status)), ..built.pod }
}

/// A pod in which everything runs, taken by its kubelet at second 100.
pub(crate) fn running() -> Value {
    let up = |name: &str| {
        json!({
            "name": name, "image": "x", "imageID": format!("{name}@sha256:1"), "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "1970-01-01T00:01:41Z"}},
        })
    };
    json!({
        "phase": "Running",
        "startTime": "1970-01-01T00:01:40Z",
        "containerStatuses": [up("agent"), up("sandbox")],
    })
}

pub(crate) fn message(name: &str, kind: &str, second: i64) -> AgentMessage {
    read(json!({
        "apiVersion": "podwright.dev/v1alpha1",
        "kind": "AgentMessage",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}"),
            "creationTimestamp": at(second).to_string(),
        },
        "spec": {"taskName": "fix", "kind": kind, "text": format!("text of {name}")},
    }))
}

/// A message whose sender was told.
pub(crate) fn accepted(message: AgentMessage, status: &str, second: i64) -> AgentMessage {
    let status = json!({"conditions": [{
        "type": "Accepted", "status": status, "reason": "x", "message": "",
        "lastTransitionTime": at(second).to_string(),
    }]});
    AgentMessage { status: Some(read(status)), ..message }
}

/// A task that can be run, seen live, with nothing made yet.
pub(crate) fn fresh() -> Observed {
    Observed {
        id: id(),
        task: Arc::new(task(|_| {})),
        attempts: vec![SeenAttempt { index: 1, ..SeenAttempt::default() }],
        messages: Vec::new(),
        references: Some(references()),
        turn: Turn::Free,
        live: true,
    }
}

/// The same world but for its first attempt.
pub(crate) fn seeing(mut observed: Observed, change: impl FnOnce(&mut SeenAttempt)) -> Observed {
    change(&mut observed.attempts[0]);
    observed
}

/// The same world around a task as it is stored now: what its status says of the attempts is known.
pub(crate) fn knowing(observed: Observed, task: AgentTask) -> Observed {
    let attempts = observed.attempts.into_iter().map(|seen| {
        let SeenAttempt { summary, .. } = SeenAttempt::recorded(&task, seen.index);
        SeenAttempt { summary, ..seen }
    });
    Observed { attempts: attempts.collect(), task: Arc::new(task), ..observed }
}

/// A task whose pod runs and whose agent has reported `status`.
pub(crate) fn at_work(status: Value) -> Observed {
    let observed = seeing(fresh(), |seen| {
        seen.attempt = Some(Arc::new(reporting(status)));
        seen.pod = Some(Arc::new(pod(running())));
    });
    Observed { references: None, ..observed }
}
