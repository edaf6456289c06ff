//! How often figures and words of a task's status are copied. An agent that writes its own status in a loop must
//! not make the controller do the same.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The shortest time between two writes of mere progress. An agent reports every 15 s.
const INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// Entries older than this say nothing any more. They are dropped when the table grows.
const FORGET: SignedDuration = SignedDuration::from_mins(1);

/// The table is swept when it holds more entries than this.
const SWEEP: usize = 1024;

/// When each task's status was last written, by UID.
#[derive(Debug, Default)]
pub struct Pace {
    written: HashMap<String, Timestamp>,
}

impl Pace {
    /// How long mere progress has to wait; none when it may be written now.
    #[must_use]
    pub fn hold(&self, uid: &str, now: Timestamp) -> Option<Duration> {
        let free = *self.written.get(uid)? + INTERVAL;
        (now < free).then(|| Duration::try_from(free.duration_since(now)).unwrap_or_default())
    }

    /// Notes a write.
    pub fn wrote(&mut self, uid: &str, now: Timestamp) {
        if self.written.len() > SWEEP {
            self.written.retain(|_, at| now.duration_since(*at) < FORGET);
        }
        self.written.insert(uid.to_owned(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn progress_waits_for_the_interval_and_no_longer() {
        let mut pace = Pace::default();
        assert_eq!(pace.hold("a", at(0)), None);
        pace.wrote("a", at(0));
        assert_eq!(pace.hold("a", at(4)), Some(Duration::from_secs(6)));
        assert_eq!(pace.hold("a", at(10)), None);
        assert_eq!(pace.hold("b", at(4)), None);
    }

    #[test]
    fn the_table_stays_small() {
        let mut pace = Pace::default();
        for n in 0..5000 {
            pace.wrote(&n.to_string(), at(n));
        }
        assert!(pace.written.len() <= SWEEP + 1, "{}", pace.written.len());
    }
}
