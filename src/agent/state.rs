//! What an attempt has come to: the fold of its journal. Live and after a crash it is made the same way,
//! one entry at a time, and so cannot differ.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::budget::Spent;
use super::history::PairingError;
use super::journal::record::{
    BrokenBy, Entry, InputAccepted, InputKind, ModelEnd, ModelEnded, Record, RequestKind, Retries,
    ThreadOpened,
};
use super::thread::Thread;
use crate::api::attempt::Outcome;

/// Why a journal does not tell a state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// A fact of a thread that was never opened.
    #[error("JournalCorrupt: record {seq} ({name}) comes before the thread was opened")]
    NoThread {
        /// Number of the entry.
        seq: u64,
        /// Type of its record.
        name: &'static str,
    },
    /// History would break its pairing.
    #[error("JournalCorrupt: record {seq}: {source}")]
    Pairing {
        /// Number of the entry.
        seq: u64,
        /// How.
        source: PairingError,
    },
}

/// A time in which the model cannot be used. It begins when a request has failed as often as the provider's retries
/// allow, and ends with the first whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// How long it has been waited out: neither active time nor time of a suspended agent.
    pub waited: Duration,
    /// The newest failure.
    pub message: String,
}

/// The state of an attempt.
#[derive(Clone, Debug)]
pub struct State {
    /// Number of the next entry.
    pub next_seq: u64,
    /// Number of the pod of the newest entry.
    pub epoch: u32,
    /// Processes started since the last one that got anything done. The first start is 1.
    pub fruitless_starts: u32,
    /// Everything that a limit counts.
    pub spent: Spent,
    /// How long the pod has waited for a message since the last turn.
    pub idle: Duration,
    /// The outage of the model that is being waited out.
    pub outage: Option<Outage>,
    /// When the newest request went out.
    pub asked_at: Option<Timestamp>,
    /// The highest number of the inbox that was taken in. Numbers are taken in order, so every lower one was as
    /// well, and no higher one.
    pub inbox_seq: i64,
    /// UIDs of accepted inputs.
    accepted: Vec<String>,
    /// Prompts that are in no turn yet, oldest first.
    pub prompts: VecDeque<InputAccepted>,
    /// Whether a person asked for the end.
    pub cancelled: bool,
    /// The thread, once it is open.
    pub thread: Option<Thread>,
    /// How the attempt ends, once that is decided.
    pub outcome: Option<Outcome>,
    /// Whether the outcome is published.
    pub published: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            next_seq: 1,
            epoch: 0,
            fruitless_starts: 0,
            spent: Spent::default(),
            idle: Duration::ZERO,
            outage: None,
            asked_at: None,
            inbox_seq: 0,
            accepted: Vec::new(),
            prompts: VecDeque::new(),
            cancelled: false,
            thread: None,
            outcome: None,
            published: false,
        }
    }
}

impl State {
    /// Folds a journal.
    ///
    /// # Errors
    /// [`FoldError`] for a journal that this program never writes.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self, FoldError> {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry)?;
        }
        Ok(state)
    }

    /// Takes in one more fact.
    ///
    /// # Errors
    /// As for [`State::fold`].
    pub fn apply(&mut self, entry: &Entry) -> Result<(), FoldError> {
        self.next_seq = entry.seq + 1;
        self.epoch = entry.epoch;
        self.spent.active = self.spent.active.max(Duration::from_millis(entry.active_ms));
        if let Some(outage) = &mut self.outage {
            outage.waited = outage.waited.max(Duration::from_millis(entry.outage_ms));
        }
        match &entry.record {
            Record::EpochStarted(_) => {
                self.fruitless_starts += 1;
                Ok(())
            }
            Record::InputAccepted(input) => {
                self.accept(input);
                Ok(())
            }
            Record::TimePassed(passed) => {
                self.idle = Duration::from_millis(passed.idle_ms);
                Ok(())
            }
            Record::BudgetTripped(_) => Ok(()),
            Record::FinishIntent(finish) => {
                self.outcome = Some(finish.outcome.clone());
                Ok(())
            }
            Record::FinishDone(done) => {
                if let Some(outcome) = &done.outcome {
                    self.outcome = Some(outcome.clone());
                }
                self.published = true;
                Ok(())
            }
            Record::ThreadOpened(opened) => self.open(entry, opened),
            Record::TurnStarted(_)
            | Record::TurnSteered(_)
            | Record::AnswerRejected(_)
            | Record::SandboxNoted(_)
            | Record::TurnEnded(_)
            | Record::ItemAppended(_)
            | Record::ModelIntent(_)
            | Record::ModelEnded(_)
            | Record::HistoryReplaced(_)
            | Record::CallIntent(_)
            | Record::CallEnded(_)
            | Record::SessionOpened(_)
            | Record::SessionMoved(_)
            | Record::SessionClosed(_) => self.apply_to_thread(entry),
        }
    }

    /// Whether an input with this UID was accepted before.
    pub fn has_accepted(&self, uid: &str) -> bool {
        self.accepted.iter().any(|accepted| accepted == uid)
    }

    fn accept(&mut self, input: &InputAccepted) {
        self.inbox_seq = self.inbox_seq.max(input.seq);
        if self.has_accepted(&input.uid) {
            return;
        }
        self.accepted.push(input.uid.clone());
        match input.kind {
            // The task's own prompt comes first, whatever was said while the workspace was made ready.
            InputKind::Prompt if input.seq == 0 => self.prompts.push_front(input.clone()),
            InputKind::Prompt => self.prompts.push_back(input.clone()),
            InputKind::Cancel => self.cancelled = true,
        }
    }

    fn open(&mut self, entry: &Entry, opened: &ThreadOpened) -> Result<(), FoldError> {
        let thread = Thread::open(opened).map_err(pairing(entry))?;
        self.thread = Some(thread);
        Ok(())
    }

    fn apply_to_thread(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let no_thread = FoldError::NoThread { seq: entry.seq, name: entry.record.name() };
        let thread = self.thread.as_mut().ok_or(no_thread)?;
        match &entry.record {
            Record::TurnStarted(started) => {
                self.idle = Duration::ZERO;
                self.prompts.retain(|prompt| prompt.uid != started.input_uid);
            }
            Record::TurnSteered(steered) => {
                self.prompts.retain(|prompt| prompt.uid != steered.input_uid);
            }
            Record::TurnEnded(ended) => {
                if let Some(outcome) = &ended.outcome {
                    self.outcome = Some(outcome.clone());
                }
            }
            Record::ModelIntent(intent) => {
                self.spent.requests += 1;
                self.asked_at = Some(entry.at);
                // A repetition belongs to the step that it repeats, and a compaction to none.
                let begins = intent.kind == RequestKind::Turn && intent.retries == Retries::default();
                if begins && !thread.repeats_request() {
                    self.spent.steps += 1;
                }
            }
            Record::ModelEnded(ended) => {
                self.spent.usage += ended.usage;
                match &ended.end {
                    ModelEnd::Unavailable { message, .. } => {
                        let waited = self.outage.take().map_or(Duration::ZERO, |outage| outage.waited);
                        self.outage = Some(Outage { waited, message: message.clone() });
                    }
                    ModelEnd::Completed { .. } | ModelEnd::Unusable { .. } => self.outage = None,
                    ModelEnd::Retry { .. }
                    | ModelEnd::TooLong { .. }
                    | ModelEnd::Failed { .. }
                    | ModelEnd::Broken { .. } => {}
                }
                if !is_broken_by_restart(ended) {
                    self.fruitless_starts = 0;
                }
            }
            // By what it means: each surface has a tool of its own for commands.
            Record::CallIntent(intent)
                if thread.command_at(intent.ordinal).is_some() && !thread.has_left(intent.ordinal) =>
            {
                self.spent.commands += 1;
            }
            Record::CallEnded(ended) => {
                self.fruitless_starts = 0;
                self.spent.call_ended(ended, thread.is_whole(ended.ordinal));
            }
            Record::CallIntent(_)
            | Record::AnswerRejected(_)
            | Record::SandboxNoted(_)
            | Record::ItemAppended(_)
            | Record::HistoryReplaced(_)
            | Record::SessionOpened(_)
            | Record::SessionMoved(_)
            | Record::SessionClosed(_)
            | Record::EpochStarted(_)
            | Record::ThreadOpened(_)
            | Record::InputAccepted(_)
            | Record::TimePassed(_)
            | Record::BudgetTripped(_)
            | Record::FinishIntent(_)
            | Record::FinishDone(_) => {}
        }
        thread.apply(&entry.record).map_err(pairing(entry))
    }
}

fn is_broken_by_restart(ended: &ModelEnded) -> bool {
    matches!(ended.end, ModelEnd::Broken { cause: BrokenBy::AgentRestart })
}

fn pairing(entry: &Entry) -> impl FnOnce(PairingError) -> FoldError {
    let seq = entry.seq;
    move |source| FoldError::Pairing { seq, source }
}

#[cfg(test)]
mod tests;
