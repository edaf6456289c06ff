//! Writes the body of a request from bytes that were rendered earlier.

use bytes::Bytes;
use serde_json::Value;

/// A JSON object under construction.
pub(super) struct Body(Vec<u8>);

impl Body {
    /// An empty object with room for `payload` bytes beside the usual members.
    pub(super) fn new(payload: usize) -> Self {
        // 1 KiB holds every member but items and tools with a long model name and thread id; more only
        // reallocates.
        let mut bytes = Vec::with_capacity(payload + 1024);
        bytes.push(b'{');
        Self(bytes)
    }

    /// Adds a member with a value that is JSON already.
    pub(super) fn raw(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.name(name);
        self.0.extend_from_slice(value.as_ref());
    }

    /// Adds a member with a string.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.raw(name, Value::from(text).to_string());
    }

    /// Adds a member with an array of values that are JSON already.
    pub(super) fn array(&mut self, name: &str, elements: &[Bytes]) {
        self.name(name);
        self.0.extend_from_slice(&list(elements));
    }

    /// Adds the members between the braces of another object.
    pub(super) fn members(&mut self, members: &[u8]) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(members);
    }

    /// The object.
    pub(super) fn finish(mut self) -> Bytes {
        self.0.push(b'}');
        self.0.into()
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// The JSON array of values that are JSON already.
pub(super) fn list(elements: &[Bytes]) -> Vec<u8> {
    let mut array = vec![b'['];
    array.extend_from_slice(&elements.join(&b","[..]));
    array.push(b']');
    array
}
