//! Takes JSON objects apart and puts them together without touching the bytes of their members.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// The value of a top-level member.
pub(super) fn get<'a>(object: &'a [u8], name: &str) -> Option<&'a str> {
    let Members(members) = serde_json::from_slice(object).ok()?;
    members.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
}

/// The object without its top-level member `name`; the bytes unchanged when there is none, or when they
/// are no object.
pub(super) fn without(object: &Bytes, name: &str) -> Bytes {
    let Ok(Members(members)) = serde_json::from_slice::<Members<'_>>(object) else {
        return object.clone();
    };
    if members.iter().all(|(key, _)| key != name) {
        return object.clone();
    }
    let kept = members.iter().filter(|(key, _)| key != name);
    write(kept.map(|(key, value)| (key.as_str(), value.get())))
}

/// The object with the string `text` as its top-level member `name`, in the place of an earlier one or at
/// the end; the bytes unchanged when they are no object.
pub(super) fn with_text(object: &Bytes, name: &str, text: &str) -> Bytes {
    let Ok(Members(members)) = serde_json::from_slice::<Members<'_>>(object) else {
        return object.clone();
    };
    let text = Value::from(text).to_string();
    let present = members.iter().any(|(key, _)| key == name);
    let replaced = members.iter().map(|(key, value)| {
        let value = if key == name { text.as_str() } else { value.get() };
        (key.as_str(), value)
    });
    write(replaced.chain((!present).then_some((name, text.as_str()))))
}

/// What stands between the brackets of an object, an array or a string that was rendered without spaces
/// around them.
pub(super) fn interior(value: &Bytes) -> Bytes {
    if value.len() < 2 { Bytes::new() } else { value.slice(1..value.len() - 1) }
}

fn write<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut object = Vec::new();
    for (key, value) in members {
        object.push(if object.is_empty() { b'{' } else { b',' });
        object.extend_from_slice(Value::from(key).to_string().as_bytes());
        object.push(b':');
        object.extend_from_slice(value.as_bytes());
    }
    if object.is_empty() {
        object.push(b'{');
    }
    object.push(b'}');
    object.into()
}

/// An object's members in their order, values untouched.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
