//! What both ways to a server have in common.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage, ServerNotification};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use tokio::sync::mpsc;

use super::VALUES_MAX;

/// What is sent to a server.
pub(super) type Outgoing = TxJsonRpcMessage<RoleClient>;

/// What it sends.
pub(super) type Incoming = RxJsonRpcMessage<RoleClient>;

/// Messages of a server that wait to be looked at; it is not read further meanwhile.
pub(super) const INCOMING: usize = 16;

/// Requests of a server that may be unanswered. An honest one asks for nothing, since the agent offers nothing; one that
/// asks without reading answers would fill the memory with them.
const ASKED_MAX: usize = 64;

/// Bytes that a server may say since our last request, answers among them: as much as many calls beside each other can
/// be answered with. A program in the sandbox is read through the API server, so one that talks without end would be a
/// load on everybody.
const SAID_MAX: usize = 32 * super::MESSAGE_MAX;

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

/// How much a server has said.
#[derive(Clone, Default)]
pub(super) struct Asked {
    /// Its requests that are unanswered.
    requests: Arc<AtomicUsize>,
    /// Bytes since our last request.
    said: Arc<AtomicUsize>,
}

/// Why a text is no message that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// It is something else.
    #[error("its answer is no message of the protocol")]
    NoMessage,
    /// It has more values than are taken.
    #[error("it sent a message of more than {VALUES_MAX} values")]
    TooMany,
}

/// Reads a message of a server.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn message(json: &[u8]) -> Result<Incoming, Unreadable> {
    if values(json) > VALUES_MAX {
        return Err(Unreadable::TooMany);
    }
    serde_json::from_slice(json).map_err(|_| Unreadable::NoMessage)
}

/// How many values a JSON text has at most.
fn values(json: &[u8]) -> usize {
    let (mut values, mut in_text, mut is_escaped) = (1, false, false);
    for byte in json {
        match (in_text, byte) {
            (true, b'\\') if !is_escaped => {
                is_escaped = true;
                continue;
            }
            (true, b'"') if !is_escaped => in_text = false,
            (false, b'"') => in_text = true,
            (false, b',' | b'[' | b'{') => values += 1,
            _ => {}
        }
        is_escaped = false;
    }
    values
}

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

    /// Bytes of the server have come, whatever they are.
    ///
    /// # Errors
    /// Why no more is read of it.
    pub(super) fn heard(&self, bytes: usize) -> Result<(), String> {
        if self.asked.said.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > SAID_MAX {
            return Err(format!("it said more than {SAID_MAX} bytes unasked"));
        }
        Ok(())
    }

    /// Takes a message of the server.
    ///
    /// # Errors
    /// Why no more is taken from it.
    pub(super) async fn take(&self, message: Incoming) -> Result<(), String> {
        if matches!(message, ServerJsonRpcMessage::Request(_))
            && self.asked.requests.fetch_add(1, Ordering::Relaxed) >= ASKED_MAX
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
        match message {
            ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => {
                self.requests.fetch_sub(1, Ordering::Relaxed);
            }
            ClientJsonRpcMessage::Request(_) => self.said.store(0, Ordering::Relaxed),
            ClientJsonRpcMessage::Notification(_) => {}
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

    #[test]
    fn values_are_counted_and_texts_are_not() {
        for (json, count) in
            [("1", 1), ("[]", 2), ("[0,0,0]", 4), (r#"{"a":[1,{"b":2}]}"#, 5), (r#"["[,{\\",",{\"[,{"]"#, 3)]
        {
            assert_eq!(values(json.as_bytes()), count, "{json}");
        }
    }

    #[test]
    fn a_server_that_talks_without_end_is_given_up() {
        let (inbox, _incoming, asked) = Inbox::new(Announced::default());
        let ask = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let piece = SAID_MAX / 32;
        for _ in 0..2 {
            assert!((0..32).all(|_| inbox.heard(piece).is_ok()));
            assert!(inbox.heard(1).unwrap_err().contains("unasked"));
            asked.answered_by(&serde_json::from_slice(ask).unwrap());
        }
    }

    #[test]
    fn a_message_of_too_many_values_is_not_read() {
        let answer = |elements: usize| {
            let list = vec!["0"; elements].join(",");
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],"structuredContent":{{"a":[{list}]}}}}}}"#
            )
        };
        assert!(message(answer(VALUES_MAX - 20).as_bytes()).is_ok());
        assert_eq!(message(answer(VALUES_MAX).as_bytes()).unwrap_err(), Unreadable::TooMany);
        assert_eq!(message(b"hello").unwrap_err(), Unreadable::NoMessage);
    }
}
