//! Values that a script takes out of requests, to use in later replies.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{condition::Pattern, condition::shown, seen::Seen};

/// Where a value comes from. In a script a bare string stands for `pattern`.
#[derive(Clone, Debug)]
pub struct Capture {
    from: Source,
    pattern: Pattern,
    default: Option<String>,
}

/// The text that is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The newest tool output.
    #[default]
    LastOutput,
    /// All tool outputs, the newest match first.
    AnyOutput,
    /// The newest user message.
    LastUserMessage,
    /// All user messages, the newest match first.
    Prompt,
}

impl Capture {
    /// The value: the pattern's first group, or the whole match without one.
    ///
    /// # Errors
    /// What was searched in vain, in words.
    pub fn value(&self, seen: &Seen) -> Result<String, String> {
        let texts: Vec<&String> = match self.from {
            Source::LastOutput => seen.outputs.last().into_iter().collect(),
            Source::AnyOutput => seen.outputs.iter().rev().collect(),
            Source::LastUserMessage => seen.user.last().into_iter().collect(),
            Source::Prompt => seen.user.iter().rev().collect(),
        };
        let found = texts.iter().find_map(|text| {
            let groups = self.pattern.0.captures(text)?;
            groups.get(1).or_else(|| groups.get(0)).map(|value| value.as_str().to_owned())
        });
        found.or_else(|| self.default.clone()).ok_or_else(|| {
            let newest =
                texts.first().map_or_else(|| "absent".to_owned(), |text| format!("{:?}", shown(text)));
            format!("/{}/ is not found in {:?}; the newest is {newest}", self.pattern.0, self.from)
        })
    }
}

impl<'de> Deserialize<'de> for Capture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CaptureVisitor)
    }
}

struct CaptureVisitor;

impl<'de> Visitor<'de> for CaptureVisitor {
    type Value = Capture;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a regular expression, or from, pattern and default")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Capture, E> {
        let pattern = regex::Regex::new(text).map(Pattern).map_err(E::custom)?;
        Ok(Capture { from: Source::default(), pattern, default: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Capture, A::Error> {
        let CaptureFields { from, pattern, default } =
            CaptureFields::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Capture { from, pattern, default })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptureFields {
    #[serde(default)]
    from: Source,
    pattern: Pattern,
    default: Option<String>,
}
