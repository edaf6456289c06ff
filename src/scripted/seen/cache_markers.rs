//! Cache markers move from request to request, and are no part of what is said.

/// The name of a marker.
const MARKER: &str = "\"cache_control\"";

/// A JSON text without the members that mark a cache, every other byte as it came.
pub(super) fn without_markers(json: &str) -> String {
    let mut kept = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(quote) = rest.find('"') {
        kept.push_str(&rest[..quote]);
        rest = &rest[quote..];
        let (string, after) = rest.split_at(string_end(rest));
        match after.trim_start().strip_prefix(':') {
            Some(value) if string == MARKER => {
                let value = value.trim_start();
                rest = &value[value_end(value)..];
                let before = kept.trim_end();
                if before.ends_with(',') {
                    kept.truncate(before.len() - 1);
                } else if let Some(next) = rest.trim_start().strip_prefix(',') {
                    rest = next.trim_start();
                }
            }
            Some(_) | None => {
                kept.push_str(string);
                rest = after;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// Where the string ends that the text begins with.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Where the value ends that the text begins with.
fn value_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut index = 0;
    while let Some(byte) = text.as_bytes().get(index) {
        match byte {
            b'"' => index += string_end(&text[index..]) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return index,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return index,
            _ => {}
        }
        index += 1;
        if depth == 0 && matches!(byte, b'"' | b'}' | b']') {
            return index;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn markers_go_and_everything_else_stays() {
        for (json, expected) in [
            ("", ""),
            (r#"{"a":1,"cache_control":{"type":"ephemeral"}}"#, r#"{"a":1}"#),
            (r#"{"cache_control":{"ttl":"}","type":["\""]},"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1 , "cache_control" : null , "b":[]}"#, r#"{"a":1 , "b":[]}"#),
            (r#"{"cache_control":7}"#, "{}"),
            (r#"["cache_control", "x\"cache_control\":1"]"#, r#"["cache_control", "x\"cache_control\":1"]"#),
            (r#"[{"t":"é\\","cache_control":"x"},2]"#, r#"[{"t":"é\\"},2]"#),
        ] {
            assert_eq!(without_markers(json), expected);
        }
    }

    proptest! {
        #[test]
        fn a_marked_block_reads_like_one_without(texts in prop::collection::vec("\\PC{0,20}", 1..5), place in 0usize..3) {
            let blocks = |marked: bool| -> Value {
                texts.iter().map(|text| {
                    let mut members = vec![("type", json!("text")), ("text", json!(text))];
                    if marked {
                        members.insert(place, ("cache_control", json!({"type": "ephemeral", "ttl": "1h"})));
                    }
                    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()
                }).collect()
            };
            prop_assert_eq!(without_markers(&blocks(true).to_string()), blocks(false).to_string());
        }
    }
}
