//! What people say, and how it enters the thread: as the beginning of a turn, or in the middle of one.

use super::{Effect, Machine, Stage};
use crate::agent::events::Event;
use crate::agent::journal::Barrier;
use crate::agent::journal::record::{InputAccepted, InputKind, ItemAppended, TurnStarted, TurnSteered};
use crate::agent::prompt::skills;
use crate::agent::thread::Thread;
use crate::llm::{ContentPart, Message, Role, ThreadItem};

/// The second trace of an interrupt, beside the outputs of the calls that it aborted: whoever goes on with the thread
/// knows from it that the turn did not end by itself.
const TURN_ABORTED: &str = "<turn_aborted>\nThe user interrupted this turn on purpose. Commands and patches that were \
     under way were stopped and may have been carried out in part: look at the state of the workspace before you \
     repeat any of them.\n</turn_aborted>";

impl Machine {
    /// Takes in what somebody said. What comes of it is decided when the machine looks what to do next, so that a
    /// process that dies in between forgets nothing.
    pub(super) fn message(&mut self, message: InputAccepted, effects: &mut Vec<Effect>) {
        // Nothing answers a message any more once the end is decided. It is left unacknowledged, and whoever
        // delivers messages tells its sender so.
        if matches!(self.stage, Stage::Finishing | Stage::Done) {
            return;
        }
        let is_known = self.state.has_accepted(&message.uid);
        // One that was delivered again under a higher number is acknowledged by that number too.
        if is_known && message.seq <= self.state.inbox_seq {
            return;
        }
        let begins = message.kind == InputKind::Prompt && !is_known;
        self.append(message, effects);
        effects.push(Effect::Barrier(Barrier::Accepted));
        if begins {
            self.idle = false;
        }
    }

    /// Begins a turn with a prompt.
    pub(super) fn start_turn(&mut self, prompt: InputAccepted, effects: &mut Vec<Effect>) {
        let Some(thread) = self.thread() else { return };
        let items = words_of_a_person(thread, prompt.text, prompt.attachments);
        self.idle = false;
        self.append(TurnStarted { input_uid: prompt.uid, items }, effects);
        effects.push(Effect::Emit(Event::TurnStarted {}));
    }

    /// What was said during the turn joins it: after the outputs of a step whose response is whole, as a message of
    /// the user. A step that was to be the last one gets another one after it. A request that is repeated brings
    /// nothing new, since the model has not answered it yet.
    pub(super) fn steer(&mut self, prompt: InputAccepted, effects: &mut Vec<Effect>) {
        let Some(thread) = self.thread() else { return };
        let items = words_of_a_person(thread, prompt.text, prompt.attachments);
        self.append(TurnSteered { input_uid: prompt.uid, items }, effects);
    }

    /// Says in the thread that a person interrupted the turn.
    pub(super) fn leave_trace(&mut self, effects: &mut Vec<Effect>) {
        let Some(thread) = self.thread() else { return };
        let (ordinal, item) = (thread.history.len() as u64, thread.message(Role::User, TURN_ABORTED));
        self.append(ItemAppended { ordinal, request: None, item }, effects);
    }
}

/// What a person says with what comes with it, and after it the skills that it names.
fn words_of_a_person(thread: &Thread, text: String, attachments: Vec<ContentPart>) -> Vec<ThreadItem> {
    let opened = &thread.opened;
    let skills = skills::named_in(&text, &opened.skills);
    let content = [ContentPart::Text { text }].into_iter().chain(attachments).collect();
    let said = Message { role: Role::User, content };
    [said]
        .into_iter()
        .chain(skills)
        .map(|message| opened.wire.message(message, &opened.capabilities))
        .collect()
}
