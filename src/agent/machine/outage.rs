//! Outages of the model. Nobody sits in front of the agent who would try again later, so a turn whose request failed as
//! often as the provider's retries allow is *parked*: single requests go out further and further apart until the model
//! answers or the task's patience is over. That is waiting, not active time.

use std::time::Duration;

use super::{Machine, Stage};
use crate::agent::journal::record::{ModelEnd, Retries};
use crate::agent::thread::Thread;
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::llm::retry::{self, Attempts, Outage};

impl Machine {
    /// Why the model cannot be used, while the turn is parked for that.
    pub fn unavailable(&self) -> Option<&str> {
        let outage = self.state.outage.as_ref().filter(|_| self.is_parked())?;
        Some(&outage.message)
    }

    /// Whether the turn waits for the model to be usable again. Calls of a response that broke off are work.
    pub(super) fn is_parked(&self) -> bool {
        let waits = |thread: &Thread| thread.in_turn && thread.calls.is_empty();
        matches!(self.stage, Stage::Surveying | Stage::Working)
            && !self.held
            && self.state.outage.is_some()
            && self.thread().is_some_and(waits)
    }

    /// Counts time that passed with the turn parked.
    pub(super) fn wait_parked(&mut self, passed: Duration) {
        if self.thread().is_some_and(|thread| thread.request.is_some()) {
            self.probing += passed;
        }
        if let Some(outage) = &mut self.state.outage {
            outage.waited += passed;
        }
    }

    /// How much longer an outage is waited out.
    pub(super) fn outage_left(&self) -> Duration {
        self.config.outage.saturating_sub(self.outage_waited())
    }

    pub(super) fn outage_waited(&self) -> Duration {
        self.state.outage.as_ref().map_or(Duration::ZERO, |outage| outage.waited)
    }

    /// How a request ends after which the provider counts as unavailable.
    pub(super) fn wait_out(&self, before: Retries, outage: Outage, jitter: f64) -> ModelEnd {
        let attempts = Attempts { outage: before.outage, ..Attempts::default() };
        let waited = self.outage_waited();
        let (limit, message) = (self.config.outage, outage.error.message);
        match retry::wait_out(attempts, outage.server_delay, waited, limit, jitter) {
            Some(after) => ModelEnd::Unavailable {
                message,
                after_ms: millis(after),
                retries: Retries { request: 0, stream: 0, outage: before.outage + 1, ..before },
            },
            None => ModelEnd::Failed {
                outcome: Outcome {
                    reason: Reason::ModelFailed,
                    message: format!(
                        "{message} That lasted longer than spec.model.outageSeconds ({}) allows; the patch so far is \
                         kept. When the provider works again, create the task again.",
                        limit.as_secs()
                    ),
                },
            },
        }
    }
}

/// Whole milliseconds, rounded up, so that what is left of a second is waited too.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
