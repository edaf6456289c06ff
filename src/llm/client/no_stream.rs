//! What comes in the place of a stream of events.

use std::{error::Error as _, time::Duration};

use reqwest::{
    Response,
    header::{CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER},
};
use tokio::time::timeout;

use crate::llm::{
    error::{ModelError, RetryCause, RetryLayer, Retryable},
    failure::{Asked, HttpAnswer},
};

/// How much of an error's body is read: many times what any provider writes.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// How long the rest of an error's body may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What an answer means that is no stream of events.
pub(super) async fn rejected(asked: &Asked, mut response: Response) -> ModelError {
    let mut body = Vec::new();
    // Whatever arrived in time is enough for the message.
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BODY_BYTES - body.len())]);
            if body.len() == MAX_ERROR_BODY_BYTES {
                break;
            }
        }
    };
    let _ = timeout(ERROR_BODY_TIMEOUT, read).await;
    let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    asked.http_answer(&HttpAnswer {
        status: response.status().as_u16(),
        content_type: header(CONTENT_TYPE),
        retry_after: header(RETRY_AFTER),
        location: header(LOCATION),
        body: &body,
        received: jiff::Timestamp::now(),
    })
}

/// What it means that there is no answer.
pub(super) fn unsent(asked: &Asked, error: &reqwest::Error) -> ModelError {
    let cause = if error.is_connect() { RetryCause::Connect } else { RetryCause::Transport };
    let what = if error.is_connect() { "cannot be reached" } else { "gave no answer" };
    ModelError::Retryable(Retryable {
        layer: RetryLayer::Request,
        cause,
        server_delay: None,
        message: format!(
            "{} {what} ({}). Check the ModelProvider's baseURL, and that the network lets the agent's pod through.",
            asked.url,
            causes(error)
        ),
    })
}

/// An error with its causes, which is where reqwest keeps what happened.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { "no details".to_owned() } else { text }
}
