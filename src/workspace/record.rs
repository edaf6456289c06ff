//! What was done with the repository, kept where the sandbox cannot reach it.
//!
//! A container can be started again over a work tree in which hostile commands ran. The record is what
//! keeps fetch and checkout from running there a second time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fetch::Fetched;

const FILE: &str = "record.json";

/// A record of ours is about 1 KiB.
const RECORD_MAX: u64 = 1 << 20;

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
    let path = directory.join(FILE);
    let length = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > RECORD_MAX {
        return Err(io::Error::other("the record of the repository is damaged"));
    }
    Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
}

/// Replaces the record. From [`Stage::CheckedOut`] on it is on disk when this returns: were it lost with the power,
/// a work tree that has become hostile would pass for half a checkout, or one with the patch for one without it. The
/// stages before may be lost, and then their work is done again.
pub(crate) fn write(directory: &Path, record: &Record) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    let durable = record.stage >= Stage::CheckedOut;
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(directory.join(FILE)).map_err(|error| error.error)?;
    if durable {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
