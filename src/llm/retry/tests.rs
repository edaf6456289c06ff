use proptest::prelude::*;

use super::*;
use crate::llm::error::{Fatal, FatalKind};

fn failure(layer: RetryLayer, cause: RetryCause) -> Retryable {
    Retryable { layer, cause, server_delay: None, message: "it failed".into() }
}

fn server_error() -> Retryable {
    failure(RetryLayer::Request, RetryCause::Server { status: 500 })
}

fn broken() -> Retryable {
    failure(RetryLayer::Stream, RetryCause::StreamBroken)
}

/// Runs the table until it gives up; the waits in milliseconds and the last word.
fn exhaust(error: &Retryable) -> (Vec<u128>, Decision) {
    let mut attempts = Attempts::default();
    let mut waits = Vec::new();
    loop {
        match decide(RetryPolicy::default(), attempts, ModelError::Retryable(error.clone()), 0.5) {
            Decision::Retry(retry) => {
                waits.push(retry.after.as_millis());
                attempts = retry.attempts;
            }
            end @ (Decision::Outage(_) | Decision::Fail(_)) => return (waits, end),
        }
    }
}

#[test]
fn a_permanent_server_error_costs_thirty_requests_in_about_24_seconds() {
    let (waits, end) = exhaust(&server_error());
    assert_eq!(waits.len() + 1, 30);
    assert_eq!(waits[..6], [200, 400, 800, 1600, 200, 200]);
    assert_eq!(waits.iter().sum::<u128>(), 6 * 3000 + 6200);
    assert_eq!(end, Decision::Outage(Outage { server_delay: None, error: server_error() }));
}

#[test]
fn a_broken_stream_is_asked_six_times() {
    let (waits, end) = exhaust(&broken());
    assert_eq!(waits, [200, 400, 800, 1600, 3200]);
    assert!(matches!(end, Decision::Outage(_)));
}

#[test]
fn every_stream_cause_but_overload_and_credentials_ends_as_an_outage() {
    for cause in
        [RetryCause::StreamBroken, RetryCause::Timeout, RetryCause::RateLimited, RetryCause::ResponseFailed]
    {
        let (waits, end) = exhaust(&failure(RetryLayer::Stream, cause));
        assert_eq!(waits.len(), 5, "{cause:?}");
        assert!(matches!(end, Decision::Outage(_)), "{cause:?}");
    }
}

#[test]
fn overload_is_not_retried_at_once() {
    let (waits, end) = exhaust(&failure(RetryLayer::Stream, RetryCause::Overloaded));
    assert!(waits.is_empty());
    assert!(matches!(end, Decision::Outage(_)));
}

#[test]
fn a_refused_credential_is_read_again_each_time_and_is_then_a_misconfiguration() {
    let error = failure(RetryLayer::Stream, RetryCause::Unauthorized { status: 401 });
    let first =
        decide(RetryPolicy::default(), Attempts::default(), ModelError::Retryable(error.clone()), 0.5);
    assert!(matches!(first, Decision::Retry(Retry { reread_credential: true, .. })));
    let (waits, end) = exhaust(&error);
    assert_eq!(waits.len(), 5);
    let expected = Misconfigured { kind: Misconfiguration::Credential, message: "it failed".into() };
    assert_eq!(end, Decision::Fail(ModelError::Misconfigured(expected)));
}

#[test]
fn the_servers_delay_is_used_as_it_is_until_it_is_an_outage() {
    for layer in [RetryLayer::Request, RetryLayer::Stream] {
        for (seconds, retried) in [(2, true), (300, true), (301, false)] {
            let delay = Duration::from_secs(seconds);
            let mut error = failure(layer, RetryCause::RateLimited);
            error.server_delay = Some(delay);
            let decision =
                decide(RetryPolicy::default(), Attempts::default(), ModelError::Retryable(error), 0.9);
            match decision {
                Decision::Retry(retry) => assert!(retried && retry.after == delay),
                Decision::Outage(outage) => assert!(!retried && outage.server_delay == Some(delay)),
                Decision::Fail(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn what_stays_is_never_retried() {
    let fatal = ModelError::Fatal(Fatal { kind: FatalKind::Quota, message: "no credit".into(), usage: None });
    assert_eq!(
        decide(RetryPolicy::default(), Attempts::default(), fatal.clone(), 0.5),
        Decision::Fail(fatal)
    );
}

#[test]
fn a_policy_of_no_retries_gives_up_at_once() {
    let policy = RetryPolicy { request_max: 0, stream_max: 0 };
    let decision = decide(policy, Attempts::default(), ModelError::Retryable(server_error()), 0.5);
    assert!(matches!(decision, Decision::Outage(_)));
}

#[test]
fn an_outage_is_probed_by_single_requests() {
    let probe = Attempts { outage: 1, ..Attempts::default() };
    for error in [server_error(), broken(), failure(RetryLayer::Stream, RetryCause::RateLimited)] {
        let decision = decide(RetryPolicy::default(), probe, ModelError::Retryable(error), 0.5);
        assert!(matches!(decision, Decision::Outage(_)));
    }
}

#[test]
fn a_credential_that_is_refused_after_an_outage_is_read_again_and_then_counts() {
    let error = failure(RetryLayer::Stream, RetryCause::Unauthorized { status: 403 });
    let mut attempts = Attempts { outage: 7, ..Attempts::default() };
    for retries in 1..=5 {
        let decision = decide(RetryPolicy::default(), attempts, ModelError::Retryable(error.clone()), 0.5);
        let Decision::Retry(retry) = decision else { panic!("{decision:?}") };
        assert!(retry.reread_credential);
        attempts = retry.attempts;
        assert_eq!(attempts, Attempts { request: 0, stream: retries, outage: 7 });
    }
    let decision = decide(RetryPolicy::default(), attempts, ModelError::Retryable(error), 0.5);
    assert!(matches!(decision, Decision::Fail(ModelError::Misconfigured(_))));
}

#[test]
fn the_waits_of_an_outage_double_up_to_half_a_minute_and_end_at_the_limit() {
    let limit = Duration::from_secs(100);
    let mut waited = Duration::ZERO;
    let mut waits = Vec::new();
    let mut attempts = Attempts::default();
    while let Some(wait) = wait_out(attempts, None, waited, limit, 0.5) {
        waits.push(wait.as_secs());
        waited += wait;
        attempts.outage += 1;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 9]);
    assert_eq!(waited, limit);
    assert_eq!(wait_out(Attempts::default(), None, Duration::ZERO, Duration::ZERO, 0.5), None);
    let asked = Some(Duration::from_secs(60));
    assert_eq!(wait_out(attempts, asked, Duration::ZERO, limit, 0.5), asked);
    let left = Some(Duration::from_secs(10));
    assert_eq!(wait_out(attempts, asked, Duration::from_secs(90), limit, 0.5), left);
}

proptest! {
    #[test]
    fn jitter_stays_within_a_tenth(jitter in any::<f64>(), retries in 0u32..40) {
        prop_assume!(!jitter.is_nan());
        let plain = 200.0 * f64::from(2u32.pow(retries.min(10)));
        let waited = backoff(retries, jitter).as_secs_f64() * 1000.0;
        prop_assert!((waited - plain).abs() <= plain * 0.1 + 0.001);
    }

    #[test]
    fn every_policy_ends(request_max in 0u32..6, stream_max in 0u32..6, answers in prop::collection::vec(any::<bool>(), 1..60)) {
        let policy = RetryPolicy { request_max, stream_max };
        let bound = (request_max + 1) * (stream_max + 1);
        let mut attempts = Attempts::default();
        for (asked, is_request) in answers.iter().cycle().enumerate() {
            prop_assert!(asked < bound as usize);
            let error = if *is_request { server_error() } else { broken() };
            match decide(policy, attempts, ModelError::Retryable(error), 0.5) {
                Decision::Retry(retry) => attempts = retry.attempts,
                Decision::Outage(_) => break,
                Decision::Fail(error) => panic!("{error}"),
            }
        }
    }
}
