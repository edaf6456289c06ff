//! Identifiers, digests and bytes, checked where they enter.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a text is not the identifier or digest that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidScalar {
    what: &'static str,
    rule: &'static str,
}

/// Identifies one operation for ever: 1 to 64 of `A-Z a-z 0-9 . _ -`. Chosen by the agent and written to its
/// journal before it is sent; never a model provider's call id, since several providers repeat those.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct OpId(String);

/// Identifies one life of a supervisor: 32 hexadecimal digits, random at each start. Another boot id means
/// that every process of the earlier boot is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct BootId(String);

/// The secret of one boot: 64 hexadecimal digits, made by the agent. Its debug form hides it.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Token(String);

/// A SHA-256 digest, as 64 lower-case hexadecimal digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Bytes, as standard base64 on the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl OpId {
    /// Checks and wraps an identifier.
    ///
    /// # Errors
    /// [`InvalidScalar`] when it is empty, longer than 64 bytes or holds another character.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidScalar> {
        let id = id.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !id.is_empty() && id.len() <= 64 && id.bytes().all(allowed) {
            Ok(Self(id))
        } else {
            Err(InvalidScalar { what: "an operation id", rule: "1 to 64 of A-Z a-z 0-9 . _ -" })
        }
    }

    /// The identifier's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BootId {
    /// Makes a boot id of 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }

    /// Checks and wraps a boot id.
    ///
    /// # Errors
    /// [`InvalidScalar`] when it is not 32 hexadecimal digits.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidScalar> {
        let id = id.into();
        if is_hex(&id, 32) {
            Ok(Self(id))
        } else {
            Err(InvalidScalar { what: "a boot id", rule: "32 hexadecimal digits" })
        }
    }

    /// The boot id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Token {
    /// Makes a token of 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(hex(&bytes))
    }

    /// Checks and wraps a token.
    ///
    /// # Errors
    /// [`InvalidScalar`] when it is not 64 hexadecimal digits.
    pub fn new(token: impl Into<String>) -> Result<Self, InvalidScalar> {
        let token = token.into();
        if is_hex(&token, 64) {
            Ok(Self(token))
        } else {
            Err(InvalidScalar { what: "a token", rule: "64 hexadecimal digits" })
        }
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, other: &Self) -> bool {
        let different = self.0.bytes().zip(other.0.bytes()).fold(0, |seen, (a, b)| seen | (a ^ b));
        different == 0 && self.0.len() == other.0.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Wraps the 32 bytes of a finished hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`InvalidScalar`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidScalar> {
        let invalid = InvalidScalar { what: "a digest", rule: "64 hexadecimal digits" };
        if !is_hex(text, 64) {
            return Err(invalid);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid.clone())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid.clone())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl<'de> Deserialize<'de> for OpId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for BootId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Base64 needs no escapes, so that the text is read where it lies: a chunk's is 44 KiB.
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        let Text(text) = Text::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
