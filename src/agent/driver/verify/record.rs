//! What a process that verifies leaves to the next one: in which boot of the sandbox the commands run, and what the
//! ended ones came to. It is on disk before the first command leaves, and before an ended one is acknowledged.

use std::path::Path;

use podwright_sandboxd::protocol::BootId;
use serde::{Deserialize, Serialize};

use crate::api::attempt::VerificationResult;
use crate::files::RecordFile;

const FILE: &str = "verification.json";

/// How far a verification is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The life of the sandbox in which all commands run.
    pub(super) boot: BootId,
    /// The results of the commands that have ended, in their order.
    pub(super) ended: Vec<VerificationResult>,
}

/// The record beneath the state's directory.
pub(super) fn file(state: &Path) -> RecordFile {
    RecordFile::new(state, FILE, "verification")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::attempt::VerificationState;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        assert_eq!(file.read::<Record>().unwrap(), None);
        let boot: BootId = serde_json::from_value(serde_json::json!("b1".repeat(16))).unwrap();
        let result = VerificationResult {
            name: "test".into(),
            state: VerificationState::Failed,
            exit_code: Some(3),
            seconds: 7,
            output: "no".into(),
        };
        for ended in [vec![], vec![result]] {
            let record = Record { boot: boot.clone(), ended };
            file.write(&record, true).unwrap();
            assert_eq!(file.read().unwrap(), Some(record));
        }
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(file.read::<Record>().is_err());
    }
}
