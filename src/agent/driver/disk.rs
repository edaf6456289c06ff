//! What the process before this one left on disk.

use std::path::Path;

use super::prepare::internal;
use crate::agent::journal::{self, Journal, JournalError};
use crate::agent::state::{FoldError, State};
use crate::api::attempt::Outcome;

/// A journal that cannot be used.
pub(super) enum Unusable {
    /// A try later may help.
    Now(JournalError),
    /// What it holds cannot be understood.
    ForGood(Outcome),
}

/// Opens the journal, and folds what it holds.
///
/// # Errors
/// [`Unusable`].
pub(super) fn open(state: &Path) -> Result<(Journal, State), Unusable> {
    let damaged = |error: &dyn std::fmt::Display| Unusable::ForGood(internal(error));
    let journal::Opened { journal, entries, next_seq } =
        Journal::open(state).map_err(|error| match error {
            JournalError::Io { .. } => Unusable::Now(error),
            JournalError::Corrupt { .. } | JournalError::Version(_) => damaged(&error),
        })?;
    let mut state = State::fold(&entries).map_err(|error: FoldError| damaged(&error))?;
    state.next_seq = next_seq;
    Ok((journal, state))
}
