//! The JSON schema of a final answer: reading it, and holding an answer against it.
//!
//! Controller and agent judge a schema by the same code, so that a task with a bad one never gets a pod. Nothing is
//! fetched: a schema that refers to another document is refused.

mod patterns;
mod work;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use thiserror::Error;

use self::patterns::Patterns;
use self::work::{ANSWER_WORK, Excess, PART_WORK, check_parts, check_value};
use crate::api::conditions::cut;

/// Bytes of a schema. It is part of every request, and providers take a few hundred members.
pub const SCHEMA_MAX: usize = 32 * 1024;

/// Bytes of an answer as JSON: a quarter of what the status of a task holds.
pub const ANSWER_MAX: usize = 8 * 1024;

/// Regular expressions of a schema.
const PATTERNS_MAX: usize = 32;

/// Bytes that all of them may take compiled. Whoever may create a task has the controller compile them, which has 256 MiB
/// for everybody, and a short one such as `\p{L}{99}` takes more than four.
const PATTERNS_BYTES: usize = 4 * 1024 * 1024;

/// Faults of an answer that are told at a time; the rest follow from the first ones more often than not.
const TOLD: usize = 5;

/// Bytes of one fault: it may quote what it finds fault with.
const FAULT_MAX: usize = 300;

/// A schema that answers can be held against.
#[derive(Debug)]
pub struct AnswerSchema {
    value: Value,
    patterns: Patterns,
    validator: Validator,
}

/// Why a text is no schema for answers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidSchema {
    /// It is too long.
    #[error("it has {0} bytes, and {SCHEMA_MAX} are the most")]
    TooLong(usize),
    /// It is no JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// It has too many regular expressions.
    #[error("it has {0} regular expressions, and {PATTERNS_MAX} are the most")]
    Patterns(usize),
    /// It gives parts of it names of their own: such a part is compiled anew for each way to it.
    #[error(
        "it has {0} members `$id` or `id` below its top; refer to parts by their place, such as #/$defs/NAME, or by `$anchor`"
    )]
    Names(usize),
    /// A reference leads out of it, or nowhere.
    #[error(
        "its reference {0:?} is no place in it; refer to parts by their place, such as #/$defs/NAME, or by `$anchor`"
    )]
    Reference(String),
    /// A part of it comes back to itself without going on to what is in the value.
    #[error(
        "its reference {0:?} leads back to where it stands for the same value, and so never ends; take it out"
    )]
    Endless(String),
    /// A part of it is too much work.
    #[error(
        "a part of it takes more than {PART_WORK} comparisons for a single value, or has too many parts within each \
         other: what `$ref` refers to is compared anew for each way to it; let fewer parts refer to the same ones"
    )]
    Work,
    /// It is JSON and no schema, or one that needs another document.
    #[error("it is not a JSON schema that stands by itself: {0}")]
    Schema(String),
}

/// What is wrong with an answer, in words for the model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidAnswer(String);

impl AnswerSchema {
    /// Reads a schema; without `$schema` it is taken for draft 2020-12.
    ///
    /// # Errors
    /// [`InvalidSchema`].
    pub fn parse(text: &str) -> Result<Self, InvalidSchema> {
        if text.len() > SCHEMA_MAX {
            return Err(InvalidSchema::TooLong(text.len()));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| InvalidSchema::Json(error.to_string()))?;
        let count = patterns::count(&value);
        if count > PATTERNS_MAX {
            return Err(InvalidSchema::Patterns(count));
        }
        let names = names(&value);
        if names > 0 {
            return Err(InvalidSchema::Names(names));
        }
        let bytes = PATTERNS_BYTES / count.max(1);
        let patterns = Patterns::of(&value, bytes);
        check_parts(&value, &patterns).map_err(|excess| match excess {
            Excess::Work | Excess::Depth => InvalidSchema::Work,
            Excess::Endless(reference) => InvalidSchema::Endless(shortened(&reference)),
            Excess::Foreign(reference) => InvalidSchema::Reference(shortened(&reference)),
        })?;
        // Patterns in linear time: the schema may be anybody's, and the answer is the model's.
        let linear = PatternOptions::regex().size_limit(bytes);
        let options = jsonschema::options().with_pattern_options(linear);
        match options.build(&value) {
            Ok(validator) => Ok(Self { value, patterns, validator }),
            Err(error) => Err(InvalidSchema::Schema(shortened(&error.to_string()))),
        }
    }

    /// Holds an answer against the schema, and gives its JSON. A fence of Markdown around the whole of it is
    /// overlooked: many models can't leave it out.
    ///
    /// # Errors
    /// [`InvalidAnswer`] says what to mend.
    pub fn check(&self, answer: &str) -> Result<Value, InvalidAnswer> {
        let text = without_fence(answer.trim());
        if text.is_empty() {
            return Err(InvalidAnswer("it is empty".to_owned()));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|error| InvalidAnswer(format!("it is not one JSON value and nothing else: {error}")))?;
        let bytes = serde_json::to_vec(&value).map_or(usize::MAX, |json| json.len());
        if bytes > ANSWER_MAX {
            return Err(InvalidAnswer(format!(
                "it has {bytes} bytes as JSON, and {ANSWER_MAX} are the most"
            )));
        }
        // Whatever it is: what leads nowhere was refused with the schema.
        if check_value(&self.value, &self.patterns, &value).is_err() {
            return Err(InvalidAnswer(format!(
                "it is nested so deeply, or fits so many parts or such large patterns of the schema at once, that it \
                 takes more than {ANSWER_WORK} comparisons; make it flatter or shorter"
            )));
        }
        let faults = self.validator.iter_errors(&value).take(TOLD);
        let faults: Vec<String> = faults
            .map(|fault| {
                let place = fault.instance_path().to_string();
                let place = if place.is_empty() { "/" } else { &place };
                format!("at {place}: {}", shortened(&fault.to_string()))
            })
            .collect();
        if faults.is_empty() { Ok(value) } else { Err(InvalidAnswer(faults.join("; "))) }
    }

    /// The schema.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// Whether a schema keeps to the part of JSON schema that providers take with `strict`: every object names all of its
/// members as required and allows no others. They refuse a request with a strict schema that does not.
pub fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let is_object = members.get("type").is_some_and(|kind| {
                kind == "object"
                    || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "object"))
            });
            let properties = members.get("properties").and_then(Value::as_object);
            let required = members.get("required").and_then(Value::as_array);
            let closed = members.get("additionalProperties") == Some(&Value::Bool(false));
            let named = properties.is_some_and(|properties| {
                properties.keys().all(|name| {
                    required.is_some_and(|required| required.iter().any(|required| required == name))
                })
            });
            let own = !(is_object || properties.is_some()) || closed && named;
            own && members.iter().all(|(name, member)| match name.as_str() {
                // What is in these are values and not schemas.
                "enum" | "const" | "default" | "examples" | "required" => true,
                "properties" | "$defs" | "definitions" => {
                    member.as_object().is_some_and(|named| named.values().all(is_strict))
                }
                _ => is_strict(member),
            })
        }
        Value::Array(schemas) => schemas.iter().all(is_strict),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// How many parts of a schema have a name, at most; the whole may have one. Draft 4 calls it `id`.
fn names(schema: &Value) -> usize {
    let name =
        |name: &str, member: &Value| usize::from(matches!((name, member), ("$id" | "id", Value::String(_))));
    let members = schema.as_object().into_iter().flatten();
    let own: usize = members.map(|(own, member)| name(own, member)).sum();
    count(schema, name) - own
}

/// The sum of what each member counts for, at any depth.
fn count(schema: &Value, member: fn(&str, &Value) -> usize) -> usize {
    match schema {
        Value::Object(members) => {
            members.iter().map(|(name, value)| member(name, value) + count(value, member)).sum()
        }
        Value::Array(schemas) => schemas.iter().map(|schema| count(schema, member)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn without_fence(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let Some((language, inner)) = inner.and_then(|inner| inner.split_once('\n')) else { return text };
    if language.trim().chars().all(char::is_alphanumeric) { inner.trim() } else { text }
}

fn shortened(text: &str) -> String {
    if text.len() <= FAULT_MAX { text.to_owned() } else { format!("{}…", cut(text, FAULT_MAX)) }
}

#[cfg(test)]
mod tests;
