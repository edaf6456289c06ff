//! Ends: of a turn, by a limit, of the attempt.

use super::{Effect, Machine, Progress, Stage};
use crate::agent::budget::Limit;
use crate::agent::events::{ErrorText, Event};
use crate::agent::journal::Barrier;
use crate::agent::journal::record::{
    BrokenBy, BudgetTripped, FinishDone, FinishIntent, TurnEnded, TurnStatus,
};
use crate::api::attempt::{EMPTY_REPLY, Outcome};
use crate::api::reasons::{Reason, Verdict};

impl Machine {
    /// The model has answered.
    pub(super) fn complete_turn(&mut self, effects: &mut Vec<Effect>) {
        self.end_turn(TurnStatus::Completed, None, effects);
        let usage = self.state.spent.usage.into();
        effects.push(Effect::Barrier(Barrier::End));
        effects.push(Effect::Emit(Event::TurnCompleted { usage }));
    }

    /// A turn came to its end by itself, or is cut off by the end of the attempt.
    fn end_turn(&mut self, status: TurnStatus, outcome: Option<Outcome>, effects: &mut Vec<Effect>) {
        let answer = self.thread().map(|thread| thread.answer.clone()).unwrap_or_default();
        let last_message = if answer.is_empty() && status == TurnStatus::Completed {
            EMPTY_REPLY.to_owned()
        } else {
            answer
        };
        self.append(TurnEnded { status, last_message, outcome }, effects);
    }

    /// No turn goes on and nobody asked for another one.
    pub(super) fn rest(&mut self, effects: &mut Vec<Effect>) -> Progress {
        if self.state.idle >= self.config.keep {
            let outcome = self.completed();
            self.end(outcome, effects);
        } else if !self.idle {
            self.idle = true;
            effects.push(Effect::ShowPatch);
        }
        Progress::Wait
    }

    /// A limit forbids going on.
    pub(super) fn trip(&mut self, limit: Limit, effects: &mut Vec<Effect>) -> Progress {
        self.append(BudgetTripped { limit: limit.field().to_owned() }, effects);
        let limits = &self.config.limits;
        let (cause, outcome) = (limit.shown(limits), limit.outcome(limits));
        self.end_by(&cause, outcome, effects);
        Progress::Wait
    }

    /// Ends the attempt.
    pub(super) fn end(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        let cause = if outcome.reason == Reason::Cancelled {
            "user".to_owned()
        } else {
            format!("the end of the task ({})", outcome.reason.as_str())
        };
        self.end_by(&cause, outcome, effects);
    }

    /// Closes what is open, so that the thread reads whole, and asks for the results. `cause` is what the calls that are
    /// under way were aborted by.
    fn end_by(&mut self, cause: &str, outcome: Outcome, effects: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Finishing | Stage::Done) {
            return;
        }
        self.stage = Stage::Finishing;
        self.idle = false;
        self.retry_at = None;
        if self.thread().is_some_and(|thread| thread.request.is_some()) {
            effects.push(Effect::StopModel);
            self.break_request(BrokenBy::TurnEnd, effects);
        }
        self.abandon_compaction(effects);
        self.abort_calls(cause, effects);
        let in_turn = self.thread().is_some_and(|thread| thread.in_turn);
        if in_turn {
            let status = if outcome.reason == Reason::Cancelled {
                self.leave_trace(effects);
                TurnStatus::Interrupted
            } else {
                TurnStatus::Failed
            };
            self.end_turn(status, Some(outcome.clone()), effects);
        }
        if outcome.reason.verdict() == Verdict::Failed {
            let message = outcome.message.clone();
            effects.push(Effect::Emit(if in_turn {
                Event::TurnFailed { error: ErrorText { message } }
            } else {
                Event::Error { message, will_retry: false }
            }));
        }
        self.append(FinishIntent { outcome: outcome.clone() }, effects);
        effects.push(Effect::Barrier(Barrier::End));
        effects.push(Effect::Finish(outcome));
    }

    /// The results are gathered and published with the outcome that they make, if it is known by now.
    pub(super) fn published(&mut self, outcome: Option<Outcome>, effects: &mut Vec<Effect>) {
        self.stage = Stage::Done;
        self.append(FinishDone { outcome }, effects);
        effects.push(Effect::Barrier(Barrier::End));
        effects.push(Effect::Exit);
    }

    fn completed(&self) -> Outcome {
        let message = self.thread().map(|thread| thread.last_message.clone()).unwrap_or_default();
        Outcome { reason: Reason::Completed, message }
    }
}
