//! What a process that verifies leaves to the next one: in which boot of the sandbox the commands run, and what the
//! ended ones came to. It is on disk before the first command leaves, and before an ended one is acknowledged.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use podwright_sandboxd::protocol::BootId;
use serde::{Deserialize, Serialize};

use crate::api::attempt::VerificationResult;

const FILE: &str = "verification.json";

/// A record of ours is at most 8 results with 2 KiB of output each, as JSON six times that.
const RECORD_MAX: u64 = 1 << 20;

/// How far a verification is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The life of the sandbox in which all commands run.
    pub(super) boot: BootId,
    /// The results of the commands that have ended, in their order.
    pub(super) ended: Vec<VerificationResult>,
}

/// Where the record is.
#[derive(Clone, Debug)]
pub(super) struct RecordFile(PathBuf);

impl RecordFile {
    /// The record beneath the state's directory.
    pub(super) fn of(state: &Path) -> Self {
        Self(state.to_owned())
    }

    /// What was recorded, if anything was.
    pub(super) fn read(&self) -> io::Result<Option<Record>> {
        let path = self.0.join(FILE);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > RECORD_MAX {
            return Err(io::Error::other("the record of the verification is damaged"));
        }
        Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
    }

    /// Replaces the record, durably.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.as_file().sync_all()?;
        file.persist(self.0.join(FILE)).map_err(|error| error.error)?;
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::attempt::VerificationState;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = RecordFile::of(directory.path());
        assert_eq!(file.read().unwrap(), None);
        let boot: BootId = serde_json::from_value(serde_json::json!("b1")).unwrap();
        let result = VerificationResult {
            name: "test".into(),
            state: VerificationState::Failed,
            exit_code: Some(3),
            seconds: 7,
            output: "no".into(),
        };
        for ended in [vec![], vec![result]] {
            let record = Record { boot: boot.clone(), ended };
            file.write(&record).unwrap();
            assert_eq!(file.read().unwrap(), Some(record));
        }
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(file.read().is_err());
    }
}
