//! Trees as sorted lists of paths.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use super::git::{Git, GitError};
use super::object::{Mode, ObjectId, ObjectKind, write_loose};
use super::path::RepoPath;

/// `ls-tree` of 1,000,000 paths at 200 bytes.
const LISTING_MAX: usize = 200 << 20;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// File, link or submodule.
    pub mode: Mode,
    /// The blob, or a submodule's commit.
    pub id: ObjectId,
}

/// A whole tree: every path that is not a directory, in git's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Sorted as bytes, which is the order of git's index.
    pub entries: BTreeMap<RepoPath, Entry>,
}

/// A tree of the repository, and the ids of its directories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) tree: Tree,
    /// Trees that are in the object store, so need not be written.
    pub(crate) directories: HashSet<ObjectId>,
}

/// A path whose entry is not the same in two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference<'a> {
    pub(crate) path: &'a RepoPath,
    pub(crate) before: Option<Entry>,
    pub(crate) after: Option<Entry>,
}

impl Tree {
    /// What is different in `other`, in git's order.
    pub(crate) fn differences<'a>(&'a self, other: &'a Self) -> Vec<Difference<'a>> {
        let (mut before, mut after) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        let mut differences = Vec::new();
        loop {
            let order = match (before.peek(), after.peek()) {
                (Some((old, _)), Some((new, _))) => old.cmp(new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return differences,
            };
            let old = if order == Ordering::Greater { None } else { before.next() };
            let new = if order == Ordering::Less { None } else { after.next() };
            let entry = |found: Option<(&RepoPath, &Entry)>| found.map(|(_, entry)| *entry);
            if let Some((path, _)) = old.or(new)
                && entry(old) != entry(new)
            {
                differences.push(Difference { path, before: entry(old), after: entry(new) });
            }
        }
    }

    /// Whether something is in the directory `path`.
    pub(crate) fn has_below(&self, path: &RepoPath) -> bool {
        let first = path.join(b"");
        self.entries
            .range(first.clone()..)
            .next()
            .is_some_and(|(found, _)| found.as_bytes().starts_with(first.as_bytes()))
    }

    /// Writes the tree objects that are not in `known` and gives the root's id. Blobs need not exist.
    pub(crate) fn write(&self, objects: &Path, known: &HashSet<ObjectId>) -> io::Result<ObjectId> {
        let mut writer = Writer { objects, known, stack: vec![Directory::default()] };
        for (path, entry) in &self.entries {
            writer.add(path.as_bytes(), *entry)?;
        }
        writer.finish()
    }
}

/// Reads the tree `id` of the repository `git_dir`.
pub(crate) async fn list(git: &Git, git_dir: &Path, id: &ObjectId) -> Result<Listed, GitError> {
    let args = ["ls-tree", "-r", "-t", "-z", "--full-tree", &id.to_string()].map(str::to_owned);
    let output = git.run_in(git_dir, args).env("GIT_DIR", git_dir).output(LISTING_MAX).await?;
    let mut listed = Listed::default();
    listed.directories.insert(*id);
    for line in output.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let unexpected = || GitError::Unexpected {
            command: "ls-tree".to_owned(),
            what: line.escape_ascii().take(200).map(char::from).collect(),
        };
        let (head, path) = split_at_byte(line, b'\t').ok_or_else(unexpected)?;
        let mut fields = head.split(|byte| *byte == b' ');
        let (Some(mode), Some(_kind), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(unexpected());
        };
        let id: ObjectId =
            std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or_else(unexpected)?;
        if mode == b"040000" {
            listed.directories.insert(id);
        } else {
            let mode = Mode::parse(mode).ok_or_else(unexpected)?;
            listed.tree.entries.insert(RepoPath::new(path), Entry { mode, id });
        }
    }
    Ok(listed)
}

fn split_at_byte(line: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|found| *found == byte)?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

/// A directory whose entries are still coming.
#[derive(Default)]
struct Directory {
    name: Vec<u8>,
    content: Vec<u8>,
}

/// Builds tree objects from paths in order: a directory is done when a path comes that is not in it.
struct Writer<'a> {
    objects: &'a Path,
    known: &'a HashSet<ObjectId>,
    /// The open directories, the root first.
    stack: Vec<Directory>,
}

impl Writer<'_> {
    fn add(&mut self, path: &[u8], entry: Entry) -> io::Result<()> {
        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let name = parts.pop().unwrap_or_default();
        let open =
            self.stack.iter().skip(1).zip(&parts).take_while(|(open, part)| open.name == **part).count();
        while self.stack.len() > open + 1 {
            self.close()?;
        }
        for part in parts.into_iter().skip(open) {
            self.stack.push(Directory { name: part.to_owned(), content: Vec::new() });
        }
        if let Some(directory) = self.stack.last_mut() {
            directory.push(entry.mode.as_octal(), name, entry.id);
        }
        Ok(())
    }

    /// Writes the innermost directory and enters it into the one around it.
    fn close(&mut self) -> io::Result<()> {
        let Some(done) = self.stack.pop() else { return Ok(()) };
        let id = self.write(&done)?;
        if let Some(parent) = self.stack.last_mut() {
            parent.push("40000", &done.name, id);
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<ObjectId> {
        while self.stack.len() > 1 {
            self.close()?;
        }
        let root = self.stack.pop().unwrap_or_default();
        self.write(&root)
    }

    fn write(&self, directory: &Directory) -> io::Result<ObjectId> {
        let id = ObjectId::of(ObjectKind::Tree, &directory.content);
        if self.known.contains(&id) {
            return Ok(id);
        }
        write_loose(self.objects, ObjectKind::Tree, &directory.content)
    }
}

impl Directory {
    fn push(&mut self, mode: &str, name: &[u8], id: ObjectId) {
        self.content.extend_from_slice(mode.as_bytes());
        self.content.push(b' ');
        self.content.extend_from_slice(name);
        self.content.push(0);
        self.content.extend_from_slice(id.as_bytes());
    }
}
