use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    time::Instant,
};

use serde_json::Value;

use super::*;

/// Serves a script until the test ends. Gives the address.
async fn start(script: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Script::from_yaml(script).unwrap(), std::future::pending()));
    format!("http://{address}")
}

/// Posts a request; gives the status and the answer.
async fn post_to(url: &str, headers: &[(&str, &str)], body: &Value) -> (u16, String) {
    let request = reqwest::Client::new().post(url).body(body.to_string());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// A thread of two requests on one API.
struct Thread {
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    /// The first request.
    body: Value,
    /// The member that holds the history.
    history: &'static str,
    /// What the second request adds to it.
    more: [Value; 2],
}

fn threads() -> [Thread; 3] {
    let said = json!([{"role": "user", "content": "hello"}]);
    let bearer = vec![("authorization", "Bearer k")];
    [
        Thread {
            path: "/v1/responses",
            headers: bearer.clone(),
            body: json!({"model": "m", "stream": true, "input": said}),
            history: "input",
            more: [
                json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
                json!({"type": "function_call_output", "call_id": "c", "output": "4 files"}),
            ],
        },
        Thread {
            path: "/v1/chat/completions",
            headers: bearer,
            body: json!({"model": "m", "stream": true, "messages": said}),
            history: "messages",
            more: [
                json!({"role": "assistant", "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
                json!({"role": "tool", "tool_call_id": "c", "content": "4 files"}),
            ],
        },
        Thread {
            path: "/v1/messages",
            headers: vec![("x-api-key", "k"), ("anthropic-version", "2023-06-01")],
            body: json!({"model": "m", "stream": true, "max_tokens": 9, "messages": said}),
            history: "messages",
            more: [
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}),
                json!({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": "4 files"}]}),
            ],
        },
    ]
}

#[tokio::test]
async fn one_script_plays_on_every_api() {
    let url = start(
        r"{apiKey: k, checks: {prefix: true}, scenarios: [{name: s, match: {prompt: hello}, replies: [
            {output: [{call: {tool: f, callId: c}}]},
            {expect: {lastOutput: files}, capture: {n: '(\d+) files'}, output: [{text: 'There are {{n}}.'}]}]}]}",
    )
    .await;
    for Thread { path, mut headers, mut body, history, more } in threads() {
        headers.push(("thread-id", path));
        let url = format!("{url}{path}");
        let (status, refused) = post_to(&url, &[], &body).await;
        assert_eq!(status, 401, "{refused}");
        let (status, called) = post_to(&url, &headers, &body).await;
        assert_eq!(status, 200, "{called}");
        assert!(called.contains("\"c\"") && called.contains("data: {"), "{called}");
        let (status, refused) = post_to(&url, &headers, &body).await;
        assert_eq!(status, 400, "{refused}");
        assert!(refused.contains("lastOutput must contain"), "{refused}");
        body[history].as_array_mut().unwrap().extend(more);
        let (status, told) = post_to(&url.replace("/v1", ""), &headers, &body).await;
        assert_eq!(status, 200, "{told}");
        assert!(told.contains("There are 4."), "{told}");
    }
}

#[tokio::test]
async fn errors_have_the_form_of_their_api() {
    let url = start("{apiKey: k, models: [m], scenarios: [{name: s, cycle: true, replies: [{http: {status: 429, error: {message: slow}}}]}]}").await;
    for Thread { path, headers, mut body, .. } in threads() {
        let url = format!("{url}{path}");
        let (status, limited) = post_to(&url, &headers, &body).await;
        assert_eq!(status, 429, "{limited}");
        body["model"] = "other".into();
        let (status, unknown) = post_to(&url, &headers, &body).await;
        assert_eq!(status, 404, "{unknown}");
        let kinds = [limited, unknown].map(|text| {
            let body: Value = serde_json::from_str(&text).unwrap();
            assert!(body["error"]["message"].is_string(), "{body}");
            body["error"]["type"].as_str().unwrap().to_owned()
        });
        if path == "/v1/messages" {
            assert_eq!(kinds, ["rate_limit_error", "not_found_error"]);
            let (status, no_version) = post_to(&url, &headers[..1], &body).await;
            assert_eq!((status, no_version.contains("anthropic-version")), (400, true), "{no_version}");
        } else {
            assert_eq!(kinds, ["scripted", "scripted"]);
        }
    }
}

/// Time stands still but for timers that nothing else could wake before, so that the pauses of this
/// test are the server's own.
#[tokio::test(start_paused = true)]
async fn a_stalled_reply_does_not_hold_the_shutdown_up() {
    let script = "scenarios: [{name: s, replies: [{end: {stall: {afterEvents: 1, seconds: 3600}}}]}]";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, Script::from_yaml(script).unwrap(), async {
        let _ = stopped.await;
    }));
    let mut connection = TcpStream::connect(address).await.unwrap();
    let body = r#"{"model":"m","stream":true,"input":"hi"}"#;
    let head = format!("POST /v1/responses HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let asked = Instant::now();
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert_eq!(asked.elapsed().as_secs(), SHUTDOWN_GRACE.as_secs());
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve(listener, Script::default_script().unwrap(), async {}).await.unwrap();
}
