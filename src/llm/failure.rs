//! What an answer that is no response means: one pure table from HTTP answers and error codes to
//! [`ModelError`], with the sentences that people read.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::error::{
    Fatal, FatalKind, Misconfiguration, Misconfigured, ModelError, RetryCause, RetryLayer, Retryable,
};

/// How much of a provider's own words goes into a message: enough for every error text seen, little
/// enough for a condition in a resource's status.
const MAX_QUOTE_CHARS: usize = 500;

/// What was asked, for the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The address that requests go to.
    pub url: String,
    /// The model's name.
    pub model: String,
}

/// An HTTP answer that is not a stream of events.
#[derive(Clone, Copy, Debug)]
pub struct HttpAnswer<'a> {
    /// The status.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The header `Retry-After`: seconds or a date.
    pub retry_after: Option<&'a str>,
    /// The header `Location`.
    pub location: Option<&'a str>,
    /// The body, or its beginning.
    pub body: &'a [u8],
    /// When the answer came, for a `Retry-After` that is a date.
    pub received: Timestamp,
}

/// A provider's error object, in the members that most of them share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderError {
    /// The stable code, when there is one.
    pub code: Option<String>,
    /// The words.
    pub message: String,
}

impl ProviderError {
    /// Reads `{code, message}` in whatever shape: absent members are left empty, a numeric code is no
    /// code, and `type` stands in for a missing code.
    pub fn from_value(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = match value {
            Value::String(message) => message.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                text("message").unwrap_or_default()
            }
        };
        Self { code: text("code").or_else(|| text("type")), message }
    }

    fn from_body(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            error: Option<Value>,
            message: Option<Value>,
            detail: Option<Value>,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        body.error.or(body.message).or(body.detail).map(|value| Self::from_value(&value))
    }
}

impl Asked {
    /// What an answer that is no event stream means, whatever its status.
    pub fn http_answer(&self, answer: &HttpAnswer<'_>) -> ModelError {
        let error = ProviderError::from_body(answer.body);
        let said = said(answer, error.as_ref());
        let code = error.as_ref().and_then(|error| error.code.as_deref());
        let words = error.as_ref().map_or("", |error| error.message.as_str());
        let server_delay = retry_after(answer).or_else(|| delay_in_words(words));
        match answer.status {
            200..=299 if error.is_some() => {
                self.reported(&error.unwrap_or_default(), RetryCause::ResponseFailed)
            }
            200..=299 => self.wrong_api(&format!("the answer is {}, not a stream of events", media(answer))),
            300..=399 => misconfigured(
                Misconfiguration::Settings,
                format!(
                    "{} redirects to {}. Redirects are not followed with a credential: set the ModelProvider's \
                     baseURL to the final address.",
                    self.url,
                    answer.location.unwrap_or("nowhere"),
                ),
            ),
            401 => self.unauthorized(401, &said),
            403 => self.unauthorized(403, &said),
            404 | 400
                if code == Some("model_not_found") || answer.status == 404 && self.names_model(words) =>
            {
                self.unknown_model(&said)
            }
            404 | 405 => self.wrong_api(&said),
            429 | 503 => match self.by_code(code, words) {
                Some(known) => known,
                None if answer.status == 429 => retryable(
                    RetryLayer::Stream,
                    RetryCause::RateLimited,
                    server_delay,
                    format!("{} limits the rate of requests ({said}).", self.url),
                ),
                None => self.server(answer.status, server_delay, &said),
            },
            529 => self.overloaded(&said),
            500..=599 => self.server(answer.status, server_delay, &said),
            _ if is_html(answer) => self.wrong_api(&said),
            _ => match self.by_code(code, words) {
                Some(known) => known,
                None => {
                    fatal(FatalKind::InvalidRequest, format!("{} refuses the request ({said}).", self.url))
                }
            },
        }
    }

    /// What an error object means that came in a stream or with status 200. `unknown` is the cause for
    /// a code that is not known to be final: it may pass.
    pub fn reported(&self, error: &ProviderError, unknown: RetryCause) -> ModelError {
        let code = error.code.as_deref();
        self.by_code(code, &error.message).unwrap_or_else(|| {
            let said = quote(&format!("{}: {}", code.unwrap_or("no code"), error.message));
            retryable(
                RetryLayer::Stream,
                unknown,
                delay_in_words(&error.message),
                format!("{} reported a failure ({said}).", self.url),
            )
        })
    }

    /// The endpoint speaks something else.
    pub fn wrong_api(&self, what: &str) -> ModelError {
        misconfigured(
            Misconfiguration::WrongApi,
            format!(
                "{} does not speak the Responses API ({what}). Check the ModelProvider's baseURL (it usually ends \
                 in /v1) and its api.",
                self.url
            ),
        )
    }

    fn by_code(&self, code: Option<&str>, words: &str) -> Option<ModelError> {
        let words = quote(words);
        let error = match code? {
            "context_length_exceeded" => fatal(
                FatalKind::ContextWindowExceeded,
                format!("The thread no longer fits the context window of {} ({words}).", self.model),
            ),
            "insufficient_quota" | "usage_not_included" => fatal(
                FatalKind::Quota,
                format!(
                    "The account behind the API key has no quota for {} ({words}). Raise its limit or use another key.",
                    self.model
                ),
            ),
            "server_is_overloaded" | "slow_down" => self.overloaded(&words),
            "invalid_prompt" => {
                fatal(FatalKind::InvalidPrompt, format!("{} refuses the prompt ({words}).", self.url))
            }
            "cyber_policy" => {
                fatal(FatalKind::Refused, format!("A policy of {} forbids the request ({words}).", self.url))
            }
            "rate_limit_exceeded" => retryable(
                RetryLayer::Stream,
                RetryCause::RateLimited,
                delay_in_words(&words),
                format!("{} limits the rate of requests ({words}).", self.url),
            ),
            "model_not_found" => self.unknown_model(&words),
            _ => return None,
        };
        Some(error)
    }

    fn unauthorized(&self, status: u16, said: &str) -> ModelError {
        retryable(
            RetryLayer::Stream,
            RetryCause::Unauthorized { status },
            None,
            format!(
                "{} refuses the API key ({said}). Put a valid one, with the right to use {}, under the key `apiKey` of \
                 the Secret that the ModelProvider names in credentialsSecretName.",
                self.url, self.model
            ),
        )
    }

    fn unknown_model(&self, said: &str) -> ModelError {
        misconfigured(
            Misconfiguration::UnknownModel,
            format!(
                "{} does not know the model {:?} ({said}). Correct spec.model.name of the task, or the models of the \
                 ModelProvider.",
                self.url, self.model
            ),
        )
    }

    fn overloaded(&self, said: &str) -> ModelError {
        retryable(
            RetryLayer::Stream,
            RetryCause::Overloaded,
            None,
            format!("{} has no capacity for {} now ({said}).", self.url, self.model),
        )
    }

    fn server(&self, status: u16, server_delay: Option<Duration>, said: &str) -> ModelError {
        retryable(
            RetryLayer::Request,
            RetryCause::Server { status },
            server_delay,
            format!("{} fails ({said}).", self.url),
        )
    }

    /// Servers that speak of a model they lack name it; those that lack the path do not.
    fn names_model(&self, words: &str) -> bool {
        !self.model.is_empty() && words.contains(&self.model)
    }
}

/// A delay in a provider's prose: "try again in 1.5s", "in 28ms", "in 6m0s".
pub fn delay_in_words(words: &str) -> Option<Duration> {
    const MARK: &str = "try again in ";
    let lower = words.to_ascii_lowercase();
    let mut rest = &lower[lower.find(MARK)? + MARK.len()..];
    let mut total = None;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<f64>() else { break };
        let after = rest[digits..].trim_start_matches(' ');
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let seconds = match &after[..letters] {
            "ms" | "milliseconds" | "millisecond" => number / 1000.0,
            "s" | "sec" | "secs" | "second" | "seconds" => number,
            "m" | "min" | "mins" | "minute" | "minutes" => number * 60.0,
            "h" | "hour" | "hours" => number * 3600.0,
            _ => break,
        };
        let sum = total.unwrap_or(Duration::ZERO).saturating_add(Duration::try_from_secs_f64(seconds).ok()?);
        total = Some(sum);
        rest = &after[letters..];
    }
    total
}

fn retry_after(answer: &HttpAnswer<'_>) -> Option<Duration> {
    let value = answer.retry_after?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Duration::try_from(date.duration_since(answer.received)).ok()
}

/// `HTTP 404: the provider's words`.
fn said(answer: &HttpAnswer<'_>, error: Option<&ProviderError>) -> String {
    let words = match error {
        Some(error) if !error.message.is_empty() => quote(&error.message),
        Some(_) | None if is_html(answer) => "a web page".to_owned(),
        Some(_) | None => quote(&String::from_utf8_lossy(answer.body)),
    };
    if words.is_empty() {
        format!("HTTP {}", answer.status)
    } else {
        format!("HTTP {}: {words}", answer.status)
    }
}

fn media<'a>(answer: &HttpAnswer<'a>) -> &'a str {
    answer.content_type.unwrap_or("without a content type")
}

fn is_html(answer: &HttpAnswer<'_>) -> bool {
    answer.content_type.is_some_and(|media| media.trim_start().starts_with("text/html"))
}

/// One line of at most [`MAX_QUOTE_CHARS`].
fn quote(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn retryable(
    layer: RetryLayer,
    cause: RetryCause,
    server_delay: Option<Duration>,
    message: String,
) -> ModelError {
    ModelError::Retryable(Retryable { layer, cause, server_delay, message })
}

fn fatal(kind: FatalKind, message: String) -> ModelError {
    ModelError::Fatal(Fatal { kind, message, usage: None })
}

fn misconfigured(kind: Misconfiguration, message: String) -> ModelError {
    ModelError::Misconfigured(Misconfigured { kind, message })
}

#[cfg(test)]
mod tests;
