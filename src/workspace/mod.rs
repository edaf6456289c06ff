//! The repository: fetching it, reading it after commands ran, and the patch.
//!
//! Everything below a task's work tree is hostile once a command may have run. So git never sees the
//! work tree on this side (a nested repository's own configuration makes `git add` and `git status`
//! execute what it names), and [`reader`] and `writer` are the only code here that opens its paths. Git children
//! work in a bare repository that the sandbox never sees, confined by [`confine`].
//!
//! The one exception is the first [`checkout`], which runs before anything in the sandbox does.
//!
//! | Module | Holds |
//! |---|---|
//! | [`reader`], `writer` | opening paths of the work tree, to read them and to replace them |
//! | [`path`] | names in a repository, and those that git must never be given |
//! | [`object`], [`tree`] | object ids, loose objects, trees as sorted lists |
//! | [`confine`], [`git`], `askpass` | git children: the child's side, the caller's side, the credential |
//! | [`fetch`], [`origin`], [`checkout`], [`overlay`], `record` | the bare repository, the first checkout, the patch with which work begins |
//! | [`ignored`], [`snapshot`], `stat_cache`, [`patch`] | the work tree as a tree, and the patch |

pub mod checkout;
pub mod confine;
pub mod fetch;
pub mod git;
pub mod ignored;
pub mod object;
pub mod origin;
pub mod overlay;
pub mod patch;
pub mod path;
pub mod reader;
pub mod snapshot;
pub mod tree;

mod askpass;
mod record;
mod stat_cache;
mod writer;

use std::path::{Path, PathBuf};

pub use checkout::{CheckoutError, checkout};
pub use fetch::{
    Beside, Bounds, Credential, Depth, FetchError, FetchSpec, Fetched, Reference, fetch, fetch_beside,
    fetched, how_to_authenticate,
};
pub use git::{Git, GitError};
pub use object::ObjectId;
pub use origin::{OriginError, apply_former};
pub use overlay::{OverlayError, Staging, overlay, overlay_begun};
pub use patch::{Change, ChangedFile, Patch, PatchBody, PatchError, PatchStats, Worktree};
pub use reader::{ReadError, Reader};
pub use snapshot::{Skipped, SkippedPaths, Snapshot};

/// Where one repository of a task lives.
///
/// `repo` is a volume of the agent alone, `workspace` one that the sandbox writes. Both volumes' roots
/// may be owned by another user (git then refuses to work in them), so everything is one level below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    repo: PathBuf,
    workspace: PathBuf,
    name: String,
}

/// A repository name that is not one plain path component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no repository name: use letters, digits, '-', '_' and '.', at most 63, not beginning with '.'"
)]
pub struct InvalidName(String);

impl Layout {
    /// `repo` and `workspace` are the volumes' mount points, `name` the repository's name in the task.
    pub fn new(
        repo: impl Into<PathBuf>,
        workspace: impl Into<PathBuf>,
        name: impl Into<String>,
    ) -> Result<Self, InvalidName> {
        let name = name.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 63 || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(InvalidName(name));
        }
        Ok(Self { repo: repo.into(), workspace: workspace.into(), name })
    }

    /// The repository's name, which is also the work tree's directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of the sandbox in which the work tree is (a mount point, so nobody can swap it).
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The work tree: the agent's commands run here.
    pub fn worktree(&self) -> PathBuf {
        self.workspace.join(&self.name)
    }

    /// Everything of this repository that the sandbox never sees.
    pub(crate) fn private(&self) -> PathBuf {
        self.repo.join(&self.name)
    }

    /// The bare repository.
    pub(crate) fn git_dir(&self) -> PathBuf {
        self.private().join("git")
    }

    /// The index that the checkout wrote with the files: every path of the base commit, and the ids of its
    /// directories. Kept because reading a large tree anew is most of a proof's time.
    pub(crate) fn base_index(&self) -> PathBuf {
        self.private().join("index")
    }
}
