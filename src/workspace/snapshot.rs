//! The work tree as a git tree.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FileType, Stat};
use serde::Serialize;

use super::ignored::IgnoreRules;
use super::object::{Mode, ObjectId, ObjectKind, write_loose};
use super::path::{RepoPath, unsafe_name};
use super::reader::{self, ReadError, Reader};
use super::stat_cache::{StatCache, settled};
use super::tree::{Entry, Tree};

/// How many skipped paths are named.
pub const SKIPPED_NAMED: usize = 100;

/// Longer paths cannot be opened by name on Linux.
const PATH_MAX: usize = 4095;

/// What a walk takes from a work tree before it leaves the rest alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file, which is held in memory while it is read: more than any source file.
    pub file: u64,
    /// Bytes read in one walk; files that did not change since the last walk are not read.
    pub total: u64,
    /// Files, links and directories: the largest public repositories have 500,000.
    pub entries: usize,
    /// Bytes of their paths. A path may have 4 KiB, and the agent, which has 512 MiB for everything, holds it in up to
    /// four trees at a time. Half a million files have 32 MiB in the largest public repositories.
    pub paths: usize,
    /// Directories within directories; each one open costs a descriptor.
    pub depth: usize,
    /// One walk.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file: 32 << 20,
            total: 8 << 30,
            entries: 1_000_000,
            paths: 48 << 20,
            depth: 256,
            time: Duration::from_secs(120),
        }
    }
}

/// The state of the work tree at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The tree's id in the bare repository. Its blobs need not be there.
    pub tree: ObjectId,
    /// What was left out.
    pub skipped: SkippedPaths,
}

/// Paths that could not be read or must not be; in a tree they keep their former entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SkippedPaths {
    /// How many there are.
    pub count: u64,
    /// The first of them, at most [`SKIPPED_NAMED`].
    pub named: Vec<Skipped>,
}

/// One path that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The path; a directory stands for everything in it.
    pub path: RepoPath,
    /// Why.
    pub reason: String,
}

/// What a walk is given.
pub(crate) struct Walk<'a> {
    pub(crate) reader: &'a Reader,
    /// The work tree's directory in the reader's root.
    pub(crate) directory: &'a Path,
    /// What is in the base commit: such paths are never ignored.
    pub(crate) tracked: &'a Tree,
    /// What a skipped path keeps.
    pub(crate) former: &'a Tree,
    pub(crate) rules: &'a IgnoreRules,
    pub(crate) limits: Limits,
    /// Where blobs are written that differ from the former tree; `None` when ids are enough.
    pub(crate) store: Option<PathBuf>,
}

/// What a walk found.
pub(crate) struct Walked {
    pub(crate) tree: Tree,
    pub(crate) skipped: SkippedPaths,
}

impl Walk<'_> {
    /// Walks the tree. Only writing to the store can fail.
    pub(crate) fn run(&self, cache: &mut StatCache) -> std::io::Result<Walked> {
        let mut state = State {
            walk: self,
            known: std::mem::take(cache),
            cache: StatCache::default(),
            tree: Tree::default(),
            report: SkippedPaths::default(),
            kept: HashSet::new(),
            entries: 0,
            paths: 0,
            read: 0,
            deadline: Instant::now() + self.limits.time,
        };
        let root = RepoPath::default();
        let end = match self.reader.directory(self.directory) {
            Ok(directory) => state.directory(&directory, &root, 0, Some(false)),
            Err(error) => {
                state.skip(&root, &error.to_string());
                Ok(())
            }
        };
        match end {
            Ok(()) => state.keep_skipped(None),
            Err(Stop::Limit(from, reason)) => {
                state.skip(&from, &reason);
                state.keep_skipped(Some(&from));
            }
            Err(Stop::Store(error)) => return Err(error),
        }
        *cache = state.cache;
        Ok(Walked { tree: state.tree, skipped: state.report })
    }
}

/// Why a walk ended early.
enum Stop {
    /// This path and everything after it, in git's order, was left alone.
    Limit(RepoPath, String),
    Store(std::io::Error),
}

struct State<'a> {
    walk: &'a Walk<'a>,
    known: StatCache,
    cache: StatCache,
    tree: Tree,
    report: SkippedPaths,
    /// Skipped paths for which the former tree has something.
    kept: HashSet<RepoPath>,
    entries: usize,
    paths: usize,
    read: u64,
    deadline: Instant,
}

impl State<'_> {
    /// Walks one directory. `ignored` says whether it or one above it is ignored, if that is known.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &RepoPath,
        depth: usize,
        ignored: Option<bool>,
    ) -> Result<(), Stop> {
        let limits = &self.walk.limits;
        let (left, bytes_left) =
            (limits.entries.saturating_sub(self.entries), limits.paths.saturating_sub(self.paths));
        let prefix = path.as_bytes().len() + 1;
        let names = match reader::names(directory, left, prefix, bytes_left) {
            Ok(names) => names,
            Err(error) => {
                self.skip(path, &error.to_string());
                return Ok(());
            }
        };
        self.entries += names.len();
        self.paths += names.iter().map(|name| prefix + name.len()).sum::<usize>();
        let mut children: Vec<(Vec<u8>, Stat)> = Vec::with_capacity(names.len());
        for name in names {
            match reader::stat(directory, as_path(&name)) {
                Ok(stat) => children.push((name, stat)),
                Err(ReadError::Missing) => {}
                Err(error) => self.skip(&path.join(&name), &error.to_string()),
            }
        }
        children.sort_by(in_gits_order);
        for (name, stat) in children {
            let child = path.join(&name);
            self.check_limits(&child)?;
            self.entry(directory, &name, child, &stat, depth, ignored)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: RepoPath,
        stat: &Stat,
        depth: usize,
        ignored: Option<bool>,
    ) -> Result<(), Stop> {
        if depth == 0 && name == b".git" {
            return Ok(());
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let (walk, is_dir) = (self.walk, kind == FileType::Directory);
        let mut ignored = ignored;
        if is_dir && walk.tracked.has_below(&path) {
            // Asked only when something untracked is met in it: most directories have nothing of the kind.
            ignored = ignored.filter(|ignored| *ignored);
        } else if !walk.tracked.entries.contains_key(&path) {
            let above = ignored.unwrap_or_else(|| walk.rules.ignore_a_parent(&path));
            if above || walk.rules.ignores(&path, is_dir) {
                return Ok(());
            }
            ignored = Some(false);
        }
        if let Some(reason) = unsafe_name(name, kind == FileType::Symlink) {
            self.skip(&path, reason);
            return Ok(());
        }
        if path.as_bytes().len() > PATH_MAX {
            self.skip(&path, "the path is too long");
            return Ok(());
        }
        let entry = match kind {
            FileType::Directory => return self.subdirectory(parent, name, path, depth, ignored),
            FileType::RegularFile => self.file(parent, name, &path, stat),
            FileType::Symlink => self.link(parent, name, &path),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Err(Unread::Skip(ReadError::NotRegular)),
        };
        match entry {
            Ok(entry) => {
                self.tree.entries.insert(path, entry);
            }
            // It is gone now, which is a state like any other.
            Err(Unread::Skip(ReadError::Missing)) => {}
            Err(Unread::Skip(error)) => self.skip(&path, &error.to_string()),
            Err(Unread::Store(error)) => return Err(Stop::Store(error)),
        }
        Ok(())
    }

    fn subdirectory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: RepoPath,
        depth: usize,
        ignored: Option<bool>,
    ) -> Result<(), Stop> {
        // A submodule's directory stands for its commit; what is in it is not this repository's.
        if let Some(entry) = self.walk.former.entries.get(&path).filter(|entry| entry.mode == Mode::Gitlink) {
            self.tree.entries.insert(path, *entry);
            return Ok(());
        }
        if depth >= self.walk.limits.depth {
            self.skip(&path, "directories are nested too deeply");
            return Ok(());
        }
        match reader::open_directory(parent, as_path(name)) {
            Ok(directory) => self.directory(&directory, &path, depth + 1, ignored),
            Err(ReadError::Missing) => Ok(()),
            Err(error) => {
                self.skip(&path, &error.to_string());
                Ok(())
            }
        }
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], path: &RepoPath, stat: &Stat) -> Result<Entry, Unread> {
        if let Some(id) = self.known.get(stat) {
            // Without a store, or unchanged: nothing of it is needed. Otherwise it has to be read again.
            if self.walk.store.is_none() || self.is_former(path, id) {
                self.cache.put(stat, id);
                return Ok(Entry { mode: file_mode(stat), id });
            }
        }
        let started = SystemTime::now();
        let whole = reader::read_whole(parent, as_path(name), self.walk.limits.file)?;
        self.read = self.read.saturating_add(whole.bytes.len() as u64);
        let id = self.blob(path, &whole.bytes)?;
        if whole.steady && settled(&whole.stat, started) {
            self.cache.put(&whole.stat, id);
        }
        Ok(Entry { mode: file_mode(&whole.stat), id })
    }

    fn link(&mut self, parent: &OwnedFd, name: &[u8], path: &RepoPath) -> Result<Entry, Unread> {
        let target = reader::read_link(parent, as_path(name))?;
        Ok(Entry { mode: Mode::Symlink, id: self.blob(path, &target)? })
    }

    fn blob(&self, path: &RepoPath, bytes: &[u8]) -> Result<ObjectId, Unread> {
        let id = ObjectId::of(ObjectKind::Blob, bytes);
        match &self.walk.store {
            Some(objects) if !self.is_former(path, id) => {
                write_loose(objects, ObjectKind::Blob, bytes).map_err(Unread::Store)
            }
            Some(_) | None => Ok(id),
        }
    }

    fn is_former(&self, path: &RepoPath, id: ObjectId) -> bool {
        self.walk.former.entries.get(path).is_some_and(|entry| entry.id == id)
    }

    fn check_limits(&self, path: &RepoPath) -> Result<(), Stop> {
        let limits = &self.walk.limits;
        let reason = if self.read > limits.total {
            format!(
                "more than {} bytes of changed files; this and all that follows was left out",
                limits.total
            )
        } else if Instant::now() > self.deadline {
            format!(
                "reading took more than {} s; this and all that follows was left out",
                limits.time.as_secs()
            )
        } else {
            return Ok(());
        };
        Err(Stop::Limit(path.clone(), reason))
    }

    fn skip(&mut self, path: &RepoPath, reason: &str) {
        self.report.count += 1;
        if self.report.named.len() < SKIPPED_NAMED {
            self.report.named.push(Skipped { path: path.clone(), reason: reason.to_owned() });
        }
        let former = self.walk.former;
        if former.entries.contains_key(path) || former.has_below(path) {
            self.kept.insert(path.clone());
        }
    }

    /// Gives skipped paths, and everything from `from` on, their former entries.
    fn keep_skipped(&mut self, from: Option<&RepoPath>) {
        if self.kept.is_empty() && from.is_none() {
            return;
        }
        for (path, entry) in &self.walk.former.entries {
            let unvisited = from.is_some_and(|from| path >= from);
            if unvisited || self.is_kept(path) {
                self.tree.entries.insert(path.clone(), *entry);
            }
        }
    }

    fn is_kept(&self, path: &RepoPath) -> bool {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        [0].into_iter().chain(ends).chain([bytes.len()]).any(|end| self.kept.contains(&bytes[..end]))
    }
}

/// Why there is no entry.
enum Unread {
    Skip(ReadError),
    Store(std::io::Error),
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Self {
        Self::Skip(error)
    }
}

/// A directory sorts as if its name ended in a slash.
fn in_gits_order((a, a_stat): &(Vec<u8>, Stat), (b, b_stat): &(Vec<u8>, Stat)) -> Ordering {
    let slash = |stat: &Stat| (FileType::from_raw_mode(stat.st_mode) == FileType::Directory).then_some(&b'/');
    a.iter().chain(slash(a_stat)).cmp(b.iter().chain(slash(b_stat)))
}

fn file_mode(stat: &Stat) -> Mode {
    if stat.st_mode & 0o100 == 0 { Mode::File } else { Mode::Executable }
}

fn as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}
