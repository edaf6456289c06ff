//! One path of a patch: the lines before its content.

use super::flags::Hidden;
use crate::workspace::object::Mode;
use crate::workspace::path::RepoPath;

/// A line of a binary patch is a length and at most 52 bytes as 65 characters.
const BINARY_LINE_MAX: usize = 66;

/// What is known of the path so far.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) path: RepoPath,
    pub(super) has_lines: bool,
    pub(super) hidden: Hidden,
    state: Head,
    before: Option<Mode>,
    after: Option<Mode>,
}

/// Which line about modes was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Nothing,
    OldMode,
    Modes,
    Created,
    Deleted,
    Same,
}

/// The two lines with names before the hunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Old,
    New,
}

impl Section {
    pub(super) fn new(path: RepoPath) -> Self {
        let hidden = Hidden::default();
        Self { path, has_lines: false, hidden, state: Head::Nothing, before: None, after: None }
    }

    /// Takes a line; whether it was the last, or nothing when it has no place there.
    pub(super) fn head(&mut self, line: &[u8]) -> Option<bool> {
        let mode = |prefix: &[u8]| line.strip_prefix(prefix).map(Mode::parse);
        if let Some(found) = mode(b"old mode ").filter(|_| self.state == Head::Nothing) {
            (self.state, self.before) = (Head::OldMode, Some(found?));
        } else if let Some(found) = mode(b"new mode ").filter(|_| self.state == Head::OldMode) {
            (self.state, self.after) = (Head::Modes, Some(found?));
        } else if let Some(found) = mode(b"new file mode ").filter(|_| self.state == Head::Nothing) {
            (self.state, self.after) = (Head::Created, Some(found?));
        } else if let Some(found) = mode(b"deleted file mode ").filter(|_| self.state == Head::Nothing) {
            (self.state, self.before) = (Head::Deleted, Some(found?));
        } else {
            return self.index(line.strip_prefix(b"index ")?).then_some(true);
        }
        Some(false)
    }

    fn index(&mut self, rest: &[u8]) -> bool {
        let Some((ids, mode)) = rest.split_at_checked(82) else { return false };
        let (one, rest) = ids.split_at(40);
        let are_ids = rest.strip_prefix(b"..").is_some_and(is_id) && is_id(one);
        are_ids
            && match (self.state, mode.strip_prefix(b" ").map(Mode::parse)) {
                (Head::Nothing, Some(Some(mode))) => {
                    (self.state, self.before, self.after) = (Head::Same, Some(mode), Some(mode));
                    true
                }
                (Head::Modes | Head::Created | Head::Deleted, None) => mode.is_empty(),
                _ => false,
            }
    }

    /// What was there and what is there; nothing while that is not known.
    pub(super) fn modes(&self) -> Option<(Option<Mode>, Option<Mode>)> {
        let is_whole = !matches!(self.state, Head::Nothing | Head::OldMode);
        // Two kinds of thing under one name are a deletion and a creation.
        let same_type = self.before.zip(self.after).is_none_or(|(before, after)| before.same_type(after));
        (is_whole && same_type).then_some((self.before, self.after))
    }

    /// Whether the line names this path as the old or the new one.
    pub(super) fn is_name(&self, line: &[u8], which: Names) -> bool {
        let (sign, prefix, missing) = match which {
            Names::Old => (&b"--- "[..], &b"a/"[..], self.state == Head::Created),
            Names::New => (&b"+++ "[..], &b"b/"[..], self.state == Head::Deleted),
        };
        let Some(name) = line.strip_prefix(sign) else { return false };
        if missing {
            return name == b"/dev/null";
        }
        // Git ends a name that has a space in it with a tab.
        let name = if name.starts_with(b"\"") { name } else { name.strip_suffix(b"\t").unwrap_or(name) };
        unquoted(name).is_some_and(|name| name.strip_prefix(prefix) == Some(self.path.as_bytes()))
    }
}

/// The path of `a/PATH b/PATH`.
pub(super) fn both(names: &[u8]) -> Option<RepoPath> {
    // Both are the same but for their first letter, so they are cut in the middle.
    let half = names.len().checked_sub(1)? / 2;
    let (old, rest) = names.split_at_checked(half)?;
    let new = rest.strip_prefix(b" ")?;
    let (old, new) = (unquoted(old)?, unquoted(new)?);
    let (old, new) = (old.strip_prefix(b"a/")?, new.strip_prefix(b"b/")?);
    (old == new && !old.is_empty()).then(|| RepoPath::new(old))
}

/// How many lines a hunk takes away from and gives to the two files.
pub(super) fn hunk_lines(line: &[u8]) -> Option<(u64, u64)> {
    let text = line.strip_prefix(b"@@ -")?;
    let end = text.windows(3).position(|window| window == b" @@")?;
    let (ranges, rest) = text.split_at(end);
    if !matches!(rest.get(3), None | Some(b' ')) {
        return None;
    }
    let ranges = std::str::from_utf8(ranges).ok()?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| -> Option<u64> {
        let (start, count) = range.split_once(',').unwrap_or((range, "1"));
        (number(start).is_some()).then(|| number(count)).flatten()
    };
    let lines = (count(old)?, count(new)?);
    (lines != (0, 0)).then_some(lines)
}

pub(super) fn is_binary_head(line: &[u8]) -> bool {
    let length = line.strip_prefix(b"literal ").or_else(|| line.strip_prefix(b"delta "));
    length.and_then(|length| std::str::from_utf8(length).ok()).and_then(number).is_some()
}

pub(super) fn is_binary(line: &[u8]) -> bool {
    line.len() <= BINARY_LINE_MAX
        && line.len() % 5 == 1
        && line.first().is_some_and(u8::is_ascii_alphabetic)
        && line.iter().all(u8::is_ascii_graphic)
}

fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn is_id(bytes: &[u8]) -> bool {
    bytes.len() == 40 && bytes.iter().all(u8::is_ascii_hexdigit)
}

/// A name as git writes it, in quotes where it has to be.
fn unquoted(name: &[u8]) -> Option<Vec<u8>> {
    let Some(inner) = name.strip_prefix(b"\"") else {
        // What stands without quotes has nothing that needs them.
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        return name.iter().all(is_plain).then(|| name.to_vec());
    };
    let mut inner = inner.strip_suffix(b"\"")?.iter().copied();
    let mut out = Vec::with_capacity(name.len());
    while let Some(byte) = inner.next() {
        if byte == b'"' {
            return None;
        }
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match inner.next()? {
            b'a' => 0x07,
            b'b' => 0x08,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 0x0b,
            b'f' => 0x0c,
            b'r' => b'\r',
            b'"' => b'"',
            b'\\' => b'\\',
            first @ b'0'..=b'3' => {
                let mut value = first - b'0';
                for _ in 0..2 {
                    let digit = inner.next().filter(|digit| matches!(digit, b'0'..=b'7'))?;
                    value = value * 8 + (digit - b'0');
                }
                value
            }
            _ => return None,
        });
    }
    Some(out)
}
