//! Leaves a member out of a JSON object without touching the bytes of the others.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// The object without its top-level member `name`; the bytes unchanged when there is none, or when they
/// are no object.
pub(super) fn without(object: &Bytes, name: &str) -> Bytes {
    let Ok(Members(members)) = serde_json::from_slice::<Members<'_>>(object) else {
        return object.clone();
    };
    if members.iter().all(|(key, _)| key != name) {
        return object.clone();
    }
    let mut kept = Vec::with_capacity(object.len());
    kept.push(b'{');
    for (key, value) in members.into_iter().filter(|(key, _)| key != name) {
        if kept.len() > 1 {
            kept.push(b',');
        }
        kept.extend_from_slice(Value::from(key).to_string().as_bytes());
        kept.push(b':');
        kept.extend_from_slice(value.get().as_bytes());
    }
    kept.push(b'}');
    kept.into()
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
