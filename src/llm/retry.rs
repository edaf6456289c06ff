//! When a failed request is sent again: one pure table for both retry budgets.
//!
//! Two budgets are nested, as in the reference agent. The *request* budget covers answers that are no
//! answer (transport failures, 5xx); when it is used up, that counts as one failure of the *stream*
//! budget, which covers everything else that may pass. A server that only ever answers 500 is asked
//! 6 x 5 = 30 times within about 24 s.

use std::time::Duration;

use super::error::{Misconfiguration, Misconfigured, ModelError, RetryCause, RetryLayer, Retryable};

/// The first backoff; each further one doubles it.
const BASE: Duration = Duration::from_millis(200);

/// Exponents above this would wait longer than [`MAX_SERVER_DELAY`].
const MAX_EXPONENT: u32 = 10;

/// How far the jitter moves a backoff: a tenth either way.
const JITTER: f64 = 0.1;

/// The longest wait that a server may ask for before the failure counts as an outage, which is waited
/// out with the turn parked instead of with a request under way.
pub const MAX_SERVER_DELAY: Duration = Duration::from_secs(300);

/// How often is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries of one request without an answer.
    pub request_max: u32,
    /// Retries of one model step.
    pub stream_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { request_max: 4, stream_max: 5 }
    }
}

/// How often was asked again already. A new step begins with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Retries within the present stream attempt.
    pub request: u32,
    /// Retries of the stream.
    pub stream: u32,
}

/// What to do about a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask again. The request holds by then whatever items the broken stream completed.
    Retry(Retry),
    /// The provider cannot be used now: wait it out with the turn parked, or give up.
    Outage(Outage),
    /// Asking again is of no use.
    Fail(ModelError),
}

/// A retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How long to wait first.
    pub after: Duration,
    /// The counters from now on.
    pub attempts: Attempts,
    /// Which budget it was counted in. Only stream retries are worth telling a person.
    pub layer: RetryLayer,
    /// Whether the credential should be read again first: it may have been rotated.
    pub reread_credential: bool,
}

/// A provider that cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// How long the server asked to wait.
    pub server_delay: Option<Duration>,
    /// The last failure.
    pub error: Retryable,
}

/// Decides about a failure. `jitter` is a random number from 0 to 1.
pub fn decide(policy: RetryPolicy, attempts: Attempts, error: ModelError, jitter: f64) -> Decision {
    let failure = match error {
        ModelError::Retryable(failure) => failure,
        ModelError::Fatal(_) | ModelError::Misconfigured(_) => return Decision::Fail(error),
    };
    if matches!(failure.cause, RetryCause::Overloaded)
        || failure.server_delay.is_some_and(|delay| delay > MAX_SERVER_DELAY)
    {
        return outage(failure);
    }
    if failure.layer == RetryLayer::Request && attempts.request < policy.request_max {
        return Decision::Retry(Retry {
            after: failure.server_delay.unwrap_or_else(|| backoff(attempts.request, jitter)),
            attempts: Attempts { request: attempts.request + 1, ..attempts },
            layer: RetryLayer::Request,
            reread_credential: false,
        });
    }
    let unauthorized = matches!(failure.cause, RetryCause::Unauthorized { .. });
    if attempts.stream < policy.stream_max {
        return Decision::Retry(Retry {
            after: failure.server_delay.unwrap_or_else(|| backoff(attempts.stream, jitter)),
            attempts: Attempts { request: 0, stream: attempts.stream + 1 },
            layer: RetryLayer::Stream,
            reread_credential: unauthorized,
        });
    }
    if unauthorized {
        return Decision::Fail(ModelError::Misconfigured(Misconfigured {
            kind: Misconfiguration::Credential,
            message: failure.message,
        }));
    }
    outage(failure)
}

fn outage(error: Retryable) -> Decision {
    Decision::Outage(Outage { server_delay: error.server_delay, error })
}

fn backoff(retries: u32, jitter: f64) -> Duration {
    let factor = 1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
    (BASE * 2u32.pow(retries.min(MAX_EXPONENT))).mul_f64(factor)
}

#[cfg(test)]
mod tests;
