//! `apply_patch`: computed on this side from what the files hold, changed by the supervisor in one request.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use podwright_sandboxd::protocol::{Digest, FileImage, FileState, OpId, PathState};
use tokio::time::Instant;

use crate::agent::events::{Event, FileChange, ItemDetails, ItemStatus, ThreadEventItem};
use crate::agent::journal::record::{CallOutcome, PatchIntent, PatchedFile};
use crate::agent::machine::CallResult;
use crate::agent::tools::ApplyPatch;
use crate::agent::tools::apply_patch::{FileBefore, FileChange as Change, FileImage as Image, Place};
use crate::agent::tools::edit::{FILE_MAX, Success};
use crate::sandbox::{Edit, NewFile, Sandbox, SandboxError};
use crate::workspace::Reader;

/// Bytes of all files that one edit may touch. They are in memory before and after it, while the agent has 512 MiB in all
/// and a patch may name any number of files.
const FILES_MAX: u64 = 48 * 1024 * 1024;

/// Patches of one thread.
#[derive(Clone)]
pub(super) struct Patches {
    sandbox: Sandbox,
    reader: Arc<Reader>,
    /// The repository's directory.
    root: String,
    /// The part of it that the reader is not told: its mount point.
    mount: String,
}

/// A patch that fits the files.
pub(super) struct Computed {
    /// For the journal.
    pub(super) intent: PatchIntent,
    edits: Vec<Edit>,
    success: Success,
    patch: ApplyPatch,
    begun: Instant,
}

impl Patches {
    /// Patches of the repository at `root`, beneath the mount point `mount`.
    pub(super) fn new(sandbox: Sandbox, reader: Arc<Reader>, root: String, mount: String) -> Self {
        Self { sandbox, reader, root, mount }
    }

    /// Reads the files of a patch and verifies it whole.
    ///
    /// # Errors
    /// The end of the call, when there is nothing to change.
    pub(super) async fn compute(
        &self,
        ordinal: u64,
        patch: ApplyPatch,
    ) -> Result<Computed, (CallResult, Event)> {
        let begun = Instant::now();
        let cwd = patch.cwd(&self.root);
        let place = Place { root: &self.root, cwd: &cwd };
        let rejected = |output: String| {
            let result = ended(ordinal, CallOutcome::Error, output);
            (result, shown(ordinal, Vec::new(), ItemStatus::Failed))
        };
        let paths = patch.edit.paths_to_read(place).map_err(rejected)?;
        let files = self.read(&paths).await.map_err(|error| {
            let wall = begun.elapsed();
            rejected(patch.output(&patch.edit.failure(&error.to_string(), wall), wall))
        })?;
        let (changes, success) = patch.edit.changes(place, &files).map_err(rejected)?;
        let wall = begun.elapsed();
        let told = patch.output(&success.text(wall), wall);
        if changes.is_empty() {
            let result = ended(ordinal, CallOutcome::Ok, told);
            return Err((result, shown(ordinal, Vec::new(), ItemStatus::Completed)));
        }
        let intent = PatchIntent {
            root: self.root.clone(),
            files: changes.iter().map(patched_file).collect(),
            success: told,
        };
        let edits = changes.into_iter().map(edit).collect();
        Ok(Computed { intent, edits, success, patch, begun })
    }

    /// Applies a patch that was computed.
    pub(super) async fn apply(
        &self,
        ordinal: u64,
        id: Option<OpId>,
        computed: Computed,
    ) -> (CallResult, Event) {
        let Computed { intent, edits, success, patch, begun } = computed;
        let applied = match id {
            Some(id) => self.sandbox.fs_apply(id, &self.root, &edits).await,
            None => Err(SandboxError::TooLarge("the operation's id is too long".to_owned())),
        };
        let wall: Duration = begun.elapsed();
        match applied {
            Ok(_) => {
                let output = patch.output(&success.text(wall), wall);
                let changes = intent.files.iter().map(FileChange::from).collect();
                (ended(ordinal, CallOutcome::Ok, output), shown(ordinal, changes, ItemStatus::Completed))
            }
            Err(error) => {
                let outcome = match &error {
                    SandboxError::Lost(_) | SandboxError::Restarted { .. } => CallOutcome::Unknown,
                    SandboxError::Refused(_) | SandboxError::TooLarge(_) => CallOutcome::Error,
                };
                let output = patch.output(&patch.edit.failure(&error.to_string(), wall), wall);
                (ended(ordinal, outcome, output), shown(ordinal, Vec::new(), ItemStatus::Failed))
            }
        }
    }

    /// What the files of a patch hold. The supervisor tells what is there; the content is read on this side,
    /// through the one door that does not follow links, and must be what the supervisor saw.
    async fn read(&self, paths: &[String]) -> Result<BTreeMap<String, FileBefore>, SandboxError> {
        let states = self.sandbox.fs_state(&self.root, paths).await?;
        let mut files = BTreeMap::new();
        let mut room = FILES_MAX;
        for PathState { path, state } in states {
            let before = match state {
                FileState::Absent => FileBefore::Absent,
                FileState::Special => FileBefore::NotAFile,
                FileState::TooLarge => too_large(),
                FileState::Unreadable => FileBefore::Unreadable("Permission denied (os error 13)".to_owned()),
                FileState::File { size, .. } if size > room.min(FILE_MAX as u64) => too_large(),
                FileState::File { sha256, executable, size } => {
                    room -= size;
                    self.content(&path, sha256, executable).await
                }
            };
            files.insert(path, before);
        }
        Ok(files)
    }

    async fn content(&self, path: &str, sha256: Digest, executable: bool) -> FileBefore {
        let (reader, path) = (self.reader.clone(), self.beneath_mount(path));
        let read = tokio::task::spawn_blocking(move || reader.read(&path, FILE_MAX)).await;
        match read {
            Ok(Ok(content)) if Digest::of(&content.bytes) == sha256 => {
                FileBefore::File { content: content.bytes, executable }
            }
            Ok(Ok(_)) => FileBefore::Unreadable("it changes while it is read".to_owned()),
            Ok(Err(error)) => FileBefore::Unreadable(error.to_string()),
            Err(error) => FileBefore::Unreadable(error.to_string()),
        }
    }

    fn beneath_mount(&self, path: &str) -> PathBuf {
        let root = self.root.strip_prefix(&self.mount).unwrap_or(&self.root);
        PathBuf::from(root.trim_start_matches('/')).join(path)
    }
}

/// Patches that were computed and wait for the journal.
pub(super) type Waiting = HashMap<u64, Computed>;

fn too_large() -> FileBefore {
    FileBefore::Unreadable("File too large (os error 27)".to_owned())
}

fn ended(ordinal: u64, outcome: CallOutcome, output: String) -> CallResult {
    CallResult { ordinal, outcome, output, images: Vec::new(), exit: None, session: None }
}

fn shown(ordinal: u64, changes: Vec<FileChange>, status: ItemStatus) -> Event {
    let details = ItemDetails::FileChange { changes, status };
    Event::ItemCompleted { item: ThreadEventItem::new(ordinal, details) }
}

fn patched_file(change: &Change) -> PatchedFile {
    let digest = |image: Image| match image {
        Image::Absent => None,
        Image::File { sha256, .. } => Some(Digest::from_bytes(sha256)),
    };
    PatchedFile { path: change.path.clone(), before: digest(change.before), after: digest(change.after) }
}

fn edit(change: Change) -> Edit {
    let before = match change.before {
        Image::Absent => FileImage::Absent,
        Image::File { sha256, executable } => {
            FileImage::File { sha256: Digest::from_bytes(sha256), executable }
        }
    };
    let after = match (change.content, change.after) {
        (Some(content), Image::File { executable, .. }) => NewFile::File { content, executable },
        (Some(content), Image::Absent) => NewFile::File { content, executable: None },
        (None, _) => NewFile::Absent,
    };
    Edit { path: change.path, before, after }
}
