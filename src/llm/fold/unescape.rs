//! Reads the free text of a custom tool out of its function's arguments while they arrive: for surfaces.

/// The state of one call's arguments.
#[derive(Debug)]
pub(super) enum Unescape {
    /// Before the text; what came so far.
    Before(String),
    /// In the text; the escape sequence that is not whole yet.
    Within(String),
    /// After the text.
    After,
}

impl Default for Unescape {
    fn default() -> Self {
        Self::Before(String::new())
    }
}

impl Unescape {
    /// Takes more of the arguments and gives the text in it.
    pub(super) fn push(&mut self, delta: &str) -> String {
        let mut text = String::new();
        let mut rest = delta.to_owned();
        if let Self::Before(seen) = self {
            seen.push_str(delta);
            let Some(start) = start(seen) else { return text };
            rest = seen.split_off(start);
            *self = Self::Within(String::new());
        }
        let Self::Within(pending) = self else { return text };
        for character in rest.chars() {
            if !pending.is_empty() || character == '\\' {
                pending.push(character);
                if let Some(meant) = unescaped(pending) {
                    text.push_str(&meant);
                    pending.clear();
                }
            } else if character == '"' {
                *self = Self::After;
                return text;
            } else {
                text.push(character);
            }
        }
        text
    }
}

/// Where the value of `input` begins, its quotation mark left out.
fn start(arguments: &str) -> Option<usize> {
    const KEY: &str = "\"input\"";
    let after_key = arguments.find(KEY)? + KEY.len();
    let colon = arguments[after_key..].trim_start().strip_prefix(':')?;
    let value = colon.trim_start().strip_prefix('"')?;
    Some(arguments.len() - value.len())
}

/// What a whole escape sequence means; nothing while it is not whole.
fn unescaped(sequence: &str) -> Option<String> {
    let is_unicode = sequence[1..].starts_with('u');
    let is_whole = if is_unicode { sequence.len() >= 6 } else { sequence.len() >= 2 };
    if !is_whole {
        return None;
    }
    let literal = |sequence: &str| serde_json::from_str::<String>(&format!("\"{sequence}\"")).ok();
    match literal(sequence) {
        Some(meant) => Some(meant),
        // The first half of a pair waits for the second.
        None if is_unicode && sequence.len() < 12 => None,
        None => Some(char::REPLACEMENT_CHARACTER.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn w7_the_text_comes_out_whole_however_it_is_cut(
            text in any::<String>(),
            cuts in prop::collection::vec(0usize..60, 0..20),
            ascii in any::<bool>(),
        ) {
            let mut arguments = json!({"input": text}).to_string();
            if ascii {
                arguments = arguments.chars().map(|character| {
                    if character.is_ascii() { return character.to_string() }
                    let mut units = [0; 2];
                    character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }).collect();
            }
            let characters: Vec<char> = arguments.chars().collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(characters.len())).collect();
            cuts.extend([0, characters.len()]);
            cuts.sort_unstable();
            let mut unescape = Unescape::default();
            let told: String = cuts
                .windows(2)
                .map(|pair| unescape.push(&characters[pair[0]..pair[1]].iter().collect::<String>()))
                .collect();
            prop_assert_eq!(told, text);
        }
    }
}
