//! The scripted model, with somebody before it who writes the requests down.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::response::Response;
use podwright::scripted::Script;
use serde_json::Value;

use crate::stage::playing;

/// Larger than any request of the scripts.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// A model that plays a script from its beginning, whoever asks.
#[derive(Clone)]
pub(crate) struct Recorder {
    model: String,
    client: reqwest::Client,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Recorder {
    pub(crate) async fn new(script: Script) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { model: playing(script).await, client, requests: Arc::default() }
    }

    /// Answers on a listener, too.
    pub(crate) fn serve(&self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let router = Router::new().fallback(pass_on).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    /// The bodies so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

async fn pass_on(State(recorder): State<Recorder>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
    let asked = format!("{} {}", parts.method, parts.uri.path());
    // Whatever else is asked for is a request that the other agent does not make.
    let recorded = match asked.as_str() {
        "POST /v1/responses" => serde_json::from_slice(&body).unwrap(),
        _ => Value::from(asked),
    };
    recorder.requests.lock().unwrap().push(recorded);
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let url = format!("{}{}", recorder.model, parts.uri);
    let asking = recorder.client.request(parts.method, url).headers(parts.headers).body(body);
    let answer = asking.send().await.unwrap();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    response.headers_mut().remove(TRANSFER_ENCODING);
    response.headers_mut().remove(CONNECTION);
    // A stream that breaks there breaks here.
    *response.body_mut() = Body::from_stream(answer.bytes_stream());
    response
}
