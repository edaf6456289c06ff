//! What was refused, until the model is told: each refusal once, beside the output of the command that asked.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwright_sandboxd::protocol::OpId;

/// Different refusals of one command that are told in words; others are counted. A command that tries many hosts is not
/// served better by more.
const TOLD_MAX: usize = 8;

/// The refusals of an attempt. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<State>>);

/// How many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// All of them.
    pub count: u64,
    /// The newest, as a sentence; empty for none.
    pub last: String,
}

#[derive(Debug, Default)]
struct State {
    total: Total,
    /// Of commands that somebody looks at.
    watched: HashMap<OpId, Told>,
    /// Of everything else: told beside the next look at any command.
    others: Told,
}

#[derive(Debug, Default)]
struct Told {
    sentences: Vec<(String, u64)>,
    more: u64,
}

impl Refusals {
    /// Goes on counting where an earlier process stopped.
    #[must_use]
    pub fn after(total: Total) -> Self {
        Self(Arc::new(Mutex::new(State { total, ..State::default() })))
    }

    /// From now on a command's refusals are told beside its own output.
    pub fn watch(&self, process: &OpId) {
        self.state().watched.entry(process.clone()).or_default();
    }

    /// A command has ended; what comes later, or was not told, is told beside another.
    pub fn leave(&self, process: &OpId) {
        let mut state = self.state();
        if let Some(told) = state.watched.remove(process) {
            state.others.join(told);
        }
    }

    /// Something was refused.
    pub fn record(&self, process: Option<&OpId>, sentence: String) {
        let mut state = self.state();
        state.total.count += 1;
        state.total.last.clone_from(&sentence);
        let State { watched, others, .. } = &mut *state;
        process.and_then(|process| watched.get_mut(process)).unwrap_or(others).add(sentence, 1);
    }

    /// What a command's reader is to be told beside its output; each refusal once.
    #[must_use]
    pub fn take(&self, process: &OpId) -> Option<String> {
        let mut state = self.state();
        let mut told = std::mem::take(&mut state.others);
        if let Some(own) = state.watched.get_mut(process) {
            told.join(std::mem::take(own));
        }
        told.note()
    }

    /// How many there were, whoever was told.
    #[must_use]
    pub fn total(&self) -> Total {
        self.state().total.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn add(&mut self, sentence: String, times: u64) {
        let has_room = self.sentences.len() < TOLD_MAX;
        match self.sentences.iter_mut().find(|(known, _)| *known == sentence) {
            Some((_, count)) => *count += times,
            None if has_room => self.sentences.push((sentence, times)),
            None => self.more += times,
        }
    }

    fn join(&mut self, other: Self) {
        other.sentences.into_iter().for_each(|(sentence, times)| self.add(sentence, times));
        self.more += other.more;
    }

    fn note(&self) -> Option<String> {
        if self.sentences.is_empty() {
            return None;
        }
        let mut note = String::from("[The network proxy of the sandbox has refused:");
        for (sentence, times) in &self.sentences {
            // Writing to a string cannot fail.
            let _ = match times {
                1 => write!(note, "\n- {sentence}"),
                times => write!(note, "\n- {sentence} ({times} times)"),
            };
        }
        if self.more > 0 {
            let _ = write!(note, "\n- and {} more", self.more);
        }
        note.push(']');
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(id: &str) -> OpId {
        OpId::new(id).unwrap()
    }

    #[test]
    fn each_refusal_is_told_once_beside_the_command_that_asked() {
        let refusals = Refusals::default();
        let (a, b) = (op("a"), op("b"));
        refusals.watch(&a);
        refusals.watch(&b);
        assert_eq!(refusals.take(&a), None);
        for _ in 0..3 {
            refusals.record(Some(&a), "x.example:443: no".into());
        }
        refusals.record(Some(&b), "y.example:443: no".into());
        assert_eq!(
            refusals.take(&a).unwrap(),
            "[The network proxy of the sandbox has refused:\n- x.example:443: no (3 times)]"
        );
        assert_eq!(refusals.take(&a), None);
        // What a command leaves untold, what comes after its end and what is nobody's is told beside the next one.
        refusals.leave(&b);
        refusals.record(Some(&b), "z.example:443: no".into());
        refusals.record(None, "y.example:443: no".into());
        assert_eq!(
            refusals.take(&a).unwrap(),
            "[The network proxy of the sandbox has refused:\n- y.example:443: no (2 times)\n- z.example:443: no]"
        );
        assert_eq!(refusals.total(), Total { count: 6, last: "y.example:443: no".into() });
    }

    #[test]
    fn many_are_counted_and_a_new_process_goes_on_counting() {
        let refusals = Refusals::after(Total { count: 5, last: "before".into() });
        let a = op("a");
        refusals.watch(&a);
        for number in 0..1000 {
            refusals.record(Some(&a), format!("{number}.example:443: no"));
        }
        let note = refusals.take(&a).unwrap();
        assert_eq!(note.lines().count(), TOLD_MAX + 2);
        assert!(note.ends_with(&format!("- and {} more]", 1000 - TOLD_MAX)), "{note}");
        assert_eq!(refusals.total().count, 1005);
    }
}
