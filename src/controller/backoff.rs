//! When a failed pass is made again: later each time, per object.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

/// After the first failure. Most are a conflict or a lost connection, over at once.
const FIRST: Duration = Duration::from_millis(200);

/// The longest wait. An API server that was down for an hour is noticed within this time of its return.
const LONGEST: Duration = Duration::from_secs(60);

/// Entries older than this are dropped when the table grows: their objects are gone.
const FORGET_SECONDS: i64 = 600;

/// The table is swept when it holds more entries than this.
const SWEEP: usize = 1024;

/// Counts failures in a row, by UID.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: HashMap<String, Failures>,
}

#[derive(Debug)]
struct Failures {
    in_a_row: u32,
    last: Timestamp,
}

impl Backoff {
    /// Notes a failure and says how long to wait. `jitter` lies in `0.0 ..= 1.0` and takes up to half of the
    /// wait away, so that objects that failed together do not return together.
    pub fn failed(&mut self, uid: &str, now: Timestamp, jitter: f64) -> Duration {
        if self.failures.len() > SWEEP {
            self.failures.retain(|_, entry| now.as_second() - entry.last.as_second() < FORGET_SECONDS);
        }
        let entry = self.failures.entry(uid.to_owned()).or_insert(Failures { in_a_row: 0, last: now });
        entry.in_a_row = entry.in_a_row.saturating_add(1);
        entry.last = now;
        delay(entry.in_a_row, jitter)
    }

    /// Notes a success.
    pub fn succeeded(&mut self, uid: &str) {
        self.failures.remove(uid);
    }
}

fn delay(in_a_row: u32, jitter: f64) -> Duration {
    // 2^9 * 200 ms is past the longest wait already; more would overflow.
    let doublings = in_a_row.saturating_sub(1).min(9);
    let full = (FIRST * 2_u32.pow(doublings)).min(LONGEST);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// A number in `0.0 ..= 1.0` that differs from object to object and is the same at each call.
#[must_use]
pub fn spread(uid: &str) -> f64 {
    // FNV-1a: any hash does that has no state of its own.
    let hash =
        uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    f64::from(hash) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..12).map(|n| backoff.failed("a", at(n), 0.0)).collect();
        assert_eq!(waits[0], FIRST);
        assert_eq!(waits[1], FIRST * 2);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(waits[11], LONGEST);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a", at(20), 0.0), FIRST);
    }

    #[test]
    fn objects_do_not_share_their_failures() {
        let mut backoff = Backoff::default();
        backoff.failed("a", at(0), 0.0);
        backoff.failed("a", at(0), 0.0);
        assert_eq!(backoff.failed("b", at(0), 0.0), FIRST);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        for jitter in [0.0, 0.3, 1.0, 7.0] {
            let wait = delay(4, jitter);
            assert!(wait >= delay(4, 0.0) / 2 && wait <= delay(4, 0.0));
        }
    }

    #[test]
    fn the_table_does_not_keep_objects_that_are_gone() {
        let mut backoff = Backoff::default();
        for n in 0..2000 {
            backoff.failed(&n.to_string(), at(0), 0.0);
        }
        backoff.failed("late", at(FORGET_SECONDS + 1), 0.0);
        assert_eq!(backoff.failures.len(), 1);
    }

    #[test]
    fn the_spread_is_even_enough() {
        let low = (0..1000).filter(|n: &i32| spread(&format!("{n}-uid")) < 0.5).count();
        assert!((400..600).contains(&low), "{low}");
    }
}
