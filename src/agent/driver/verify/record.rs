//! What a process that verifies leaves to the next one: in which boot of the sandbox the commands run and what the
//! ended ones came to, and in the end how the attempt ends. It is on disk before the first command leaves, before an
//! ended one is acknowledged, and before a phase is closed.

use std::path::Path;

use podwright_sandboxd::protocol::BootId;
use serde::{Deserialize, Serialize};

use super::Done;
use crate::api::attempt::VerificationResult;
use crate::files::RecordFile;

const FILE: &str = "verification.json";

/// How far a verification is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Record {
    /// The commands run.
    Running {
        /// The life of the sandbox in which all of them run.
        boot: BootId,
        /// The results of those that have ended, in their order.
        ended: Vec<VerificationResult>,
    },
    /// Only saying so is left.
    Done(Done),
}

/// The record beneath the state's directory.
pub(super) fn file(state: &Path) -> RecordFile {
    RecordFile::new(state, FILE, "verification")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::attempt::{Outcome, VerificationState};
    use crate::api::reasons::Reason;

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
        let outcome = Outcome { reason: Reason::SetupFailed, message: "It failed.".into() };
        for record in [
            Record::Running { boot: boot.clone(), ended: Vec::new() },
            Record::Running { boot, ended: vec![result.clone()] },
            Record::Done(Done { outcome, results: vec![result] }),
        ] {
            file.write(&record, true).unwrap();
            assert_eq!(file.read().unwrap(), Some(record));
        }
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(file.read::<Record>().is_err());
    }
}
