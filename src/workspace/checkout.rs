//! The first checkout: the only time that this side writes the work tree.
//!
//! It runs before anything in the sandbox is spoken to, so nothing hostile but the repository's own
//! content is there. Git is confined to the new directory and reads the new `.git` alone.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::syncfs;

use super::Layout;
use super::fetch::{ATTRIBUTES, BIG_FILES, Fetched, Found, quoted, threads};
use super::git::{Git, GitError};
use super::path::shown;
use super::record::{self, Stage};

/// Why there is no work tree.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Nothing was fetched, or something else.
    #[error("there is no fetched repository to check out")]
    NotFetched,
    /// Files that this program has not written.
    #[error("the workspace has files already and no record of a checkout: this attempt's sandbox is lost")]
    Foreign,
    /// The volume is full.
    #[error(
        "the work tree does not fit the workspace volume: set a larger workspace size on the AgentEnvironment"
    )]
    NoSpace,
    /// The repository has a name that must not be written.
    #[error("the repository has a path that git refuses to write: {0}")]
    HarmfulPath(String),
    /// The volume cannot be written.
    #[error("cannot write the workspace: {0}")]
    Volume(#[source] io::Error),
    /// Anything else.
    #[error(transparent)]
    Git(GitError),
}

/// Checks the fetched commit out into the work tree, with a `.git` of its own, unless that was done before.
///
/// The files are the blobs' bytes. The `.git` has its own copies of the packs and of the boundary of a
/// shallow history, the branch (or no branch, for a tag or commit), and `origin` without a credential. A patch with
/// which the work begins is not there yet: [`overlay`](super::overlay()) puts it.
///
/// # Errors
/// [`CheckoutError`]; with [`CheckoutError::Foreign`] nothing was touched.
pub async fn checkout(fetched: &Fetched, layout: &Layout, git: &Git) -> Result<(), CheckoutError> {
    let mut record = record::read(&layout.private())?
        .filter(|record| record.fetched == *fetched)
        .ok_or(CheckoutError::NotFetched)?;
    let worktree = layout.worktree();
    let present = fs::symlink_metadata(&worktree).is_ok();
    match (record.stage, present) {
        (Stage::CheckedOut | Stage::Patching | Stage::Patched, _) => return Ok(()),
        (Stage::Fetched, true) => return Err(CheckoutError::Foreign),
        // Half a checkout of ours: no command can have run yet.
        (Stage::CheckingOut, true) => fs::remove_dir_all(&worktree)?,
        (Stage::Fetched | Stage::CheckingOut, false) => {}
    }
    record.stage = Stage::CheckingOut;
    record::write(&layout.private(), &record)?;

    make_git_dir(fetched, &layout.git_dir(), &worktree)?;
    let git_dir = worktree.join(".git");
    git.run_in(&worktree, ["read-tree", "-m", "-u", "HEAD"])
        .env("GIT_DIR", &git_dir)
        .env("GIT_WORK_TREE", &worktree)
        .output(0)
        .await
        .map_err(failed)?;
    // Now or never: when this is done the sandbox may write it.
    fs::copy(git_dir.join("index"), layout.base_index())?;
    // What was for these runs only; the sandbox's git makes its own decisions.
    fs::write(git_dir.join("config"), config(fetched, ""))?;

    // Were the record there after a loss of power and the files not whole, nobody would write them again. They lie on two
    // volumes, and git's own way to have them on disk is one wait for each.
    for volume in [&worktree, &layout.private()] {
        syncfs(fs::File::open(volume)?).map_err(io::Error::from)?;
    }
    record.stage = Stage::CheckedOut;
    record::write(&layout.private(), &record)?;
    Ok(())
}

/// Everything of the new `.git` but the index, which git writes with the files.
fn make_git_dir(fetched: &Fetched, bare: &Path, worktree: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(worktree)?;
    let git_dir = worktree.join(".git");
    for name in ["objects/info", "objects/pack", "refs/heads", "refs/remotes", "refs/tags", "info"] {
        fs::create_dir_all(git_dir.join(name))?;
    }
    for entry in fs::read_dir(bare.join("objects/pack"))? {
        let entry = entry?;
        // A copy and not a link: the sandbox may write what it finds here.
        fs::copy(entry.path(), git_dir.join("objects/pack").join(entry.file_name()))?;
    }
    match fs::copy(bare.join("shallow"), git_dir.join("shallow")) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::write(git_dir.join("info/attributes"), ATTRIBUTES)?;
    fs::write(git_dir.join("config"), config(fetched, &first_run()))?;
    // A tag's own object is not its commit, so what was fetched is copied.
    let beside = fetched.beside.as_ref().and_then(|beside| beside.found.stored_as(&beside.reference));
    for name in fetched.found.stored_as(&fetched.reference).into_iter().chain(beside) {
        write_ref(&git_dir, &name, &fs::read_to_string(bare.join(&name))?)?;
    }
    let commit = format!("{}\n", fetched.base_commit);
    let head = match branch(fetched) {
        Some(branch) => {
            write_ref(&git_dir, &format!("refs/heads/{branch}"), &commit)?;
            format!("ref: refs/heads/{branch}\n")
        }
        None => commit,
    };
    fs::write(git_dir.join("HEAD"), head)
}

fn write_ref(git_dir: &Path, name: &str, value: &str) -> io::Result<()> {
    let path = git_dir.join(name);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, value)
}

/// Settings of the checkout alone: workers, because writing files one by one is most of its time, and not more of them,
/// because each may have as much memory as git may.
fn first_run() -> String {
    format!(
        "\thooksPath = /dev/null\n\tfsmonitor = false\n\tattributesFile = /dev/null\n\tprotectHFS = true\n\
         \tprotectNTFS = true\n{BIG_FILES}[checkout]\n\tworkers = {}\n",
        threads(4)
    )
}

fn config(fetched: &Fetched, extra: &str) -> String {
    let url = quoted(fetched.url.as_str());
    let core = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tsymlinks = true\n\
         \tlogAllRefUpdates = true\n{extra}"
    );
    let fetch = match branch(fetched) {
        Some(branch) => quoted(&format!("+refs/heads/{branch}:refs/remotes/origin/{branch}")),
        None => quoted("+refs/heads/*:refs/remotes/origin/*"),
    };
    let tracking = branch(fetched).map(|branch| {
        let name = quoted(branch);
        format!("[branch {name}]\n\tremote = origin\n\tmerge = {}\n", quoted(&format!("refs/heads/{branch}")))
    });
    format!("{core}[remote \"origin\"]\n\turl = {url}\n\tfetch = {fetch}\n{}", tracking.unwrap_or_default())
}

fn branch(fetched: &Fetched) -> Option<&str> {
    match fetched.found {
        Found::Branch => fetched.reference.short(),
        Found::Tag | Found::Commit => None,
    }
}

fn failed(error: GitError) -> CheckoutError {
    let GitError::Failed { stderr, .. } = &error else { return CheckoutError::Git(error) };
    if stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded") {
        CheckoutError::NoSpace
    } else if let Some(line) = stderr.lines().find(|line| line.contains("invalid path")) {
        CheckoutError::HarmfulPath(shown(line))
    } else {
        CheckoutError::Git(error)
    }
}

impl From<io::Error> for CheckoutError {
    fn from(error: io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Self::NoSpace } else { Self::Volume(error) }
    }
}
