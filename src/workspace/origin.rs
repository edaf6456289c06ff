//! What work begins with that has a patch already, to go on with it or to verify it: the base commit with that patch.

use std::fs;

use super::Layout;
use super::fetch::Fetched;
use super::git::{Git, GitError, Run};
use super::path::shown;
use super::record::{self, Record, Stage};

/// The private index in which the tree is made.
const INDEX: &str = "origin-index";

/// Why there is no commit with the patch.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// It does not fit.
    #[error("the patch does not apply to its base commit: {0}")]
    Patch(String),
    /// The volume cannot be written.
    #[error("cannot write the repository's volume: {0}")]
    Volume(#[from] std::io::Error),
    /// A git child failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Applies a patch to the base commit of what was fetched, in the bare repository, unless that was done before. To be
/// called before the checkout; [`overlay`](super::overlay()) puts the files of the tree that comes out into the work tree.
///
/// # Errors
/// [`OriginError`]
pub async fn apply_former(
    fetched: Fetched,
    patch: Vec<u8>,
    layout: &Layout,
    git: &Git,
) -> Result<Fetched, OriginError> {
    if fetched.origin.is_some() {
        return Ok(fetched);
    }
    let directory = layout.git_dir();
    let index = directory.join(INDEX);
    let run = |args: &[&str]| -> Run<'_> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        git.run_in(&directory, args).env("GIT_DIR", &directory).env("GIT_INDEX_FILE", &index)
    };
    run(&["read-tree", &fetched.base_tree.to_string()]).output(0).await?;
    match run(&["apply", "--cached", "--whitespace=nowarn", "-"]).input(patch).output(0).await {
        Err(GitError::Failed { stderr, .. }) => return Err(OriginError::Patch(shown(&stderr))),
        other => other?,
    };
    let tree = run(&["write-tree"]).output(64).await?;
    let tree = String::from_utf8_lossy(tree.trim_ascii()).into_owned();
    let tree =
        tree.parse().map_err(|_| GitError::Unexpected { command: "write-tree".to_owned(), what: tree })?;
    fs::remove_file(&index)?;
    let fetched = Fetched { origin: Some(tree), ..fetched };
    record::write(&layout.private(), &Record { fetched: fetched.clone(), stage: Stage::Fetched })?;
    Ok(fetched)
}
