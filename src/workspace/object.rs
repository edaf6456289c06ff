//! Object ids and loose objects.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::{Digest, Sha1};

/// The SHA-1 name of a git object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 20]);

/// Text that is not forty hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no object id: forty hexadecimal digits are")]
pub struct ParseObjectIdError(String);

/// The kinds of object that this side writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A file's content, or a symbolic link's target.
    Blob,
    /// A directory.
    Tree,
}

/// What a tree entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// A regular file.
    File,
    /// A regular file that its owner may execute.
    Executable,
    /// A symbolic link; the blob holds its target.
    Symlink,
    /// Another repository's commit (a submodule).
    Gitlink,
}

impl ObjectId {
    /// The id of the object with this kind and content.
    pub fn of(kind: ObjectKind, content: &[u8]) -> Self {
        let mut sha = Sha1::new();
        sha.update(header(kind, content.len()));
        sha.update(content);
        Self(sha.finalize().into())
    }

    /// From the twenty bytes of a tree entry.
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The twenty bytes of a tree entry.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl FromStr for ObjectId {
    type Err = ParseObjectIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseObjectIdError(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 40 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(error());
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Mode {
    /// The six octal digits of `ls-tree`.
    pub fn parse(octal: &[u8]) -> Option<Self> {
        match octal {
            // 100664 is what old versions of git wrote; git itself reads it as 100644.
            b"100644" | b"100664" => Some(Self::File),
            b"100755" => Some(Self::Executable),
            b"120000" => Some(Self::Symlink),
            b"160000" => Some(Self::Gitlink),
            _ => None,
        }
    }

    /// As in a tree object and a patch.
    pub fn as_octal(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Gitlink => "160000",
        }
    }

    /// Whether a patch between the two is one section: otherwise git writes a deletion and a creation.
    pub fn same_type(self, other: Self) -> bool {
        let file = |mode| matches!(mode, Self::File | Self::Executable);
        self == other || (file(self) && file(other))
    }
}

/// Writes an object into the object directory of a repository, unless it is there as a loose object.
///
/// The content is not compressed (zlib's "stored" blocks): such objects live as long as the pod, and
/// writing them should cost no more than copying.
pub(crate) fn write_loose(objects: &Path, kind: ObjectKind, content: &[u8]) -> io::Result<ObjectId> {
    let id = ObjectId::of(kind, content);
    let name = id.to_string();
    let directory = objects.join(&name[..2]);
    let path = directory.join(&name[2..]);
    if path.exists() {
        return Ok(id);
    }
    std::fs::create_dir_all(&directory)?;
    // A reader must see a whole object or none, so it gets its name last.
    let mut file = tempfile::NamedTempFile::new_in(&directory)?;
    write_stored(file.as_file_mut(), &header(kind, content.len()), content)?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(id)
}

fn header(kind: ObjectKind, length: usize) -> Vec<u8> {
    let kind = match kind {
        ObjectKind::Blob => "blob",
        ObjectKind::Tree => "tree",
    };
    format!("{kind} {length}\0").into_bytes()
}

/// A zlib stream (RFC 1950) of stored deflate blocks (RFC 1951, 3.2.4) holding `head` and then `body`.
fn write_stored(mut out: impl Write, head: &[u8], body: &[u8]) -> io::Result<()> {
    // Method 8, window 32 KiB, no dictionary, fastest level; the pair is a multiple of 31.
    out.write_all(&[0x78, 0x01])?;
    let mut blocks = [head].into_iter().chain(body.chunks(usize::from(u16::MAX))).peekable();
    while let Some(block) = blocks.next() {
        let last = u8::from(blocks.peek().is_none());
        let length = u16::try_from(block.len()).map_err(io::Error::other)?;
        out.write_all(&[last])?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&(!length).to_le_bytes())?;
        out.write_all(block)?;
    }
    out.write_all(&adler32([head, body]).to_be_bytes())
}

fn adler32(parts: [&[u8]; 2]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut a, mut b) = (1_u32, 0_u32);
    for part in parts {
        // 5,552 is the most bytes after which both sums still fit 32 bits.
        for run in part.chunks(5_552) {
            for byte in run {
                a += u32::from(*byte);
                b += a;
            }
            a %= MODULUS;
            b %= MODULUS;
        }
    }
    (b << 16) | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        let id = ObjectId::of(ObjectKind::Blob, b"hello\n");
        assert_eq!(id.to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            ObjectId::of(ObjectKind::Tree, b"").to_string(),
            "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        );
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "ce01", &"g".repeat(40), &"é".repeat(20), &"a".repeat(41)] {
            assert!(text.parse::<ObjectId>().is_err(), "{text}");
        }
    }

    #[test]
    fn adler_of_a_known_text() {
        assert_eq!(adler32([b"Wiki", b"pedia"]), 0x11E6_0398);
    }
}
