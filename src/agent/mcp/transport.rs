//! What both ways to a server have in common.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
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

/// Where a server's messages go. The connection ends with the last one.
#[derive(Clone)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Incoming>,
    asked: Asked,
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

impl Inbox {
    /// An inbox, its end, and the count of requests in it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Incoming>, Asked) {
        let (sender, receiver) = mpsc::channel(INCOMING);
        let asked = Asked::default();
        (Self { sender, asked: asked.clone() }, receiver, asked)
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
