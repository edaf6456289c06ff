//! Putting the patch with which work begins into the work tree, after the setup script ran there.
//!
//! A model wrote the patch and the script has Secrets, so the script runs over the base commit alone, and the patch
//! comes after it. It comes as whole files: each path that is not the same in the base commit and in the base with the
//! patch becomes what it is in the latter, whatever the script made of it. That is how the patch was made (what setup
//! and agent changed comes whole), so hunks would put the script's lines in a second time.

mod blobs;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};

use self::blobs::Incoming;
use super::Layout;
use super::fetch::Fetched;
use super::git::{Git, GitError};
use super::object::{Mode, ObjectId};
use super::path::{RepoPath, unsafe_name};
use super::record::{self, Stage};
use super::tree::{self, Difference};
use super::writer::{WriteError, Writer};

/// The index that the sandbox's git gets when the patch is to be staged.
const INDEX: &str = "patched-index";

/// What the sandbox's git knows of the patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staging {
    /// Nothing: changes that nobody has staged.
    Unstaged,
    /// All of it is staged, and nothing else.
    Staged,
}

/// Why the patch is not in the work tree.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// There is no checkout of that commit and patch.
    #[error("there is no checked-out repository to put the patch into")]
    NotCheckedOut,
    /// The setup script made something that the patch does not replace.
    #[error("the patch cannot be put over what the setup script left: {path} {what}")]
    InTheWay {
        /// Where it is.
        path: RepoPath,
        /// What it is.
        what: String,
    },
    /// The patch has a name that must not be written.
    #[error("the patch has a path that is not written: {path} ({why})")]
    HarmfulPath {
        /// The path.
        path: RepoPath,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The volume is full.
    #[error(
        "the patch does not fit the workspace volume: set a larger workspace size on the AgentEnvironment"
    )]
    NoSpace,
    /// A volume cannot be read or written.
    #[error("cannot write the workspace: {0}")]
    Volume(#[source] io::Error),
    /// A git child failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Whether [`overlay`] has begun: from then on the work tree may have what a model wrote.
///
/// # Errors
/// When the record of the repository cannot be read.
pub fn overlay_begun(layout: &Layout) -> io::Result<bool> {
    Ok(record::read(&layout.private())?.is_some_and(|record| record.stage >= Stage::Patching))
}

/// Puts the patch, if there is one, into the work tree that was checked out, unless that was done before. What a process
/// before this one began is done again. No command may run meanwhile, or it finds half of it.
///
/// # Errors
/// [`OverlayError`]; with [`OverlayError::InTheWay`] some of the patch may be there.
pub async fn overlay(
    fetched: &Fetched,
    layout: &Layout,
    git: &Git,
    staging: Staging,
) -> Result<(), OverlayError> {
    let Some(origin) = fetched.origin else { return Ok(()) };
    let mut record = record::read(&layout.private())?
        .filter(|record| record.fetched == *fetched)
        .ok_or(OverlayError::NotCheckedOut)?;
    match record.stage {
        Stage::Fetched | Stage::CheckingOut => return Err(OverlayError::NotCheckedOut),
        Stage::CheckedOut => {
            record.stage = Stage::Patching;
            record::write(&layout.private(), &record)?;
        }
        Stage::Patching => {}
        Stage::Patched => return Ok(()),
    }
    let git_dir = layout.git_dir();
    let base = tree::list(git, &git_dir, &fetched.base_tree).await?.tree;
    let patched = tree::list(git, &git_dir, &origin).await?.tree;
    let differences = base.differences(&patched);
    differences.iter().try_for_each(|difference| check(difference.path, difference.after.map(|e| e.mode)))?;
    let writer = Writer::open(layout)?;
    // First, since a file may stand where a directory is to be.
    let kept = differences.iter().filter(|difference| difference.after.is_some());
    let kept: BTreeSet<&RepoPath> = kept.map(|difference| difference.path).collect();
    for Difference { path, .. } in differences.iter().filter(|difference| difference.after.is_none()) {
        match writer.remove(path) {
            // The patch has that path, and so it gives way, or is the patch's from a process before this one.
            Err(WriteError::InTheWay { path, .. }) if kept.contains(&path) => {}
            removed => removed?,
        }
    }
    let mut incoming = Incoming::new(&writer);
    for Difference { path, after, .. } in &differences {
        match after {
            Some(entry) if entry.mode == Mode::Gitlink => writer.directory(path)?,
            Some(entry) => incoming.expect(path, *entry),
            None => {}
        }
    }
    incoming.run(git, &git_dir).await?;
    if staging == Staging::Staged {
        let ids = differences.iter().filter_map(|difference| difference.after);
        let ids = ids.filter(|entry| entry.mode != Mode::Gitlink).map(|entry| entry.id);
        stage(origin, ids.collect(), layout, git, &writer).await?;
    }
    // Were the record there after a loss of power and the files not whole, nobody would write them again.
    writer.sync()?;
    record.stage = Stage::Patched;
    record::write(&layout.private(), &record)?;
    Ok(())
}

/// Gives the sandbox's own repository the index of the base commit with the patch, and the contents that only the patch
/// has.
async fn stage(
    patched: ObjectId,
    ids: BTreeSet<ObjectId>,
    layout: &Layout,
    git: &Git,
    writer: &Writer,
) -> Result<(), OverlayError> {
    let git_dir = layout.git_dir();
    for id in ids {
        let id = id.to_string();
        let path = format!("objects/{}/{}", &id[..2], &id[2..]);
        match File::open(git_dir.join(&path)) {
            Ok(object) => copy(object, writer, &format!(".git/{path}"))?,
            // It is in a pack, which the sandbox has as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let index = git_dir.join(INDEX);
    // With what it knows of the files' times, so that the sandbox's git need not read what did not change.
    fs::copy(layout.base_index(), &index)?;
    let args = ["read-tree".to_owned(), "-i".to_owned(), "-m".to_owned(), patched.to_string()];
    git.run_in(&git_dir, args).env("GIT_DIR", &git_dir).env("GIT_INDEX_FILE", &index).output(0).await?;
    copy(File::open(&index)?, writer, ".git/index")?;
    fs::remove_file(index)?;
    Ok(())
}

fn copy(mut from: File, writer: &Writer, to: &str) -> Result<(), OverlayError> {
    let mut file = writer.file(&RepoPath::new(to), false)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(file.done()?);
        }
        file.write(buffer.get(..read).unwrap_or_default())?;
    }
}

/// Git has refused such names when it made the tree; what is written is not left to that.
fn check(path: &RepoPath, mode: Option<Mode>) -> Result<(), OverlayError> {
    let harmful = |why| Err(OverlayError::HarmfulPath { path: path.clone(), why });
    for name in path.as_bytes().split(|byte| *byte == b'/') {
        if matches!(name, b"" | b"." | b"..") {
            return harmful("not a plain name");
        }
        if let Some(why) = unsafe_name(name, mode == Some(Mode::Symlink)) {
            return harmful(why);
        }
    }
    Ok(())
}

impl From<WriteError> for OverlayError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::InTheWay { path, what } => Self::InTheWay { path, what },
            WriteError::Volume(error) => error.into(),
        }
    }
}

impl From<io::Error> for OverlayError {
    fn from(error: io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Self::NoSpace } else { Self::Volume(error) }
    }
}
