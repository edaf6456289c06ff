//! A patch as text: whether it is one that Podwright makes, which paths it changes, and what of that a reviewer should
//! look at first.
//!
//! The agent reads its own patch with this, and the controller reads what an agent hands over, because that agent may have
//! been taken over: a patch that another program would take for more than this reader does (a rename, a section without its
//! header, lines behind the end of a hunk) is no patch. So the grammar is that of our own `git diff-tree` and nothing else,
//! every line is accounted for, and memory does not grow with the text.

mod flags;
mod section;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use thiserror::Error;

pub use self::flags::Flags;
use self::section::{Names, Section, hunk_lines};
use crate::workspace::object::Mode;
use crate::workspace::path::{RepoPath, unsafe_name};

/// Bytes of a line that is no content: two paths of 4,095 bytes, each of which git may write as four characters.
const LINE_MAX: usize = 40 * 1024;

/// Linux opens no longer path.
const PATH_MAX: usize = 4095;

/// What stands behind a last line that has no line feed.
const NO_LINE_FEED: &[u8] = b"\\ No newline at end of file";

/// Why a text is not a patch of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatchFault {
    /// A line that has no place there.
    #[error("line {0} is not what git writes there")]
    Line(u64),
    /// The text stops in the middle.
    #[error("it ends in the middle of a file")]
    Cut,
    /// A path that must not be written.
    #[error("the path {path} must not be in a patch: {why}")]
    Path {
        /// The path.
        path: RepoPath,
        /// Why not.
        why: &'static str,
    },
    /// The same path twice, or one before another.
    #[error("the path {0} is not in git's order")]
    Order(RepoPath),
    /// A file behind a link that the same patch makes.
    #[error("the path {0} leads through a symbolic link of the same patch")]
    Beyond(RepoPath),
}

/// What a patch does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Paths that it changes.
    pub files: u64,
    /// What a reviewer should look at first.
    pub flags: Flags,
}

/// Reads a patch in pieces.
#[derive(Debug, Default)]
pub struct PatchReader {
    contents: Contents,
    number: u64,
    /// A line that is not whole yet; of content lines nothing is kept.
    line: Vec<u8>,
    /// Whether the line's first byte said what it is.
    content: Option<Content>,
    section: Option<Section>,
    place: Place,
    /// The last path and whether it was deleted: a changed type is a deletion and a new file.
    last: Option<(RepoPath, bool)>,
    links: HashSet<RepoPath>,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Place {
    /// A section's first line.
    #[default]
    Between,
    /// Lines about modes, then `index`.
    Head,
    /// `---`, a binary patch, or the next section.
    Indexed,
    /// `+++`.
    NewName,
    /// A hunk.
    Hunks,
    /// This many old and new lines of one.
    Lines(u64, u64),
    /// `literal` or `delta`, and whether it is the way back.
    BinaryHead(bool),
    /// Lines of it.
    Binary(bool),
}

/// A line of a file.
#[derive(Clone, Copy, Debug)]
struct Content {
    is_added: bool,
}

/// Reads a whole patch.
///
/// # Errors
/// [`PatchFault`]
pub fn read(patch: &[u8]) -> Result<Contents, PatchFault> {
    let mut reader = PatchReader::default();
    reader.push(patch)?;
    reader.finish()
}

impl PatchReader {
    /// Takes more of the text.
    ///
    /// # Errors
    /// [`PatchFault`]: whatever follows, it is no patch of ours.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PatchFault> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(rest) => {
                    self.piece(rest)?;
                    self.end_of_line()?;
                }
                None => self.piece(piece)?,
            }
        }
        Ok(())
    }

    /// The end of the text.
    ///
    /// # Errors
    /// [`PatchFault::Cut`]
    pub fn finish(mut self) -> Result<Contents, PatchFault> {
        let ends_here = matches!(self.place, Place::Between | Place::Head | Place::Indexed | Place::Hunks);
        if !self.line.is_empty() || self.content.is_some() || !ends_here {
            return Err(PatchFault::Cut);
        }
        self.end_of_section()?;
        Ok(self.contents)
    }

    fn fault(&self) -> PatchFault {
        PatchFault::Line(self.number + 1)
    }

    fn piece(&mut self, mut piece: &[u8]) -> Result<(), PatchFault> {
        if self.content.is_none()
            && self.line.is_empty()
            && let Place::Lines(old, new) = self.place
            && let Some((first, rest)) = piece.split_first()
            && *first != b'\\'
        {
            let (minus, plus) = match first {
                b' ' => (1, 1),
                b'-' => (1, 0),
                b'+' => (0, 1),
                _ => return Err(self.fault()),
            };
            let left = old.checked_sub(minus).zip(new.checked_sub(plus)).ok_or_else(|| self.fault())?;
            self.place = if left == (0, 0) { Place::Hunks } else { Place::Lines(left.0, left.1) };
            self.content = Some(Content { is_added: minus == 0 });
            if let Some(section) = &mut self.section {
                section.hidden.line_begins();
            }
            piece = rest;
        }
        if let Some(content) = self.content {
            if let Some(section) = self.section.as_mut().filter(|_| content.is_added) {
                section.hidden.push(piece);
            }
        } else {
            if self.line.len() + piece.len() > LINE_MAX {
                return Err(self.fault());
            }
            self.line.extend_from_slice(piece);
        }
        Ok(())
    }

    fn end_of_line(&mut self) -> Result<(), PatchFault> {
        if self.content.take().is_none() {
            let line = std::mem::take(&mut self.line);
            self.line_of(&line)?;
        }
        self.number += 1;
        Ok(())
    }

    /// A line that is no file's content.
    fn line_of(&mut self, line: &[u8]) -> Result<(), PatchFault> {
        let ends_section = matches!(self.place, Place::Between | Place::Head | Place::Indexed | Place::Hunks);
        if let Some(names) = line.strip_prefix(b"diff --git ").filter(|_| ends_section) {
            self.end_of_section()?;
            let path = section::both(names).ok_or_else(|| self.fault())?;
            self.begin(path)?;
            return Ok(());
        }
        let fault = self.fault();
        let Some(section) = &mut self.section else { return Err(fault) };
        self.place = match self.place {
            Place::Head => match section.head(line) {
                Some(true) => Place::Indexed,
                Some(false) => Place::Head,
                None => return Err(fault),
            },
            Place::Indexed if line == b"GIT binary patch" => Place::BinaryHead(false),
            Place::Indexed if section.is_name(line, Names::Old) => Place::NewName,
            Place::NewName if section.is_name(line, Names::New) => Place::Hunks,
            Place::Hunks | Place::Lines(..) if line == NO_LINE_FEED && section.has_lines => self.place,
            Place::Hunks => {
                section.has_lines = true;
                let (old, new) = hunk_lines(line).ok_or(fault)?;
                Place::Lines(old, new)
            }
            Place::BinaryHead(back) if section::is_binary_head(line) => Place::Binary(back),
            Place::Binary(false) if line.is_empty() => Place::BinaryHead(true),
            Place::Binary(true) if line.is_empty() => Place::Between,
            Place::Binary(back) if section::is_binary(line) => Place::Binary(back),
            Place::Between
            | Place::Indexed
            | Place::NewName
            | Place::Lines(..)
            | Place::BinaryHead(_)
            | Place::Binary(_) => return Err(fault),
        };
        Ok(())
    }

    fn begin(&mut self, path: RepoPath) -> Result<(), PatchFault> {
        if let Some((last, was_deleted)) = &self.last
            && (path < *last || (path == *last && !was_deleted))
        {
            return Err(PatchFault::Order(path));
        }
        self.section = Some(Section::new(path));
        self.place = Place::Head;
        Ok(())
    }

    fn is_beyond_a_link(&self, path: &RepoPath) -> bool {
        let bytes = path.as_bytes();
        let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.any(|end| self.links.contains(&bytes[..end]))
    }

    fn end_of_section(&mut self) -> Result<(), PatchFault> {
        let fault = self.fault();
        let Some(section) = self.section.take() else { return Ok(()) };
        // A file without content has neither names nor hunks; with names there are some.
        let (before, after) = section.modes().ok_or_else(|| fault.clone())?;
        if self.place == Place::Hunks && !section.has_lines {
            return Err(fault);
        }
        let path = section.path.clone();
        check_path(&path, after.or(before) == Some(Mode::Symlink))?;
        let type_changed = self.last.as_ref().is_some_and(|(last, _)| *last == path);
        if type_changed && before.is_some() {
            return Err(PatchFault::Order(path));
        }
        self.contents.files += u64::from(!type_changed);
        // What is taken away there was in a directory that gives way to the link.
        if after.is_some() && self.is_beyond_a_link(&path) {
            return Err(PatchFault::Beyond(path));
        }
        if after == Some(Mode::Symlink) {
            self.links.insert(path.clone());
        }
        let before = before.filter(|_| !type_changed);
        self.contents.flags.see(&path, before, after, type_changed, section.hidden.is_found());
        self.last = Some((path, after.is_none()));
        self.place = Place::Between;
        Ok(())
    }
}

fn check_path(path: &RepoPath, is_link: bool) -> Result<(), PatchFault> {
    let refused = |why| Err(PatchFault::Path { path: path.clone(), why });
    let bytes = path.as_bytes();
    if bytes.len() > PATH_MAX {
        return refused("it is too long");
    }
    for name in bytes.split(|byte| *byte == b'/') {
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
            return refused("it leads elsewhere");
        }
        if let Some(why) = unsafe_name(name, is_link) {
            return refused(why);
        }
    }
    Ok(())
}
