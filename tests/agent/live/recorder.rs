//! Stands before an endpoint and keeps what is said. Headers are passed on and never kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use podwright::scripted::trace::Exchange;

use crate::stage::listening;

/// Headers of one connection, which say nothing about the next.
const OF_A_CONNECTION: [&str; 5] =
    ["host", "connection", "content-length", "transfer-encoding", "accept-encoding"];

/// A recorder.
pub(crate) struct Recorder {
    front: Front,
    /// Where it listens, as a base URL.
    pub(crate) url: String,
}

#[derive(Clone)]
struct Front {
    http: reqwest::Client,
    upstream: String,
    begun: Arc<AtomicUsize>,
    ended: Arc<Mutex<BTreeMap<usize, Exchange>>>,
}

impl Recorder {
    /// Stands before `upstream`, a base URL.
    pub(crate) async fn start(upstream: &str) -> Self {
        let front = Front {
            // As the agent itself: what it reaches is decided by its configuration alone.
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            upstream: upstream.trim_end_matches('/').to_owned(),
            begun: Arc::default(),
            ended: Arc::default(),
        };
        let router =
            Router::new().fallback(pass_on).layer(DefaultBodyLimit::disable()).with_state(front.clone());
        let (listener, url) = listening().await;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { front, url }
    }

    /// Everything that was said, once the last answer was handed on or broke.
    pub(crate) async fn take(&self) -> Vec<Exchange> {
        for _ in 0..1000 {
            let ended: Vec<Exchange> = self.front.ended.lock().unwrap().values().cloned().collect();
            if ended.len() == self.front.begun.load(Ordering::SeqCst) {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("an answer has no end");
    }
}

/// An answer on its way, kept when it ends in whatever way.
struct Kept {
    front: Front,
    number: usize,
    request: String,
    status: u16,
    response: Vec<u8>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let exchange = Exchange {
            request: std::mem::take(&mut self.request),
            status: self.status,
            response: String::from_utf8_lossy(&self.response).into_owned(),
        };
        self.front.ended.lock().unwrap().insert(self.number, exchange);
    }
}

async fn pass_on(State(front): State<Front>, request: Request) -> Response {
    let number = front.begun.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut sent = front.http.request(head.method, format!("{}{path}", front.upstream)).body(body.clone());
    for (name, value) in &head.headers {
        if !OF_A_CONNECTION.contains(&name.as_str()) {
            sent = sent.header(name, value);
        }
    }
    let answer = sent.send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !OF_A_CONNECTION.contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    let mut kept = Kept {
        front,
        number,
        request: String::from_utf8_lossy(&body).into_owned(),
        status: answer.status().as_u16(),
        response: Vec::new(),
    };
    let stream = answer.bytes_stream().inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            kept.response.extend_from_slice(chunk);
        }
    });
    response.body(Body::from_stream(stream)).unwrap()
}
