//! The world outside the agent's process: a supervisor with its processes and files, and what it has done in truth.

use std::collections::BTreeMap;

use podwright_sandboxd::protocol::{Digest, FileState};

use crate::agent::recover::Question;

/// What a patch writes into each of its files.
pub(super) const CONTENT: &[u8] = b"x\n";

/// A process of a command.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) command: String,
    /// Its exit code, once it has ended.
    pub(super) code: Option<u8>,
}

#[derive(Default)]
pub(super) struct Outside {
    /// The number of the supervisor's life.
    pub(super) boot: u8,
    /// The processes of this life, by the operation's number.
    pub(super) processes: BTreeMap<u64, Process>,
    /// How often each command has been run.
    ran: BTreeMap<String, u32>,
    /// The exit codes that there were.
    codes: BTreeMap<String, u8>,
    files: Vec<String>,
}

impl Outside {
    pub(super) fn new() -> Self {
        Self { boot: 1, ..Self::default() }
    }

    /// `process/start`: the same operation never starts twice in one life.
    pub(super) fn start(&mut self, op: u64, command: &str) {
        if let Some(known) = self.processes.get(&op) {
            assert_eq!(known.command, command, "operation {op} is two commands");
            return;
        }
        *self.ran.entry(command.to_owned()).or_default() += 1;
        assert_eq!(self.ran[command], 1, "{command} is run a second time");
        self.processes.insert(op, Process { command: command.to_owned(), code: None });
    }

    pub(super) fn end(&mut self, op: u64, code: u8) {
        let Some(process) = self.processes.get_mut(&op).filter(|process| process.code.is_none()) else {
            return;
        };
        process.code = Some(code);
        self.codes.insert(process.command.clone(), code);
    }

    /// The sandbox is restarted: everything that ran is gone, files stay.
    pub(super) fn restart(&mut self) {
        self.boot += 1;
        self.processes.clear();
    }

    /// Writes a new file, as a part of a patch.
    pub(super) fn create(&mut self, path: &str) {
        assert!(!self.files.iter().any(|file| file == path), "{path} is written a second time");
        self.files.push(path.to_owned());
    }

    pub(super) fn look(&self, question: &Question) -> Vec<FileState> {
        let state = |path: &String| {
            if self.files.contains(path) {
                FileState::File { sha256: Digest::of(CONTENT), size: 2, executable: false }
            } else {
                FileState::Absent
            }
        };
        question.paths.iter().map(state).collect()
    }

    /// Commands that were run at all.
    pub(super) fn commands(&self) -> usize {
        self.ran.len()
    }

    /// What is said of a command agrees with what it did. `claim` is the exit code that it is said to have.
    pub(super) fn check(&self, command: &str, claim: u8) {
        assert_eq!(
            self.codes.get(command),
            Some(&claim),
            "the model is told that {command} exited with {claim}"
        );
    }
}
