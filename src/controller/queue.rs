//! Whose turn it is, where a ModelProvider bounds how many tasks run beside each other.
//!
//! Everything is counted afresh from what the watches show, so that nothing has to be kept in step. Only what a task
//! was told is remembered, as long as the watches do not show it: passes run beside each other, and two must not take the
//! same place.

use std::collections::BTreeMap;

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

/// What a task was told that the watches do not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// That it may have its pod.
    Free,
    /// Something, and no pod came of it. Until its next pass it is in nobody's way: as the oldest it would keep all
    /// others waiting for as long as it fails.
    Failed,
    /// That it has to wait, although the watches show it as aside.
    Waits,
}

/// The bounds that are known, and what tasks were told, by UID.
#[derive(Debug, Default)]
pub struct Queue {
    limits: BTreeMap<ProviderKey, usize>,
    told: BTreeMap<String, Told>,
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
        let mut places = self.with_told(places);
        let mut was_aside = false;
        match places.iter_mut().find(|place| place.uid == uid) {
            Some(own) if own.standing == Standing::Runs => return Turn::Free,
            // It can run, whatever kept it before.
            Some(own) => {
                was_aside = own.standing == Standing::Aside;
                own.standing = Standing::Waits;
            }
            None => places.push(Place { since, uid: uid.to_owned(), standing: Standing::Waits }),
        }
        if due(limit, &places).contains(&uid) {
            self.told.insert(uid.to_owned(), Told::Free);
            Turn::Free
        } else {
            if was_aside {
                self.told.insert(uid.to_owned(), Told::Waits);
            }
            Turn::Waits { provider: provider.1.clone(), limit }
        }
    }

    /// Whether a task was let through and the watches do not show its pod yet.
    #[must_use]
    pub fn holds(&self, uid: &str) -> bool {
        self.told.get(uid) == Some(&Told::Free)
    }

    /// A task was told something and no pod came of it; says whether that is new. One that was told nothing is not
    /// remembered: those without a bound would fill the memory.
    pub fn step_aside(&mut self, uid: &str) -> bool {
        let told = self.told.get_mut(uid).filter(|told| **told != Told::Failed);
        told.map(|told| *told = Told::Failed).is_some()
    }

    /// A task waits for no turn, whatever it was told before.
    pub fn withdraw(&mut self, uid: &str) {
        if !self.holds(uid) {
            self.told.remove(uid);
        }
    }

    /// The places as they are by what the tasks were told. What the watches show by now, or show as over, need not be
    /// remembered any longer.
    pub fn with_told(&mut self, mut places: Vec<Place>) -> Vec<Place> {
        for place in &mut places {
            match (place.standing, self.told.get(&place.uid).copied()) {
                (Standing::Runs | Standing::Over, _) => {
                    self.told.remove(&place.uid);
                }
                (Standing::Waits | Standing::Aside, Some(Told::Free)) => place.standing = Standing::Runs,
                (Standing::Waits, Some(Told::Failed)) => place.standing = Standing::Aside,
                // It may have an AgentAttempt of a pass that failed, and look as if the quota held it up.
                (Standing::Aside, Some(Told::Waits)) => place.standing = Standing::Waits,
                (Standing::Waits, Some(Told::Waits) | None)
                | (Standing::Aside, Some(Told::Failed) | None) => {}
            }
        }
        places
    }

    /// Forgets those of whom the watches know nothing any more.
    pub fn forget(&mut self, is_known: impl Fn(&str) -> bool) {
        self.told.retain(|uid, _| is_known(uid));
    }
}

#[cfg(test)]
mod tests;
