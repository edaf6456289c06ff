//! Why a request to a model failed, sorted by what is to be done about it.

use std::time::Duration;

use thiserror::Error;

use super::request::Usage;

/// A failed request. The text is for the person who runs the task and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    /// Asking again may help. [`super::retry::decide`] says whether and when.
    #[error("{}", .0.message)]
    Retryable(Retryable),
    /// Asking again gives the same answer.
    #[error("{}", .0.message)]
    Fatal(Fatal),
    /// The provider, its credential or the model's name is set up wrongly: a person has to mend it.
    #[error("{}", .0.message)]
    Misconfigured(Misconfigured),
}

/// A failure that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retryable {
    /// Which of the two nested retry budgets it is counted in.
    pub layer: RetryLayer,
    /// What happened.
    pub cause: RetryCause,
    /// How long the server asked to wait.
    pub server_delay: Option<Duration>,
    /// One sentence for a person.
    pub message: String,
}

/// The two nested retry budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryLayer {
    /// No answer, or an answer that is only a server error.
    Request,
    /// Everything that happens once the server understood, and a request budget that is used up.
    Stream,
}

/// What went wrong in a way that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryCause {
    /// No connection: refused, no route, no such name, TLS, or not within the connect timeout.
    Connect,
    /// The connection broke before the answer's head.
    Transport,
    /// A 5xx answer.
    Server {
        /// The HTTP status.
        status: u16,
    },
    /// The stream ended or broke before the response was complete.
    StreamBroken,
    /// No event for longer than the idle timeout, or no end within the request's deadline.
    Timeout,
    /// Too many requests or tokens (429, or the code for it).
    RateLimited,
    /// The provider has no capacity now (529, or the code for it): waited out, not retried at once.
    Overloaded,
    /// 401 or 403: the credential may just have been rotated; read it again before the retry.
    Unauthorized {
        /// The HTTP status.
        status: u16,
    },
    /// The provider reported a failure of the response with a code that is not known to be final.
    ResponseFailed,
}

/// A failure that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What happened.
    pub kind: FatalKind,
    /// One sentence for a person, with the provider's words.
    pub message: String,
    /// What the request cost all the same, when the provider said.
    pub usage: Option<Usage>,
}

/// What went wrong for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FatalKind {
    /// The history no longer fits the model's context window.
    ContextWindowExceeded,
    /// The account has no credit or the plan does not include the model.
    Quota,
    /// The provider finds the request itself malformed (400 and its kin).
    InvalidRequest,
    /// The provider refuses the prompt.
    InvalidPrompt,
    /// The model or a policy of the provider refuses the work.
    Refused,
    /// The response ended early, for instance at the provider's output limit.
    Incomplete,
    /// The answer breaks a bound of ours, for instance an event of more than 16 MiB.
    Oversized,
}

/// A set-up that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misconfigured {
    /// What is wrong.
    pub kind: Misconfiguration,
    /// One sentence for a person that says what to do.
    pub message: String,
}

/// What is set up wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misconfiguration {
    /// The credential is refused.
    Credential,
    /// The endpoint does not know the model.
    UnknownModel,
    /// The endpoint does not speak the configured API.
    WrongApi,
    /// The provider's own settings cannot be used (base URL, header, CA bundle).
    Settings,
}
