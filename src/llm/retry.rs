//! When a failed request is sent again: one pure table for both retry budgets, and for outages.
//!
//! Two budgets are nested, as in the reference agent. The *request* budget covers answers that are no
//! answer (transport failures, 5xx); when it is used up, that counts as one failure of the *stream*
//! budget, which covers everything else that may pass. A server that only ever answers 500 is asked
//! 6 x 5 = 30 times within about 24 s.
//!
//! What may still pass then is an *outage*: nobody sits in front of the agent to try again later, so it does that by
//! itself, with single requests further and further apart, for as long as the task allows.

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

/// The first wait of an outage; each further one doubles it.
const OUTAGE_BASE: Duration = Duration::from_secs(1);

/// The longest wait of an outage that the server did not ask for: a provider that is back is noticed within half a
/// minute, and a hundred agents that wait for it ask it about three times a second.
const MAX_OUTAGE_WAIT: Duration = Duration::from_secs(30);

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
    /// Single requests since the outage began; 0 outside of one.
    pub outage: u32,
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
    let unauthorized = matches!(failure.cause, RetryCause::Unauthorized { .. });
    // An outage is probed by single requests. Only a credential that was changed meanwhile has its retries, since the
    // provider answers again.
    if attempts.outage > 0 && !unauthorized {
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
    if attempts.stream < policy.stream_max {
        return Decision::Retry(Retry {
            after: failure.server_delay.unwrap_or_else(|| backoff(attempts.stream, jitter)),
            attempts: Attempts { request: 0, stream: attempts.stream + 1, ..attempts },
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

/// How long an outage is waited out before the next request; nothing when it is over the `limit`, of which `waited`
/// is used up. The last request goes out when the limit is reached.
pub fn wait_out(
    attempts: Attempts,
    server_delay: Option<Duration>,
    waited: Duration,
    limit: Duration,
    jitter: f64,
) -> Option<Duration> {
    let left = limit.checked_sub(waited).filter(|left| !left.is_zero())?;
    let own = exponential(OUTAGE_BASE, attempts.outage, jitter).min(MAX_OUTAGE_WAIT);
    Some(own.max(server_delay.unwrap_or_default()).min(left))
}

fn outage(error: Retryable) -> Decision {
    Decision::Outage(Outage { server_delay: error.server_delay, error })
}

fn backoff(retries: u32, jitter: f64) -> Duration {
    exponential(BASE, retries, jitter)
}

fn exponential(base: Duration, retries: u32, jitter: f64) -> Duration {
    let factor = 1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
    (base * 2u32.pow(retries.min(MAX_EXPONENT))).mul_f64(factor)
}

#[cfg(test)]
mod tests;
