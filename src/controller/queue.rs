//! Whose turn it is, where a ModelProvider bounds how many tasks run beside each other.
//!
//! Everything is counted afresh from what the watches show, so that nothing has to be kept in step. Only who was let
//! through a moment ago is remembered, until the watches show that one's pod: passes run beside each other, and two must
//! not take the same place.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::observed;
use crate::api::AgentTask;
use crate::api::reasons::Reason;

/// A ModelProvider: its namespace and its name.
pub type ProviderKey = (String, String);

/// Whether a task that could have its pod may have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    #[default]
    Free,
    /// Nobody knows yet how many run: the watches have only begun.
    Counting,
    /// As many run as may.
    Waits {
        /// The provider's name.
        provider: String,
        /// Its bound.
        limit: usize,
    },
}

/// A task among those of its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// When the task was made.
    pub since: Timestamp,
    /// Its UID, which decides between two of one second.
    pub uid: String,
    /// What it does.
    pub standing: Standing,
}

/// What a task does, as far as others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has its pod, or is about to.
    Runs,
    /// It waits for its turn, or was not looked at yet.
    Waits,
    /// It waits for something else, and is in nobody's way.
    Aside,
    /// It has ended.
    Over,
}

/// The bounds that are known, and who was let through.
#[derive(Debug, Default)]
pub struct Queue {
    limits: BTreeMap<ProviderKey, usize>,
    admitted: BTreeSet<String>,
}

/// The tasks that may begin now: the oldest of those that wait, as many as there is room for.
#[must_use]
pub fn due(limit: usize, places: &[Place]) -> Vec<&str> {
    let running = places.iter().filter(|place| place.standing == Standing::Runs).count();
    let mut waiting: Vec<&Place> = places.iter().filter(|place| place.standing == Standing::Waits).collect();
    waiting.sort_by(|a, b| (a.since, &a.uid).cmp(&(b.since, &b.uid)));
    waiting.into_iter().take(limit.saturating_sub(running)).map(|place| place.uid.as_str()).collect()
}

/// What a task does, judged from the views of the watches.
#[must_use]
pub fn standing(task: &AgentTask, has_attempt: bool, has_pod: bool) -> Standing {
    if observed::ended(task).is_some() {
        return Standing::Over;
    }
    if has_pod || task.status.as_ref().is_some_and(|status| status.resolved.is_some()) {
        return Standing::Runs;
    }
    // One with an AgentAttempt and no pod had its turn, and the namespace's quota has no room for it.
    if has_attempt || task.spec.suspend || task.metadata.deletion_timestamp.is_some() {
        return Standing::Aside;
    }
    match observed::reason(task) {
        None | Some(Reason::Queued) => Standing::Waits,
        Some(_) => Standing::Aside,
    }
}

impl Queue {
    /// Notes a provider's bound as it is now.
    pub fn bound(&mut self, provider: &ProviderKey, limit: Option<usize>) {
        match limit {
            Some(limit) => drop(self.limits.insert(provider.clone(), limit)),
            None => drop(self.limits.remove(provider)),
        }
    }

    /// The providers that have a bound.
    pub fn bounds(&self) -> impl Iterator<Item = (&ProviderKey, usize)> {
        self.limits.iter().map(|(provider, limit)| (provider, *limit))
    }

    /// Lets a task through if it is its turn. `places` has every task of its provider as the watches show it.
    pub fn enter(&mut self, provider: &ProviderKey, uid: &str, since: Timestamp, places: Vec<Place>) -> Turn {
        let Some(limit) = self.limits.get(provider).copied() else { return Turn::Free };
        let mut places = self.with_admitted(places);
        match places.iter_mut().find(|place| place.uid == uid) {
            Some(own) if own.standing == Standing::Runs => return Turn::Free,
            // It can run, whatever kept it before.
            Some(own) => own.standing = Standing::Waits,
            None => places.push(Place { since, uid: uid.to_owned(), standing: Standing::Waits }),
        }
        if due(limit, &places).contains(&uid) {
            self.admitted.insert(uid.to_owned());
            Turn::Free
        } else {
            Turn::Waits { provider: provider.1.clone(), limit }
        }
    }

    /// A task has no pod; says whether it had been let through.
    pub fn leave(&mut self, uid: &str) -> bool {
        self.admitted.remove(uid)
    }

    /// The places with those that were let through as running. What the watches show by now, or show as over, need not
    /// be remembered any longer.
    pub fn with_admitted(&mut self, mut places: Vec<Place>) -> Vec<Place> {
        for place in &mut places {
            match place.standing {
                Standing::Runs | Standing::Over => drop(self.admitted.remove(&place.uid)),
                Standing::Waits | Standing::Aside if self.admitted.contains(&place.uid) => {
                    place.standing = Standing::Runs;
                }
                Standing::Waits | Standing::Aside => {}
            }
        }
        places
    }

    /// Forgets those who were let through and of whom the watches know nothing any more.
    pub fn forget(&mut self, is_known: impl Fn(&str) -> bool) {
        self.admitted.retain(|uid| is_known(uid));
    }
}

#[cfg(test)]
mod tests;
