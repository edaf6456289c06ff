//! The chunks of an update, applied to one file's text.

use std::borrow::Cow;
use std::collections::BTreeSet;

use thiserror::Error;

use super::lines::Lines;
use super::parse::{Chunk, ChunkLine};
use super::seek::{LOOKS_MAX, seek};

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
    /// Too many chunks have lines that are only nearly those of a large file.
    #[error(
        "Failed to find expected lines in {path}: it takes too long; copy the lines exactly, or divide the patch"
    )]
    TooLong {
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
    let mut edit = Edit::default();
    let mut cursor = 0;
    let mut looks = LOOKS_MAX;
    for chunk in chunks {
        if let Some(anchor) = &chunk.anchor {
            let found = seek(&file, &[anchor], cursor, false, &mut looks);
            let mismatch = || Mismatch::Anchor { anchor: anchor.clone(), path: path.to_owned() };
            cursor = found.ok_or_else(|| too_long(looks, path).unwrap_or_else(mismatch))? + 1;
        }
        if old_lines(&chunk.lines).is_empty() {
            // Nothing says where: at the end, whatever the anchor was.
            edit.replace(file.len(), &chunk.lines);
        } else {
            let found = locate(&file, chunk, cursor, &mut looks);
            let lines = || old_lines(&chunk.lines).join("\n");
            let mismatch = || Mismatch::Lines { lines: lines(), path: path.to_owned() };
            let (at, lines) = found.ok_or_else(|| too_long(looks, path).unwrap_or_else(mismatch))?;
            cursor = edit.replace(at, &lines);
        }
    }
    Ok(edit.applied_to(&file))
}

fn too_long(looks: usize, path: &str) -> Option<Mismatch> {
    (looks == 0).then(|| Mismatch::TooLong { path: path.to_owned() })
}

/// What happens to the lines of a file.
#[derive(Default)]
struct Edit {
    removed: BTreeSet<usize>,
    /// New lines and the index of the old one before which each comes.
    inserted: Vec<(usize, String)>,
}

impl Edit {
    /// The file with all that was recorded.
    fn applied_to(mut self, file: &Lines<'_>) -> String {
        // An addition at the end may come before chunks further up; the order among equals is the patch's.
        self.inserted.sort_by_key(|&(before, _)| before);
        let mut inserted = self.inserted.into_iter().peekable();
        let new_ending = Some(file.ending(0)).filter(|ending| !ending.is_empty()).unwrap_or("\n");
        let mut result = String::with_capacity(file.text().len());
        let mut push = |text: &str, ending: &str| {
            result.push_str(text);
            result.push_str(if ending.is_empty() { new_ending } else { ending });
        };
        for index in 0..file.len() {
            while let Some((_, text)) = inserted.next_if(|&(before, _)| before <= index) {
                push(&text, new_ending);
            }
            if !self.removed.contains(&index) {
                push(file.line(index), file.ending(index));
            }
        }
        for (_, text) in inserted {
            push(&text, new_ending);
        }
        result
    }

    /// Records what a chunk does to the lines from `at` on, and gives the index behind the last of them.
    fn replace(&mut self, at: usize, lines: &[ChunkLine]) -> usize {
        let mut index = at;
        // New lines take the place of the removed ones beside them.
        let mut place = at;
        for line in lines {
            match line {
                ChunkLine::Context(_) => {
                    index += 1;
                    place = index;
                }
                ChunkLine::Removed(_) => {
                    self.removed.insert(index);
                    index += 1;
                }
                ChunkLine::Added(text) => self.inserted.push((place, text.clone())),
            }
        }
        index
    }
}

/// Where the old lines of a chunk are, and its lines as they apply there. When the old lines end with an
/// empty one that is not in the file, they are searched without it: models write one at the end of a chunk,
/// and for the end of the file.
fn locate<'c>(
    file: &Lines<'_>,
    chunk: &'c Chunk,
    from: usize,
    looks: &mut usize,
) -> Option<(usize, Cow<'c, [ChunkLine]>)> {
    if let Some(at) = seek(file, &old_lines(&chunk.lines), from, chunk.end_of_file, looks) {
        return Some((at, Cow::Borrowed(&chunk.lines)));
    }
    let lines = without_last_blank(&chunk.lines)?;
    let at = seek(file, &old_lines(&lines), from, chunk.end_of_file, looks)?;
    Some((at, Cow::Owned(lines)))
}

/// The lines of a chunk without an empty last one, before and after; `None` when the old ones do not end so.
fn without_last_blank(lines: &[ChunkLine]) -> Option<Vec<ChunkLine>> {
    let old = lines.iter().rposition(|line| !matches!(line, ChunkLine::Added(_)))?;
    let mut lines = lines.to_vec();
    match lines.get(old)? {
        ChunkLine::Context(text) if text.is_empty() => *lines.get_mut(old)? = ChunkLine::Added(String::new()),
        ChunkLine::Removed(text) if text.is_empty() => drop(lines.remove(old)),
        ChunkLine::Context(_) | ChunkLine::Removed(_) | ChunkLine::Added(_) => return None,
    }
    if let Some(new) = lines.iter().rposition(|line| !matches!(line, ChunkLine::Removed(_))) {
        match lines.get_mut(new)? {
            ChunkLine::Added(text) if text.is_empty() => drop(lines.remove(new)),
            line @ ChunkLine::Context(_) if *line == ChunkLine::Context(String::new()) => {
                *line = ChunkLine::Removed(String::new());
            }
            ChunkLine::Added(_) | ChunkLine::Context(_) | ChunkLine::Removed(_) => {}
        }
    }
    Some(lines)
}

fn old_lines(lines: &[ChunkLine]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| match line {
            ChunkLine::Context(text) | ChunkLine::Removed(text) => Some(text.as_str()),
            ChunkLine::Added(_) => None,
        })
        .collect()
}
