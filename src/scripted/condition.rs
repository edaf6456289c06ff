//! What a script may ask of a request.

use std::{collections::BTreeMap, fmt};

use regex::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::seen::Seen;

/// How much of a text is shown when it does not match.
const SHOWN_CHARS: usize = 300;

/// A condition on a request. All of its parts must hold; an empty one always holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Condition {
    /// The model's name, exactly.
    pub model: Option<String>,
    /// All developer and system text together.
    pub instructions: Option<TextMatch>,
    /// At least one user message.
    pub prompt: Option<TextMatch>,
    /// The newest user message.
    pub last_user_message: Option<TextMatch>,
    /// At least one tool output.
    pub any_output: Option<TextMatch>,
    /// The newest tool output.
    pub last_output: Option<TextMatch>,
    /// Names of tools that must be offered, whatever others are.
    pub tools: Vec<String>,
    /// Headers of the HTTP request, by name in any case.
    pub headers: BTreeMap<String, TextMatch>,
    /// The number of this request in its thread, counted from 1.
    pub request: Option<u32>,
    /// Whether the provider itself is asked to compact the thread.
    pub compaction: Option<bool>,
}

impl Condition {
    /// The first part that does not hold, in words.
    pub fn unmet(&self, seen: &Seen) -> Option<String> {
        if let Some(model) = &self.model
            && *model != seen.model
        {
            return Some(format!("model is {:?}, not {model:?}", seen.model));
        }
        if let Some(request) = self.request
            && request != seen.request
        {
            return Some(format!("this is request {}, not {request}", seen.request));
        }
        if let Some(compaction) = self.compaction
            && compaction != seen.compaction
        {
            let asked = if seen.compaction { "is" } else { "is not" };
            return Some(format!("the provider {asked} asked to compact the thread"));
        }
        if let Some(missing) = self.tools.iter().find(|tool| !seen.tools.contains(tool)) {
            return Some(format!("tool {missing:?} is not offered, only {:?}", seen.tools));
        }
        let texts = [
            ("instructions", &self.instructions, vec![seen.instructions.as_str()]),
            ("prompt", &self.prompt, seen.user.iter().map(String::as_str).collect()),
            (
                "lastUserMessage",
                &self.last_user_message,
                seen.user.last().map(String::as_str).into_iter().collect(),
            ),
            ("anyOutput", &self.any_output, seen.outputs.iter().map(String::as_str).collect()),
            ("lastOutput", &self.last_output, seen.outputs.last().map(String::as_str).into_iter().collect()),
        ];
        for (name, wanted, found) in texts {
            if let Some(wanted) = wanted
                && !found.iter().any(|text| wanted.holds(text))
            {
                return Some(match found.last() {
                    Some(text) => format!("{name} must {wanted}, and is {:?}", shown(text)),
                    None => format!("{name} must {wanted}, and there is none"),
                });
            }
        }
        self.headers.iter().find_map(|(name, wanted)| {
            let found = seen.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
            match found {
                Some((_, value)) if wanted.holds(value) => None,
                Some((_, value)) => Some(format!("header {name} must {wanted}, and is {:?}", shown(value))),
                None => Some(format!("header {name} must {wanted}, and there is none")),
            }
        })
    }
}

/// What a text must be like. In a script a bare string stands for `contains`.
#[derive(Clone, Debug, Default)]
pub struct TextMatch {
    contains: Vec<String>,
    excludes: Vec<String>,
    matches: Option<Pattern>,
}

impl TextMatch {
    /// Whether the text is like that.
    pub fn holds(&self, text: &str) -> bool {
        self.contains.iter().all(|wanted| text.contains(wanted))
            && !self.excludes.iter().any(|unwanted| text.contains(unwanted))
            && self.matches.as_ref().is_none_or(|pattern| pattern.0.is_match(text))
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contains = self.contains.iter().map(|text| format!("contain {text:?}"));
        let excludes = self.excludes.iter().map(|text| format!("not contain {text:?}"));
        let matches = self.matches.iter().map(|pattern| format!("match /{}/", pattern.0));
        f.write_str(&contains.chain(excludes).chain(matches).collect::<Vec<_>>().join(" and "))
    }
}

impl<'de> Deserialize<'de> for TextMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextMatchVisitor)
    }
}

struct TextMatchVisitor;

impl<'de> Visitor<'de> for TextMatchVisitor {
    type Value = TextMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string (in quotes where it looks like a number), or contains, excludes or matches")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TextMatch, E> {
        Ok(TextMatch { contains: vec![text.to_owned()], ..TextMatch::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextMatch, A::Error> {
        let fields = TextMatchFields::deserialize(MapAccessDeserializer::new(map))?;
        if fields.contains.0.is_empty() && fields.excludes.0.is_empty() && fields.matches.is_none() {
            return Err(de::Error::custom("one of contains, excludes and matches is needed"));
        }
        Ok(TextMatch { contains: fields.contains.0, excludes: fields.excludes.0, matches: fields.matches })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TextMatchFields {
    contains: Texts,
    excludes: Texts,
    matches: Option<Pattern>,
}

/// One string or several.
#[derive(Default)]
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

/// A regular expression, compiled when the script is read.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&text).map(Self).map_err(de::Error::custom)
    }
}

/// The end of a long text, where a command's output says how it went.
pub(super) fn shown(text: &str) -> String {
    let count = text.chars().count();
    if count <= SHOWN_CHARS {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - SHOWN_CHARS).collect();
    format!("…{end}")
}
