//! Files of the sandbox: changes and looks.

use podwright_sandboxd::protocol::{
    BlobPut, Bytes, CHUNK_MAX, Digest, FileChange, FileImage, FsApply, FsApplyResult, FsState, OpId,
    PathState,
};

use super::session::CallError;
use super::{Sandbox, SandboxError};

/// Bytes of paths in one look, and what an answer adds to each: together they stay within a frame.
const LOOK_BYTES: usize = 48 * 1024;
const ANSWER_BYTES: usize = 200;

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Path relative to the root, of plain names.
    pub path: String,
    /// What was there when the change was made up; nothing is changed if it is not there any more.
    pub before: FileImage,
    /// What shall be there.
    pub after: NewFile,
}

/// What a file shall become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewFile {
    /// Nothing.
    Absent,
    /// A file.
    File {
        /// Its content, 16 MiB at most in one call.
        content: Vec<u8>,
        /// Whether it may be executed; `None` keeps what is there.
        executable: Option<bool>,
    },
}

impl Edit {
    /// The change as it is sent, and so as its digest is made.
    pub fn change(&self) -> FileChange {
        let after = match &self.after {
            NewFile::Absent => FileImage::Absent,
            NewFile::File { content, executable } => {
                FileImage::File { sha256: Digest::of(content), executable: *executable }
            }
        };
        FileChange { path: self.path.clone(), before: self.before, after }
    }
}

impl Sandbox {
    /// Changes files beneath `root`, each by a temporary file and a rename. Safe to repeat, also in another boot: a file
    /// that is already as wanted is left alone, and nothing is changed when one is neither as before nor as wanted.
    ///
    /// # Errors
    /// [`podwright_sandboxd::protocol::ErrorCode::ImageMismatch`] names the files that somebody else changed; see
    /// [`SandboxError`].
    pub async fn fs_apply(
        &self,
        op_id: OpId,
        root: &str,
        edits: &[Edit],
    ) -> Result<FsApplyResult, SandboxError> {
        let changes = edits.iter().map(Edit::change).collect();
        let request = FsApply { op_id, root: root.to_owned(), changes };
        loop {
            let now = self.ready().await?;
            // Staged content dies with its connection, so a lost answer means to stage again.
            match self.stage_and_apply(edits, request.clone()).await {
                Ok(result) => return Ok(result),
                Err(CallError::Disconnected | CallError::Restarted(_)) => self.leave(&now).await,
                Err(CallError::Refused(error)) => return Err(SandboxError::Refused(error)),
                Err(CallError::Strange(reason)) => return Err(SandboxError::Lost(reason)),
                Err(CallError::TooLarge(error)) => return Err(error.into()),
            }
        }
    }

    /// What is at some paths beneath `root`, in their order.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub async fn fs_state(&self, root: &str, paths: &[String]) -> Result<Vec<PathState>, SandboxError> {
        let mut states = Vec::with_capacity(paths.len());
        let mut rest = paths;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|path| {
                bytes += path.len() + ANSWER_BYTES;
                bytes <= LOOK_BYTES
            });
            let (batch, later) = rest.split_at(fits.count().max(1));
            let request = FsState { root: root.to_owned(), paths: batch.to_vec() };
            states.extend(self.call_until_answered(request, None).await?.files);
            rest = later;
        }
        Ok(states)
    }

    async fn stage_and_apply(&self, edits: &[Edit], request: FsApply) -> Result<FsApplyResult, CallError> {
        for edit in edits {
            if let NewFile::File { content, .. } = &edit.after {
                self.stage(content).await?;
            }
        }
        self.call_once(request, None).await
    }

    async fn stage(&self, content: &[u8]) -> Result<(), CallError> {
        let sha256 = Digest::of(content);
        let size = content.len() as u64;
        let mut offset = 0;
        loop {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = content.get(at..).unwrap_or(&[]);
            let chunk = Bytes(rest[..rest.len().min(CHUNK_MAX)].to_vec());
            offset = self.call_once(BlobPut { sha256, size, offset, chunk }, None).await?.next_offset;
            if offset >= size {
                return Ok(());
            }
        }
    }
}
