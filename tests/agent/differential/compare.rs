//! Where two values differ.

use std::collections::BTreeSet;

use serde_json::Value;

/// A place at which they differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mismatch {
    /// The way to it: names of members and positions in lists, with `/` between them.
    pub(crate) path: String,
    /// What is there at the reference agent.
    pub(crate) reference: Option<Value>,
    /// What is there at ours.
    pub(crate) ours: Option<Value>,
}

/// All places at which `ours` differs from `reference`. Lists of names under `order` are only compared in what both have.
pub(crate) fn compare(reference: &Value, ours: &Value) -> Vec<Mismatch> {
    let mut found = Vec::new();
    look("", Some(reference), Some(ours), &mut found);
    found
}

fn look(path: &str, reference: Option<&Value>, ours: Option<&Value>, found: &mut Vec<Mismatch>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    match (reference, ours) {
        (Some(Value::Object(theirs)), Some(Value::Object(own))) => {
            let names: BTreeSet<&String> = theirs.keys().chain(own.keys()).collect();
            for name in names {
                let (theirs, own) = (theirs.get(name), own.get(name));
                if name.starts_with("order") {
                    let (theirs, own) = (Some(shared(theirs, own)), Some(shared(own, theirs)));
                    differ(below(name), theirs, own, found);
                } else {
                    look(&below(name), theirs, own, found);
                }
            }
        }
        (Some(Value::Array(theirs)), Some(Value::Array(own))) => {
            for index in 0..theirs.len().max(own.len()) {
                look(&below(&index.to_string()), theirs.get(index), own.get(index), found);
            }
        }
        (reference, ours) => differ(path.to_owned(), reference.cloned(), ours.cloned(), found),
    }
}

fn differ(path: String, reference: Option<Value>, ours: Option<Value>, found: &mut Vec<Mismatch>) {
    if reference != ours {
        found.push(Mismatch { path, reference, ours });
    }
}

/// The names of a list that the other list has too.
fn shared(list: Option<&Value>, other: Option<&Value>) -> Value {
    let names = |list: Option<&Value>| list.and_then(Value::as_array).cloned().unwrap_or_default();
    let other = names(other);
    names(list).into_iter().filter(|name| other.contains(name)).collect()
}

#[test]
fn finds_every_place_and_no_other() {
    use serde_json::json;
    let reference = json!({"a": [1, {"b": 2}], "order": ["x", "y", "z"], "same": {"c": null}});
    let ours = json!({"a": [1, {"b": 3}, 4], "order": ["z", "y"], "same": {"c": null}, "more": 5});
    let paths: Vec<String> = compare(&reference, &ours).into_iter().map(|mismatch| mismatch.path).collect();
    assert_eq!(paths, ["a/1/b", "a/2", "more", "order"]);
    assert_eq!(compare(&reference, &reference), []);
}
