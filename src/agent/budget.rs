//! The bounds of an attempt: what was spent, and which bound forbids the next spending.

use std::time::Duration;

use podwright_sandboxd::protocol::Exit;

use super::journal::record::{CallEnded, CallOutcome};
use crate::api::attempt::Outcome;
use crate::api::money::{Money, Prices};
use crate::api::reasons::Reason;
use crate::api::task::Limits;
use crate::llm::Usage;

/// Prices are for so many tokens.
const MILLION: u128 = 1_000_000;

/// What an attempt has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Steps begun.
    pub steps: u64,
    /// Model requests begun, repetitions counted.
    pub requests: u64,
    /// Tokens, exact and estimated.
    pub usage: Usage,
    /// Commands started.
    pub commands: u64,
    /// Calls that failed since the last one that succeeded.
    pub failures: u64,
    /// Active time.
    pub active: Duration,
}

/// A bound that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `limits.steps`
    Steps,
    /// `limits.uncachedInputTokens`
    UncachedInputTokens,
    /// `limits.outputTokens`
    OutputTokens,
    /// `limits.cost`
    Cost,
    /// `limits.commands`
    Commands,
    /// `limits.consecutiveFailures`
    ConsecutiveFailures,
    /// `limits.activeSeconds`
    ActiveSeconds,
}

impl Spent {
    /// Counts the end of a call. What goes on, what was cut off and what nobody knows is neither failure nor success.
    /// `is_whole`: a call without an exit code, which succeeded when it ended well: a patch, a tool of an MCP server.
    pub fn call_ended(&mut self, ended: &CallEnded, is_whole: bool) {
        match (ended.outcome, &ended.exit) {
            (CallOutcome::Ok, Some(record)) if record.exit == Exit::Code(0) => self.failures = 0,
            (CallOutcome::Ok, None) if is_whole => self.failures = 0,
            (CallOutcome::Ok, Some(_)) | (CallOutcome::Error, _) => self.failures += 1,
            (CallOutcome::Ok, None) | (CallOutcome::Interrupted | CallOutcome::Unknown, _) => {}
        }
    }
}

impl Limit {
    /// The bound's name in the spec of a task.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::UncachedInputTokens => "uncachedInputTokens",
            Self::OutputTokens => "outputTokens",
            Self::Cost => "cost",
            Self::Commands => "commands",
            Self::ConsecutiveFailures => "consecutiveFailures",
            Self::ActiveSeconds => "activeSeconds",
        }
    }

    /// The bound with its number, for people and for the model.
    pub fn shown(self, limits: &Limits) -> String {
        let bound = match self {
            Self::Steps => limits.steps.to_string(),
            Self::UncachedInputTokens => limits.uncached_input_tokens.to_string(),
            Self::OutputTokens => limits.output_tokens.to_string(),
            Self::Cost => limits.cost.unwrap_or_default().to_string(),
            Self::Commands => limits.commands.to_string(),
            Self::ConsecutiveFailures => limits.consecutive_failures.to_string(),
            Self::ActiveSeconds => limits.active_seconds.to_string(),
        };
        format!("limits.{} ({bound})", self.field())
    }

    /// How an attempt ends that reaches the bound.
    pub fn outcome(self, limits: &Limits) -> Outcome {
        let reason =
            if self == Self::ActiveSeconds { Reason::DeadlineExceeded } else { Reason::BudgetExceeded };
        let (shown, field) = (self.shown(limits), self.field());
        Outcome {
            reason,
            message: format!(
                "{shown} is reached; the patch so far is kept. To go further, create a new task with a higher limits.{field}."
            ),
        }
    }
}

/// The bound that forbids another step, if any does.
pub fn forbids_step(limits: &Limits, spent: &Spent) -> Option<Limit> {
    if spent.steps >= unsigned(limits.steps) {
        Some(Limit::Steps)
    } else if spent.failures >= unsigned(limits.consecutive_failures) {
        Some(Limit::ConsecutiveFailures)
    } else {
        None
    }
}

/// The bound that forbids another request, be it a new step's or a repeated one, if any does. Estimates of broken
/// responses count like exact numbers. `unsent` is an estimate of the input tokens that no request has held yet: at
/// least these will not come from a cache. So a budget is overspent by at most the request that crosses it.
pub fn forbids_request(
    limits: &Limits,
    spent: &Spent,
    prices: Option<&Prices>,
    unsent: u64,
) -> Option<Limit> {
    let (input, bound) = (spent.usage.uncached_input_tokens(), unsigned(limits.uncached_input_tokens));
    if input >= bound || input.saturating_add(unsent) > bound {
        Some(Limit::UncachedInputTokens)
    } else if spent.usage.output_tokens >= unsigned(limits.output_tokens) {
        Some(Limit::OutputTokens)
    } else if let (Some(prices), Some(bound)) = (prices, limits.cost) {
        let new = Usage { input_tokens: unsent, ..Usage::default() };
        let mut with_it = spent.usage;
        with_it += new;
        (cost(prices, &spent.usage) >= bound || cost(prices, &with_it) > bound).then_some(Limit::Cost)
    } else {
        None
    }
}

/// What tokens cost, rounded up to a millionth.
pub fn cost(prices: &Prices, usage: &Usage) -> Money {
    let special = usage.cached_input_tokens.saturating_add(usage.cache_write_input_tokens);
    let of = |tokens: u64, price: Money| u128::from(tokens) * u128::from(price.micros());
    let total = of(usage.input_tokens.saturating_sub(special), prices.input)
        + of(usage.cached_input_tokens, prices.cached_input.unwrap_or(prices.input))
        + of(usage.cache_write_input_tokens, prices.cache_write_input.unwrap_or(prices.input))
        + of(usage.output_tokens, prices.output);
    Money::from_micros(u64::try_from(total.div_ceil(MILLION)).unwrap_or(u64::MAX))
}

/// The bound that forbids another command, if one does.
pub fn forbids_command(limits: &Limits, spent: &Spent) -> Option<Limit> {
    (spent.commands >= unsigned(limits.commands)).then_some(Limit::Commands)
}

/// Active time that is left.
pub fn active_left(limits: &Limits, spent: &Spent) -> Duration {
    Duration::from_secs(unsigned(limits.active_seconds)).saturating_sub(spent.active)
}

/// The schema keeps every bound at 0 or above.
fn unsigned(bound: i64) -> u64 {
    u64::try_from(bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use podwright_sandboxd::protocol::{Digest, EndedBy, ExitRecord, Span};
    use proptest::prelude::*;

    use super::*;

    fn spent(change: impl FnOnce(&mut Spent)) -> Spent {
        let mut spent = Spent::default();
        change(&mut spent);
        spent
    }

    #[test]
    fn each_bound_forbids_when_it_is_reached_and_not_before() {
        let limits = Limits {
            steps: 3,
            uncached_input_tokens: 100,
            output_tokens: 50,
            commands: 2,
            consecutive_failures: 4,
            active_seconds: 60,
            ..Limits::default()
        };
        let step = |change: fn(&mut Spent)| forbids_step(&limits, &spent(change));
        assert_eq!(step(|s| s.steps = 2), None);
        assert_eq!(step(|s| s.steps = 3), Some(Limit::Steps));
        assert_eq!(step(|s| s.failures = 3), None);
        assert_eq!(step(|s| s.failures = 4), Some(Limit::ConsecutiveFailures));
        let request = |unsent, change: fn(&mut Spent)| forbids_request(&limits, &spent(change), None, unsent);
        assert_eq!(request(0, |s| s.usage.input_tokens = 99), None);
        assert_eq!(request(0, |s| s.usage.input_tokens = 100), Some(Limit::UncachedInputTokens));
        assert_eq!(request(40, |s| s.usage.input_tokens = 60), None);
        assert_eq!(request(41, |s| s.usage.input_tokens = 60), Some(Limit::UncachedInputTokens));
        assert_eq!(
            request(0, |s| {
                s.usage.input_tokens = 1000;
                s.usage.cached_input_tokens = 901;
            }),
            None
        );
        assert_eq!(request(0, |s| s.usage.output_tokens = 50), Some(Limit::OutputTokens));
        assert_eq!(forbids_command(&limits, &spent(|s| s.commands = 1)), None);
        assert_eq!(forbids_command(&limits, &spent(|s| s.commands = 2)), Some(Limit::Commands));
        let late = spent(|s| s.active = Duration::from_secs(61));
        assert_eq!(active_left(&limits, &late), Duration::ZERO);
    }

    #[test]
    fn money_is_counted_by_the_kind_of_token_and_checked_with_what_is_new() {
        let money = |micros| Some(Money::from_micros(micros));
        let prices = Prices {
            input: Money::from_micros(2_000_000),
            cached_input: money(200_000),
            cache_write_input: money(2_500_000),
            output: Money::from_micros(8_000_000),
        };
        let usage = Usage {
            input_tokens: 1000,
            cached_input_tokens: 600,
            cache_write_input_tokens: 100,
            output_tokens: 50,
            ..Usage::default()
        };
        // 300 at 2, 600 at 0.2, 100 at 2.5 and 50 at 8 millionths each.
        assert_eq!(cost(&prices, &usage), Money::from_micros(600 + 120 + 250 + 400));
        let plain = Prices { cached_input: None, cache_write_input: None, ..prices };
        assert_eq!(cost(&plain, &usage), Money::from_micros(2000 + 400));
        let one = Usage { input_tokens: 1, cached_input_tokens: 1, ..Usage::default() };
        assert_eq!(cost(&prices, &one), Money::from_micros(1), "rounded up");

        let spent = spent(|spent| spent.usage = usage);
        let forbids = |bound, prices, unsent| {
            let limits = Limits { cost: money(bound), ..Limits::default() };
            forbids_request(&limits, &spent, prices, unsent)
        };
        assert_eq!(forbids(1371, Some(&prices), 0), None);
        assert_eq!(forbids(1370, Some(&prices), 0), Some(Limit::Cost));
        assert_eq!(forbids(1390, Some(&prices), 10), None);
        assert_eq!(forbids(1389, Some(&prices), 10), Some(Limit::Cost));
        assert_eq!(forbids(1, None, 10), None);
        let limits = Limits { cost: money(5_000_000), ..Limits::default() };
        assert!(Limit::Cost.outcome(&limits).message.starts_with("limits.cost (5.00) is reached"));
    }

    #[test]
    fn only_what_surely_failed_counts_as_failed_and_a_success_begins_anew() {
        let exited = |exit| {
            let span = Span { start: 0, end: 0, sha256: Digest::of(b"") };
            Some(ExitRecord {
                exit,
                ended_by: EndedBy::Itself,
                started_at_ms: 0,
                duration_ms: 1,
                bytes: 0,
                sha256: Digest::of(b""),
                head: span,
                tail: span,
            })
        };
        let failed = [
            (CallOutcome::Ok, exited(Exit::Code(1)), false),
            (CallOutcome::Ok, exited(Exit::Signal(9)), false),
            (CallOutcome::Ok, exited(Exit::Lost), false),
            (CallOutcome::Error, None, false),
            (CallOutcome::Error, None, true),
        ];
        let neither = [
            (CallOutcome::Ok, None, false),
            (CallOutcome::Interrupted, None, true),
            (CallOutcome::Unknown, None, false),
        ];
        let succeeded = [(CallOutcome::Ok, exited(Exit::Code(0)), false), (CallOutcome::Ok, None, true)];
        for (cases, failures) in [(&failed[..], 8), (&neither[..], 7), (&succeeded[..], 0)] {
            for (outcome, exit, is_patch) in cases {
                let (outcome, exit) = (*outcome, exit.clone());
                let mut spent = spent(|spent| spent.failures = 7);
                let ended = CallEnded {
                    ordinal: 0,
                    op: None,
                    outcome,
                    process: None,
                    exit,
                    output: String::new(),
                    images: vec![],
                };
                spent.call_ended(&ended, *is_patch);
                assert_eq!(spent.failures, failures, "{ended:?}");
            }
        }
    }

    #[test]
    fn the_outcome_names_the_bound_and_what_to_do() {
        let limits = Limits::default();
        assert_eq!(Limit::Steps.outcome(&limits).reason, Reason::BudgetExceeded);
        let outcome = Limit::ActiveSeconds.outcome(&limits);
        assert_eq!(outcome.reason, Reason::DeadlineExceeded);
        assert!(outcome.message.contains("limits.activeSeconds (7200)"), "{}", outcome.message);
    }

    proptest! {
        /// However large requests are, and however wrong their estimates: the bounds hold without the newest one, and
        /// with as much of it as was known before.
        #[test]
        fn only_the_newest_request_can_cross_a_bound(
            input in 0_i64..3000, output in 0_i64..300, micros in 0_u64..9000,
            requests in prop::collection::vec((0_u64..500, 0_u64..500, 0_u64..500, 0_u64..100, 0_u64..300), 0..40),
        ) {
            let price = |micros: u64| Money::from_micros(micros * 1_000_000);
            let (cached_input, cache_write_input) = (Some(price(1)), Some(price(3)));
            let prices = Prices { input: price(2), cached_input, cache_write_input, output: price(8) };
            let cost = Some(Money::from_micros(micros));
            let limits =
                Limits { uncached_input_tokens: input, output_tokens: output, cost, ..Limits::default() };
            let mut spent = Spent::default();
            let (mut new, mut said, mut paid) = (0_i64, 0_i64, 0_u64);
            for (fresh, cached, written, answer, unsent) in requests {
                if forbids_request(&limits, &spent, Some(&prices), unsent).is_some() {
                    break;
                }
                prop_assert!(new < input && said < output && paid < micros);
                prop_assert!(new + unsent.cast_signed() <= input && paid + 2 * unsent <= micros);
                new += (fresh + written).cast_signed();
                said += answer.cast_signed();
                paid += 2 * fresh + cached + 3 * written + 8 * answer;
                spent.usage += Usage {
                    input_tokens: fresh + cached + written,
                    cached_input_tokens: cached,
                    cache_write_input_tokens: written,
                    output_tokens: answer,
                    ..Usage::default()
                };
            }
        }
    }
}
