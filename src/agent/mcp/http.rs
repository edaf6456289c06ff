//! The way to a server elsewhere, by the transport that the protocol calls "streamable HTTP".
//!
//! Every message of ours is a request of its own; the answer's body holds the server's, as JSON or as a stream of
//! events. The stream for what a server says unasked is never opened: all of use that it could say there is that its
//! tools are others now, and whoever says so at all is asked before every compaction.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, redirect};
use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage, ServerResult,
};
use rmcp::transport::Transport;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use super::MESSAGE_MAX;
use super::transport::{
    Announced, Asked, BROKEN_OFF, Fault, Inbox, Incoming, Outgoing, TransportError, message,
};
use crate::api::mcp::McpHttp;
use crate::llm::sse::SseParser;

/// A connection that takes longer will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of a session may take; the server forgets it by itself in the end.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an error's body is read.
const ERROR_BODY_MAX: usize = 16 * 1024;

/// Longest id of a session: many times what servers use.
const SESSION_ID_MAX: usize = 512;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// A server and what it is reached with.
#[derive(Clone, Debug)]
pub struct HttpServer {
    http: Client,
    url: Url,
    /// How long one answer may take.
    limit: Duration,
}

/// The way to the server. Dropping it ends what is under way.
pub struct HttpTransport {
    server: HttpServer,
    session: Arc<Mutex<Session>>,
    inbox: Inbox,
    asked: Asked,
    incoming: mpsc::Receiver<Incoming>,
    bodies: Arc<Mutex<JoinSet<()>>>,
    fault: Fault,
}

/// What the server said when it was first asked.
#[derive(Clone, Debug, Default)]
struct Session {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
}

impl HttpServer {
    /// A server. `limit` bounds each answer; `ca_bundle` holds certificates in PEM that are trusted beside the system's.
    /// Proxies from the environment are not used, and redirects are refused: what is reached is what the operator wrote.
    ///
    /// # Errors
    /// What of the settings cannot be used.
    pub fn new(
        server: &McpHttp,
        token: Option<&SecretString>,
        ca_bundle: Option<&str>,
        limit: Duration,
    ) -> Result<Self, String> {
        let url: Url = server.url.parse().map_err(|error| format!("its url is none: {error}"))?;
        let mut headers = HeaderMap::new();
        for header in &server.headers {
            let name = HeaderName::try_from(header.name.as_str());
            let name = name.map_err(|_| format!("the header {} has no valid name", header.name))?;
            let value = HeaderValue::try_from(header.value.as_str());
            headers
                .insert(name, value.map_err(|_| format!("the header {} has no valid value", header.name))?);
        }
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut value = value.map_err(|_| "its token holds characters that no header can".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("podwright/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .default_headers(headers);
        if let Some(bundle) = ca_bundle {
            let certificates = reqwest::Certificate::from_pem_bundle(bundle.as_bytes())
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| "the caBundle of the AgentEnvironment holds no PEM certificates".to_owned())?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|error| format!("its settings cannot be used: {error}"))?;
        Ok(Self { http, url, limit })
    }

    /// A way to it.
    pub fn connect(self, fault: Fault, announced: Announced) -> HttpTransport {
        let (inbox, incoming, asked) = Inbox::new(announced);
        HttpTransport {
            server: self,
            session: Arc::default(),
            inbox,
            asked,
            incoming,
            bodies: Arc::default(),
            fault,
        }
    }

    /// Sends a message, and gives the answer once its headers are there.
    async fn post(&self, message: &Outgoing, session: &Session) -> Result<Response, TransportError> {
        let body = serde_json::to_vec(message).map_err(|error| TransportError::NotSent(error.to_string()))?;
        let mut request = self
            .http
            .post(self.url.clone())
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        if let Some(id) = &session.id {
            request = request.header(SESSION_ID, id);
        }
        if let Some(version) = &session.version {
            request = request.header(PROTOCOL_VERSION, version);
        }
        let sent = timeout(self.limit, request.body(body).send()).await;
        let late = |_| TransportError::Unknown("it does not answer".to_owned());
        let response = sent.map_err(late)?.map_err(|error| {
            // The URL may hold what is nobody's business.
            let error = error.without_url();
            let words = cause(&error);
            if error.is_connect() { TransportError::NotSent(words) } else { TransportError::Unknown(words) }
        })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(refusal(status, response, session.id.is_some()).await),
        }
    }
}

impl HttpTransport {
    /// What to do with a message, apart from the transport itself.
    async fn exchange(
        server: HttpServer,
        session: Arc<Mutex<Session>>,
        inbox: Inbox,
        bodies: Arc<Mutex<JoinSet<()>>>,
        fault: Fault,
        message: Outgoing,
    ) -> Result<(), TransportError> {
        let known = lock(&session).clone();
        let opens = matches!(
            &message,
            ClientJsonRpcMessage::Request(request)
                if matches!(request.request, ClientRequest::InitializeRequest(_))
        );
        let response = match server.post(&message, &known).await {
            Ok(response) => response,
            Err(error) => {
                if known.id.is_some() && error.to_string() == SESSION_OVER {
                    fault.set(SESSION_OVER);
                }
                return Err(error);
            }
        };
        if opens {
            let id = response.headers().get(SESSION_ID).filter(|id| id.len() <= SESSION_ID_MAX);
            lock(&session).id = id.cloned();
        }
        let ClientJsonRpcMessage::Request(request) = message else { return Ok(()) };
        let answer = Answer { id: request.id, inbox, session: opens.then_some(session) };
        let limit = server.limit;
        let mut bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are done are let go of.
        while bodies.try_join_next().is_some() {}
        bodies.spawn(answer.read(response, limit));
        Ok(())
    }
}

impl Transport<RoleClient> for HttpTransport {
    type Error = TransportError;

    fn send(&mut self, item: Outgoing) -> impl Future<Output = Result<(), TransportError>> + Send + 'static {
        self.asked.answered_by(&item);
        Self::exchange(
            self.server.clone(),
            self.session.clone(),
            self.inbox.clone(),
            self.bodies.clone(),
            self.fault.clone(),
            item,
        )
    }

    async fn receive(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        let session = lock(&self.session).clone();
        if let Some(id) = session.id {
            let request = self.server.http.delete(self.server.url.clone()).header(SESSION_ID, id);
            // A server may refuse it.
            let _ = timeout(DELETE_TIMEOUT, request.send()).await;
        }
        Ok(())
    }
}

/// Where the answer to one request goes.
struct Answer {
    id: RequestId,
    inbox: Inbox,
    /// To learn the version that was agreed on.
    session: Option<Arc<Mutex<Session>>>,
}

impl Answer {
    /// Reads an answer to its end. One that does not hold the answer is told as broken off.
    async fn read(self, response: Response, limit: Duration) {
        let why = match timeout(limit, self.messages(response)).await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => "it does not finish its answer".to_owned(),
        };
        let error = ErrorData::new(ErrorCode(BROKEN_OFF), why, None);
        // Nobody waits only when the connection is closed.
        let _ = self.inbox.take(ServerJsonRpcMessage::error(error, Some(self.id.clone()))).await;
    }

    /// Reads messages until the answer is among them.
    async fn messages(&self, response: Response) -> Result<(), String> {
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is =
            |wanted: &str| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted);
        if is("application/json") {
            let body = read_body(response, MESSAGE_MAX).await?;
            return if self.take(&body).await? { Ok(()) } else { Err(NO_ANSWER.to_owned()) };
        }
        if !is("text/event-stream") {
            return Err("its answer is neither JSON nor a stream of events".to_owned());
        }
        let mut parser = SseParser::with_limit(MESSAGE_MAX);
        let mut bytes = response.bytes_stream();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|error| cause(&error.without_url()))?;
            self.inbox.heard(chunk.len())?;
            let mut events = Vec::new();
            parser.push(&chunk, &mut events).map_err(|error| error.to_string())?;
            for event in events.iter().filter(|event| !event.trim_ascii().is_empty()) {
                if self.take(event).await? {
                    return Ok(());
                }
            }
        }
        match parser.finish() {
            Some(event) if self.take(&event).await? => Ok(()),
            Some(_) | None => Err(NO_ANSWER.to_owned()),
        }
    }

    /// Takes one message. Whether it is the answer.
    async fn take(&self, json: &[u8]) -> Result<bool, String> {
        let message = message(json).map_err(|error| error.to_string())?;
        let is_answer = match &message {
            ServerJsonRpcMessage::Response(response) => {
                if let (Some(session), ServerResult::InitializeResult(result)) =
                    (&self.session, &response.result)
                {
                    lock(session).version = HeaderValue::from_str(result.protocol_version.as_str()).ok();
                }
                true
            }
            ServerJsonRpcMessage::Error(_) => true,
            ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => false,
        };
        self.inbox.take(message).await?;
        Ok(is_answer)
    }
}

const NO_ANSWER: &str = "its answer ended too early";
const SESSION_OVER: &str = "it has ended the session";

/// What a status other than success means.
async fn refusal(status: StatusCode, response: Response, in_session: bool) -> TransportError {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            TransportError::NotSent(format!("it refuses the token ({})", status.as_u16()))
        }
        StatusCode::NOT_FOUND if in_session => TransportError::NotSent(SESSION_OVER.to_owned()),
        status if status.is_redirection() => {
            let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
            let host = target.and_then(|target| Url::parse(target).ok());
            let host = host.as_ref().and_then(Url::host_str).unwrap_or("another address");
            TransportError::Refused(format!("it redirects to {host}, and redirects are refused"))
        }
        status if status.is_client_error() => {
            let words = error_words(response).await;
            TransportError::Refused(format!("it answers {}{words}", status.as_u16()))
        }
        status => TransportError::Unknown(format!("it answers {}", status.as_u16())),
    }
}

/// The message of a JSON-RPC error in an error's body, if there is one.
async fn error_words(response: Response) -> String {
    let Ok(Ok(body)) = timeout(CONNECT_TIMEOUT, read_body(response, ERROR_BODY_MAX)).await else {
        return String::new();
    };
    match message(&body) {
        Ok(ServerJsonRpcMessage::Error(error)) => {
            let words: Vec<&str> = error.error.message.split_whitespace().collect();
            format!(": {}", words.join(" ").chars().take(300).collect::<String>())
        }
        Ok(_) | Err(_) => String::new(),
    }
}

async fn read_body(response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut bytes = response.bytes_stream();
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk.map_err(|error| cause(&error.without_url()))?;
        if body.len() + chunk.len() > limit {
            return Err(format!("its answer is longer than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost reason, which says most.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn lock(session: &Mutex<Session>) -> std::sync::MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
