//! Measured times and their quantiles.

use std::time::Duration;

/// Times of one thing, done again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds a time.
    pub(crate) fn add(&mut self, time: Duration) {
        self.add_millis(time.as_secs_f64() * 1000.0);
    }

    /// Adds a time in milliseconds, which a difference of two clocks may make negative.
    pub(crate) fn add_millis(&mut self, millis: f64) {
        self.0.push(millis);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The median, in milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    /// The 95th percentile, in milliseconds.
    pub(crate) fn p95(&self) -> f64 {
        self.quantile(0.95)
    }

    /// By linear interpolation between the two nearest.
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(!sorted.is_empty(), "nothing was measured");
        let place = part * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }
}

/// Milliseconds for people: three digits that matter.
pub(crate) fn millis(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0} ms"),
        size if size >= 9.995 => format!("{value:.1} ms"),
        _ => format!("{value:.2} ms"),
    }
}
