//! Names of MCP tools: `mcp__<server>__<tool>`, made of what every API takes.

use std::collections::{BTreeMap, BTreeSet};

use podwright_sandboxd::protocol::Digest;

/// What every such name begins with; none of our own tools' does.
pub const PREFIX: &str = "mcp__";

/// Longest name that every API takes, in bytes.
pub const NAME_MAX: usize = 64;

/// Hexadecimal digits that stand for what was cut off or replaced: 48 bits, so that in a list of a hundred nothing
/// meets by chance. What meets on purpose is told apart all the same.
const DIGITS: usize = 12;

/// A tool by its server and its name there.
pub type Place = (String, String);

/// A name for each tool: different ones, of at most [`NAME_MAX`] letters, digits, `_` and `-`. The same set gives the
/// same names in whatever order it comes. `known` are names that a thread has: they keep their meaning, whatever comes
/// beside them.
pub fn names(places: &BTreeSet<Place>, known: &BTreeMap<Place, String>) -> BTreeMap<Place, String> {
    let mut taken: BTreeSet<String> = known.values().cloned().collect();
    let mut names = known.clone();
    names.retain(|place, _| places.contains(place));
    // Who can have a name as it is has it, whatever others would be shortened to.
    for place in places {
        if names.contains_key(place) {
            continue;
        }
        let exact = format!("{PREFIX}{}__{}", place.0, place.1);
        if exact.len() <= NAME_MAX && exact.chars().all(is_plain) && taken.insert(exact.clone()) {
            names.insert(place.clone(), exact);
        }
    }
    for place in places {
        if names.contains_key(place) {
            continue;
        }
        // Each name that is taken is so once, so one of as many as there are tools is free.
        let free = (0..=taken.len()).map(|salt| shortened(place, salt)).find(|name| !taken.contains(name));
        if let Some(name) = free {
            taken.insert(name.clone());
            names.insert(place.clone(), name);
        }
    }
    names
}

/// As much of the name as fits, and digits that stand for the whole.
fn shortened((server, tool): &Place, salt: usize) -> String {
    let whole = format!("{server}\0{tool}\0{salt}");
    let digest = Digest::of(whole.as_bytes()).to_string();
    let readable = format!("{PREFIX}{server}__{tool}");
    let readable = readable.chars().map(|letter| if is_plain(letter) { letter } else { '_' });
    let head: String = readable.take(NAME_MAX - 1 - DIGITS).collect();
    format!("{head}_{}", digest.get(..DIGITS).unwrap_or_default())
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}
