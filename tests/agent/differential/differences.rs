//! The list of intended differences, which the tests hold to both ways: one that is not listed fails, and one that is
//! listed and does not occur any more fails too.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::compare::Mismatch;

/// More would mean that we are not after the same thing any more.
const MOST: usize = 20;

/// `differences.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Differences {
    /// In what is sent to the model.
    pub(crate) requests: Vec<Difference>,
    /// In what becomes of a patch.
    pub(crate) patches: Vec<PatchDifference>,
}

/// A difference in requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    name: String,
    /// Why it is intended.
    reason: String,
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

/// A difference in patches. What it is exactly is in `patches/verdict.rs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchDifference {
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
        let names = list.requests.iter().map(|listed| &listed.name);
        let names: BTreeSet<&String> = names.chain(list.patches.iter().map(|listed| &listed.name)).collect();
        assert_eq!(names.len(), list.requests.len() + list.patches.len(), "a name stands there twice");
        assert!(list.requests.len() <= MOST && list.patches.len() <= MOST, "too many differences");
        let reasons = list.requests.iter().map(|listed| &listed.reason);
        let unreasoned = reasons.chain(list.patches.iter().map(|listed| &listed.reason));
        assert!(unreasoned.into_iter().all(|reason| reason.len() > 20), "each difference has a reason");
        list
    }
}

impl Difference {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a mismatch is what is meant.
    pub(crate) fn explains(&self, script: &str, mismatch: &Mismatch) -> bool {
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
