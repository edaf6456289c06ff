//! What a person does beside creating a task and saying something to it: waits for a word of it, looks at its attempt,
//! tries its patch.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use podwright::api::conditions::{ACCEPTED, find};
use podwright::api::{AgentAttempt, AgentMessage, AgentTask, Reason};
use tempfile::TempDir;

use crate::git::git;
use crate::world::{World, succeeded};

impl World {
    /// The task, as soon as its condition Succeeded has this reason.
    pub(crate) async fn reason(&self, name: &str, reason: Reason) -> AgentTask {
        self.task_when(name, reason.as_str(), |task| succeeded(task).1 == reason.as_str()).await
    }

    /// Waits until the agent's log has a text. The status of a task may be 15 s late; the log is not.
    pub(crate) async fn logged(&self, task: &str, text: &str) {
        let pod = self.pod(task).await.name_any();
        let params = LogParams { container: Some("agent".into()), ..LogParams::default() };
        let mut log = String::new();
        for _ in 0..600 {
            // Before the container has started there is no log.
            log = self.api::<Pod>().logs(&pod, &params).await.unwrap_or_default();
            if log.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{task} did not log {text:?}:\n{log}\n{}", self.description(task).await);
    }

    /// The event with a reason about a task. It is written before the status that it goes with, but nothing
    /// says how soon a list shows it.
    pub(crate) async fn event(&self, task: &str, reason: &str) -> Event {
        let mut events = Vec::new();
        for _ in 0..600 {
            events = self.api::<Event>().list(&ListParams::default()).await.expect("a list").items;
            let found = events.iter().find(|event| {
                let about = event.regarding.as_ref().and_then(|about| about.name.as_deref());
                event.reason.as_deref() == Some(reason) && about == Some(task)
            });
            if let Some(event) = found {
                return event.clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no event {reason} about {task}:\n{events:#?}\n{}", self.description(task).await);
    }

    /// Waits until the sender of a message is told a reason, and gives the condition's status.
    pub(crate) async fn told(&self, message: &str, reason: &str) -> String {
        let mut seen = None;
        for _ in 0..1200 {
            let said = self.api::<AgentMessage>().get(message).await.expect("the message is there");
            seen = said.status.and_then(|status| find(&status.conditions, ACCEPTED).cloned());
            if let Some(condition) = seen.as_ref().filter(|condition| condition.reason == reason) {
                return condition.status.clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the sender of {message} was not told {reason} but {seen:?}");
    }

    /// The attempt of a task.
    pub(crate) async fn attempt(&self, task: &str) -> AgentAttempt {
        let params = ListParams::default().fields(&format!("spec.taskName={task}"));
        let mut found = self.api::<AgentAttempt>().list(&params).await.expect("attempts can be listed").items;
        assert_eq!(found.len(), 1, "a task has one attempt");
        found.remove(0)
    }

    /// The name of a task's pod that has this in it, as soon as there is one.
    pub(crate) async fn pod_named(&self, task: &str, part: &str) -> String {
        let params = ListParams::default().labels(&format!("podwright.dev/task={task}"));
        for _ in 0..1200 {
            let pods = self.api::<Pod>().list(&params).await.expect("pods can be listed").items;
            if let Some(name) = pods.iter().map(ResourceExt::name_any).find(|name| name.contains(part)) {
                return name;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{task} has no pod {part}:\n{}", self.description(task).await);
    }

    /// A fresh clone of a repository with a patch applied to it.
    pub(crate) fn patched(&self, repository: &str, patch: &[u8]) -> TempDir {
        let clone = tempfile::tempdir().expect("a folder");
        git(clone.path(), &["clone", "-q", &self.git.url(repository), "."]);
        let file = clone.path().join(".git/change.patch");
        fs::write(&file, patch).expect("a file");
        if !patch.is_empty() {
            git(clone.path(), &["apply", "--index", ".git/change.patch"]);
        }
        clone
    }
}
