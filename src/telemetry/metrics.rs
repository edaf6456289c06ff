//! Every metric of the controller, with every label it can have. Labels are closed lists: no name of an object
//! and no text of an error ever becomes one.

use std::time::Instant;

use jiff::Timestamp;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::api::{AgentTask, Reason};

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something was written.
    Applied,
    /// Everything was as it shall be.
    Unchanged,
    /// It failed and is made again.
    Failed,
    /// It was dropped before its end.
    Abandoned,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The controller's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: IntCounterVec,
    pass_seconds: Histogram,
    tasks: IntGaugeVec,
    created_to_pod: Histogram,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// When two metrics have one name, which a test would have shown.
    pub fn new() -> Result<Self, prometheus::Error> {
        let passes = IntCounterVec::new(
            Opts::new(
                "podwright_reconciles_total",
                "Passes over a task, by outcome and, for failures, category.",
            ),
            &["outcome", "category"],
        )?;
        let pass_seconds = Histogram::with_opts(
            HistogramOpts::new("podwright_reconcile_seconds", "How long a pass over a task takes.")
                .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
        )?;
        let tasks = IntGaugeVec::new(
            Opts::new("podwright_tasks", "AgentTasks by the reason of their condition Succeeded."),
            &["reason"],
        )?;
        // Both times are whole seconds, as the API keeps them.
        let created_to_pod = Histogram::with_opts(
            HistogramOpts::new(
                "podwright_task_created_to_pod_created_seconds",
                "From the creation of an AgentTask to the creation of its pod, in whole seconds.",
            )
            .buckets(vec![0.0, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3600.0]),
        )?;
        let registry = Registry::new();
        registry.register(Box::new(passes.clone()))?;
        registry.register(Box::new(pass_seconds.clone()))?;
        registry.register(Box::new(tasks.clone()))?;
        registry.register(Box::new(created_to_pod.clone()))?;
        Ok(Self { registry, passes, pass_seconds, tasks, created_to_pod })
    }

    /// Notes that a task got its pod.
    pub fn pod_made(&self, task: &AgentTask, now: Timestamp) {
        if let Some(created) = &task.metadata.creation_timestamp {
            let seconds = now.as_second() - created.0.as_second();
            self.created_to_pod.observe(f64::from(i32::try_from(seconds.max(0)).unwrap_or(i32::MAX)));
        }
    }

    /// All metrics as text. `tasks` gives the reason of each task; a task without one is not seen yet.
    pub fn render(&self, tasks: impl IntoIterator<Item = Option<Reason>>) -> String {
        let mut counts = [0_i64; Reason::ALL.len()];
        for reason in tasks.into_iter().flatten() {
            let place = Reason::ALL.iter().position(|known| *known == reason);
            if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                *count += 1;
            }
        }
        for (reason, count) in Reason::ALL.into_iter().zip(counts) {
            self.tasks.with_label_values(&[reason.as_str()]).set(count);
        }
        let mut text = Vec::new();
        // The text encoder fails on a metric without a sample only, and each of ours has one.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            ::tracing::warn!(%error, "cannot encode the metrics");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// A pass that is under way. Dropped before [`Running::end`], it counts as abandoned.
#[derive(Debug)]
#[must_use = "a pass that is not held counts as abandoned at once"]
pub struct Running<'a> {
    metrics: &'a Metrics,
    began: Instant,
    outcome: Outcome,
    category: &'static str,
}

impl<'a> Running<'a> {
    /// Begins a pass.
    pub fn begin(metrics: &'a Metrics) -> Self {
        Self { metrics, began: Instant::now(), outcome: Outcome::Abandoned, category: "" }
    }

    /// Ends it. `category` is one of the words of the controller's error type, or empty.
    pub fn end(mut self, outcome: Outcome, category: &'static str) {
        self.outcome = outcome;
        self.category = category;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.passes.with_label_values(&[self.outcome.as_str(), self.category]).inc();
        self.metrics.pass_seconds.observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_is_dropped_counts_as_abandoned() {
        let metrics = Metrics::new().unwrap();
        drop(Running::begin(&metrics));
        Running::begin(&metrics).end(Outcome::Failed, "WriteFailed");
        let text = metrics.render([]);
        assert!(text.contains(r#"podwright_reconciles_total{category="",outcome="abandoned"} 1"#), "{text}");
        assert!(text.contains(r#"{category="WriteFailed",outcome="failed"} 1"#), "{text}");
        assert!(text.contains("podwright_reconcile_seconds_count 2"), "{text}");
    }

    #[test]
    fn tasks_are_counted_afresh_each_time() {
        let metrics = Metrics::new().unwrap();
        let text = metrics.render([Some(Reason::Running), Some(Reason::Running), None]);
        assert!(text.contains(r#"podwright_tasks{reason="Running"} 2"#), "{text}");
        let text = metrics.render([Some(Reason::Completed)]);
        assert!(text.contains(r#"podwright_tasks{reason="Running"} 0"#), "{text}");
        assert!(text.contains(r#"podwright_tasks{reason="Completed"} 1"#), "{text}");
    }
}
