//! Names of branches and tags, and commit ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{FetchError, Found, TRACKING};
use crate::workspace::object::ObjectId;

/// How many near names an error shows.
const NEAREST: usize = 5;

/// Names longer than this are not compared: the comparison is quadratic, and a server may send anything.
const COMPARED_MAX: usize = 200;

/// A branch, a tag or a full commit id, as a person wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The name of a branch or else of a tag; also `refs/heads/…` or `refs/tags/…`.
    Name(String),
    /// Forty hexadecimal digits.
    Commit(ObjectId),
}

/// Text that git allows for no branch or tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a branch or tag name nor a full commit id")]
pub struct ParseReferenceError(String);

impl Reference {
    /// The branch's or tag's name without its prefix.
    pub fn short(&self) -> Option<&str> {
        match self {
            Self::Name(name) => {
                let tail = |prefix| name.strip_prefix(prefix);
                Some(tail("refs/heads/").or_else(|| tail("refs/tags/")).unwrap_or(name))
            }
            Self::Commit(_) => None,
        }
    }

    /// What it may be, in the order of trying, under the names of the bare repository. A branch goes
    /// before a tag of the same name, as in `git clone --branch`.
    pub(super) fn candidates(&self) -> Vec<(String, Found)> {
        let branch = |name: &str| (format!("{TRACKING}{name}"), Found::Branch);
        match self {
            Self::Commit(id) => vec![(id.to_string(), Found::Commit)],
            Self::Name(name) => match (name.strip_prefix("refs/heads/"), name.starts_with("refs/tags/")) {
                (Some(short), _) => vec![branch(short)],
                (None, true) => vec![(name.clone(), Found::Tag)],
                (None, false) => vec![branch(name), (format!("refs/tags/{name}"), Found::Tag)],
            },
        }
    }

    pub(super) fn not_found(&self, nearest: Vec<String>) -> FetchError {
        FetchError::ReferenceNotFound { reference: self.to_string(), nearest }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Commit(id));
        }
        // The rules of `git check-ref-format`, and no leading dash.
        let forbidden =
            |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        let bad_part = |part: &str| {
            part.is_empty() || part.starts_with('.') || part.ends_with(".lock") || part.ends_with('.')
        };
        let bad = text.len() > 255
            || text.starts_with('-')
            || text == "@"
            || text.contains("..")
            || text.contains("@{")
            || text.contains(forbidden)
            || text.split('/').any(bad_part);
        if bad {
            Err(ParseReferenceError(text.chars().take(80).collect()))
        } else {
            Ok(Self::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Commit(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The names most like `wanted`, without their prefixes, the nearest first.
pub(super) fn nearest(wanted: &str, names: &[&str]) -> Vec<String> {
    let short = |name: &str| -> String {
        let name =
            name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name);
        name.chars().filter(|c| !c.is_control()).collect()
    };
    let wanted = short(wanted);
    let mut ranked: Vec<(usize, String)> = names
        .iter()
        .map(|name| short(name))
        .filter(|name| name.len() <= COMPARED_MAX)
        .map(|name| (distance(&wanted, &name), name))
        .collect();
    ranked.sort();
    ranked.dedup();
    ranked.into_iter().take(NEAREST).map(|(_, name)| name).collect()
}

/// How many bytes have to be inserted, removed or replaced (Levenshtein); a name within the other is near.
fn distance(a: &str, b: &str) -> usize {
    if b.contains(a) || a.contains(b) {
        return 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed() {
        for good in ["main", "release/1.2", "refs/tags/v1", "a.b", "grün", "x@y"] {
            assert_eq!(good.parse(), Ok(Reference::Name(good.to_owned())));
        }
        let id = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert!(matches!(id.parse(), Ok(Reference::Commit(_))));
        for bad in [
            "", "-x", "a..b", "a b", "a:b", "a*", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a@{1}", "@",
            "a\n",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_branch_is_tried_before_a_tag() {
        let names = |text: &str| -> Vec<String> {
            text.parse::<Reference>().unwrap().candidates().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("v1"), ["refs/remotes/origin/v1", "refs/tags/v1"]);
        assert_eq!(names("refs/heads/v1"), ["refs/remotes/origin/v1"]);
        assert_eq!(names("refs/tags/v1"), ["refs/tags/v1"]);
    }

    #[test]
    fn near_names_come_first() {
        let names = ["refs/heads/develop", "refs/heads/main", "refs/tags/v1.0", "refs/heads/maintenance"];
        assert_eq!(nearest("mian", &names)[0], "main");
        assert_eq!(nearest("dev", &names)[0], "develop");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
