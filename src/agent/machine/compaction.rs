//! Compaction, as part of a turn: asked for between two steps, and its answer put into the place of history.

use std::time::Duration;

use super::model::Question;
use super::{Effect, Machine, Progress};
use crate::agent::compaction::{self, Summary};
use crate::agent::events::{Event, ItemStatus};
use crate::agent::journal::Barrier;
use crate::agent::journal::record::{HistoryReplaced, ModelEnd, RequestKind, Retries};
use crate::agent::thread::{Compaction, Thread};
use crate::agent::tools::mcp::selection::Offer;
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::llm::wire::COMPACTION;
use crate::llm::{Item, ThreadItem};

/// How often a summary is asked for when what comes cannot be used. A model that answers twice without a word will the
/// third time, and the work goes on better without a summary than not at all.
const SUMMARY_TRIES: u32 = 2;

/// What MCP servers offer for the window that a compaction begins. Not in the journal before it is a fact of the thread:
/// another process starts the servers again and asks anew.
#[derive(Debug, Default)]
pub(super) enum Offers {
    /// They were not asked.
    #[default]
    Unknown,
    /// They are asked.
    Asked,
    /// They have answered.
    Known(Vec<Offer>),
}

impl Machine {
    /// Asks for the next step of the turn, or for a compaction before it.
    pub(super) fn ask_step(&mut self, effects: &mut Vec<Effect>) -> Progress {
        let is_due = |thread: &Thread| compaction::is_due(thread, self.config.context_window);
        if self.thread().is_some_and(is_due) {
            self.compact(effects)
        } else {
            self.ask(Question::turn(), effects)
        }
    }

    /// The provider found the newest request of the turn too long.
    pub(super) fn too_long(&mut self, message: &str, effects: &mut Vec<Effect>) -> Progress {
        let Some(thread) = self.thread() else { return Progress::Wait };
        if thread.compacted {
            self.ask(Question::turn(), effects)
        } else if thread.history.has_answers() {
            self.compact(effects)
        } else {
            let outcome = Outcome {
                reason: Reason::ModelFailed,
                message: format!(
                    "{message} Nothing that could be summed up is left: shorten the prompt, spec.instructions or the \
                     repository's AGENTS.md, or use a model with a larger context window. The patch so far is kept."
                ),
            };
            self.end(outcome, effects);
            Progress::Wait
        }
    }

    /// Asks for a compaction.
    fn compact(&mut self, effects: &mut Vec<Effect>) -> Progress {
        if self.knows_offers(effects) { self.ask(Question::compaction(0), effects) } else { Progress::Wait }
    }

    /// Whether it is known what MCP servers offer. If not they are asked, before the summary is: then no crash between
    /// the two costs a request. A suspended agent asks when it goes on.
    fn knows_offers(&mut self, effects: &mut Vec<Effect>) -> bool {
        match self.offers {
            Offers::Known(_) => true,
            Offers::Asked => false,
            Offers::Unknown if self.config.mcp_servers && !self.suspended => {
                self.offers = Offers::Asked;
                effects.push(Effect::ListTools);
                false
            }
            Offers::Unknown => true,
        }
    }

    /// The MCP servers were asked what they offer.
    pub(super) fn tools_listed(&mut self, offers: Vec<Offer>) {
        if matches!(self.offers, Offers::Asked) {
            self.offers = Offers::Known(offers);
        }
    }

    /// Whether the MCP servers are being asked.
    pub(super) fn lists_tools(&self) -> bool {
        matches!(self.offers, Offers::Asked)
    }

    /// Goes on with a compaction whose newest request is over.
    pub(super) fn go_on_compacting(&mut self, under_way: Compaction, effects: &mut Vec<Effect>) -> Progress {
        let Compaction { left_out, end, unusable } = under_way;
        // Not so after a restart.
        if !self.knows_offers(effects) {
            return Progress::Wait;
        }
        let again = Question::compaction(left_out);
        match end {
            // Of a whole response only a crash can have lost the words: it is followed by their use at once.
            None | Some(ModelEnd::Completed { .. } | ModelEnd::Broken { .. }) => self.ask(again, effects),
            Some(ModelEnd::Retry { after_ms, retries, reread_credential, message: _, leave_out: _ }) => {
                let again = Question { retries, reread_credential, ..again };
                self.ask_after(Duration::from_millis(after_ms), again, effects)
            }
            Some(ModelEnd::Unavailable { after_ms, retries, message: _ }) => {
                let after = Duration::from_millis(after_ms).min(self.outage_left());
                self.ask_after(after, Question { retries, ..again }, effects)
            }
            Some(ModelEnd::TooLong { message }) => self.leave_out(left_out, &message, effects),
            Some(ModelEnd::Unusable { .. }) if unusable < SUMMARY_TRIES => self.ask(again, effects),
            Some(ModelEnd::Unusable { .. }) => {
                self.replace_history(Summary::Missing, effects);
                Progress::Again
            }
            Some(ModelEnd::Failed { outcome }) => {
                self.end(outcome, effects);
                Progress::Wait
            }
        }
    }

    /// An item of a compaction's response. Only its words matter, and they enter no history as they are.
    pub(super) fn draft(&mut self, item: ThreadItem) {
        self.draft.push(item);
    }

    /// The response to a compaction's request is whole: how the request ended, and what there is to use.
    pub(super) fn drafted(&mut self, response_id: Option<String>) -> (ModelEnd, Option<Summary>) {
        let mut draft = std::mem::take(&mut self.draft);
        if self.thread().is_some_and(|thread| compaction::native(thread).is_some()) {
            draft.retain(|item| matches!(&item.item, Item::Opaque(opaque) if opaque.kind == COMPACTION));
            return match (draft.pop(), draft.is_empty()) {
                (Some(payload), true) => {
                    (ModelEnd::Completed { response_id, end_turn: None }, Some(Summary::Payload(payload)))
                }
                (Some(_) | None, _) => {
                    let message =
                        "The provider was asked to compact the thread and did not answer with exactly one \
                                   compaction; the model is asked for a summary in words."
                            .to_owned();
                    (ModelEnd::Unusable { message }, None)
                }
            };
        }
        // What it calls all the same is ignored.
        let words: Vec<String> = draft.iter().filter_map(|item| item.item.words()).collect();
        let words = words.join("\n\n").trim().to_owned();
        if words.is_empty() {
            let message = "The model was asked to sum up the thread and answered without a word.".to_owned();
            (ModelEnd::Unusable { message }, None)
        } else {
            (ModelEnd::Completed { response_id, end_turn: None }, Some(Summary::Words(words)))
        }
    }

    /// The thread goes on from what was made of it.
    pub(super) fn replace_history(&mut self, summary: Summary, effects: &mut Vec<Effect>) {
        let offers = match std::mem::take(&mut self.offers) {
            Offers::Known(offers) => offers,
            Offers::Unknown | Offers::Asked => Vec::new(),
        };
        let Some(thread) = self.thread() else { return };
        let ordinal = thread.history.len() as u64;
        let (window, boot) = (self.config.context_window, self.boot.as_ref());
        let (tools, left_out) = thread.renewed(offers, boot);
        let replaced = HistoryReplaced { tools, ..compaction::replacement(thread, window, boot, summary) };
        let number = replaced.window;
        self.append(replaced, effects);
        effects.push(Effect::Barrier(Barrier::Request));
        let warnings = left_out.into_iter().map(|message| Event::Error { message, will_retry: false });
        effects.extend(warnings.map(Effect::Emit));
        effects.push(Effect::Emit(Event::compaction(ordinal, number, ItemStatus::Completed)));
    }

    /// A compaction begins with its first request.
    pub(super) fn compaction_begins(&self, effects: &mut Vec<Effect>) {
        if let Some(thread) = self.thread() {
            effects.push(show(thread, ItemStatus::InProgress));
        }
    }

    /// The turn ends with a compaction under way.
    pub(super) fn abandon_compaction(&mut self, effects: &mut Vec<Effect>) {
        self.draft.clear();
        if let Some(thread) = self.thread().filter(|thread| thread.compaction.is_some()) {
            effects.push(show(thread, ItemStatus::Failed));
        }
    }

    /// The compaction's own request does not fit: it leaves out twice as much as before and one unit more, so that the
    /// number of requests stays small whatever the length of the thread.
    fn leave_out(&mut self, left_out: u64, message: &str, effects: &mut Vec<Effect>) -> Progress {
        let Some(thread) = self.thread() else { return Progress::Wait };
        let units = thread.history.units(compaction::end(thread, self.config.context_window)) as u64;
        if left_out < units {
            return self.ask(Question::compaction((2 * left_out + 1).min(units)), effects);
        }
        let outcome = Outcome {
            reason: Reason::ModelFailed,
            message: format!(
                "{message} The thread could not be summed up either, with everything left out that can be: use a model \
                 with a larger context window. The patch so far is kept."
            ),
        };
        self.end(outcome, effects);
        Progress::Wait
    }
}

impl Question {
    /// For a summary of the thread, without its first units.
    fn compaction(left_out: u64) -> Self {
        Self {
            kind: RequestKind::Compaction,
            left_out,
            retries: Retries::default(),
            reread_credential: false,
        }
    }
}

/// What surfaces are told of a compaction that has put nothing into the place of history.
fn show(thread: &Thread, status: ItemStatus) -> Effect {
    let ordinal = thread.history.len() as u64;
    Effect::Emit(Event::compaction(ordinal, thread.history.next_window(), status))
}
