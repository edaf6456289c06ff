//! What the proxy says to commands.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio_util::task::AbortOnDropHandle;

use crate::egress::rules::Refused;

/// The header by which programs tell a refusal from an answer of the host's.
const REFUSED: HeaderName = HeaderName::from_static("x-podwright-refused");

/// The body of an answer: our own words, or the host's.
pub(super) type Answer = Either<Full<Bytes>, PassedOn>;

/// A host's body, and the connection that it comes over.
pub(super) struct PassedOn {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

/// Why a request has no answer of its host.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The environment does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody knows the name.
    #[error("the name is not known")]
    Unknown,
    /// It took too long.
    #[error("{0}")]
    Late(&'static str),
    /// The host does not take the connection, or breaks it.
    #[error("{0}")]
    Unreachable(String),
}

/// No body.
pub(super) fn empty() -> Answer {
    Either::Left(Full::default())
}

/// The host's answer.
pub(super) fn passed_on(body: Incoming, connection: AbortOnDropHandle<()>) -> Answer {
    Either::Right(PassedOn { body, _connection: connection })
}

/// A request that is none for a proxy.
pub(super) fn nonsense(why: &str) -> Response<Answer> {
    words(StatusCode::BAD_REQUEST, why, &format!("The sandbox's network proxy: {why}.\n"))
}

/// A request that was not passed on. Many clients show the phrase of the first line alone.
pub(super) fn failed(at: &str, failure: &Failure) -> Response<Answer> {
    match failure {
        Failure::Refused(why) => {
            let phrase = format!("Refused by the sandbox's proxy: {at}: {why}");
            let text = format!("The sandbox's network proxy has refused {at}: {why}.\n");
            let mut response = words(StatusCode::FORBIDDEN, &phrase, &text);
            response.headers_mut().insert(REFUSED, HeaderValue::from_static(why.kind()));
            response
        }
        Failure::Unknown | Failure::Unreachable(_) => {
            let phrase = format!("Not reached: {at}: {failure}");
            words(
                StatusCode::BAD_GATEWAY,
                &phrase,
                &format!("The sandbox's network proxy cannot reach {at}: {failure}.\n"),
            )
        }
        Failure::Late(_) => {
            let phrase = format!("Not reached: {at}: {failure}");
            words(
                StatusCode::GATEWAY_TIMEOUT,
                &phrase,
                &format!("The sandbox's network proxy cannot reach {at}: {failure}.\n"),
            )
        }
    }
}

fn words(status: StatusCode, phrase: &str, text: &str) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::from(text.to_owned())));
    *response.status_mut() = status;
    // Names come from commands and reasons from the system: only what may stand in a line.
    let phrase: String = phrase.chars().filter(|c| *c == ' ' || c.is_ascii_graphic()).take(400).collect();
    if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
        response.extensions_mut().insert(phrase);
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

impl Body for PassedOn {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
