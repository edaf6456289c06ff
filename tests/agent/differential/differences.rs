//! The list of intended differences, which the tests hold to both ways: one that is not listed fails, and one that is
//! listed and does not occur any more fails too.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::compare::Mismatch;

/// In all lists. More would mean that we are not after the same thing any more.
const MOST: usize = 20;

/// `differences.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Differences {
    /// In what is sent to the model.
    pub(crate) requests: Vec<Difference>,
    /// In what becomes of a patch. What each one is exactly is in `patches/verdict.rs`.
    pub(crate) patches: Vec<Named>,
    /// In what is not compared.
    not_compared: Vec<Named>,
}

/// A difference in requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    name: String,
    /// Why it is intended.
    reason: String,
    /// Where it shows.
    places: Vec<Place>,
}

/// A place in requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// A regular expression for the whole path.
    path: String,
    /// The scripts in which it may occur; all when none is named.
    #[serde(default)]
    scripts: Vec<String>,
    /// A regular expression for what is there at ours: its text, or its JSON.
    ours: Option<String>,
    /// Which side alone has something there.
    only: Option<Side>,
}

/// A difference that is told elsewhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) name: String,
    reason: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Side {
    Reference,
    Ours,
}

impl Differences {
    /// The list.
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/differential/differences.yaml");
        let list: Self = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let requests = list.requests.iter().map(|listed| (listed.name.as_str(), listed.reason.as_str()));
        let lists = [requests.collect(), told(&list.patches), told(&list.not_compared)];
        assert!(lists.iter().all(|told| names(told).len() == told.len()), "a name stands twice in a list");
        let all = lists.concat();
        assert!(names(&all).len() <= MOST, "too many differences: {}", names(&all).len());
        assert!(all.iter().all(|(_, reason)| reason.len() > 20), "each difference has a reason");
        list
    }
}

impl Difference {
    /// Its places, each with its name.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places.iter().map(|place| (self.name.as_str(), place.path.as_str()))
    }

    /// Its place that a mismatch is at, when the mismatch is what is meant.
    pub(crate) fn explains(&self, script: &str, mismatch: &Mismatch) -> Option<(&str, &str)> {
        let mut places = self.places().zip(&self.places);
        places.find_map(|(named, place)| place.explains(script, mismatch).then_some(named))
    }
}

impl Place {
    fn explains(&self, script: &str, mismatch: &Mismatch) -> bool {
        let whole =
            |pattern: &str, text: &str| Regex::new(&format!("(?s)^(?:{pattern})$")).unwrap().is_match(text);
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let ours = || mismatch.ours.as_ref().map(shown).unwrap_or_default();
        let side = match (&mismatch.reference, &mismatch.ours) {
            (Some(_), None) => Some(Side::Reference),
            (None, Some(_)) => Some(Side::Ours),
            (Some(_), Some(_)) | (None, None) => None,
        };
        whole(&self.path, &mismatch.path)
            && (self.scripts.is_empty() || self.scripts.iter().any(|name| name == script))
            && self.ours.as_ref().is_none_or(|pattern| whole(pattern, &ours()))
            && (self.only.is_none() || self.only == side)
    }
}

/// Names with their reasons.
fn told(listed: &[Named]) -> Vec<(&str, &str)> {
    listed.iter().map(|listed| (listed.name.as_str(), listed.reason.as_str())).collect()
}

fn names<'a>(told: &[(&'a str, &str)]) -> BTreeSet<&'a str> {
    told.iter().map(|(name, _)| *name).collect()
}
