//! How much work the regular expressions of a schema are.
//!
//! They are matched in a time that grows with the length of the text times the states of the compiled expression: what
//! makes most of them faster, a table of the states met so far, is given up for those that meet too many. An expression of
//! ten bytes may have ten thousand states, so they are counted.

use std::collections::HashMap;

use regex_automata::nfa::thompson::{Compiler, Config, State};
use serde_json::Value;

/// The regular expressions of a schema, and how many states each has.
#[derive(Debug)]
pub(super) struct Patterns {
    states: HashMap<String, u64>,
    /// What one has at most that was not compiled here.
    most: u64,
}

/// How many regular expressions a schema has at most: what only looks like one counts too.
pub(super) fn count(schema: &Value) -> usize {
    let mut count = 0;
    each(schema, &mut |_| count += 1);
    count
}

impl Patterns {
    /// Those of a schema of which none may have more than `bytes` compiled.
    pub(super) fn of(schema: &Value, bytes: usize) -> Self {
        let mut states = HashMap::new();
        each(schema, &mut |pattern| {
            if let Some(own) = compiled(pattern, bytes) {
                states.insert(pattern.to_owned(), own);
            }
        });
        Self { states, most: (bytes / size_of::<State>()) as u64 }
    }

    /// The states of one, and no less than its bytes, as a text that does not fit it is told with the whole of it.
    pub(super) fn states(&self, pattern: &str) -> u64 {
        self.states.get(pattern).copied().unwrap_or(self.most).max(pattern.len() as u64)
    }
}

/// As the validator compiles it.
fn compiled(pattern: &str, bytes: usize) -> Option<u64> {
    let translated = jsonschema_regex::to_rust_regex(pattern).ok()?;
    let config = Config::new().nfa_size_limit(Some(bytes));
    let nfa = Compiler::new().configure(config).build(&translated).ok()?;
    Some(nfa.states().len() as u64)
}

fn each(schema: &Value, seen: &mut impl FnMut(&str)) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("pattern", Value::String(pattern)) => seen(pattern),
                    ("patternProperties", Value::Object(named)) => named.keys().for_each(|name| seen(name)),
                    _ => {}
                }
                each(member, seen);
            }
        }
        Value::Array(schemas) => schemas.iter().for_each(|schema| each(schema, seen)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn states_are_counted_and_what_is_not_compiled_has_the_most() {
        let schema = json!({
            "pattern": "^a$",
            "allOf": [{"pattern": "(?:a?){5000}"}, {"pattern": r"^\w{1,64}$"}, {"pattern": "(?=a)b"}],
            "patternProperties": {"x{7}": {}},
        });
        assert_eq!(count(&schema), 5);
        let patterns = Patterns::of(&schema, 1 << 20);
        assert!((1..20).contains(&patterns.states("^a$")), "{patterns:?}");
        assert!((7..30).contains(&patterns.states("x{7}")), "{patterns:?}");
        assert!((5000..20_000).contains(&patterns.states("(?:a?){5000}")), "{patterns:?}");
        // It is ASCII alone in a schema, whatever it is elsewhere.
        assert!((64..1000).contains(&patterns.states(r"^\w{1,64}$")), "{patterns:?}");
        for unknown in ["(?=a)b", "other"] {
            assert!(patterns.states(unknown) > 10_000, "{patterns:?}");
        }
        let long = "a".repeat(20_000);
        assert!(Patterns::of(&json!({"pattern": long}), 10).states(&long) >= 20_000);
    }
}
