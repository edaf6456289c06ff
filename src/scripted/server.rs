//! The HTTP side of the scripted model.

use std::{
    future::Future,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt as _,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::sleep,
};

use super::{
    render::{self, Answer, Finish, Frame, error_body},
    script::{HttpReply, Script},
    seen::{Api, Received},
    threads::Threads,
};

/// The largest request: a thread that fills a context window of millions of tokens is smaller.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Requests answered at the same time; a hundred agents stay far below it.
const MAX_REQUESTS: usize = 256;

/// How long replies that are under way may go on after the end was asked for.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Serves the script until `shutdown` is done: `POST /v1/responses`, `/v1/chat/completions` and
/// `/v1/messages`, `GET /v1/models`, all of them without `/v1` too, and `GET /healthz`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    script: Script,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let server = Arc::new(Server {
        script,
        threads: Mutex::default(),
        responses: AtomicU64::new(0),
        permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
    });
    let answer = |api: Api| {
        post(async move |State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes| {
            server.answer(api, &headers, &body)
        })
    };
    let router = Router::new()
        .route("/v1/responses", answer(Api::Responses))
        .route("/responses", answer(Api::Responses))
        .route("/v1/responses/compact", post(compact))
        .route("/responses/compact", post(compact))
        .route("/v1/chat/completions", answer(Api::Chat))
        .route("/chat/completions", answer(Api::Chat))
        .route("/v1/messages", answer(Api::Messages))
        .route("/messages", answer(Api::Messages))
        .route("/v1/models", get(models))
        .route("/models", get(models))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || {
            error(Api::Responses, StatusCode::NOT_FOUND, "not_found", "this path does not exist")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(server);
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let signal = async move {
        shutdown.await;
        drop(stopping);
    };
    // Events are small writes: with Nagle's algorithm all but the first wait for the client's delayed acknowledgement.
    let listener = listener.tap_io(|connection| {
        // A connection that refuses it is slow, and nothing worse.
        let _ = connection.set_nodelay(true);
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(signal);
    tokio::select! {
        ended = serving.into_future() => ended,
        // A stalled reply would hold the server up for as long as it stalls.
        () = async { let _ = stopped.await; sleep(SHUTDOWN_GRACE).await } => Ok(()),
    }
}

struct Server {
    script: Script,
    threads: Mutex<Threads>,
    responses: AtomicU64,
    permits: Arc<Semaphore>,
}

/// A thread is compacted: what a script says is answered in one piece.
async fn compact(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    // The request is one that streams in everything but this member.
    let streams = [&br#"{"stream":true,"#[..], body.strip_prefix(b"{").unwrap_or(&body)].concat();
    server.play(Api::Responses, &headers, &streams, true)
}

async fn models(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    // The path is the same on all APIs; the header tells them apart.
    let api = if headers.contains_key("x-api-key") { Api::Messages } else { Api::Responses };
    if let Err(refusal) = server.authorize(api, &headers) {
        return *refusal;
    }
    let any = vec!["scripted".to_owned()];
    let names = if server.script.models.is_empty() { &any } else { &server.script.models };
    let data: Vec<_> = names
        .iter()
        .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "podwright"}))
        .collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

impl Server {
    fn answer(&self, api: Api, headers: &HeaderMap, body: &[u8]) -> Response {
        self.play(api, headers, body, false)
    }

    /// `whole`: the answer is that of the compaction endpoint.
    fn play(&self, api: Api, headers: &HeaderMap, body: &[u8], whole: bool) -> Response {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let problem = "too many requests at the same time";
            return error(api, StatusCode::SERVICE_UNAVAILABLE, "busy", problem);
        };
        if let Err(refusal) = self.authorize(api, headers) {
            return *refusal;
        }
        let headers = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let mut received = match Received::parse(api, body, headers) {
            Ok(received) => received,
            Err(problem) => return error(api, StatusCode::BAD_REQUEST, "invalid_request", &problem),
        };
        received.seen.compaction |= whole;
        if !self.script.models.is_empty() && !self.script.models.contains(&received.seen.model) {
            let problem = format!("the model {:?} does not exist", received.seen.model);
            return error(api, StatusCode::NOT_FOUND, "model_not_found", &problem);
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = match threads.take(&self.script, &mut received) {
            Ok(turn) => turn,
            Err(refused) => {
                tracing::warn!(thread = received.thread, code = refused.code, "{}", refused.message);
                let problem = format!("script: {}", refused.message);
                return error(api, StatusCode::BAD_REQUEST, refused.code, &problem);
            }
        };
        drop(threads);
        let seen = &received.seen;
        tracing::info!(thread = received.thread, request = turn.request, ?api, model = seen.model, "request");
        if let Some(reply) = &turn.reply.http {
            return http_reply(api, reply);
        }
        let answer = Answer {
            turn: &turn,
            seen,
            pace: turn.reply.pace.unwrap_or(self.script.pace),
            number: self.responses.fetch_add(1, Ordering::Relaxed) + 1,
            created_at: jiff::Timestamp::now().as_second(),
        };
        if whole {
            return Json(answer.compacted()).into_response();
        }
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
        (headers, body_of(answer.stream(), permit)).into_response()
    }

    fn authorize(&self, api: Api, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let Some(key) = &self.script.api_key else { return Ok(()) };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let given = match api {
            Api::Responses | Api::Chat => {
                header("authorization").and_then(|value| value.strip_prefix("Bearer "))
            }
            Api::Messages => header("x-api-key"),
        };
        if given != Some(key) {
            let problem = "the API key is missing or is not the script's apiKey";
            return Err(Box::new(error(api, StatusCode::UNAUTHORIZED, "invalid_api_key", problem)));
        }
        if api == Api::Messages && header("anthropic-version").is_none() {
            let problem = "anthropic-version: header is required";
            return Err(Box::new(error(api, StatusCode::BAD_REQUEST, "invalid_request", problem)));
        }
        Ok(())
    }
}

/// The body of a streamed reply. The permit lives as long as it does.
fn body_of(rendered: render::Stream, permit: OwnedSemaphorePermit) -> Body {
    let frames = stream::iter(rendered.frames).then(|Frame { pause, bytes }| async move {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        Ok(bytes)
    });
    let broken = || {
        stream::once(async {
            // What was written before is flushed only when the body has nothing more for now.
            yield_now().await;
            Err(io::Error::other("the script breaks the connection"))
        })
    };
    let finish = match rendered.finish {
        Finish::Close => stream::empty().boxed(),
        Finish::Break => broken().boxed(),
        Finish::Stall(time) => stream::iter(0..time.as_secs())
            .then(|_| async {
                sleep(Duration::from_secs(1)).await;
                Ok(Bytes::from_static(b": still here\n\n"))
            })
            .chain(broken())
            .boxed(),
    };
    Body::from_stream(frames.chain(finish).inspect(move |_| {
        let _held = &permit;
    }))
}

fn http_reply(api: Api, reply: &HttpReply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match (&reply.error, &reply.body) {
        (Some(error), _) => {
            Json(error_body(api, reply.status, error.code.as_deref(), &error.message)).into_response()
        }
        (None, Some(body)) => body.clone().into_response(),
        (None, None) => ().into_response(),
    };
    *response.status_mut() = status;
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn error(api: Api, status: StatusCode, code: &str, message: &str) -> Response {
    let code = match api {
        Api::Responses | Api::Chat => Some(code),
        Api::Messages => None,
    };
    (status, Json(error_body(api, status.as_u16(), code, message))).into_response()
}

#[cfg(test)]
mod tests;
