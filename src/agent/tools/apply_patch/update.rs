//! The chunks of an update, applied to one file's text.

use thiserror::Error;

use super::parse::{Chunk, ChunkLine};
use super::seek::seek;

/// Why an update does not fit the file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Mismatch {
    /// An anchor is not there.
    #[error("Failed to find context '{anchor}' in {path}")]
    Anchor {
        /// The anchor.
        anchor: String,
        /// The file, absolute.
        path: String,
    },
    /// The old lines of a chunk are not there.
    #[error("Failed to find expected lines in {path}:\n{lines}")]
    Lines {
        /// The old lines, one a line.
        lines: String,
        /// The file, absolute.
        path: String,
    },
}

/// The text of the file `path` after the chunks were applied.
///
/// Lines that stay keep their own text, also where the patch spells them otherwise, and their own line
/// ending; new lines, and a last line that has none, get the ending of the file's first line.
pub(super) fn update(original: &str, chunks: &[Chunk], path: &str) -> Result<String, Mismatch> {
    let file = Lines::of(original);
    let mut replacements = Vec::with_capacity(chunks.len());
    let mut cursor = 0;
    for chunk in chunks {
        if let Some(anchor) = &chunk.anchor {
            let found = seek(&file.texts, std::slice::from_ref(anchor), cursor, false);
            let mismatch = || Mismatch::Anchor { anchor: anchor.clone(), path: path.to_owned() };
            cursor = found.ok_or_else(mismatch)? + 1;
        }
        let mut replacement = Replacement::of(chunk);
        if replacement.old.is_empty() {
            // Nothing says where: at the end, whatever the anchor was.
            replacement.at = file.texts.len();
        } else {
            replacement.at = replacement.locate(&file, cursor, chunk.end_of_file).ok_or_else(|| {
                Mismatch::Lines { lines: Replacement::of(chunk).old.join("\n"), path: path.to_owned() }
            })?;
            cursor = replacement.at + replacement.old.len();
        }
        replacements.push(replacement);
    }
    // Additions at the end may come before chunks further up; the order among equals is the patch's.
    replacements.sort_by_key(|replacement| replacement.at);
    Ok(file.replaced(&replacements))
}

/// A text cut into lines.
struct Lines<'t> {
    texts: Vec<&'t str>,
    /// The ending of each line: `\n`, `\r\n`, `\r`, or nothing for a last line that is not ended.
    endings: Vec<&'t str>,
}

/// Lines of the file and what comes in their place.
struct Replacement {
    at: usize,
    old: Vec<String>,
    new: Vec<NewLine>,
}

struct NewLine {
    text: String,
    /// The old line that it is, counted from the replacement's first.
    kept: Option<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let mut lines = Self { texts: Vec::new(), endings: Vec::new() };
        let mut rest = text;
        while !rest.is_empty() {
            let length = rest.bytes().position(|byte| byte == b'\n' || byte == b'\r').unwrap_or(rest.len());
            let (line, behind) = rest.split_at(length);
            let ending = if behind.starts_with("\r\n") { 2 } else { behind.len().min(1) };
            let (ending, behind) = behind.split_at(ending);
            lines.texts.push(line);
            lines.endings.push(ending);
            rest = behind;
        }
        lines
    }

    fn replaced(&self, replacements: &[Replacement]) -> String {
        let size: usize = self.texts.iter().map(|text| text.len() + 2).sum();
        let mut result = String::with_capacity(size);
        let mut at = 0;
        for replacement in replacements {
            self.copy(at..replacement.at, &mut result);
            for line in &replacement.new {
                match line.kept {
                    Some(index) => self.copy(replacement.at + index..replacement.at + index + 1, &mut result),
                    None => {
                        result.push_str(&line.text);
                        result.push_str(self.new_ending());
                    }
                }
            }
            at = replacement.at + replacement.old.len();
        }
        self.copy(at..self.texts.len(), &mut result);
        result
    }

    fn copy(&self, range: std::ops::Range<usize>, into: &mut String) {
        let (Some(texts), Some(endings)) = (self.texts.get(range.clone()), self.endings.get(range)) else {
            return;
        };
        for (text, ending) in texts.iter().zip(endings) {
            into.push_str(text);
            into.push_str(if ending.is_empty() { self.new_ending() } else { ending });
        }
    }

    fn new_ending(&self) -> &'t str {
        self.endings.first().filter(|ending| !ending.is_empty()).copied().unwrap_or("\n")
    }
}

impl Replacement {
    fn of(chunk: &Chunk) -> Self {
        let mut replacement = Self { at: 0, old: Vec::new(), new: Vec::new() };
        for line in &chunk.lines {
            match line {
                ChunkLine::Context(text) => {
                    replacement.new.push(NewLine { text: text.clone(), kept: Some(replacement.old.len()) });
                    replacement.old.push(text.clone());
                }
                ChunkLine::Removed(text) => replacement.old.push(text.clone()),
                ChunkLine::Added(text) => replacement.new.push(NewLine { text: text.clone(), kept: None }),
            }
        }
        replacement
    }

    /// Where the old lines are. When they end with an empty line that is not there, they are searched
    /// without it: models write one at the end of a chunk, and for the end of the file.
    fn locate(&mut self, file: &Lines<'_>, from: usize, at_end: bool) -> Option<usize> {
        let found = seek(&file.texts, &self.old, from, at_end);
        if found.is_some() || self.old.last().is_none_or(|line| !line.is_empty()) {
            return found;
        }
        self.old.pop();
        for line in &mut self.new {
            line.kept = line.kept.filter(|&index| index < self.old.len());
        }
        if self.new.last().is_some_and(|line| line.text.is_empty()) {
            self.new.pop();
        }
        seek(&file.texts, &self.old, from, at_end)
    }
}
