//! Messages to tasks that do not exist. A message may be applied before its task, so it is given some time.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::answers;
use super::context::Context;
use super::inbox::{Answer, is_open};
use crate::api::AgentMessage;
use crate::api::conditions::ConditionStatus;

/// How long a message waits for its task: GitOps tools apply in any order, within seconds.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// How often all messages are looked through. Only the cache is read.
const INTERVAL: Duration = Duration::from_secs(30);

/// Answers messages whose task has not come, for ever.
pub(super) async fn answer_forever(context: Arc<Context>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        answer(&context).await;
    }
}

async fn answer(context: &Context) {
    let now = context.now();
    let messages = context.caches.messages.state();
    for message in messages.iter().filter_map(|message| message.0.as_ref().ok()) {
        let metadata = &message.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let created = metadata.creation_timestamp.as_ref().map_or(now, |created| created.0);
        let is_waiting = is_open(message) && metadata.deletion_timestamp.is_none();
        if !is_waiting
            || now.duration_since(created) < PATIENCE
            || context.has_task(namespace, &message.spec.task_name)
        {
            continue;
        }
        if let Err(error) = answers::write(&context.client, &no_such_task(message), now).await
            && !answers::is_passed(&error)
        {
            tracing::warn!(namespace, message = metadata.name, %error, "cannot answer a message");
        }
    }
}

fn no_such_task(message: &AgentMessage) -> Answer {
    Answer {
        message: Arc::new(message.clone()),
        status: ConditionStatus::False,
        reason: "NoSuchTask",
        text: "there is no AgentTask of that name in this namespace",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::caches::Caches;
    use super::super::tests::World;
    use super::super::tests::fixtures::{self, read};
    use super::*;

    #[tokio::test]
    async fn who_speaks_to_a_task_that_never_comes_is_told_so_after_a_while() {
        let stray = |name: &str, task: &str| {
            let mut message = serde_json::to_value(fixtures::message(name, "Prompt", 1_000)).unwrap();
            message["spec"]["taskName"] = json!(task);
            message
        };
        let mut world = World::new();
        let messages = [stray("lost", "nowhere"), stray("fine", "fix")];
        for message in &messages {
            world.server.put("agentmessages", message.clone());
        }
        let tasks = vec![fixtures::task(|_| {})];
        let messages = messages.into_iter().map(read).collect();
        world.context.caches = Caches::showing(tasks, Vec::new(), Vec::new(), messages);
        let condition = |world: &World, name: &str| {
            let message = world.server.get("agentmessages", name).unwrap();
            message["status"]["conditions"][0]["reason"].as_str().map(str::to_owned)
        };
        answer(&world.context).await;
        assert_eq!(condition(&world, "lost"), None, "its task may still come");
        world.later(61);
        answer(&world.context).await;
        assert_eq!(condition(&world, "lost").as_deref(), Some("NoSuchTask"));
        assert_eq!(condition(&world, "fine"), None, "that one has a task");
    }
}
