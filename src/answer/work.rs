//! How much it takes to hold a value against a schema, counted without doing it.
//!
//! A part of a schema is compared with a value once for each way that leads from the schema to it. So references double
//! the comparisons with each level of parts (`allOf` with two references to the next one) and with each level of values
//! in values (a tree whose branches fit two parts). The sum over all ways needs no more than one count for each pair of
//! a part and a value, so it takes as many steps as there are such pairs, and is given up when it exceeds its bound.

use std::collections::HashMap;
use std::ptr;

use serde_json::{Map, Value};

use super::patterns::Patterns;

/// Comparisons for one answer. Each may take a microsecond and leave a fault of some hundred bytes, so all of them take
/// a tenth of a second and some 30 MiB at the worst; an answer of 8 KiB with a schema that people wrote takes thousands.
pub(super) const ANSWER_WORK: u64 = 100_000;

/// Comparisons of a single value, with what is in it left aside, that one part of a schema may take: a tenth of what an
/// answer may, as it has other values too.
pub(super) const PART_WORK: u64 = 10_000;

/// Parts that are being compared at a time, one within the other: counting and comparing each take a call for every one
/// of them, and a thread has 2 MiB of stack.
const DEPTH_MAX: usize = 300;

/// Bytes of a text that count as one comparison.
const TEXT_UNIT: usize = 64;

/// Bytes of a text, and states of a pattern, that count as one comparison when the one is searched for the other. Each
/// byte may meet each state, in two nanoseconds, so that one comes to a microsecond here as well.
const SEARCH_UNIT: usize = 8;
const STATES_UNIT: u64 = 64;

/// Values of an `enum` that count as one comparison: one after the other is looked at, in some thirty nanoseconds.
const CHOICES_UNIT: u64 = 32;

/// What names of members and values that have no members are counted as.
const SINGLE: &Value = &Value::Null;

/// Why something is too much work, or cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// More comparisons than may be.
    Work,
    /// Too many parts within each other.
    Depth,
    /// A part comes back to itself for the same value, for example by way of this reference.
    Endless(String),
    /// A reference that is no place in the schema.
    Foreign(String),
}

/// Whether each part of a schema is little work for a single value, and refers to parts of the same schema alone.
pub(super) fn check_parts(schema: &Value, patterns: &Patterns) -> Result<(), Excess> {
    let mut counter = Counter::new(schema, patterns, PART_WORK);
    let mut parts = vec![schema];
    while let Some(part) = parts.pop() {
        match part {
            Value::Object(members) => {
                counter.count(part, SINGLE)?;
                let schemas = members.iter().filter(|(name, _)| !is_data(name));
                parts.extend(schemas.map(|(_, member)| member));
            }
            Value::Array(members) => parts.extend(members),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

/// Whether it is little work to hold a value against a schema whose parts were checked.
pub(super) fn check_value(schema: &Value, patterns: &Patterns, value: &Value) -> Result<(), Excess> {
    Counter::new(schema, patterns, ANSWER_WORK).count(schema, value).map(drop)
}

/// Members whose content is compared as it stands.
fn is_data(name: &str) -> bool {
    matches!(name, "enum" | "const" | "default" | "examples")
}

/// What a comparison comes to with all that it leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    work: u64,
    /// How many are made at a time, one within the other.
    depth: usize,
}

impl Amount {
    fn and(self, other: Self) -> Self {
        Self { work: self.work.saturating_add(other.work), depth: self.depth.max(other.depth) }
    }

    fn times(self, times: u64) -> Self {
        Self { work: self.work.saturating_mul(times), ..self }
    }
}

struct Counter<'a> {
    schema: &'a Value,
    patterns: &'a Patterns,
    /// Parts that have a name to be referred to by.
    named: Vec<(&'a str, &'a Value)>,
    most: u64,
    /// The amounts of pairs of a part and a value, by their places in memory; `None` while one is being counted.
    known: HashMap<(*const Value, *const Value), Option<Amount>>,
    /// How many are being counted.
    open: usize,
}

impl<'a> Counter<'a> {
    fn new(schema: &'a Value, patterns: &'a Patterns, most: u64) -> Self {
        let (mut named, mut rest) = (Vec::new(), vec![schema]);
        while let Some(part) = rest.pop() {
            match part {
                Value::Object(members) => {
                    let names = ["$anchor", "$dynamicAnchor"].map(|name| members.get(name));
                    let names = names.into_iter().flatten().filter_map(Value::as_str);
                    named.extend(names.map(|name| (name, part)));
                    rest.extend(members.values());
                }
                Value::Array(members) => rest.extend(members),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        Self { schema, patterns, named, most, known: HashMap::new(), open: 0 }
    }

    fn count(&mut self, part: &'a Value, value: &'a Value) -> Result<Amount, Excess> {
        // What is no object is true, false or no schema.
        let Value::Object(members) = part else { return Ok(Amount { work: 1, depth: 1 }) };
        let key = (ptr::from_ref(part), ptr::from_ref(value));
        match self.known.get(&key) {
            Some(Some(amount)) => return Ok(*amount),
            // Whoever refers to it says by what.
            Some(None) => return Err(Excess::Endless(String::new())),
            None => {}
        }
        if self.open == DEPTH_MAX {
            return Err(Excess::Depth);
        }
        // Each of them is work as well.
        if self.known.len() as u64 >= ANSWER_WORK {
            return Err(Excess::Work);
        }
        self.known.insert(key, None);
        self.open += 1;
        let inner = self.in_place(members, value)?.and(self.inside(members, value)?);
        self.open -= 1;
        let work = inner.work.saturating_add(self.own(members, value));
        let amount = Amount { work, depth: inner.depth + 1 };
        if amount.work > self.most {
            return Err(Excess::Work);
        }
        if amount.depth > DEPTH_MAX {
            return Err(Excess::Depth);
        }
        self.known.insert(key, Some(amount));
        Ok(amount)
    }

    /// What a part takes for a value without the parts that it has.
    fn own(&self, members: &Map<String, Value>, value: &Value) -> u64 {
        let length = value.as_str().map_or(0, str::len);
        let mut work = (1 + members.len() as u64).saturating_mul(1 + (length / TEXT_UNIT) as u64);
        for (name, member) in members {
            let more = match (name.as_str(), value, member) {
                ("pattern", _, Value::String(pattern)) => self.search(pattern, length),
                // To know which are additional, and which are left, they are searched again.
                ("patternProperties", Value::Object(values), Value::Object(parts)) => {
                    let pairs = parts.keys().flat_map(|part| values.keys().map(move |name| (part, name)));
                    let once = pairs
                        .fold(0_u64, |sum, (part, name)| sum.saturating_add(self.search(part, name.len())));
                    once.saturating_mul(3)
                }
                ("enum" | "const", _, choices) => size(choices) / CHOICES_UNIT,
                // Each name that is missing is a fault.
                ("required" | "dependentRequired" | "dependencies", _, names) => size(names),
                _ => 0,
            };
            work = work.saturating_add(more);
        }
        work
    }

    /// What it takes to search a text for a pattern.
    fn search(&self, pattern: &str, length: usize) -> u64 {
        let pieces = 1 + (length / SEARCH_UNIT) as u64;
        1 + self.patterns.states(pattern).saturating_mul(pieces) / STATES_UNIT
    }

    /// The parts that a part has for the same value.
    fn in_place(&mut self, members: &'a Map<String, Value>, value: &'a Value) -> Result<Amount, Excess> {
        let mut sum = Amount::default();
        for (name, member) in members {
            let more = match (name.as_str(), member) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                    self.most_of(reference, value)?
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(parts)) => {
                    self.sum(parts.iter().map(|part| (part, value)))?
                }
                ("not" | "if" | "then" | "else", part) => self.count(part, value)?,
                ("dependentSchemas" | "dependencies", Value::Object(parts)) => {
                    self.sum(parts.values().map(|part| (part, value)))?
                }
                _ => Amount::default(),
            };
            sum = sum.and(more);
        }
        // To know what is left, the others are asked again, at most once for each thing in the value.
        let asks_again =
            ["unevaluatedProperties", "unevaluatedItems"].iter().any(|name| members.contains_key(*name));
        Ok(if asks_again { sum.times(2 + inner(value)) } else { sum })
    }

    /// The parts that a part has for what is in the value.
    fn inside(&mut self, members: &'a Map<String, Value>, value: &'a Value) -> Result<Amount, Excess> {
        let mut sum = Amount::default();
        for (name, member) in members {
            let more = match (name.as_str(), value, member) {
                ("properties", Value::Object(values), Value::Object(parts)) => {
                    self.sum(parts.iter().filter_map(|(name, part)| Some((part, values.get(name)?))))?
                }
                ("patternProperties", Value::Object(values), Value::Object(parts)) => {
                    self.sum(parts.values().flat_map(|part| values.values().map(move |value| (part, value))))?
                }
                ("additionalProperties", Value::Object(values), part) => {
                    let named = members.get("properties").and_then(Value::as_object);
                    let is_other = |name: &String| !named.is_some_and(|named| named.contains_key(name));
                    let others = values.iter().filter(|(name, _)| is_other(name));
                    self.sum(others.map(|(_, value)| (part, value)))?
                }
                ("unevaluatedProperties", Value::Object(values), part) => {
                    self.sum(values.values().map(|value| (part, value)))?
                }
                ("propertyNames", Value::Object(values), part) => {
                    // The finest measure of a text's length there is.
                    let pieces = values.keys().map(|name| 1 + (name.len() / SEARCH_UNIT) as u64);
                    self.count(part, SINGLE)?.times(pieces.sum())
                }
                ("items" | "prefixItems", Value::Array(values), Value::Array(parts)) => {
                    self.sum(parts.iter().zip(values))?
                }
                (
                    "items" | "additionalItems" | "contains" | "unevaluatedItems",
                    Value::Array(values),
                    part,
                ) => self.sum(values.iter().map(|value| (part, value)))?,
                _ => Amount::default(),
            };
            sum = sum.and(more);
        }
        Ok(sum)
    }

    fn sum(&mut self, pairs: impl Iterator<Item = (&'a Value, &'a Value)>) -> Result<Amount, Excess> {
        let mut sum = Amount::default();
        for (part, value) in pairs {
            sum = sum.and(self.count(part, value)?);
        }
        Ok(sum)
    }

    /// What a reference refers to; of several parts with one name, as much as the largest.
    fn most_of(&mut self, reference: &str, value: &'a Value) -> Result<Amount, Excess> {
        let foreign = || Excess::Foreign(reference.to_owned());
        let mut most: Option<Amount> = None;
        for part in self.targets(reference).ok_or_else(foreign)? {
            let amount = self.count(part, value).map_err(|excess| match excess {
                Excess::Endless(inner) if inner.is_empty() => Excess::Endless(reference.to_owned()),
                other @ (Excess::Endless(_) | Excess::Work | Excess::Depth | Excess::Foreign(_)) => other,
            })?;
            most = Some(most.map_or(amount, |most| Amount {
                work: most.work.max(amount.work),
                depth: most.depth.max(amount.depth),
            }));
        }
        most.ok_or_else(foreign)
    }

    /// The parts that a reference may mean: the one at a place, or those with a name.
    fn targets(&self, reference: &str) -> Option<Vec<&'a Value>> {
        let fragment = match reference.strip_prefix('#') {
            Some(fragment) => unescaped(fragment)?,
            None if reference.is_empty() => String::new(),
            None => return None,
        };
        if fragment.is_empty() || fragment.starts_with('/') {
            return self.schema.pointer(&fragment).map(|part| vec![part]);
        }
        let named = self.named.iter().filter(|(name, _)| *name == fragment);
        Some(named.map(|(_, part)| *part).collect())
    }
}

/// How many values are in a value.
fn inner(value: &Value) -> u64 {
    match value {
        Value::Object(values) => values.len() as u64,
        Value::Array(values) => values.len() as u64,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// How many values a value is, with all that are in it and a long text as several.
fn size(value: &Value) -> u64 {
    match value {
        Value::Object(values) => values.values().map(size).fold(1, u64::saturating_add),
        Value::Array(values) => values.iter().map(size).fold(1, u64::saturating_add),
        Value::String(text) => 1 + (text.len() / TEXT_UNIT) as u64,
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

/// A fragment of a URI without its percent signs; `None` when these are not followed by two digits of a byte, or give
/// no text.
fn unescaped(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut pieces = fragment.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
