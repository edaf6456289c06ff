//! A whole patch, verified against the files that it touches before any of them is changed.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::parse::{Action, Patch};
use super::update::{Mismatch, update};
use crate::agent::tools::path::{beneath, resolve};

/// Directories beneath the root that hold no part of the work: a change there would not be in the result.
const PROTECTED: [&str; 1] = [".git"];

/// Where a patch applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Absolute path of the repository: nothing outside it is written.
    pub root: &'a str,
    /// Absolute working directory, from which relative paths count.
    pub cwd: &'a str,
}

/// What is at a path that a patch names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileBefore {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Its content, whole.
        content: Vec<u8>,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A directory, a link or anything else that is no regular file, also on the way to the path.
    NotAFile,
    /// A file that can't be read, or is too large to be: why, in the words of an operating system.
    Unreadable(String),
}

/// What a patch comes to, ready for one `fs/apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The changes, in order, each path once. Empty when the patch leaves everything as it is.
    pub files: Vec<FileChange>,
    /// What the model is told.
    pub summary: Summary,
}

/// One file's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Path relative to [`Place::root`], without `.`, `..` or empty parts.
    pub path: String,
    /// What must be there.
    pub before: FileImage,
    /// What shall be there.
    pub after: FileImage,
    /// The content of the image after; `None` when the file is removed.
    pub content: Option<Vec<u8>>,
}

/// A file's content, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileImage {
    /// No file.
    Absent,
    /// A regular file.
    File {
        /// SHA-256 of its content.
        sha256: [u8; 32],
        /// Whether its owner may execute it; in an image after, `None` keeps what the path has.
        executable: Option<bool>,
    },
}

/// The files of a patch as it names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files written whole.
    pub added: Vec<String>,
    /// Files changed in part; a moved one by its new name.
    pub modified: Vec<String>,
    /// Files removed.
    pub deleted: Vec<String>,
}

/// Why a patch is not applied, in the words that the model reads. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The patch is for an environment that this agent has not got.
    #[error("apply_patch environment selection is unavailable for this turn")]
    Environment,
    /// The patch has no hunks.
    #[error("patch rejected: empty patch")]
    Empty,
    /// The patch writes outside the repository, or into its `.git`.
    #[error("patch rejected: writing outside of the project; rejected by user approval settings")]
    Outside,
    /// The patch does not fit the files.
    #[error("apply_patch verification failed: {0}")]
    Verification(String),
}

impl Patch {
    /// The paths whose content decides what the patch does, relative to the root, sorted, each once.
    ///
    /// # Errors
    /// What can be refused without a look at any file.
    pub fn paths_to_read(&self, place: Place<'_>) -> Result<Vec<String>, Rejection> {
        if self.environment.is_some() {
            return Err(Rejection::Environment);
        }
        if self.hunks.is_empty() {
            return Err(Rejection::Empty);
        }
        let mut paths = Vec::new();
        for hunk in &self.hunks {
            paths.push(place.relative(&hunk.path)?);
            if let Action::Update { move_to: Some(target), .. } = &hunk.action {
                paths.push(place.relative(target)?);
            }
        }
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// Applies the patch to `files`, which holds what is at each of [`Self::paths_to_read`]. Later hunks see
    /// what earlier ones did. Nothing leaves this function unless every hunk fits.
    ///
    /// # Errors
    /// The first hunk that does not fit.
    pub fn changes(
        &self,
        place: Place<'_>,
        files: &BTreeMap<String, FileBefore>,
    ) -> Result<Changes, Rejection> {
        self.paths_to_read(place)?;
        let mut tree = Tree { root: place.root, before: files, after: BTreeMap::new(), order: Vec::new() };
        let mut summary = Summary::default();
        for hunk in &self.hunks {
            let path = place.relative(&hunk.path)?;
            match &hunk.action {
                Action::Add { content } => {
                    tree.write(&path, content.clone().into_bytes(), None)?;
                    summary.added.push(hunk.path.clone());
                }
                Action::Delete => {
                    tree.delete(&path)?;
                    summary.deleted.push(hunk.path.clone());
                }
                Action::Update { move_to, chunks } => {
                    let (text, executable) = tree.text(&path)?;
                    let text = update(text, chunks, &tree.absolute(&path))?.into_bytes();
                    let target = move_to.as_ref().map(|target| place.relative(target)).transpose()?;
                    match target.filter(|target| *target != path) {
                        Some(target) => {
                            tree.write(&target, text, Some(executable))?;
                            tree.delete(&path)?;
                        }
                        None => tree.write(&path, text, None)?,
                    }
                    summary.modified.push(move_to.as_ref().unwrap_or(&hunk.path).clone());
                }
            }
        }
        Ok(Changes { files: tree.changes(), summary })
    }
}

impl Place<'_> {
    /// A path as it is relative to the root.
    pub(in crate::agent::tools) fn relative(&self, path: &str) -> Result<String, Rejection> {
        let absolute = resolve(self.cwd, path);
        let relative = beneath(self.root, &absolute).ok_or(Rejection::Outside)?;
        let protected = relative.split('/').next().is_some_and(|first| PROTECTED.contains(&first));
        if protected { Err(Rejection::Outside) } else { Ok(relative.to_owned()) }
    }
}

impl Summary {
    /// What the model reads after the patch was applied.
    pub fn success(&self, wall: Duration) -> String {
        let mut text = format!("{}Success. Updated the following files:\n", outcome(0, wall));
        for (letter, paths) in [('A', &self.added), ('M', &self.modified), ('D', &self.deleted)] {
            for path in paths {
                text.push_str(&format!("{letter} {path}\n"));
            }
        }
        text
    }
}

/// What the model reads when the patch fitted but the sandbox could not write it; `reason` is one line.
pub fn failure(reason: &str, wall: Duration) -> String {
    format!("{}{reason}\n", outcome(1, wall))
}

fn outcome(code: u8, wall: Duration) -> String {
    // Tenths of a second, without the fraction when there is none.
    let seconds = (wall.as_secs_f64() * 10.0).round() / 10.0;
    format!("Exit code: {code}\nWall time: {seconds} seconds\nOutput:\n")
}

/// The files that a patch touches, as they are after the hunks so far.
struct Tree<'a> {
    root: &'a str,
    before: &'a BTreeMap<String, FileBefore>,
    /// Paths that were written, and removed ones without content.
    after: BTreeMap<String, Option<Written>>,
    /// The same paths, the last touched last.
    order: Vec<String>,
}

struct Written {
    content: Vec<u8>,
    /// `None` keeps what the path has.
    executable: Option<bool>,
}

/// A file that is there.
struct Present<'t> {
    content: &'t [u8],
    executable: bool,
}

impl Tree<'_> {
    /// The file at a path, `None` when there is nothing.
    fn look(&self, path: &str) -> Result<Option<Present<'_>>, String> {
        let executable_before =
            matches!(self.before.get(path), Some(FileBefore::File { executable: true, .. }));
        if let Some(after) = self.after.get(path) {
            return Ok(after.as_ref().map(|written| Present {
                content: &written.content,
                executable: written.executable.unwrap_or(executable_before),
            }));
        }
        match self.before.get(path) {
            Some(FileBefore::Absent) => Ok(None),
            Some(FileBefore::File { content, executable }) => {
                Ok(Some(Present { content, executable: *executable }))
            }
            // What was in the way of the path may be a file that an earlier hunk removed.
            Some(FileBefore::NotAFile | FileBefore::Unreadable(_))
                if ancestors(path).any(|above| self.removed(above)) =>
            {
                Ok(None)
            }
            Some(FileBefore::NotAFile) => Err(format!("path `{}` is not a file", self.absolute(path))),
            Some(FileBefore::Unreadable(why)) => Err(why.clone()),
            None => Err("it was not read".to_owned()),
        }
    }

    fn removed(&self, path: &str) -> bool {
        matches!(self.after.get(path), Some(None))
    }

    /// As [`Self::look`], for a file that must be there.
    fn present(&self, path: &str) -> Result<Present<'_>, String> {
        self.look(path)?.ok_or_else(|| "No such file or directory (os error 2)".to_owned())
    }

    fn text(&self, path: &str) -> Result<(&str, bool), Rejection> {
        let failed = |why: &dyn std::fmt::Display| {
            Rejection::Verification(format!("Failed to read file to update {}: {why}", self.absolute(path)))
        };
        let file = self.present(path).map_err(|why| failed(&why))?;
        let text = std::str::from_utf8(file.content).map_err(|why| failed(&why))?;
        Ok((text, file.executable))
    }

    fn write(&mut self, path: &str, content: Vec<u8>, executable: Option<bool>) -> Result<(), Rejection> {
        let failed = |why: String| {
            Rejection::Verification(format!("Failed to write file {}: {why}", self.absolute(path)))
        };
        self.look(path).map_err(failed)?;
        let below = format!("{path}/");
        if self.after.iter().any(|(other, after)| after.is_some() && other.starts_with(&below)) {
            return Err(failed(format!("path `{}` is not a file", self.absolute(path))));
        }
        if let Some(file) = ancestors(path).find(|above| self.look(above).is_ok_and(|file| file.is_some())) {
            return Err(failed(format!("path `{}` is not a directory", self.absolute(file))));
        }
        self.touch(path, Some(Written { content, executable }));
        Ok(())
    }

    fn delete(&mut self, path: &str) -> Result<(), Rejection> {
        self.present(path).map_err(|why| {
            Rejection::Verification(format!("Failed to read {}: {why}", self.absolute(path)))
        })?;
        self.touch(path, None);
        Ok(())
    }

    fn touch(&mut self, path: &str, after: Option<Written>) {
        self.after.insert(path.to_owned(), after);
        self.order.retain(|earlier| earlier != path);
        self.order.push(path.to_owned());
    }

    fn absolute(&self, path: &str) -> String {
        resolve(self.root, path)
    }

    /// What remains to be done, without the paths that are as they were.
    fn changes(mut self) -> Vec<FileChange> {
        let mut changes = Vec::with_capacity(self.order.len());
        for path in std::mem::take(&mut self.order) {
            let Some(after) = self.after.remove(&path) else { continue };
            let before = match self.before.get(&path) {
                Some(FileBefore::File { content, executable }) => Some((content, *executable)),
                Some(FileBefore::Absent | FileBefore::NotAFile | FileBefore::Unreadable(_)) | None => None,
            };
            let unchanged = match (&before, &after) {
                (None, None) => true,
                (Some((old, was)), Some(new)) => {
                    **old == new.content && new.executable.is_none_or(|is| is == *was)
                }
                (None, Some(_)) | (Some(_), None) => false,
            };
            if unchanged {
                continue;
            }
            changes.push(FileChange {
                path,
                before: before.map_or(FileImage::Absent, |(content, _)| FileImage::of(content, None)),
                after: after
                    .as_ref()
                    .map_or(FileImage::Absent, |new| FileImage::of(&new.content, new.executable)),
                content: after.map(|new| new.content),
            });
        }
        changes
    }
}

impl FileImage {
    /// The image of a file with this content.
    pub(in crate::agent::tools) fn of(content: &[u8], executable: Option<bool>) -> Self {
        Self::File { sha256: Sha256::digest(content).into(), executable }
    }
}

impl From<Mismatch> for Rejection {
    fn from(mismatch: Mismatch) -> Self {
        Self::Verification(mismatch.to_string())
    }
}

/// The directories on the way to a relative path.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}
