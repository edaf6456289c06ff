//! `fs/*`: changes and looks, done by descriptors beneath a root, following no link.
//!
//! The supervisor is not confined and the tree is hostile, so every path is resolved by the kernel under
//! `openat2` with "beneath, no links, no other file system"; a race can at most make an operation fail.

mod beneath;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;

use crate::protocol::{
    BlobPut, BlobPutResult, Digest, ErrorCode, FileChange, FileImage, FileState, FsApply, FsApplyResult,
    FsState, FsStateResult, OpId, PATHS_MAX, PathState, RpcError,
};

use beneath::{RelativePath, open_root};
use stage::Stage;

/// Answers to `fs/apply` that are kept for a repeated request: one is in flight at a time, so a few would do.
const ANSWERS_KEPT: usize = 64;

/// The worker's state: staged content, and what was answered.
#[derive(Debug, Default)]
pub(super) struct Files {
    stage: Stage,
    answers: VecDeque<(OpId, Digest, FsApplyResult)>,
}

struct Planned<'a> {
    path: RelativePath<'a>,
    change: &'a FileChange,
    now: FileState,
}

impl Files {
    /// Drops staged content.
    pub(super) fn reset(&mut self) {
        self.stage = Stage::default();
    }

    pub(super) fn stage(&mut self, piece: BlobPut) -> Result<BlobPutResult, RpcError> {
        self.stage.put(piece).map(|next_offset| BlobPutResult { next_offset })
    }

    pub(super) fn state(&self, request: &FsState) -> Result<FsStateResult, RpcError> {
        check_count(request.paths.len())?;
        let root = open_root(&request.root)?;
        let look = |path: &String| {
            let state = beneath::state(&root, &RelativePath::parse(path)?)?;
            Ok(PathState { path: path.clone(), state })
        };
        let files = request.paths.iter().map(look).collect::<Result<_, RpcError>>()?;
        Ok(FsStateResult { files })
    }

    pub(super) fn apply(&mut self, request: &FsApply) -> Result<FsApplyResult, RpcError> {
        let digest = request.digest();
        if let Some((_, known, result)) = self.answers.iter().find(|(id, ..)| *id == request.op_id) {
            if *known != digest {
                let message = format!("operation {} is known with other parameters", request.op_id);
                return Err(RpcError::new(ErrorCode::OpConflict, message));
            }
            return Ok(result.clone());
        }
        let root = open_root(&request.root)?;
        let plan = self.plan(&root, &request.changes)?;
        let changed = self.perform(&root, &plan)?;
        for planned in &plan {
            if let FileImage::File { sha256, .. } = planned.change.after {
                self.stage.forget(&sha256);
            }
        }
        let result = FsApplyResult { changed };
        if self.answers.len() == ANSWERS_KEPT {
            self.answers.pop_front();
        }
        self.answers.push_back((request.op_id.clone(), digest, result.clone()));
        Ok(result)
    }

    /// Checks everything before anything is changed.
    fn plan<'a>(&self, root: &OwnedFd, changes: &'a [FileChange]) -> Result<Vec<Planned<'a>>, RpcError> {
        check_count(changes.len())?;
        let mut seen = BTreeSet::new();
        let mut plan = Vec::with_capacity(changes.len());
        let mut mismatched = Vec::new();
        for change in changes {
            let path = RelativePath::parse(&change.path)?;
            if !seen.insert(&change.path) {
                let message = format!("{} is named twice", change.path);
                return Err(RpcError::new(ErrorCode::InvalidParams, message));
            }
            let now = beneath::state(root, &path)?;
            if !shows(change.before, now) && !shows(change.after, now) {
                mismatched.push(change.path.as_str());
            }
            if let Some(sha256) = needed_content(change, now)
                && self.stage.get(&sha256).is_none()
            {
                let message = format!("the new content of {} was not staged", change.path);
                return Err(RpcError::new(ErrorCode::InvalidParams, message));
            }
            plan.push(Planned { path, change, now });
        }
        if mismatched.is_empty() {
            return Ok(plan);
        }
        let message = format!("changed by somebody else since it was read: {}", mismatched.join(", "));
        Err(RpcError::new(ErrorCode::ImageMismatch, message))
    }

    fn perform(&self, root: &OwnedFd, plan: &[Planned<'_>]) -> Result<u32, RpcError> {
        let mut changed = 0;
        for Planned { path, change, now } in plan {
            if shows(change.after, *now) {
                continue;
            }
            let done = match change.after {
                FileImage::Absent => beneath::remove(root, path),
                FileImage::File { sha256, executable } => match self.stage.get(&sha256) {
                    Some(content) => beneath::replace(root, path, content, executable),
                    // Only the mode differs, or `plan` would have missed the content.
                    None => beneath::set_executable(root, path, executable == Some(true)),
                },
            };
            done.map_err(|error| {
                let message = format!(
                    "{}: {error}; {changed} of {} changes were made before it",
                    change.path,
                    plan.len()
                );
                RpcError::new(ErrorCode::Io, message)
            })?;
            changed += 1;
        }
        Ok(changed)
    }
}

/// Whether a path shows an image.
fn shows(image: FileImage, state: FileState) -> bool {
    match (image, state) {
        (FileImage::Absent, FileState::Absent) => true,
        (FileImage::File { sha256, executable }, FileState::File { sha256: is, executable: runs, .. }) => {
            sha256 == is && executable.is_none_or(|wanted| wanted == runs)
        }
        _ => false,
    }
}

/// The content that a change must write.
fn needed_content(change: &FileChange, now: FileState) -> Option<Digest> {
    match (change.after, now) {
        (FileImage::Absent, _) => None,
        (FileImage::File { sha256, .. }, FileState::File { sha256: is, .. }) if sha256 == is => None,
        (FileImage::File { sha256, .. }, _) => Some(sha256),
    }
}

fn check_count(count: usize) -> Result<(), RpcError> {
    if count <= PATHS_MAX {
        return Ok(());
    }
    Err(RpcError::new(ErrorCode::LimitReached, format!("{count} paths; at most {PATHS_MAX} at once")))
}
