//! The patch: what the agent changed, as text that `git apply` turns into exactly the same files.
//!
//! Three trees: the base commit's, the baseline (the work tree when the agent began, after setup) and the
//! final one. The *result* is the base with each path whose entry differs between baseline and final
//! replaced by the final entry. So what setup made is not the agent's change, and a path that both
//! changed comes whole. Work that goes on with other work starts from the base with the former patch, so its result is
//! that with what differs, and its patch has both. The patch is `diff-tree base result`, and in every run it is applied to the base
//! again: the tree that comes out must be the result.

mod diff;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::Layout;
use super::fetch::Fetched;
use super::git::{Git, GitError};
use super::ignored::{self, IgnoreRules, InvalidPattern};
use super::object::ObjectId;
use super::path::RepoPath;
use super::reader::{ReadError, Reader};
use super::snapshot::{Limits, SkippedPaths, Snapshot, Walk, Walked};
use super::stat_cache::StatCache;
use super::tree::{self, Difference, Entry, Listed, Tree};

/// The work tree of a repository that was fetched and checked out, and what is known of it.
pub struct Worktree {
    layout: Layout,
    git: Git,
    reader: Arc<Reader>,
    base_commit: ObjectId,
    base_tree: ObjectId,
    base: Arc<Listed>,
    /// What the work started from, where that is not the base commit.
    origin: Option<Tree>,
    rules: Arc<IgnoreRules>,
    limits: Limits,
    /// The baseline's listing, kept for the next patch.
    baseline: Option<(ObjectId, Arc<Tree>)>,
    cache: StatCache,
}

/// The change as a patch against the base commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The commit to which it applies.
    pub base_commit: ObjectId,
    /// The tree that comes out.
    pub result_tree: ObjectId,
    /// The text.
    pub body: PatchBody,
    /// Its size in figures, and its digest.
    pub stats: PatchStats,
    /// Every changed path, in git's order.
    pub files: Vec<ChangedFile>,
    /// What could not be read.
    pub skipped: SkippedPaths,
}

/// The patch's text, or that there is too much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchBody {
    /// Whole; empty when nothing changed. It is UTF-8 unless a symbolic link's target is not.
    Whole(Vec<u8>),
    /// More than the bound; stats, digest and paths are those of the whole.
    TooLarge,
}

/// A patch in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PatchStats {
    /// Changed paths.
    pub files: u64,
    /// Added lines of text files.
    pub insertions: u64,
    /// Removed lines of text files.
    pub deletions: u64,
    /// Bytes of the patch.
    pub bytes: u64,
    /// SHA-256 of the patch, in hexadecimal.
    pub sha256: String,
}

/// One path of a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedFile {
    /// The path.
    pub path: RepoPath,
    /// What happened to it.
    pub change: Change,
    /// Whether setup had changed it before, so that the patch has setup's change too.
    pub touched_by_setup: bool,
    /// Whether it is as the work that this one goes on with had left it.
    pub inherited: bool,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Change {
    /// It is new.
    Added,
    /// Its content or its executable bit changed.
    Modified,
    /// It became another kind of thing: file, symbolic link or submodule.
    TypeChanged,
    /// It is gone.
    Deleted,
}

/// Why there is no snapshot or patch.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The workspace cannot be opened at all.
    #[error("cannot open the workspace: {0}")]
    Workspace(#[source] ReadError),
    /// The environment's `patchExcludes` has a bad pattern.
    #[error(transparent)]
    Excludes(#[from] InvalidPattern),
    /// The bare repository's volume cannot be written.
    #[error("cannot write the repository's volume: {0}")]
    Volume(#[from] io::Error),
    /// A git child failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The patch, applied to the base, does not give the result.
    #[error("the patch does not give the final files when it is applied to the base commit: {0}")]
    Proof(String),
    /// The thread that read the work tree ended early.
    #[error("reading the work tree ended early")]
    Interrupted,
}

impl Worktree {
    /// Opens the work tree that [`checkout`](super::checkout()) made. `excludes` are the environment's
    /// `patchExcludes`, in gitignore's syntax.
    ///
    /// # Errors
    /// [`PatchError`]
    pub async fn open(
        layout: &Layout,
        git: &Git,
        fetched: &Fetched,
        excludes: &[String],
    ) -> Result<Self, PatchError> {
        let reader = Reader::open(layout.workspace()).map_err(PatchError::Workspace)?;
        diff::remove_leftovers(layout)?;
        let git_dir = layout.git_dir();
        let base = tree::list(git, &git_dir, &fetched.base_tree).await?;
        let origin = match &fetched.origin {
            Some(tree) => Some(tree::list(git, &git_dir, tree).await?.tree),
            None => None,
        };
        let files = ignored::files_of(&base.tree, git, &git_dir).await?;
        Ok(Self {
            layout: layout.clone(),
            git: git.clone(),
            reader: Arc::new(reader),
            base_commit: fetched.base_commit,
            base_tree: fetched.base_tree,
            base: Arc::new(base),
            origin,
            rules: Arc::new(IgnoreRules::new(files, excludes)?),
            limits: Limits::default(),
            baseline: None,
            cache: StatCache::default(),
        })
    }

    /// With other bounds on reading.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The door to files of the work tree, for instructions, skills and images.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Writes the work tree's present state as a tree: the baseline, when setup has ended.
    ///
    /// It is one point in time only when no command runs.
    ///
    /// # Errors
    /// [`PatchError`]; what cannot be read is no error but listed.
    pub async fn snapshot(&mut self) -> Result<Snapshot, PatchError> {
        let former = Arc::new(self.base.tree.clone());
        let walked = self.walk(former, None).await?;
        let tree = walked.tree.write(&self.objects(), &self.base.directories)?;
        self.baseline = Some((tree, Arc::new(walked.tree)));
        Ok(Snapshot { tree, skipped: walked.skipped })
    }

    /// The change since `baseline`, which is a snapshot's tree, or the base commit's without a setup.
    ///
    /// `max` bounds the patch in bytes. It is one point in time only when no command runs.
    ///
    /// # Errors
    /// [`PatchError`]; what cannot be read is no error but listed.
    pub async fn patch(&mut self, baseline: ObjectId, max: u64) -> Result<Patch, PatchError> {
        let baseline = self.baseline(baseline).await?;
        let walked = self.walk(Arc::clone(&baseline), Some(self.objects())).await?;
        let origin = self.origin.as_ref().unwrap_or(&self.base.tree);
        let result = merge(origin, &baseline, &walked.tree);
        let differences = self.base.tree.differences(&result);
        let files = changed_files(&differences, origin, &baseline);
        let result_tree = result.write(&self.objects(), &self.base.directories)?;
        let request = diff::Request {
            git: &self.git,
            layout: &self.layout,
            base: self.base_tree,
            result: result_tree,
            differences: &differences,
            max,
        };
        let diff = request.run().await?;
        Ok(Patch {
            base_commit: self.base_commit,
            result_tree,
            body: diff.body,
            stats: diff.stats,
            files,
            skipped: walked.skipped,
        })
    }

    async fn baseline(&mut self, id: ObjectId) -> Result<Arc<Tree>, PatchError> {
        if let Some((known, tree)) = &self.baseline
            && *known == id
        {
            return Ok(Arc::clone(tree));
        }
        let tree = if id == self.base_tree {
            self.base.tree.clone()
        } else {
            tree::list(&self.git, &self.layout.git_dir(), &id).await?.tree
        };
        let tree = Arc::new(tree);
        self.baseline = Some((id, Arc::clone(&tree)));
        Ok(tree)
    }

    /// Reading blocks, so it has a thread of its own.
    async fn walk(
        &mut self,
        former: Arc<Tree>,
        store: Option<std::path::PathBuf>,
    ) -> Result<Walked, PatchError> {
        let (reader, base, rules) =
            (Arc::clone(&self.reader), Arc::clone(&self.base), Arc::clone(&self.rules));
        let (limits, name) = (self.limits, self.layout.name().to_owned());
        let mut cache = std::mem::take(&mut self.cache);
        let task = tokio::task::spawn_blocking(move || {
            let walk = Walk {
                reader: &reader,
                directory: Path::new(&name),
                tracked: &base.tree,
                former: &former,
                rules: &rules,
                limits,
                store,
            };
            let walked = walk.run(&mut cache);
            (walked, cache)
        });
        let (walked, cache) = task.await.map_err(|_| PatchError::Interrupted)?;
        self.cache = cache;
        Ok(walked?)
    }

    fn objects(&self) -> std::path::PathBuf {
        self.layout.git_dir().join("objects")
    }
}

impl Patch {
    /// The patch's text when it is whole and text.
    pub fn text(&self) -> Option<&str> {
        match &self.body {
            PatchBody::Whole(bytes) => std::str::from_utf8(bytes).ok(),
            PatchBody::TooLarge => None,
        }
    }
}

/// The base with the entries that differ between baseline and last.
fn merge(base: &Tree, baseline: &Tree, last: &Tree) -> Tree {
    let mut result = base.entries.clone();
    let differences = baseline.differences(last);
    for difference in differences.iter().filter(|difference| difference.after.is_none()) {
        result.remove(difference.path);
    }
    for Difference { path, after, .. } in differences {
        if let Some(entry) = after {
            make_room(&mut result, path);
            result.insert(path.clone(), entry);
        }
    }
    Tree { entries: result }
}

/// Where setup made a file of a directory or the other way round, the base's entries are in the way of
/// what the agent put there.
fn make_room(entries: &mut BTreeMap<RepoPath, Entry>, path: &RepoPath) {
    let bytes = path.as_bytes();
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends {
        if let Some(parent) = bytes.get(..end) {
            entries.remove(parent);
        }
    }
    let below: Vec<RepoPath> = entries
        .range(path.join(b"")..)
        .map(|(found, _)| found)
        .take_while(|found| found.is_within(path))
        .cloned()
        .collect();
    for found in below {
        entries.remove(&found);
    }
}

fn changed_files(differences: &[Difference<'_>], origin: &Tree, baseline: &Tree) -> Vec<ChangedFile> {
    let change = |before: Option<Entry>, after: Option<Entry>| match (before, after) {
        (None, _) => Change::Added,
        (Some(_), None) => Change::Deleted,
        (Some(before), Some(after)) if before.mode.same_type(after.mode) => Change::Modified,
        (Some(_), Some(_)) => Change::TypeChanged,
    };
    differences
        .iter()
        .map(|Difference { path, before, after }| ChangedFile {
            path: (*path).clone(),
            change: change(*before, *after),
            touched_by_setup: origin.entries.get(*path) != baseline.entries.get(*path),
            inherited: origin.entries.get(*path) == after.as_ref(),
        })
        .collect()
}
