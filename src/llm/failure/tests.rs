use super::*;

fn asked() -> Asked {
    asked_by(Wire::Responses)
}

fn asked_by(wire: Wire) -> Asked {
    Asked { wire, url: "http://llm.test/v1/responses".into(), model: "gpt-x".into() }
}

fn answer(status: u16, content_type: &'static str, body: &'static str) -> HttpAnswer<'static> {
    HttpAnswer {
        status,
        content_type: Some(content_type),
        retry_after: None,
        location: None,
        body: body.as_bytes(),
        received: Timestamp::UNIX_EPOCH,
    }
}

fn json(status: u16, body: &'static str) -> HttpAnswer<'static> {
    answer(status, "application/json", body)
}

/// What a row of the tables below expects: everything of an error but its words.
#[derive(Debug, PartialEq)]
enum Class {
    Retry(RetryLayer, RetryCause),
    Fatal(FatalKind),
    Misconfigured(Misconfiguration),
}

fn class(error: &ModelError) -> Class {
    match error {
        ModelError::Retryable(error) => Class::Retry(error.layer, error.cause),
        ModelError::Fatal(error) => Class::Fatal(error.kind),
        ModelError::Misconfigured(error) => Class::Misconfigured(error.kind),
    }
}

fn delay(error: &ModelError) -> Option<Duration> {
    match error {
        ModelError::Retryable(error) => error.server_delay,
        ModelError::Fatal(_) | ModelError::Misconfigured(_) => None,
    }
}

#[test]
fn every_http_answer_has_its_class() {
    use Class::{Fatal, Misconfigured, Retry};
    use RetryLayer::{Request, Stream};
    let html = "<html><body>Welcome</body></html>";
    let table = [
        (json(500, ""), Retry(Request, RetryCause::Server { status: 500 })),
        (answer(502, "text/html", html), Retry(Request, RetryCause::Server { status: 502 })),
        (json(503, "{}"), Retry(Request, RetryCause::Server { status: 503 })),
        (json(503, r#"{"error":{"code":"slow_down"}}"#), Retry(Stream, RetryCause::Overloaded)),
        (json(529, ""), Retry(Stream, RetryCause::Overloaded)),
        (json(429, ""), Retry(Stream, RetryCause::RateLimited)),
        (json(429, r#"{"error":{"code":"insufficient_quota"}}"#), Fatal(FatalKind::Quota)),
        (
            json(401, r#"{"error":{"message":"bad key"}}"#),
            Retry(Stream, RetryCause::Unauthorized { status: 401 }),
        ),
        (answer(403, "text/html", html), Retry(Stream, RetryCause::Unauthorized { status: 403 })),
        (json(400, r#"{"error":{"message":"no"}}"#), Fatal(FatalKind::InvalidRequest)),
        (json(400, r#"{"error":{"code":400,"message":"no"}}"#), Fatal(FatalKind::InvalidRequest)),
        (
            json(400, r#"{"error":{"code":"context_length_exceeded"}}"#),
            Fatal(FatalKind::ContextWindowExceeded),
        ),
        (json(400, r#"{"error":{"code":"invalid_prompt"}}"#), Fatal(FatalKind::InvalidPrompt)),
        (json(400, r#"{"error":{"code":"cyber_policy"}}"#), Fatal(FatalKind::Refused)),
        (json(400, r#"{"error":{"code":"model_not_found"}}"#), Misconfigured(Misconfiguration::UnknownModel)),
        (answer(400, "text/html", html), Misconfigured(Misconfiguration::WrongApi)),
        (json(413, ""), Fatal(FatalKind::InvalidRequest)),
        (json(422, r#"{"detail":"field required"}"#), Fatal(FatalKind::InvalidRequest)),
        (json(404, r#"{"error":{"code":"model_not_found"}}"#), Misconfigured(Misconfiguration::UnknownModel)),
        (
            json(404, r#"{"error":{"message":"The model `gpt-x` does not exist.","code":404}}"#),
            Misconfigured(Misconfiguration::UnknownModel),
        ),
        (json(404, r#"{"detail":"Not Found"}"#), Misconfigured(Misconfiguration::WrongApi)),
        (answer(404, "text/html", html), Misconfigured(Misconfiguration::WrongApi)),
        (json(405, ""), Misconfigured(Misconfiguration::WrongApi)),
        (json(302, ""), Misconfigured(Misconfiguration::Settings)),
        (answer(200, "text/html; charset=utf-8", html), Misconfigured(Misconfiguration::WrongApi)),
        (json(200, r#"{"object":"chat.completion"}"#), Misconfigured(Misconfiguration::WrongApi)),
        (json(200, r#"{"error":{"message":"later"}}"#), Retry(Stream, RetryCause::ResponseFailed)),
        (json(200, r#"{"error":{"code":"insufficient_quota"}}"#), Fatal(FatalKind::Quota)),
    ];
    for (answer, expected) in table {
        assert_eq!(class(&asked().http_answer(&answer)), expected, "{answer:?}");
    }
}

#[test]
fn every_reported_code_has_its_class() {
    use Class::{Fatal, Misconfigured, Retry};
    use RetryLayer::Stream;
    let table = [
        (Some("context_length_exceeded"), Fatal(FatalKind::ContextWindowExceeded)),
        (Some("insufficient_quota"), Fatal(FatalKind::Quota)),
        (Some("usage_not_included"), Fatal(FatalKind::Quota)),
        (Some("server_is_overloaded"), Retry(Stream, RetryCause::Overloaded)),
        (Some("slow_down"), Retry(Stream, RetryCause::Overloaded)),
        (Some("invalid_prompt"), Fatal(FatalKind::InvalidPrompt)),
        (Some("cyber_policy"), Fatal(FatalKind::Refused)),
        (Some("rate_limit_exceeded"), Retry(Stream, RetryCause::RateLimited)),
        (Some("model_not_found"), Misconfigured(Misconfiguration::UnknownModel)),
        (Some("server_error"), Retry(Stream, RetryCause::ResponseFailed)),
        (None, Retry(Stream, RetryCause::ResponseFailed)),
    ];
    for (code, expected) in table {
        let error = ProviderError { code: code.map(str::to_owned), message: "words".into() };
        assert_eq!(class(&asked().reported(&error)), expected, "{code:?}");
    }
}

#[test]
fn every_answer_of_chat_servers_has_its_class() {
    use Class::{Fatal, Misconfigured, Retry};
    use RetryLayer::{Request, Stream};
    let setting = || Misconfigured(Misconfiguration::Settings);
    let table = [
        // OpenAI
        (
            json(
                401,
                r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            ),
            Retry(Stream, RetryCause::Unauthorized { status: 401 }),
        ),
        (
            json(
                429,
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            ),
            Fatal(FatalKind::Quota),
        ),
        (
            json(
                429,
                r#"{"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
            ),
            Retry(Stream, RetryCause::RateLimited),
        ),
        (
            json(
                400,
                r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            ),
            Fatal(FatalKind::ContextWindowExceeded),
        ),
        // vLLM, older and newer
        (
            json(
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens","type":"BadRequestError","param":null,"code":400}"#,
            ),
            Fatal(FatalKind::ContextWindowExceeded),
        ),
        (
            json(
                400,
                r#"{"error":{"message":"The decoder prompt (length 5000) is longer than the maximum model length of 4096.","type":"BadRequestError","param":null,"code":400}}"#,
            ),
            Fatal(FatalKind::ContextWindowExceeded),
        ),
        (
            json(
                400,
                r#"{"object":"error","message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set","type":"BadRequestError","code":400}"#,
            ),
            setting(),
        ),
        (
            json(
                400,
                r#"{"object":"error","message":"Conversation roles must alternate user/assistant/user/assistant/...","type":"BadRequestError","code":400}"#,
            ),
            setting(),
        ),
        (
            json(
                404,
                r#"{"object":"error","message":"The model `gpt-x` does not exist.","type":"NotFoundError","code":404}"#,
            ),
            Misconfigured(Misconfiguration::UnknownModel),
        ),
        (json(404, r#"{"detail":"Not Found"}"#), Misconfigured(Misconfiguration::WrongApi)),
        // llama.cpp
        (
            json(
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}"#,
            ),
            Fatal(FatalKind::ContextWindowExceeded),
        ),
        (
            json(
                500,
                r#"{"error":{"code":500,"message":"tools param requires --jinja flag","type":"server_error"}}"#,
            ),
            setting(),
        ),
        (
            json(503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#),
            Retry(Request, RetryCause::Server { status: 503 }),
        ),
        // Ollama
        (
            json(
                404,
                r#"{"error":{"message":"model \"gpt-x\" not found, try pulling it first","type":"api_error","param":null,"code":null}}"#,
            ),
            Misconfigured(Misconfiguration::UnknownModel),
        ),
        (
            json(
                400,
                r#"{"error":{"message":"registry.ollama.ai/library/gpt-x does not support tools","type":"api_error","param":null,"code":null}}"#,
            ),
            setting(),
        ),
        // DeepSeek, OpenRouter, Mistral
        (
            json(402, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error"}}"#),
            Fatal(FatalKind::Quota),
        ),
        (
            json(404, r#"{"error":{"message":"No endpoints found that support tool use.","code":404}}"#),
            setting(),
        ),
        (
            json(
                400,
                r#"{"object":"error","message":"Unexpected role 'user' after role 'tool'","type":"invalid_request_message_order"}"#,
            ),
            setting(),
        ),
        (
            json(
                400,
                r#"{"error":{"message":"The reasoning_content in the thinking mode must be passed back to the API.","type":"invalid_request_error"}}"#,
            ),
            setting(),
        ),
        (json(400, r#"{"error":{"message":"no"}}"#), Fatal(FatalKind::InvalidRequest)),
    ];
    for (answer, expected) in table {
        let error = asked_by(Wire::Chat).http_answer(&answer);
        assert_eq!(class(&error), expected, "{} {error}", String::from_utf8_lossy(answer.body));
    }
}

#[test]
fn every_answer_of_messages_servers_has_its_class() {
    use Class::{Fatal, Misconfigured, Retry};
    use RetryLayer::{Request, Stream};
    let error = |kind: &str, message: &str| {
        format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_1"}}"#
        )
    };
    let table = [
        (529, error("overloaded_error", "Overloaded"), Retry(Stream, RetryCause::Overloaded)),
        (
            500,
            error("api_error", "Internal server error"),
            Retry(Request, RetryCause::Server { status: 500 }),
        ),
        (504, error("timeout_error", "timed out"), Retry(Request, RetryCause::Server { status: 504 })),
        (429, error("rate_limit_error", "too many tokens"), Retry(Stream, RetryCause::RateLimited)),
        (
            401,
            error("authentication_error", "invalid x-api-key"),
            Retry(Stream, RetryCause::Unauthorized { status: 401 }),
        ),
        (
            403,
            error("permission_error", "not allowed"),
            Retry(Stream, RetryCause::Unauthorized { status: 403 }),
        ),
        (402, error("billing_error", "pay"), Fatal(FatalKind::Quota)),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            Fatal(FatalKind::Quota),
        ),
        (
            400,
            error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            Fatal(FatalKind::ContextWindowExceeded),
        ),
        (
            400,
            error(
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            ),
            Fatal(FatalKind::ContextWindowExceeded),
        ),
        (
            400,
            error(
                "invalid_request_error",
                "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for gpt-x",
            ),
            Misconfigured(Misconfiguration::Settings),
        ),
        (
            400,
            error("invalid_request_error", "adaptive thinking is not supported on this model"),
            Misconfigured(Misconfiguration::Settings),
        ),
        (400, error("invalid_request_error", "messages.1: no"), Fatal(FatalKind::InvalidRequest)),
        (
            413,
            error("request_too_large", "Request exceeds the maximum size"),
            Fatal(FatalKind::InvalidRequest),
        ),
        (404, error("not_found_error", "model: gpt-x"), Misconfigured(Misconfiguration::UnknownModel)),
        (404, error("not_found_error", "Not found"), Misconfigured(Misconfiguration::WrongApi)),
    ];
    for (status, body, expected) in table {
        let answer = HttpAnswer { body: body.as_bytes(), ..json(status, "") };
        let error = asked_by(Wire::Messages).http_answer(&answer);
        assert_eq!(class(&error), expected, "{body} {error}");
    }
}

#[test]
fn a_message_names_the_api_that_was_asked_for() {
    for (wire, name) in [
        (Wire::Responses, "does not speak the Responses API"),
        (Wire::Chat, "does not speak the Chat Completions API"),
        (Wire::Messages, "does not speak the Messages API"),
    ] {
        let message = asked_by(wire).http_answer(&json(405, "")).to_string();
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (value, expected) in [
        ("2", Some(Duration::from_secs(2))),
        ("1.5", Some(Duration::from_millis(1500))),
        ("Thu, 01 Jan 1970 00:01:00 GMT", Some(Duration::from_secs(60))),
        ("-1", None),
        ("soon", None),
    ] {
        let answer = HttpAnswer { retry_after: Some(value), ..json(503, "") };
        assert_eq!(delay(&asked().http_answer(&answer)), expected, "{value}");
    }
}

#[test]
fn a_date_in_the_past_is_no_delay() {
    let received = Timestamp::from_second(3600).unwrap();
    let answer = HttpAnswer { retry_after: Some("Thu, 01 Jan 1970 00:01:00 GMT"), received, ..json(503, "") };
    assert_eq!(delay(&asked().http_answer(&answer)), None);
}

#[test]
fn a_delay_is_read_from_prose() {
    for (words, expected) in [
        ("Rate limit reached. Please try again in 1.5s. Visit ...", Some(1500)),
        ("Please try again in 28ms.", Some(28)),
        ("Try again in 20 seconds", Some(20_000)),
        ("try again in 6m0s", Some(360_000)),
        ("try again in 1h2m3s or so", Some(3_723_000)),
        ("try again in a while", None),
        ("try again in 5 parsecs", None),
        ("no delay here", None),
        ("try again in 99999999999999999999999999h", None),
    ] {
        assert_eq!(delay_in_words(words), expected.map(Duration::from_millis), "{words}");
    }
}

#[test]
fn messages_say_what_to_do_and_quote_on_one_bounded_line() {
    let message = |answer| asked().http_answer(&answer).to_string();
    assert_eq!(
        message(json(404, r#"{"error":{"code":"model_not_found","message":"no\nsuch model"}}"#)),
        "http://llm.test/v1/responses does not know the model \"gpt-x\" (HTTP 404: no such model). Correct \
         spec.model.name of the task, or the models of the ModelProvider."
    );
    assert_eq!(
        message(answer(200, "text/html", "<html>")),
        "http://llm.test/v1/responses does not speak the Responses API (the answer is text/html, not a stream of \
         events). Check the ModelProvider's baseURL (it usually ends in /v1) and its api."
    );
    assert!(message(json(401, "")).contains("`apiKey`"));
    let redirect = HttpAnswer { location: Some("https://other.test/"), ..json(301, "") };
    assert!(message(redirect).contains("redirects to https://other.test/"));
    let long = ProviderError { code: None, message: "é".repeat(4000) };
    let message = asked().reported(&long).to_string();
    assert!(message.chars().count() < MAX_QUOTE_CHARS + 100, "{message}");
}
