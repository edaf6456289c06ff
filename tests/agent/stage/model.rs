//! Models, each until the test ends.

use axum::body::{Body, Bytes};
use axum::routing::post;
use axum::{Json, Router};
use podwright::scripted::{Script, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A listener on a free port, and its address as a URL.
pub(crate) async fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// The scripted model. Gives its base URL.
pub(crate) async fn serving(script: &str) -> String {
    let script = Script::from_yaml(script).unwrap_or_else(|error| panic!("{error}: {script}"));
    format!("{}/v1", playing(script).await)
}

/// The scripted model. Gives its address.
pub(crate) async fn playing(script: Script) -> String {
    let (listener, url) = listening().await;
    tokio::spawn(serve(listener, script, std::future::pending()));
    url
}

/// The scripted model, and how many requests it has begun to answer.
pub(crate) async fn counting(script: &str) -> (String, watch::Receiver<usize>) {
    let model = serving(script).await;
    let (listener, url) = listening().await;
    let (count, counted) = watch::channel(0);
    let client = reqwest::Client::new();
    let forward = move |body: Bytes| {
        let request = client.post(format!("{model}/responses")).body(body);
        let count = count.clone();
        async move {
            let answer = request.send().await.unwrap();
            count.send_modify(|count| *count += 1);
            let headers = [("content-type", "text/event-stream")];
            (answer.status(), headers, Body::from_stream(answer.bytes_stream()))
        }
    };
    let router = Router::new().route("/v1/responses", post(forward));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("{url}/v1"), counted)
}

/// A model that says what `answer` makes of the newest item of a request. Gives its base URL.
pub(super) async fn answering(answer: fn(&Value) -> Vec<Value>) -> String {
    let (listener, url) = listening().await;
    let respond = move |Json(body): Json<Value>| async move {
        let newest = body["input"].as_array().and_then(|input| input.last()).cloned().unwrap_or_default();
        let items = answer(&newest)
            .into_iter()
            .map(|item| json!({"type": "response.output_item.done", "item": item}));
        let usage = json!({"input_tokens": 1, "output_tokens": 1, "total_tokens": 2});
        let end = json!({"type": "response.completed", "response": {"id": "r", "usage": usage}});
        let events: String = items.chain([end]).map(|event| format!("data: {event}\n\n")).collect();
        ([("content-type", "text/event-stream")], events)
    };
    let router = Router::new().route("/v1/responses", post(respond));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("{url}/v1")
}
