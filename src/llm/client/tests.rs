use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    llm::{
        error::Misconfiguration,
        item::{CallKind, Item, Message, Role, ThreadItem},
        request::Request,
        retry::{Attempts, Decision, RetryPolicy, decide},
        wire::{Assembly, Capabilities, Place},
    },
    scripted::{Script, serve},
};

mod sent;

const CAPABILITIES: Capabilities = Capabilities {
    custom_tools: true,
    parallel_tool_calls: true,
    developer_role: true,
    reasoning: true,
    encrypted_reasoning: true,
    reasoning_replay: false,
    reasoning_summary: false,
    prompt_cache_key: true,
    image_input: false,
    image_in_tool_result: false,
    structured_output: false,
    reasoning_field: None,
    stream_usage: false,
    strict_alternation: false,
    max_output_tokens: None,
    thinking: None,
    cache_markers: false,
    compaction: None,
};

/// Serves a script on a port of its own for as long as the test runs.
async fn serving(script: &str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Script::from_yaml(script).unwrap(), std::future::pending()));
    format!("http://{address}/v1/").parse().unwrap()
}

/// A server that answers every connection with the same bytes and then says nothing more.
async fn answering(answer: &'static [u8]) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let _ = connection.read(&mut request).await.unwrap();
            connection.write_all(answer).await.unwrap();
            open.push(connection);
        }
    });
    format!("http://{address}/v1").parse().unwrap()
}

fn client(base_url: Url, idle_timeout: Duration) -> ModelClient {
    ModelClient::new(&Endpoint { base_url, headers: vec![], ca_bundle: None, idle_timeout }).unwrap()
}

fn patient(base_url: Url) -> ModelClient {
    client(base_url, Duration::from_secs(60))
}

fn prepared(input: &[ThreadItem]) -> PreparedRequest {
    let tools = Wire::Responses.tools(&[], &CAPABILITIES);
    let mut assembly = Assembly::new(Wire::Responses, CAPABILITIES);
    for item in input {
        assembly.push(Wire::Responses.fragment(item, Place::default(), &CAPABILITIES).unwrap());
    }
    let input = assembly.input();
    let request = Request {
        model: "gpt-x".into(),
        input,
        tools,
        thread_id: "thread-1".into(),
        reasoning_effort: None,
        compacts: false,
        keeps_long: false,
        answer: None,
    };
    Wire::Responses.prepare(&request, &CAPABILITIES)
}

fn user(text: &str) -> ThreadItem {
    let Item::Message(message) = Item::message(Role::User, text) else { unreachable!() };
    Wire::Responses.message(message, &CAPABILITIES)
}

/// Reads a response to its end: the items, and how it ended.
async fn ask(client: &ModelClient, key: Option<&str>) -> (Vec<Item>, Result<StreamEvent, ModelError>) {
    let stream = client.stream(prepared(&[user("go")]), key.map(SecretString::from));
    let events: Vec<_> = stream.collect().await;
    let items = events
        .iter()
        .filter_map(|event| match event {
            Ok(StreamEvent::ItemCompleted(item)) => Some(item.item.clone()),
            Ok(_) | Err(_) => None,
        })
        .collect();
    (items, events.into_iter().next_back().unwrap())
}

fn cause(end: Result<StreamEvent, ModelError>) -> RetryCause {
    match end {
        Err(ModelError::Retryable(error)) => error.cause,
        other => panic!("{other:?}"),
    }
}

fn misconfiguration(end: Result<StreamEvent, ModelError>) -> Misconfiguration {
    match end {
        Err(ModelError::Misconfigured(error)) => error.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_whole_thread_runs_over_http() {
    let url = serving(
        r"
apiKey: secret
models: [gpt-x]
checks: {prefix: true}
scenarios:
- name: s
  replies:
  - output: [{reasoning: hm}, {call: {tool: exec_command, arguments: {cmd: ls}}}]
  - expect: {lastOutput: file.txt, headers: {thread-id: thread-1, session-id: thread-1, user-agent: podwright}}
    output: [{text: done}]
",
    )
    .await;
    let client = patient(url);
    let key = || Some(SecretString::from("secret\n"));
    let mut history = vec![user("go")];
    for last in [false, true] {
        let events: Vec<_> = client.stream(prepared(&history), key()).map(Result::unwrap).collect().await;
        assert!(matches!(events[0], StreamEvent::Created { .. }));
        let Some(StreamEvent::Completed(completed)) = events.last() else { panic!("{events:?}") };
        assert!(!completed.usage.estimated);
        for event in events {
            let StreamEvent::ItemCompleted(item) = event else { continue };
            let call_id = item.item.call_id().map(str::to_owned);
            history.push(*item);
            if let Some(call_id) = call_id {
                let output = crate::llm::CallOutput::text(call_id, "file.txt");
                history.push(Wire::Responses.call_output(CallKind::Function, output, &CAPABILITIES));
            }
        }
        if last {
            let Some(Item::Message(Message { role: Role::Assistant, .. })) =
                history.last().map(|item| &item.item)
            else {
                panic!("{history:?}")
            };
        }
    }
    assert_eq!(history.len(), 5);
}

#[tokio::test]
async fn completed_items_of_a_broken_stream_are_kept() {
    for end in ["cut", "close"] {
        let url = serving(&format!(
            "scenarios: [{{name: s, replies: [{{output: [{{call: {{tool: f}}}}, {{text: a long text}}], end: {{{end}: {{afterEvents: 6}}}}}}]}}]"
        ))
        .await;
        let (items, end) = ask(&patient(url), None).await;
        assert!(matches!(items[..], [Item::FunctionCall(_)]), "{items:?}");
        assert_eq!(cause(end), RetryCause::StreamBroken);
    }
}

#[tokio::test]
async fn a_stalled_stream_times_out_although_comments_come() {
    let url = serving(
        "scenarios: [{name: s, replies: [{output: [{text: hi}], end: {stall: {afterEvents: 1, seconds: 60}}}]}]",
    )
    .await;
    let (items, end) = ask(&client(url, Duration::from_millis(1300)), None).await;
    assert!(items.is_empty());
    assert_eq!(cause(end), RetryCause::Timeout);
}

#[tokio::test]
async fn a_server_without_any_answer_times_out() {
    let url = answering(b"").await;
    assert_eq!(cause(ask(&client(url, Duration::from_millis(50)), None).await.1), RetryCause::Timeout);
}

/// A server that begins a stream and then sends the same event for ever.
async fn dripping(event: &'static str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            connection.read_buf(&mut request).await.unwrap();
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        connection.write_all(head.as_bytes()).await.unwrap();
        // Until the client has gone.
        while connection.write_all(event.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    url
}

fn words(end: Result<StreamEvent, ModelError>) -> String {
    end.unwrap_err().to_string()
}

#[tokio::test]
async fn w22_pings_do_not_hold_the_idle_timer_up() {
    for ping in [
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "data: {\"type\": \"keepalive\"}\n\n",
        ": comment\n\n",
    ] {
        let url = dripping(ping).await;
        let (_, end) = ask(&client(url, Duration::from_millis(200)), None).await;
        assert_eq!(cause(end.clone()), RetryCause::Timeout);
        assert!(words(end).contains("sent no event for 0.2 s"), "{ping}");
    }
}

#[tokio::test]
async fn w22_a_request_ends_at_its_deadline_although_events_come() {
    let url = dripping("data: {\"type\": \"response.in_progress\"}\n\n").await;
    let hurried = ModelClient { deadline: Duration::from_millis(200), ..patient(url) };
    let (_, end) = ask(&hurried, None).await;
    assert_eq!(cause(end.clone()), RetryCause::Timeout);
    assert!(words(end).contains("did not end the response in time"));
    assert_eq!(patient("http://llm.test/v1".parse().unwrap()).deadline, Duration::from_secs(30 * 60));
}

#[tokio::test]
async fn a_response_without_an_end_is_given_up_before_it_fills_the_memory() {
    const CHAT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"on and on\"}}]}\n\n";
    let small = ModelClient { most: 1000, ..patient(dripping(CHAT).await) };
    let events: Vec<_> = small.stream(prepared_for(Wire::Chat), None).collect().await;
    let said: usize = events.iter().flatten().map(StreamEvent::size).sum();
    assert!(said < 1100, "{said}");
    let Some(Err(ModelError::Fatal(error))) = events.last() else { panic!("{events:?}") };
    assert_eq!(error.kind, FatalKind::Oversized);
    assert_eq!(patient("http://llm.test/v1".parse().unwrap()).most, 2 * MAX_EVENT_BYTES);
}

#[tokio::test]
async fn noise_in_a_stream_is_skipped() {
    let url = serving(
        r#"
scenarios:
- name: s
  replies:
  - output: [{text: hi}]
    inject:
    - {afterEvents: 0, raw: ": hello\n\ndata: {\"type\":\"ping\"}\n\n"}
    - {afterEvents: 2, raw: "event: x\r\ndata: {broken\r\n\r\ndata: [DONE]\n\n"}
"#,
    )
    .await;
    let (items, end) = ask(&patient(url), None).await;
    assert_eq!(items, [Item::message(Role::Assistant, "hi")]);
    assert!(matches!(end, Ok(StreamEvent::Completed(_))));
}

#[tokio::test]
async fn server_errors_are_survived_by_the_retry_table() {
    let url = serving(
        "scenarios: [{name: s, replies: [{repeat: 3, http: {status: 500}}, {end: {cut: {afterEvents: 1}}}, {http: {status: 502}}, {output: [{text: hi}]}]}]",
    )
    .await;
    let client = patient(url);
    let mut attempts = Attempts::default();
    let mut waited = Duration::ZERO;
    loop {
        match ask(&client, None).await.1 {
            Ok(end) => break assert!(matches!(end, StreamEvent::Completed(_))),
            Err(error) => match decide(RetryPolicy::default(), attempts, error, 0.5) {
                Decision::Retry(retry) => {
                    attempts = retry.attempts;
                    waited += retry.after;
                }
                end @ (Decision::Outage(_) | Decision::Fail(_)) => panic!("{end:?}"),
            },
        }
    }
    assert_eq!(attempts, Attempts { request: 1, stream: 1, outage: 0 });
    assert_eq!(waited, Duration::from_millis(200 + 400 + 800 + 200 + 200));
}

#[tokio::test]
async fn a_rate_limit_brings_its_delay() {
    let url = serving(
        "scenarios: [{name: s, replies: [{http: {status: 429, headers: {Retry-After: '7'}, error: {message: slow}}}]}]",
    )
    .await;
    let Err(ModelError::Retryable(error)) = ask(&patient(url), None).await.1 else { panic!() };
    assert_eq!((error.layer, error.cause), (RetryLayer::Stream, RetryCause::RateLimited));
    assert_eq!(error.server_delay, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_refused_key_and_an_unknown_model_say_what_to_do() {
    let url = serving("{apiKey: right, models: [other], scenarios: [{name: s, replies: [{}]}]}").await;
    let client = patient(url);
    for key in [None, Some("wrong")] {
        assert_eq!(cause(ask(&client, key).await.1), RetryCause::Unauthorized { status: 401 });
    }
    let end = ask(&client, Some("right")).await.1;
    let text = end.as_ref().unwrap_err().to_string();
    assert!(text.contains("does not know the model \"gpt-x\""), "{text}");
    assert_eq!(misconfiguration(end), Misconfiguration::UnknownModel);
}

#[tokio::test]
async fn endpoints_of_another_kind_are_recognised() {
    let url = serving(
        r#"
scenarios:
- name: s
  replies:
  - http: {status: 200, headers: {Content-Type: text/html}, body: "<html>Log in</html>"}
  - http: {status: 404, headers: {Content-Type: text/html}, body: "<html>Not here</html>"}
  - http: {status: 200, headers: {Content-Type: application/json}, body: '{"object":"chat.completion"}'}
  - http: {status: 200, headers: {Content-Type: text/event-stream}, body: "data: {\"object\":\"chat.completion.chunk\"}\n\ndata: [DONE]\n\n"}
  - http: {status: 308, headers: {Location: /elsewhere}}
"#,
    )
    .await;
    let client = patient(url);
    for expected in [
        Misconfiguration::WrongApi,
        Misconfiguration::WrongApi,
        Misconfiguration::WrongApi,
        Misconfiguration::WrongApi,
        Misconfiguration::Settings,
    ] {
        assert_eq!(misconfiguration(ask(&client, None).await.1), expected);
    }
}

#[tokio::test]
async fn a_base_url_without_its_path_is_another_api() {
    let mut url = serving("scenarios: [{name: s, replies: [{}]}]").await;
    url.set_path("/v2");
    assert_eq!(misconfiguration(ask(&patient(url), None).await.1), Misconfiguration::WrongApi);
}

#[tokio::test]
async fn a_failed_expectation_fails_loudly() {
    let url = serving("scenarios: [{name: s, replies: [{expect: {prompt: stop}}]}]").await;
    let Err(ModelError::Fatal(error)) = ask(&patient(url), None).await.1 else { panic!() };
    assert_eq!(error.kind, FatalKind::InvalidRequest);
    assert!(error.message.contains("prompt must contain \"stop\", and is \"go\""), "{}", error.message);
}

#[tokio::test]
async fn no_connection_and_no_answer_are_retryable_in_the_request_layer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let Err(ModelError::Retryable(error)) = ask(&patient(url), None).await.1 else { panic!() };
    assert_eq!((error.layer, error.cause), (RetryLayer::Request, RetryCause::Connect));
    assert!(error.message.contains("refused"), "{}", error.message);
    let garbage = answering(b"nonsense\r\n\r\n").await;
    let Err(ModelError::Retryable(error)) = ask(&patient(garbage), None).await.1 else { panic!() };
    assert_eq!((error.layer, error.cause), (RetryLayer::Request, RetryCause::Transport));
}

fn prepared_for(wire: Wire) -> PreparedRequest {
    let capabilities = Capabilities::default();
    let mut assembly = Assembly::new(wire, capabilities);
    let Item::Message(message) = Item::message(Role::User, "go") else { unreachable!() };
    let item = wire.message(message, &capabilities);
    assembly.push(wire.fragment(&item, Place::default(), &capabilities).unwrap());
    let request = Request {
        model: "m".into(),
        input: assembly.input(),
        tools: wire.tools(&[], &capabilities),
        thread_id: "t".into(),
        reasoning_effort: None,
        compacts: false,
        keeps_long: false,
        answer: None,
    };
    wire.prepare(&request, &capabilities)
}

#[tokio::test]
async fn w12_a_whole_response_is_taken_although_its_server_never_closes_the_connection() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    const CHAT: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    const MESSAGES: &str = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
    );
    for (wire, stream) in [(Wire::Chat, CHAT), (Wire::Messages, MESSAGES)] {
        let url = answering(format!("{HEAD}{stream}").leak().as_bytes()).await;
        let stream = client(url, Duration::from_millis(100)).stream(prepared_for(wire), None);
        let events: Vec<_> = stream.collect().await;
        assert!(matches!(events.last(), Some(Ok(StreamEvent::Completed(_)))), "{wire:?}: {events:?}");
    }
}
