//! Requests of controllers, each held until somebody decides what becomes of it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::oneshot;
use tower::service_fn;

use crate::controller::tests::server::{Call, Fault, Server, failure, respond};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It takes effect, and the answer arrives.
    Answered,
    /// See [`Fault`].
    Lost(Fault),
    /// It is turned down by an API server that has too much to do.
    TooMany,
    /// It is turned down as if somebody had written at the same moment.
    Conflict,
    /// It is turned down for the namespace's quota.
    Quota,
}

/// A request under way.
pub(super) struct Pending {
    /// Which controller's.
    pub(super) process: u32,
    pub(super) call: Call,
    answer: oneshot::Sender<Response<Body>>,
}

/// Where requests wait.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<Vec<Pending>>>);

impl Gate {
    pub(super) fn client(&self, process: u32) -> Client {
        let gate = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let gate = gate.clone();
            async move {
                let call = Call::read(request).await;
                let (answer, answered) = oneshot::channel();
                gate.0.lock().unwrap().push(Pending { process, call, answer });
                let Ok(response) = answered.await else { std::future::pending().await };
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, super::NAMESPACE)
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(super) fn take(&self, place: usize) -> Pending {
        self.0.lock().unwrap().remove(place)
    }

    /// The requests of a controller that has died.
    pub(super) fn of(&self, process: u32) -> Vec<Pending> {
        let mut pending = self.0.lock().unwrap();
        let (own, others) = std::mem::take(&mut *pending).into_iter().partition(|one| one.process == process);
        *pending = others;
        own
    }
}

impl Pending {
    pub(super) fn meet(self, server: &Server, fate: Fate) {
        let answer = match fate {
            Fate::Answered => server.meet(&self.call, None),
            Fate::Lost(fault) => server.meet(&self.call, Some(fault)),
            Fate::TooMany => {
                let mut answer = failure(429, "TooManyRequests", "too many requests");
                answer["details"] = serde_json::json!({"retryAfterSeconds": 1});
                answer
            }
            Fate::Conflict => failure(409, "Conflict", "somebody was faster"),
            Fate::Quota => {
                failure(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: small, requested: pods=1")
            }
        };
        self.give(&answer);
    }

    fn give(self, answer: &Value) {
        // Nobody waits any more where the controller has died.
        let _ = self.answer.send(respond(answer));
    }
}
