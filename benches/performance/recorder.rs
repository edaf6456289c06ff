//! Stands before the scripted model and writes down what it is asked, and when.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::Response;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::world::NODE;

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// When the request was here whole.
    pub(crate) asked: Timestamp,
    /// When the last of the answer was handed on.
    pub(crate) answered: Timestamp,
    /// The request's body.
    pub(crate) body: Bytes,
}

/// The recorder.
pub(crate) struct Recorder {
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    /// Base URL for a ModelProvider.
    pub(crate) url: String,
}

#[derive(Clone)]
struct Front {
    http: reqwest::Client,
    upstream: String,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Recorder {
    /// Begins to stand before `upstream`, whose path ends with `/v1`.
    pub(crate) async fn start(upstream: &str) -> Self {
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let upstream = upstream.trim_end_matches("/v1").to_owned();
        let front = Front { http: reqwest::Client::new(), upstream, exchanges: exchanges.clone() };
        let router = Router::new().fallback(pass_on).layer(DefaultBodyLimit::disable()).with_state(front);
        let listener = TcpListener::bind((NODE, 0)).await.expect("the node's address is this machine's");
        let port = listener.local_addr().expect("an address").port();
        // As providers do: the end of an answer does not wait for the acknowledgement of what came before.
        let listener =
            listener.tap_io(|connection| connection.set_nodelay(true).expect("a connection can be set"));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the recorder serves") });
        Self { exchanges, url: format!("http://{NODE}:{port}/v1") }
    }

    /// How often was asked since what was asked was last taken.
    pub(crate) fn count(&self) -> usize {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.exchanges.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn pass_on(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole request");
    let asked = Timestamp::now();
    let place = {
        let mut exchanges = front.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        exchanges.push(Exchange { asked, answered: asked, body: body.clone() });
        exchanges.len() - 1
    };
    let url = format!("{}{}", front.upstream, parts.uri);
    let mut headers = parts.headers;
    headers.remove("host");
    let answer = front.http.request(parts.method, url).headers(headers).body(body).send().await;
    let answer = answer.expect("the scripted model answers");
    let mut response = Response::builder().status(answer.status());
    if let Some(kind) = answer.headers().get("content-type") {
        response = response.header("content-type", kind);
    }
    let exchanges = front.exchanges;
    let frames = answer.bytes_stream().inspect(move |_| {
        let mut exchanges = exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exchange) = exchanges.get_mut(place) {
            exchange.answered = Timestamp::now();
        }
    });
    response.body(Body::from_stream(frames)).expect("a response")
}
