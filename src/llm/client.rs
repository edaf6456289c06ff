//! Sends one request and gives its response as a stream of events.
//!
//! Nothing is retried here and no key is kept: both belong to the caller, who knows the budgets and when
//! a credential was rotated.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use reqwest::{
    Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap},
    redirect,
};
use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::headers::{credential, headers, settings, with_feature};
use self::no_stream::{causes, rejected, unsent};
use super::{
    error::{Fatal, FatalKind, ModelError, RetryCause, RetryLayer, Retryable},
    event::StreamEvent,
    failure::Asked,
    fold::{Fold, Progress},
    request::PreparedRequest,
    sse::{MAX_EVENT_BYTES, SseParser},
    wire::Wire,
};

/// A connection that takes longer will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that one response may take. Events that keep coming without an end would otherwise hold
/// a task for ever.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// The most bytes of texts and items that one response may bring: an item comes in pieces and may come whole after them,
/// so twice the largest event. Many times what any model writes.
const MAX_RESPONSE_BYTES: usize = 2 * MAX_EVENT_BYTES;

mod headers;
mod no_stream;
mod whole;

/// The version of the Messages API that is spoken; there is no later one.
const MESSAGES_VERSION: &str = "2023-06-01";

/// Where and how a provider is reached.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The base URL; the API's path is appended, a query is kept.
    pub base_url: Url,
    /// Headers sent with every request, except where one of ours has the name. One that lists features is joined with
    /// ours.
    pub headers: Vec<(String, String)>,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca_bundle: Option<Vec<u8>>,
    /// How long no event may come.
    pub idle_timeout: Duration,
}

/// A client of one provider. Cloning is cheap and shares the connections.
#[derive(Clone, Debug)]
pub struct ModelClient {
    http: reqwest::Client,
    base_url: Url,
    /// The headers of the provider's settings, by themselves: `http` lets a request's own take their place.
    headers: HeaderMap,
    idle_timeout: Duration,
    deadline: Duration,
    /// How much one response may bring.
    most: usize,
}

impl ModelClient {
    /// Builds the client. Proxies from the environment are not used: what an agent reaches is decided
    /// by its configuration alone.
    ///
    /// # Errors
    /// [`ModelError::Misconfigured`] when the URL, a header or a certificate cannot be used.
    pub fn new(endpoint: &Endpoint) -> Result<Self, ModelError> {
        if !matches!(endpoint.base_url.scheme(), "http" | "https") {
            return Err(settings(format!(
                "The ModelProvider's baseURL {} is neither http nor https.",
                endpoint.base_url
            )));
        }
        let headers = headers(&endpoint.headers)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("podwright/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .default_headers(headers.clone());
        if let Some(bundle) = &endpoint.ca_bundle {
            let certificates = reqwest::Certificate::from_pem_bundle(bundle)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| {
                    settings("The ModelProvider's caBundle holds no PEM certificates.".to_owned())
                })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|error| {
            settings(format!("The ModelProvider's settings cannot be used ({}).", causes(&error)))
        })?;
        Ok(Self {
            http,
            base_url: endpoint.base_url.clone(),
            headers,
            idle_timeout: endpoint.idle_timeout,
            deadline: REQUEST_DEADLINE,
            most: MAX_RESPONSE_BYTES,
        })
    }

    /// Sends a request. The stream is driven by its reader and buffers one network read at most; it ends
    /// after [`StreamEvent::Completed`] or after an error. Dropping it ends the request.
    pub fn stream(
        &self,
        request: PreparedRequest,
        key: Option<SecretString>,
    ) -> impl Stream<Item = Result<StreamEvent, ModelError>> + Send + 'static {
        let state = State::Unsent(Box::new(Unsent { client: self.clone(), request, key }));
        stream::unfold(state, |state| state.next())
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

/// How far a request has come.
enum State {
    Unsent(Box<Unsent>),
    Open(Box<Open>),
    Ended,
}

struct Unsent {
    client: ModelClient,
    request: PreparedRequest,
    key: Option<SecretString>,
}

struct Open {
    response: Response,
    parser: SseParser,
    fold: Fold,
    /// What was read but not yet given.
    ready: VecDeque<Result<StreamEvent, ModelError>>,
    finished: bool,
    limits: Limits,
    /// How much more the response may bring, in bytes.
    room: usize,
}

/// The two clocks of a request.
#[derive(Clone, Copy)]
struct Limits {
    idle_timeout: Duration,
    idle_until: Instant,
    deadline: Instant,
}

impl State {
    async fn next(self) -> Option<(Result<StreamEvent, ModelError>, Self)> {
        let mut open = match self {
            Self::Unsent(unsent) => match unsent.send().await {
                Ok(open) => open,
                Err(error) => return Some((Err(error), Self::Ended)),
            },
            Self::Open(open) => open,
            Self::Ended => return None,
        };
        match open.next().await? {
            Ok(event) => Some((Ok(event), Self::Open(open))),
            Err(error) => Some((Err(error), Self::Ended)),
        }
    }
}

impl Unsent {
    async fn send(self) -> Result<Box<Open>, ModelError> {
        let Self { client, request, key } = self;
        let url = client.url(request.path);
        let asked = Asked { wire: request.wire, url: shown(&url), model: request.model.clone() };
        let now = Instant::now();
        // Of an answer in one piece nothing comes before its end.
        let idle_timeout = if request.whole { client.deadline } else { client.idle_timeout };
        let limits = Limits { idle_timeout, idle_until: now + idle_timeout, deadline: now + client.deadline };
        let mut sent = client
            .http
            .post(url)
            .header(ACCEPT, if request.whole { "application/json" } else { "text/event-stream" })
            .header(CONTENT_TYPE, "application/json")
            .body(request.body);
        for name in ["session-id", "thread-id", "x-client-request-id"] {
            sent = sent.header(name, &request.thread_id);
        }
        if request.wire == Wire::Messages {
            sent = sent.header("anthropic-version", MESSAGES_VERSION);
        }
        if let Some((name, value)) = request.feature {
            sent = sent.header(name, with_feature(&client.headers, name, value));
        }
        if let Some(key) = key {
            sent = match request.wire {
                Wire::Responses | Wire::Chat => sent.header(AUTHORIZATION, credential("Bearer ", &key)?),
                Wire::Messages => sent.header("x-api-key", credential("", &key)?),
            };
        }
        let response = match timeout_at(limits.next(), sent.send()).await {
            Err(_) => return Err(limits.expired(&asked)),
            Ok(Err(error)) => return Err(unsent(&asked, &error)),
            Ok(Ok(response)) => response,
        };
        let is_answer =
            if request.whole { response.status().is_success() } else { is_event_stream(&response) };
        if !is_answer {
            return Err(rejected(&asked, response).await);
        }
        let mut open = Box::new(Open {
            response,
            parser: SseParser::default(),
            fold: Fold::new(asked, request.custom_as_function, request.counted_bytes)
                .after_calls(request.has_calls),
            ready: VecDeque::new(),
            finished: false,
            limits,
            room: client.most,
        });
        if request.whole {
            open.read_whole().await;
        }
        Ok(open)
    }
}

impl Open {
    async fn next(&mut self) -> Option<Result<StreamEvent, ModelError>> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Some(next);
            }
            if self.finished {
                return None;
            }
            self.read().await;
        }
    }

    /// Reads once and folds what came.
    async fn read(&mut self) {
        let chunk = match timeout_at(self.limits.next(), self.response.chunk()).await {
            // Whole, and only its server does not close the connection.
            Err(_) if self.fold.is_whole() => return self.ended("no end came"),
            Err(_) => return self.fail(self.limits.expired(self.fold.asked())),
            Ok(Err(error)) => return self.ended(&causes(&error)),
            Ok(Ok(None)) => return self.end(),
            Ok(Ok(Some(chunk))) => chunk,
        };
        let mut events = Vec::new();
        let parsed = self.parser.push(&chunk, &mut events);
        for data in events {
            if self.finished {
                return;
            }
            self.fold(&data);
        }
        if let Err(error) = parsed
            && !self.finished
        {
            self.oversized(&error);
        }
    }

    fn end(&mut self) {
        if let Some(data) = std::mem::take(&mut self.parser).finish() {
            self.fold(&data);
        }
        if !self.finished {
            self.ended("the connection was closed");
        }
    }

    fn ended(&mut self, reason: &str) {
        let mut events = Vec::new();
        let ended = self.fold.ended(reason, &mut events);
        self.ready.extend(events.into_iter().map(Ok));
        self.finished = true;
        if let Err(error) = ended {
            self.fail(error);
        }
    }

    fn fold(&mut self, data: &Bytes) {
        let mut events = Vec::new();
        let progress = self.fold.event(data, &mut events);
        let brought: usize = events.iter().map(StreamEvent::size).sum();
        self.ready.extend(events.into_iter().map(Ok));
        let Some(room) = self.room.checked_sub(brought) else {
            return self.oversized(&"the response does not end where any model's would");
        };
        self.room = room;
        match progress {
            Ok(Progress::Advanced) => self.limits.idle_until = Instant::now() + self.limits.idle_timeout,
            Ok(Progress::None) => {}
            Ok(Progress::Finished) => self.finished = true,
            Err(error) => self.fail(error),
        }
    }

    /// More came than is read.
    fn oversized(&mut self, what: &dyn fmt::Display) {
        self.fail(ModelError::Fatal(Fatal {
            kind: FatalKind::Oversized,
            message: format!("{}: {what}.", self.fold.asked().url),
            usage: None,
        }));
    }

    fn fail(&mut self, error: ModelError) {
        self.finished = true;
        self.ready.push_back(Err(error));
    }
}

impl Limits {
    fn next(&self) -> Instant {
        self.idle_until.min(self.deadline)
    }

    fn expired(&self, asked: &Asked) -> ModelError {
        let what = if self.idle_until <= self.deadline {
            format!("sent no event for {} s", self.idle_timeout.as_secs_f32())
        } else {
            "did not end the response in time".to_owned()
        };
        ModelError::Retryable(Retryable {
            layer: RetryLayer::Stream,
            cause: RetryCause::Timeout,
            server_delay: None,
            message: format!("{} {what}.", asked.url),
        })
    }
}

/// Whether the answer is to be read as events. A missing or generic content type may still be one.
fn is_event_stream(response: &Response) -> bool {
    let media = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    response.status().is_success()
        && !media.is_some_and(|media| {
            let media = media.trim_start();
            media.starts_with("text/html") || media.starts_with("application/json")
        })
}

/// The address for messages, without the parts that may hold a secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // Both fail only for URLs that cannot have these parts.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests;
