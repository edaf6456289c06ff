//! `{{name}}` in a script's texts: replaced by a captured value. `\{{` stands for `{{` itself, and
//! anything else between braces is left as it is, since code is full of them.

use std::collections::BTreeMap;

use serde_json::Value;

/// A part of a text.
enum Part<'a> {
    Literal(&'a str),
    Name(&'a str),
}

/// The text with every known name replaced.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    for part in parts(text) {
        match part {
            Part::Literal(literal) => expanded.push_str(literal),
            Part::Name(name) => match values.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["{{", name, "}}"]),
            },
        }
    }
    expanded
}

/// The value with every string in it expanded; the names of members stay as they are.
pub fn expand_value(value: &Value, values: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => expand(text, values).into(),
        Value::Array(list) => list.iter().map(|value| expand_value(value, values)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), expand_value(value, values))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The names that a text uses.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    parts(text).into_iter().filter_map(|part| match part {
        Part::Name(name) => Some(name),
        Part::Literal(_) => None,
    })
}

/// Whether a capture may have the name.
pub fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let (before, after) = (&rest[..open], &rest[open + 2..]);
        if let Some(before) = before.strip_suffix('\\') {
            parts.extend([Part::Literal(before), Part::Literal("{{")]);
            rest = after;
            continue;
        }
        match after.split_once("}}") {
            Some((name, beyond)) if is_name(name) => {
                parts.extend([Part::Literal(before), Part::Name(name)]);
                rest = beyond;
            }
            Some(_) | None => {
                // One brace only, since the second may open a name: `{{{name}}`.
                parts.push(Part::Literal(&rest[..open + 1]));
                rest = &rest[open + 1..];
            }
        }
    }
    parts.push(Part::Literal(rest));
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> BTreeMap<String, String> {
        [("a".to_owned(), "1".to_owned()), ("b_2".to_owned(), "{{a}}".to_owned())].into()
    }

    #[test]
    fn names_are_replaced_once_and_everything_else_stays() {
        for (text, expected) in [
            ("", ""),
            ("x {{a}} y {{b_2}}", "x 1 y {{a}}"),
            (r"\{{a}} {{a}}", "{{a}} 1"),
            ("{{ a }} {{.Values.x}} {{}} {{a", "{{ a }} {{.Values.x}} {{}} {{a"),
            ("{{{a}}}", "{1}"),
            ("f{{1}} }} {", "f{{1}} }} {"),
        ] {
            assert_eq!(expand(text, &values()), expected, "{text}");
        }
    }

    #[test]
    fn strings_deep_in_a_value_are_expanded() {
        let value = json!({"{{a}}": ["{{a}}", 1, null, {"x": "{{a}}{{a}}"}]});
        assert_eq!(expand_value(&value, &values()), json!({"{{a}}": ["1", 1, null, {"x": "11"}]}));
    }

    #[test]
    fn the_names_used_are_listed() {
        assert_eq!(names(r"{{a}} \{{b}} {{ c }} {{d}}").collect::<Vec<_>>(), ["a", "d"]);
    }

    proptest! {
        #[test]
        fn a_text_without_names_only_loses_its_escapes(text in "[a{}\\\\ ]{0,40}") {
            prop_assume!(names(&text).next().is_none());
            prop_assert_eq!(expand(&text, &values()), text.replace(r"\{{", "{{"));
        }
    }
}
