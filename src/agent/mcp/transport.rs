//! What both ways to a server have in common.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage, ServerNotification};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use tokio::sync::mpsc;

/// What is sent to a server.
pub(super) type Outgoing = TxJsonRpcMessage<RoleClient>;

/// What it sends.
pub(super) type Incoming = RxJsonRpcMessage<RoleClient>;

/// Messages of a server that wait to be looked at; it is not read further meanwhile.
pub(super) const INCOMING: usize = 16;

/// Requests of a server that may be unanswered. An honest one asks for nothing, since the agent offers nothing; one that
/// asks without reading answers would fill the memory with them.
const ASKED_MAX: usize = 64;

/// Code of an answer of ours that stands for one which broke off; none of the protocol's.
pub(super) const BROKEN_OFF: i32 = -32099;

/// Why a message could not be sent, or its answer is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The server has certainly not taken it in; another connection may help.
    #[error("{0}")]
    NotSent(String),
    /// The server has turned it down.
    #[error("{0}")]
    Refused(String),
    /// Perhaps it has.
    #[error("{0}")]
    Unknown(String),
}

/// Why a connection ended: the first reason that there was.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<OnceLock<String>>);

/// How often a server announced that its tools are others now: a number, however often it does.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    times: Arc<AtomicU64>,
    /// Whether the server may say so where nobody listens.
    unheard: bool,
}

/// Where a server's messages go. The connection ends with the last one.
#[derive(Clone)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Incoming>,
    asked: Asked,
    announced: Announced,
}

/// How many requests of a server are unanswered.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<AtomicUsize>);

impl Fault {
    /// Says why.
    pub fn set(&self, why: impl Into<String>) {
        // A later reason follows from the first.
        let _ = self.0.set(why.into());
    }

    /// Why, if anything is known.
    pub fn get(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

impl Announced {
    /// Of a server that may say so where nobody listens.
    pub fn unheard() -> Self {
        Self { unheard: true, ..Self::default() }
    }

    /// How often so far.
    pub(super) fn times(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }

    /// Whether there may be more of it than these.
    pub(super) fn since(&self, times: u64) -> bool {
        self.unheard || self.times() != times
    }
}

impl Inbox {
    /// An inbox, its end, and the count of requests in it.
    pub(super) fn new(announced: Announced) -> (Self, mpsc::Receiver<Incoming>, Asked) {
        let (sender, receiver) = mpsc::channel(INCOMING);
        let asked = Asked::default();
        (Self { sender, asked: asked.clone(), announced }, receiver, asked)
    }

    /// Takes a message of the server.
    ///
    /// # Errors
    /// Why no more is taken from it.
    pub(super) async fn take(&self, message: Incoming) -> Result<(), String> {
        if matches!(message, ServerJsonRpcMessage::Request(_))
            && self.asked.0.fetch_add(1, Ordering::Relaxed) >= ASKED_MAX
        {
            return Err("it asked too much".to_owned());
        }
        // Before whatever it says next, so that what a call changed is known when the call has ended. It goes no further.
        if let ServerJsonRpcMessage::Notification(said) = &message
            && matches!(said.notification, ServerNotification::ToolListChangedNotification(_))
        {
            self.announced.times.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.sender.send(message).await.map_err(|_| "the connection was closed".to_owned())
    }
}

impl Asked {
    /// A message goes to the server.
    pub(super) fn answered_by(&self, message: &Outgoing) {
        if matches!(message, ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_)) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn w9_an_announcement_is_counted_and_goes_no_further() {
        let announced = Announced::default();
        let (inbox, mut received, _) = Inbox::new(announced.clone());
        let said = |what: &str| {
            let method = format!("notifications/{what}/list_changed");
            serde_json::from_value(json!({"jsonrpc": "2.0", "method": method, "params": {}})).unwrap()
        };
        // More than wait to be looked at: nobody looks.
        for _ in 0..INCOMING * 10 {
            inbox.take(said("tools")).await.unwrap();
        }
        let times = announced.times();
        assert_eq!(times, INCOMING as u64 * 10);
        assert!(announced.since(0) && !announced.since(times));
        assert!(received.try_recv().is_err());
        inbox.take(said("prompts")).await.unwrap();
        assert!(received.try_recv().is_ok());
        assert_eq!(announced.times(), times);
        assert!(Announced::unheard().since(0), "there may always be more");
    }
}
