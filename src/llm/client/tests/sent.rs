//! What is sent: addresses, headers, and settings of which nothing can be made.

use super::*;
use crate::llm::error::Misconfigured;

/// A server that keeps what it is sent and answers with a stream.
async fn recording(stream: &'static str) -> (Url, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        // The head and the first of the body come before the end that every body here has.
        while !request.ends_with(b"}") {
            connection.read_buf(&mut request).await.unwrap();
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        connection.write_all(format!("{head}{stream}").as_bytes()).await.unwrap();
        tell.send(String::from_utf8(request).unwrap()).unwrap();
    });
    (url, told)
}

#[tokio::test]
async fn each_api_is_asked_at_its_path_with_its_own_headers() {
    const CHAT: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    const MESSAGES: &str = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"hi\"}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
    );
    for (wire, stream, path, sent, unsent) in [
        (Wire::Chat, CHAT, "POST /v1/chat/completions ", "authorization: Bearer secret\r\n", "x-api-key"),
        (Wire::Messages, MESSAGES, "POST /v1/messages ", "x-api-key: secret\r\n", "authorization"),
    ] {
        let (url, told) = recording(stream).await;
        let prepared = prepared_for(wire);
        let key = Some(SecretString::from("secret\n"));
        let events: Vec<_> = patient(url).stream(prepared, key).map(Result::unwrap).collect().await;
        // Both ends lack their last event: the response is whole without it.
        let Some(StreamEvent::Completed(completed)) = events.last() else { panic!("{events:?}") };
        assert_eq!(completed.items, 1);
        let request = told.await.unwrap();
        assert!(
            request.starts_with(path) && request.contains(sent) && !request.contains(unsent),
            "{request}"
        );
        assert_eq!(wire == Wire::Messages, request.contains("anthropic-version: 2023-06-01\r\n"));
    }
}

#[tokio::test]
async fn a_feature_of_ours_joins_those_of_the_settings() {
    let (base_url, told) = recording("data: {}\n\n").await;
    let headers = vec![("Anthropic-Beta".to_owned(), "context-1".to_owned())];
    let idle_timeout = Duration::from_secs(60);
    let client = ModelClient::new(&Endpoint { base_url, headers, ca_bundle: None, idle_timeout }).unwrap();
    let request =
        PreparedRequest { feature: Some(("anthropic-beta", "compact-1")), ..prepared_for(Wire::Messages) };
    client.stream(request, None).collect::<Vec<_>>().await;
    let request = told.await.unwrap();
    assert!(request.contains("anthropic-beta: context-1, compact-1\r\n"), "{request}");
    assert_eq!(request.matches("anthropic-beta").count(), 1, "{request}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    let good = Endpoint {
        base_url: "http://127.0.0.1/v1".parse().unwrap(),
        headers: vec![("x-team".into(), "a".into())],
        ca_bundle: None,
        idle_timeout: Duration::from_secs(1),
    };
    assert!(ModelClient::new(&good).is_ok());
    for bad in [
        Endpoint { base_url: "ftp://127.0.0.1/".parse().unwrap(), ..good.clone() },
        Endpoint { headers: vec![("a b".into(), "c".into())], ..good.clone() },
        Endpoint { headers: vec![("a".into(), "b\nc".into())], ..good.clone() },
        Endpoint { ca_bundle: Some(b"no certificate".to_vec()), ..good.clone() },
        Endpoint {
            ca_bundle: Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
            ..good.clone()
        },
    ] {
        let error = ModelClient::new(&bad).unwrap_err();
        assert!(
            matches!(
                error,
                ModelError::Misconfigured(Misconfigured { kind: Misconfiguration::Settings, .. })
            ),
            "{bad:?}"
        );
    }
    let end = ask(&ModelClient::new(&good).unwrap(), Some("a\u{7}b")).await.1;
    assert_eq!(misconfiguration(end), Misconfiguration::Credential);
}

#[test]
fn the_path_is_appended_and_a_query_kept_but_not_shown() {
    for (base, expected) in [
        ("http://a/v1", "http://a/v1/responses"),
        ("http://a/v1/", "http://a/v1/responses"),
        ("http://a", "http://a/responses"),
        ("http://a/x?api-version=1", "http://a/x/responses?api-version=1"),
    ] {
        let url = patient(base.parse().unwrap()).url(Wire::Responses.path());
        assert_eq!(url.as_str(), expected);
    }
    let chat = patient("http://a/v1".parse().unwrap()).url(Wire::Chat.path());
    assert_eq!(chat.as_str(), "http://a/v1/chat/completions");
    assert_eq!(shown(&"http://u:p@a/x?key=s".parse().unwrap()), "http://a/x");
}

/// kube and reqwest each bring a TLS stack; with two crypto providers in the tree rustls can choose
/// none, and a client panics when it is built.
#[tokio::test]
async fn both_tls_clients_can_be_built_in_one_process() {
    let config = kube::Config::new("https://127.0.0.1:6443".parse().unwrap());
    kube::Client::try_from(config).unwrap();
    patient("https://127.0.0.1/v1".parse().unwrap());
}
