//! What every pass shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::ObjectRef;

use super::backoff::Backoff;
use super::build::AgentImage;
use super::caches::Caches;
use super::pace::Pace;
use super::queue::Queue;
use crate::artifacts::ArtifactStore;
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

/// What every pass shares.
pub(super) struct Context {
    pub(super) client: kube::Client,
    pub(super) caches: Caches,
    pub(super) reporter: Reporter,
    pub(super) metrics: Arc<Metrics>,
    pub(super) agent: AgentImage,
    /// Where artifacts go at an attempt's end; without one they stay in their ConfigMaps.
    pub(super) store: Option<ArtifactStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) backoff: Mutex<Backoff>,
    pub(super) pace: Mutex<Pace>,
    pub(super) queue: Mutex<Queue>,
}

impl Context {
    /// The present moment in whole seconds, as the API keeps times.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Whether a task of this name is known.
    pub(super) fn has_task(&self, namespace: &str, name: &str) -> bool {
        self.caches.tasks.get(&ObjectRef::new(name).within(namespace)).is_some()
    }
}

/// Takes a lock whose data no panic can leave half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
