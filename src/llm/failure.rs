//! What an answer that is no response means: one pure table from HTTP answers and error codes to
//! [`ModelError`], with the sentences that people read.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use self::meaning::Meaning;
use super::{
    error::{
        Fatal, FatalKind, Misconfiguration, Misconfigured, ModelError, RetryCause, RetryLayer, Retryable,
    },
    wire::Wire,
};

mod meaning;

/// How much of a provider's own words goes into a message: enough for every error text seen, little
/// enough for a condition in a resource's status.
const MAX_QUOTE_CHARS: usize = 500;

/// What was asked, for the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The API.
    pub wire: Wire,
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
        let words = error.as_ref().map_or("", |error| error.message.as_str());
        let server_delay = retry_after(answer).or_else(|| delay_in_words(words));
        let known = error.as_ref().and_then(|error| self.meaning(error));
        match answer.status {
            200..=299 => match error {
                Some(error) => self.reported(&error),
                None => self.wrong_api(&format!("the answer is {}, not a stream of events", media(answer))),
            },
            300..=399 => misconfigured(
                Misconfiguration::Settings,
                format!(
                    "{} redirects to {}. Redirects are not followed with a credential: set the ModelProvider's \
                     baseURL to the final address.",
                    self.url,
                    answer.location.unwrap_or("nowhere"),
                ),
            ),
            401 | 403 => self.means(Meaning::Unauthorized(answer.status), None, &said),
            402 => self.means(Meaning::Quota, None, &said),
            404 | 405 => match known {
                Some(known @ (Meaning::UnknownModel | Meaning::Setting(_))) => self.means(known, None, &said),
                _ if answer.status == 404 && self.names_model(words) => {
                    self.means(Meaning::UnknownModel, None, &said)
                }
                _ => self.wrong_api(&said),
            },
            429 => match known {
                Some(known @ (Meaning::Quota | Meaning::Overloaded)) => {
                    self.means(known, server_delay, &said)
                }
                _ => self.means(Meaning::RateLimited, server_delay, &said),
            },
            529 => self.means(Meaning::Overloaded, server_delay, &said),
            // What the words say counts more than a status that some servers give to every error.
            500..=599 => match known {
                Some(known @ (Meaning::Overloaded | Meaning::ContextWindow | Meaning::Setting(_))) => {
                    self.means(known, server_delay, &said)
                }
                _ => self.server(answer.status, server_delay, &said),
            },
            _ if is_html(answer) => self.wrong_api(&said),
            _ => self.means(known.unwrap_or(Meaning::InvalidRequest), server_delay, &said),
        }
    }

    /// What an error object means that came in a stream or with status 200. A code that is not known to be final
    /// may pass.
    pub fn reported(&self, error: &ProviderError) -> ModelError {
        let delay = delay_in_words(&error.message);
        match self.meaning(error) {
            Some(Meaning::Passing) | None => {
                let code = error.code.as_deref().unwrap_or("no code");
                let said = quote(&format!("{code}: {}", error.message));
                retryable(
                    RetryLayer::Stream,
                    RetryCause::ResponseFailed,
                    delay,
                    format!("{} reported a failure ({said}).", self.url),
                )
            }
            Some(known) => self.means(known, delay, &quote(&error.message)),
        }
    }

    /// The stream broke in the way given.
    pub fn broken(&self, how: &str) -> ModelError {
        retryable(
            RetryLayer::Stream,
            RetryCause::StreamBroken,
            None,
            format!("The stream from {} {how}.", self.url),
        )
    }

    /// The endpoint speaks something else.
    pub fn wrong_api(&self, what: &str) -> ModelError {
        misconfigured(
            Misconfiguration::WrongApi,
            format!(
                "{} does not speak the {} API ({what}). Check the ModelProvider's baseURL (it usually ends \
                 in /v1) and its api.",
                self.url,
                self.wire.name()
            ),
        )
    }

    fn meaning(&self, error: &ProviderError) -> Option<Meaning> {
        let by_code = error.code.as_deref().and_then(|code| meaning::of_code(self.wire, code));
        match by_code {
            // The codes for a bad request and for any fault say less than the words.
            None | Some(Meaning::InvalidRequest | Meaning::Passing) => {
                meaning::of_words(self.wire, &error.message).or(by_code)
            }
            Some(known) => Some(known),
        }
    }

    fn means(&self, meaning: Meaning, delay: Option<Duration>, said: &str) -> ModelError {
        let (url, model) = (&self.url, &self.model);
        match meaning {
            Meaning::ContextWindow => fatal(
                FatalKind::ContextWindowExceeded,
                format!("The thread no longer fits the context window of {model} ({said})."),
            ),
            Meaning::Quota => fatal(
                FatalKind::Quota,
                format!(
                    "The account behind the API key has no quota for {model} ({said}). Raise its limit or use another key."
                ),
            ),
            Meaning::Overloaded => retryable(
                RetryLayer::Stream,
                RetryCause::Overloaded,
                delay,
                format!("{url} has no capacity for {model} now ({said})."),
            ),
            Meaning::RateLimited => retryable(
                RetryLayer::Stream,
                RetryCause::RateLimited,
                delay,
                format!("{url} limits the rate of requests ({said})."),
            ),
            Meaning::InvalidPrompt => {
                fatal(FatalKind::InvalidPrompt, format!("{url} refuses the prompt ({said})."))
            }
            Meaning::Refused => {
                fatal(FatalKind::Refused, format!("A policy of {url} forbids the request ({said})."))
            }
            Meaning::InvalidRequest => {
                fatal(FatalKind::InvalidRequest, format!("{url} refuses the request ({said})."))
            }
            Meaning::Unauthorized(status) => retryable(
                RetryLayer::Stream,
                RetryCause::Unauthorized { status },
                None,
                format!(
                    "{url} refuses the API key ({said}). Put a valid one, with the right to use {model}, under the key \
                     `apiKey` of the Secret that the ModelProvider names in credentialsSecretName."
                ),
            ),
            Meaning::UnknownModel => misconfigured(
                Misconfiguration::UnknownModel,
                format!(
                    "{url} does not know the model {model:?} ({said}). Correct spec.model.name of the task, or the \
                     models of the ModelProvider."
                ),
            ),
            Meaning::Setting(remedy) => misconfigured(
                Misconfiguration::Settings,
                format!("{url} refuses the request ({said}). {remedy}."),
            ),
            Meaning::Passing => retryable(
                RetryLayer::Stream,
                RetryCause::ResponseFailed,
                delay,
                format!("{url} reported a failure ({said})."),
            ),
        }
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
