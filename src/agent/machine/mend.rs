//! Failures that are mended by another request: the same one would only fail again. And a request that would fail.

use super::{Effect, Machine};
use crate::agent::events::Event;
use crate::agent::journal::record::{ItemAppended, ModelEnd, ModelEnded, ModelIntent, RequestKind, Retries};
use crate::agent::thread::Thread;
use crate::llm::{Fatal, FatalKind, ModelError, Role, ThreadItem, Usage};

/// What the model reads after a response that its output limit cut off: asked again as it was, it would write as much.
const CUT_OFF: &str = "<response_cut_off>\nYour last response reached the limit of output tokens and was cut off. What \
     was not whole of it is lost, and none of its calls ran. Go on in smaller pieces: a shorter answer, or fewer and smaller \
     changes in one call.\n</response_cut_off>";

/// What the model reads after words of its own whose response was not read to its end: the process that read it died.
const NOT_WHOLE: &str = "<response_interrupted>\nYour last response was read up to here, and whether there was more of it is \
     not known. If the task is done, give your final answer again; if not, go on.\n</response_interrupted>";

/// How the next request differs from one that failed.
pub(super) struct Mend {
    retries: Retries,
    /// An item that is sent no more.
    leave_out: Option<u64>,
    /// What is said after it.
    note: Option<ThreadItem>,
}

/// How a failure can be mended, once a step each.
pub(super) fn mend(thread: &Thread, intent: &ModelIntent, error: &ModelError) -> Option<Mend> {
    let ModelError::Fatal(Fatal { kind, .. }) = error else { return None };
    if intent.kind != RequestKind::Turn {
        return None;
    }
    // A repetition, so that it belongs to a step that was counted already.
    let retries = Retries { stream: intent.retries.stream + 1, ..intent.retries };
    match kind {
        FatalKind::InvalidRequest if !retries.left_out => {
            let leave_out = Some(thread.history.dangling_reasoning()?);
            Some(Mend { retries: Retries { left_out: true, ..retries }, leave_out, note: None })
        }
        FatalKind::Incomplete if !retries.continued => {
            let note = thread.message(Role::User, CUT_OFF);
            Some(Mend { retries: Retries { continued: true, ..retries }, leave_out: None, note: Some(note) })
        }
        FatalKind::InvalidRequest
        | FatalKind::Incomplete
        | FatalKind::ContextWindowExceeded
        | FatalKind::Quota
        | FatalKind::InvalidPrompt
        | FatalKind::Refused
        | FatalKind::Oversized => None,
    }
}

impl Machine {
    /// Ends a failed request so that the next one is sent at once, changed.
    pub(super) fn ask_mended(
        &mut self,
        request: u64,
        mend: Mend,
        message: String,
        usage: Usage,
        effects: &mut Vec<Effect>,
    ) {
        let Mend { retries, leave_out, note } = mend;
        effects.push(Effect::Emit(Event::Error { message: message.clone(), will_retry: true }));
        let end = ModelEnd::Retry { message, after_ms: 0, retries, reread_credential: false, leave_out };
        self.append(ModelEnded { request, end, usage }, effects);
        // Lost in a crash, the request goes out without it: no more than a worse chance.
        if let (Some(item), Some(thread)) = (note, self.thread()) {
            let ordinal = thread.history.len() as u64;
            self.append(ItemAppended { ordinal, request: None, item }, effects);
        }
    }

    /// Has the next request of a turn end with the user's word on the APIs that have messages. What is kept of a response
    /// would be last in it when the process died before the response was told whole, and servers refuse to go on from the
    /// model's own words. A response that the provider paused is sent back as it came. Told from history alone, so that
    /// another crash leads to no second note.
    pub(super) fn end_with_the_users_word(&mut self, effects: &mut Vec<Effect>) {
        let Some(thread) = self.thread() else { return };
        let is_paused = matches!(thread.last_end, Some(ModelEnd::Completed { end_turn: Some(false), .. }));
        if is_paused || !thread.history.ends_with_the_model() {
            return;
        }
        let (ordinal, item) = (thread.history.len() as u64, thread.message(Role::User, NOT_WHOLE));
        self.append(ItemAppended { ordinal, request: None, item }, effects);
    }
}
