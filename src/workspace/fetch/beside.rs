//! A second branch, tag or commit of the same repository, for work that compares.

use std::fs;

use serde::{Deserialize, Serialize};

use super::{FetchError, FetchSpec, Fetched, Fetcher, Found, Reference, config, connect, record};
use crate::workspace::Layout;
use crate::workspace::git::{Git, GitError};
use crate::workspace::object::ObjectId;
use crate::workspace::record::{Record, Stage};

/// Where a commit without a name is kept.
const COMMIT: &str = "refs/podwright/beside";

/// What was fetched beside the commit that the work starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// What was asked for.
    pub reference: Reference,
    /// What it turned out to be.
    pub found: Found,
    /// Its commit.
    pub commit: ObjectId,
    /// The last commit that both have; `None` when the histories do not meet as far as they were fetched.
    pub meets: Option<ObjectId>,
}

/// Fetches `spec.reference` beside what was fetched before, unless that was done. To be called before the checkout,
/// which copies it into the work tree's own repository.
///
/// # Errors
/// [`FetchError`]: each shows as a sentence that says what to do.
pub async fn fetch_beside(
    spec: &FetchSpec,
    fetched: Fetched,
    layout: &Layout,
    git: &Git,
) -> Result<Fetched, FetchError> {
    if fetched.beside.as_ref().is_some_and(|beside| beside.reference == spec.reference) {
        return Ok(fetched);
    }
    connect(&spec.url, spec.bounds.connect).await?;
    let directory = layout.git_dir();
    // The certificates' file has moved with the directory since the first fetch.
    config::init(&directory, spec)?;
    let fetcher = Fetcher { spec, git, directory: &directory, commit_as: COMMIT };
    let found = fetcher.fetch().await?;
    let beside = Beside {
        reference: found.reference,
        found: found.found,
        commit: found.base_commit,
        meets: meeting(git, layout, fetched.base_commit, found.base_commit).await?,
    };
    let fetched = Fetched { beside: Some(beside), ..fetched };
    fs::create_dir_all(layout.private())?;
    record::write(&layout.private(), &Record { fetched: fetched.clone(), stage: Stage::Fetched })?;
    Ok(fetched)
}

async fn meeting(
    git: &Git,
    layout: &Layout,
    one: ObjectId,
    other: ObjectId,
) -> Result<Option<ObjectId>, FetchError> {
    let directory = layout.git_dir();
    let args = ["merge-base".to_owned(), one.to_string(), other.to_string()];
    match git.run_in(&directory, args).env("GIT_DIR", &directory).output(4096).await {
        Ok(output) => Ok(String::from_utf8_lossy(&output).trim().parse().ok()),
        // Its way to say that there is none.
        Err(GitError::Failed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
