//! Beginnings: of a process, which may be one of many, and of the thread.

use super::{Effect, Machine, Prepared, Stage, internal_error};
use crate::agent::events::Event;
use crate::agent::journal::Barrier;
use crate::agent::journal::record::EpochStarted;
use crate::agent::recover;

/// Processes that may die one after the other without getting anything done. A fault that kills three of
/// them will kill the next as well.
const FRUITLESS_STARTS_MAX: u32 = 4;

impl Machine {
    /// A process began: what it goes on with.
    pub(super) fn started(&mut self, epoch: u32, record: EpochStarted, effects: &mut Vec<Effect>) {
        if self.state.published {
            self.stage = Stage::Done;
            effects.push(Effect::Exit);
            return;
        }
        self.state.epoch = epoch;
        self.append(record, effects);
        effects.push(Effect::Barrier(Barrier::Opened));
        if let Some(outcome) = self.state.outcome.clone() {
            self.stage = Stage::Finishing;
            effects.push(Effect::Finish(outcome));
        } else if self.state.fruitless_starts >= FRUITLESS_STARTS_MAX {
            let restarts = FRUITLESS_STARTS_MAX - 1;
            let message = format!("CrashLoop: the agent ended unexpectedly {restarts} times in a row");
            self.end(internal_error(&message), effects);
        } else if let Some(thread) = &self.state.thread {
            self.stage = Stage::Surveying;
            effects.push(Effect::Survey(recover::questions(thread)));
        } else {
            self.stage = Stage::Preparing;
            effects.push(Effect::Prepare);
        }
    }

    /// The workspace is ready, so the thread opens.
    pub(super) fn prepared(&mut self, prepared: Prepared, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Preparing {
            return;
        }
        let Prepared { opened, prompt, boot } = prepared;
        self.stage = Stage::Working;
        self.boot = Some(boot);
        // The prompt first: a write that tears between the two must leave no thread that nobody asked anything. Without
        // a thread the next process prepares again, and drops the prompt that it has.
        self.append(prompt, effects);
        effects.push(Effect::Emit(Event::ThreadStarted { thread_id: opened.thread_id.clone() }));
        self.append(opened, effects);
        effects.push(Effect::Barrier(Barrier::Opened));
    }
}
