//! What was done with the repository, kept where the sandbox cannot reach it.
//!
//! A container can be started again over a work tree in which hostile commands ran. The record is what
//! keeps fetch and checkout from running there a second time.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fetch::Fetched;
use crate::files::RecordFile;

/// How far the first checkout got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The bare repository is whole.
    Fetched,
    /// Files may have been written. No command can have run yet: the sandbox is not spoken to before
    /// [`Stage::CheckedOut`] is on disk, so what lies there is still ours.
    CheckingOut,
    /// The work tree belongs to the sandbox; from this side only the patch is put into it.
    CheckedOut,
    /// Some of the patch may be there, so no script with Secrets may run any more.
    Patching,
    /// All of the patch is there; the work tree is never written from this side again.
    Patched,
}

/// The completion record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) fetched: Fetched,
    pub(crate) stage: Stage,
}

/// The record in `directory`, if there is one.
pub(crate) fn read(directory: &Path) -> io::Result<Option<Record>> {
    file(directory).read()
}

/// Replaces the record. From [`Stage::CheckedOut`] on it is on disk when this returns: were it lost with the power,
/// a work tree that has become hostile would pass for half a checkout, or one with the patch for one without it. The
/// stages before may be lost, and then their work is done again.
pub(crate) fn write(directory: &Path, record: &Record) -> io::Result<()> {
    file(directory).write(record, record.stage >= Stage::CheckedOut)
}

fn file(directory: &Path) -> RecordFile {
    RecordFile::new(directory, "record.json", "repository")
}
