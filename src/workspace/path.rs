//! Names in a repository, and those that git must never be given.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::api::conditions::steers;

/// A path relative to the repository's root: components joined by `/`, bytes and not text.
///
/// It is ordered as git orders an index. Shown, it is quoted as git quotes it, so that a name with line
/// breaks, escapes or bytes that are not text cannot garble a status or a terminal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// From bytes that git or a directory walk gave.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For a matcher or a file system call.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The path of `name` in this directory; the root is the empty path.
    pub(crate) fn join(&self, name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }

    /// The directory and the name in it; nothing for the root, which has neither.
    pub(crate) fn split_last(&self) -> Option<(Self, Vec<u8>)> {
        let name = self.parts().last()?;
        let directory = self.0.get(..self.0.len() - name.len())?;
        Some((Self(directory.strip_suffix(b"/").unwrap_or(directory).to_owned()), name.to_owned()))
    }

    /// The names on the way to it, from the root on.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let whole = (!self.0.is_empty()).then_some(self.0.as_slice());
        whole.into_iter().flat_map(|path| path.split(|byte| *byte == b'/'))
    }

    /// Whether this is `directory` or something in it.
    pub(crate) fn is_within(&self, directory: &Self) -> bool {
        match self.0.strip_prefix(directory.as_bytes()) {
            Some(rest) => directory.0.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}

/// So that a map or set keyed by paths is asked with a slice.
impl Borrow<[u8]> for RepoPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_char('.');
        }
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.chars().all(is_plain) => f.write_str(text),
            Ok(_) | Err(_) => {
                f.write_char('"')?;
                f.write_str(&quoted(&self.0))?;
                f.write_char('"')
            }
        }
    }
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The inside of git's quoted form: C escapes, octal for every byte that is not printable ASCII.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for byte in bytes {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let octal = format!("\\{byte:03o}");
                out.push_str(&octal);
            }
        }
    }
    out
}

/// Text of git's or a server's as it may be shown: nothing that moves a cursor or turns text round, and no
/// more than fits a condition's message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| is_plain(*c) || matches!(c, '"' | '\\')).take(300).collect()
}

/// Why git would refuse the name `name` in a tree, or a checkout of it could be harmful somewhere.
///
/// This refuses what git's own check does with its protections for HFS+ and NTFS on, and a little more:
/// a name that it let through and git refuses would cost the whole patch.
pub(crate) fn unsafe_name(name: &[u8], symlink: bool) -> Option<&'static str> {
    // On Windows a backslash separates directories.
    if name.split(|byte| *byte == b'\\').any(|part| looks_like(part, ".git", "git~1")) {
        return Some("named like .git");
    }
    let modules = |part: &[u8]| looks_like(part, ".gitmodules", "gitmod~") || hashed_modules(part);
    if symlink && name.split(|byte| *byte == b'\\').any(modules) {
        return Some("a symbolic link named like .gitmodules");
    }
    None
}

/// Whether a file system that folds case, ignores some code points or knows short names and streams
/// takes `name` for `target`.
fn looks_like(name: &[u8], target: &str, short: &str) -> bool {
    let folded = without_ignorable(name).to_ascii_lowercase();
    // NTFS drops what follows a colon and spaces and dots at the end.
    let stem = folded.split(|byte| *byte == b':').next().unwrap_or_default();
    let stem = stem.strip_suffix(b"\0").unwrap_or(stem);
    let end = stem.iter().rposition(|byte| !matches!(byte, b' ' | b'.')).map_or(0, |last| last + 1);
    let stem = &stem[..end];
    stem == target.as_bytes() || stem == short.as_bytes() || (short.ends_with('~') && numbered(stem, short))
}

fn numbered(stem: &[u8], short: &str) -> bool {
    stem.strip_prefix(short.as_bytes())
        .is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

/// The short names that NTFS falls back to for `.gitmodules`: up to six characters of `gi7eba` and a number.
fn hashed_modules(name: &[u8]) -> bool {
    let folded = name.to_ascii_lowercase();
    let Some(tilde) = folded.iter().position(|byte| *byte == b'~') else { return false };
    tilde <= 6 && b"gi7eba".starts_with(&folded[..tilde])
}

/// `name` without the code points that HFS+ ignores when it compares names.
fn without_ignorable(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let kept = chunk.valid().chars().filter(|c| {
            !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
        });
        let mut buffer = [0; 4];
        for c in kept {
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// Shown as it is: no control character, nothing that changes the direction or the width of text.
fn is_plain(c: char) -> bool {
    !steers(c) && !matches!(c, '"' | '\\' | '\u{200c}' | '\u{200d}' | '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalikes_of_git_are_known() {
        let names: [&[u8]; 14] = [
            b".git",
            b".GIT",
            b".Git",
            b"git~1",
            b"GIT~1",
            b".git ",
            b".git...",
            b".git . .",
            b".git::$INDEX_ALLOCATION",
            b".git:x",
            ".g\u{200c}it".as_bytes(),
            ".gi\u{feff}t".as_bytes(),
            b"a\\.git",
            b"a\\git~1\\config",
        ];
        for name in names {
            assert!(unsafe_name(name, false).is_some(), "{}", String::from_utf8_lossy(name));
        }
        for name in [
            &b".gitignore"[..],
            b".gitattributes",
            b"git",
            b"git~2",
            b".git-x",
            b"x.git",
            b"..git",
            b".gitmodules",
        ] {
            assert_eq!(unsafe_name(name, false), None, "{}", String::from_utf8_lossy(name));
        }
        for name in [
            &b".gitmodules"[..],
            b".GITMODULES",
            b"gitmod~1",
            b"gi7eba~1",
            b"GI7EB~10",
            b".gitmodules ",
            b"a\\.gitmodules",
        ] {
            assert!(unsafe_name(name, true).is_some(), "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(unsafe_name(b".gitignore", true), None);
    }

    #[test]
    fn odd_names_are_quoted_when_shown() {
        let shown = |bytes: &[u8]| RepoPath::new(bytes).to_string();
        assert_eq!(shown(b"a/b c.txt"), "a/b c.txt");
        assert_eq!(shown("grün".as_bytes()), "grün");
        assert_eq!(shown(b"a\nb"), r#""a\nb""#);
        assert_eq!(shown(b"\x1b[31m"), r#""\033[31m""#);
        assert_eq!(shown(b"\xff"), r#""\377""#);
        assert_eq!(shown("a\u{202e}b".as_bytes()), r#""a\342\200\256b""#);
        assert_eq!(shown(b""), ".");
    }

    #[test]
    fn within_is_by_component() {
        let path = |text: &str| RepoPath::new(text.as_bytes());
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&path("")));
        assert!(!path("ab").is_within(&path("a")));
        assert!(!path("a").is_within(&path("a/b")));
    }
}
