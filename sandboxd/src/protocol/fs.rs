//! Files: changes with known images before and after.

use serde::{Deserialize, Serialize};

use super::scalar::{Bytes, Digest, OpId};

/// `fs/blob`: stages a piece of a file's content under the digest of the whole. Pieces come in order; a
/// repeated one is skipped. Staged content is dropped by the `fs/apply` that uses it and by a new stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobPut {
    /// Digest of the whole content.
    pub sha256: Digest,
    /// Length of the whole content in bytes.
    pub size: u64,
    /// Position of this piece.
    pub offset: u64,
    /// The piece, at most [`super::CHUNK_MAX`] bytes; empty only for an empty file.
    pub chunk: Bytes,
}

/// Answer to [`BlobPut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobPutResult {
    /// Bytes staged so far. The blob is complete, and its digest verified, when this is its size.
    pub next_offset: u64,
}

/// `fs/apply`: changes files, each by a temporary file and a rename.
///
/// Nothing is changed unless every path shows its image before or after. A path that already is as wanted
/// is left alone, so the request can be repeated; the answer to a known id is repeated from memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FsApply {
    /// The operation.
    pub op_id: OpId,
    /// Absolute path of the directory beneath which everything happens. No link is followed on the way to
    /// it or beneath it, and no other file system is entered beneath it.
    pub root: String,
    /// The changes, in order, at most [`super::PATHS_MAX`], each path once.
    pub changes: Vec<FileChange>,
}

/// One file's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Path relative to the root, without `.`, `..` or empty parts. Missing directories are made.
    pub path: String,
    /// What must be there.
    pub before: FileImage,
    /// What shall be there.
    pub after: FileImage,
}

/// A file's content, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileImage {
    /// No file.
    Absent,
    /// A regular file.
    #[serde(rename_all = "camelCase")]
    File {
        /// Digest of its content. In an image after, the content was staged by [`BlobPut`], unless the file
        /// already has it.
        sha256: Digest,
        /// Whether its owner may execute it. `None` in an image after keeps what the path has (a new file
        /// is not executable); in an image before it is not compared.
        executable: Option<bool>,
    },
}

/// Answer to [`FsApply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsApplyResult {
    /// Paths that were changed; the others already were as wanted.
    pub changed: u32,
}

/// `fs/state`: what is at some paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsState {
    /// As in [`FsApply`].
    pub root: String,
    /// Paths relative to the root, at most [`super::PATHS_MAX`].
    pub paths: Vec<String>,
}

/// Answer to [`FsState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsStateResult {
    /// One entry a path, in the order of the request.
    pub files: Vec<PathState>,
}

/// A path and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathState {
    /// The path, as in the request.
    pub path: String,
    /// What is there.
    pub state: FileState,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileState {
    /// Nothing.
    Absent,
    /// A regular file of at most [`super::FILE_MAX`] bytes.
    File {
        /// Digest of its content.
        sha256: Digest,
        /// Its length in bytes.
        size: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A larger file.
    TooLarge,
    /// A link, directory, device, socket or pipe, or a path through a link: never read nor replaced.
    Special,
    /// A file that this user may not read.
    Unreadable,
}

impl FsApply {
    /// Digest of the parameters: identifies *what* an [`OpId`] stands for.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}
