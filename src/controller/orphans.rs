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
