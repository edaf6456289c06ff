//! What the controller tells the agent, through the attempt's spec.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::KubeCluster;
use crate::agent::journal::record::{InputAccepted, InputKind};
use crate::api::attempt::{AgentAttempt, InboxMessage};
use crate::api::message::MessageKind;

/// An agent that is refused for this long has lost its rights: its attempt is being deleted, or another
/// epoch has taken over. Above the 5 s that a new Role may take and the 10 s of the token cache.
pub(super) const REFUSED_MAX: Duration = Duration::from_secs(20);

/// What the controller wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Orders {
    /// The attempt goes on.
    Work {
        /// What is said to the agent and not acknowledged yet, by number.
        inbox: Vec<InboxMessage>,
        /// Whether it shall stop before its next request.
        suspend: bool,
    },
    /// The attempt is gone, or this agent has no right on it any more: nothing that it does matters.
    Gone(String),
}

impl Orders {
    /// The orders that an attempt holds.
    pub fn of(attempt: &AgentAttempt) -> Self {
        if attempt.metadata.deletion_timestamp.is_some() {
            return Self::Gone("the attempt is being deleted".to_owned());
        }
        let mut inbox = attempt.spec.inbox.clone();
        // What is acknowledged is a number up to which everything was taken in.
        inbox.sort_by_key(|message| message.seq);
        Self::Work { inbox, suspend: attempt.spec.suspend }
    }
}

/// Watches an attempt until nobody listens or it is gone.
pub(super) async fn follow(cluster: KubeCluster, name: String, uid: String, orders: watch::Sender<Orders>) {
    let mut changes = pin!(watch_object(cluster.attempts(), &name).default_backoff());
    let mut refused_since: Option<Instant> = None;
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = orders.closed() => return,
        };
        let next = match change {
            None => return,
            Some(Ok(Some(attempt))) if attempt.metadata.uid.as_deref() == Some(&uid) => Orders::of(&attempt),
            Some(Ok(_)) => Orders::Gone("the attempt does not exist any more".to_owned()),
            Some(Err(error)) if is_refusal(&error) => {
                let since = *refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() < REFUSED_MAX {
                    continue;
                }
                Orders::Gone(format!("the agent may not read its attempt any more: {error}"))
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the watch of the attempt failed and is begun again");
                continue;
            }
        };
        refused_since = None;
        let gone = matches!(next, Orders::Gone(_));
        orders.send_if_modified(|orders| std::mem::replace(orders, next.clone()) != next);
        if gone {
            return;
        }
    }
}

/// A message as the machine takes it in; none for one that is not the agent's.
pub(super) fn accepted(message: InboxMessage) -> Option<InputAccepted> {
    let kind = match message.kind {
        MessageKind::Prompt => InputKind::Prompt,
        MessageKind::Cancel => InputKind::Cancel,
        // Which attempt counts is the controller's affair; it hands no such message over.
        MessageKind::SelectAttempt => return None,
    };
    Some(InputAccepted {
        uid: message.uid,
        seq: message.seq,
        kind,
        text: message.text,
        attachments: Vec::new(),
    })
}

fn is_refusal(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            let kube::Error::Api(status) = error else { return false };
            status
        }
        watcher::Error::WatchError(status) => status,
        watcher::Error::NoResourceVersion => return false,
    };
    matches!(status.code, 401 | 403)
}

#[cfg(test)]
mod tests;
