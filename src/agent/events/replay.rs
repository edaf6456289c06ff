//! The stream once more, from the journal: what a surface is told that was away, or that comes after a restart.
//!
//! Everything that was told with a cursor is told again from records alone. Only the words differ where the log had more
//! than the model read. Deltas are gone: the items are there whole. An item that a crash cut off is closed.

use super::streaming::unfinished;
use super::told::{Cursor, Told};
use super::{ErrorText, Event, FileChange, ItemDetails, ItemStatus, ThreadEventItem, TodoItem};
use crate::agent::journal::record::{
    BrokenBy, CallEnded, CallIntent, CallOutcome, Entry, ModelEnd, ModelEnded, Record, RequestKind,
    TurnStatus,
};
use crate::agent::state::{FoldError, State};
use crate::agent::thread::Thread;
use crate::agent::tools::ToolCall;
use crate::api::reasons::Verdict;
use crate::llm::Usage;
use podwright_sandboxd::protocol::Exit;

/// What people read when the agent's process ended in the middle of a response.
pub const BROKEN_BY_RESTART: &str =
    "The agent was restarted in the middle of a response; the model is asked again.";

/// Tells everything after `after` again, or everything.
///
/// # Errors
/// [`FoldError`] for a journal that this program never writes.
pub fn replay<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    after: Option<Cursor>,
) -> Result<Vec<Told>, FoldError> {
    let mut state = State::default();
    let mut turn_failed = false;
    let mut all = Vec::new();
    for entry in entries {
        let compacts = state.thread.as_ref().is_some_and(|thread| thread.compaction.is_some());
        state.apply(entry)?;
        if let Record::TurnEnded(ended) = &entry.record {
            turn_failed = ended.status != TurnStatus::Completed;
        }
        let cursor = Cursor { epoch: entry.epoch, seq: entry.seq };
        if after.is_some_and(|after| cursor <= after) {
            continue;
        }
        let mut told: Vec<Told> =
            events(entry, &state, Before { turn_failed, compacts }).into_iter().map(Told::from).collect();
        if let Some(last) = told.last_mut() {
            last.cursor = Some(cursor);
        }
        all.extend(told);
    }
    Ok(all)
}

/// What surfaces are told of a record besides what the machine and its calls tell. `state` has taken the record in.
pub fn beside(entry: &Entry, state: &State) -> Option<Event> {
    if let Record::ModelEnded(ended) = &entry.record
        && ended.usage != Usage::default()
    {
        return Some(Event::UsageUpdated { usage: state.spent.usage.into() });
    }
    let Record::CallEnded(ended) = &entry.record else { return None };
    let thread = state.thread.as_ref()?;
    thread.plan_at(ended.ordinal)?;
    Some(Event::PlanUpdated { items: thread.plan.iter().map(TodoItem::from).collect() })
}

/// What was so before a record.
#[derive(Clone, Copy)]
struct Before {
    /// Whether the newest turn has failed.
    turn_failed: bool,
    /// Whether a compaction was under way.
    compacts: bool,
}

fn events(entry: &Entry, state: &State, before: Before) -> Vec<Event> {
    let mut events = Vec::new();
    match &entry.record {
        Record::ThreadOpened(opened) => {
            events.push(Event::ThreadStarted { thread_id: opened.thread_id.clone() });
        }
        Record::TurnStarted(_) => events.push(Event::TurnStarted {}),
        Record::TurnEnded(ended) if ended.status == TurnStatus::Completed => {
            events.push(Event::TurnCompleted { usage: state.spent.usage.into() });
        }
        Record::ItemAppended(appended) if appended.request.is_some() => {
            if let Some(details) = ItemDetails::of_model(&appended.item.item) {
                events.push(Event::ItemCompleted { item: ThreadEventItem::new(appended.ordinal, details) });
            }
        }
        Record::ModelIntent(intent) if intent.kind == RequestKind::Compaction && !before.compacts => {
            events.extend(compaction(state, ItemStatus::InProgress));
        }
        Record::HistoryReplaced(_) => events.extend(compaction(state, ItemStatus::Completed)),
        Record::ModelEnded(ended) => events.extend(interruption(ended, state)),
        Record::AnswerRejected(rejected) => {
            events.push(Event::Error { message: rejected.told(), will_retry: true });
        }
        Record::CallIntent(intent) => events.extend(started(intent, state)),
        Record::CallEnded(ended) => events.extend(ended_call(ended, state)),
        Record::FinishIntent(finish) if finish.outcome.reason.verdict() == Verdict::Failed => {
            let message = finish.outcome.message.clone();
            events.push(if before.turn_failed {
                Event::TurnFailed { error: ErrorText { message } }
            } else {
                Event::Error { message, will_retry: false }
            });
        }
        Record::FinishDone(done) => {
            events.extend(done.outcome.clone().map(|outcome| Event::ThreadEnded { outcome }));
        }
        Record::FinishIntent(_)
        | Record::TurnEnded(_)
        | Record::ItemAppended(_)
        | Record::EpochStarted(_)
        | Record::InputAccepted(_)
        | Record::TurnSteered(_)
        | Record::SandboxNoted(_)
        | Record::ModelIntent(_)
        | Record::SessionOpened(_)
        | Record::SessionMoved(_)
        | Record::SessionClosed(_)
        | Record::TimePassed(_)
        | Record::BudgetTripped(_) => {}
    }
    events.extend(beside(entry, state));
    events
}

/// What a request that did not end well is told as.
fn interruption(ended: &ModelEnded, state: &State) -> Vec<Event> {
    let again = |message: &str| Event::Error { message: message.to_owned(), will_retry: true };
    match &ended.end {
        ModelEnd::Retry { message, .. }
        | ModelEnd::Unavailable { message, .. }
        | ModelEnd::TooLong { message }
        | ModelEnd::Unusable { message } => vec![again(message)],
        ModelEnd::Broken { cause: BrokenBy::AgentRestart } => {
            let next = state.thread.as_ref().map_or(0, |thread| thread.history.len() as u64);
            vec![unfinished(next), again(BROKEN_BY_RESTART)]
        }
        ModelEnd::Broken { cause: BrokenBy::TurnEnd }
        | ModelEnd::Completed { .. }
        | ModelEnd::Failed { .. } => Vec::new(),
    }
}

/// The beginning of a compaction, or its end, when the window that it makes is there.
fn compaction(state: &State, status: ItemStatus) -> Option<Event> {
    let history = &state.thread.as_ref()?.history;
    let next = history.next_window();
    let (place, window) = match status {
        ItemStatus::InProgress => (history.len(), next),
        ItemStatus::Completed | ItemStatus::Failed => (*history.windows().last()?, next - 1),
    };
    Some(Event::compaction(place as u64, window, status))
}

fn started(intent: &CallIntent, state: &State) -> Option<Event> {
    let thread = state.thread.as_ref()?;
    let details = match thread.meaning(thread.call_at(intent.ordinal)?).ok()? {
        ToolCall::Mcp(call) => ItemDetails::mcp_begun(&call),
        ToolCall::ExecCommand(command) => {
            ItemDetails::command(&command.cmd, "", None, ItemStatus::InProgress)
        }
        ToolCall::WriteStdin(_)
        | ToolCall::ApplyPatch(_)
        | ToolCall::UpdatePlan(_)
        | ToolCall::ViewImage(_) => return None,
    };
    Some(Event::ItemStarted { item: ThreadEventItem::new(intent.ordinal, details) })
}

/// The end of a call, by the words that the model reads. `state` has taken the record in.
pub fn ended_call(ended: &CallEnded, state: &State) -> Option<Event> {
    let thread = state.thread.as_ref()?;
    let call = thread.call_at(ended.ordinal)?;
    let status = match ended.outcome {
        CallOutcome::Ok => ItemStatus::Completed,
        CallOutcome::Error | CallOutcome::Interrupted | CallOutcome::Unknown => ItemStatus::Failed,
    };
    let item = |details| Event::ItemCompleted { item: ThreadEventItem::new(ended.ordinal, details) };
    match thread.meaning(call) {
        Ok(ToolCall::ExecCommand(_)) => ran(thread, ended, ended.ordinal),
        Ok(ToolCall::WriteStdin(write)) => {
            ran(thread, ended, thread.sessions.get(&write.session_id)?.ordinal)
        }
        Ok(ToolCall::UpdatePlan(_)) => Some(item(ItemDetails::todo_list(&thread.plan))),
        Ok(ToolCall::ApplyPatch(_)) => {
            let open = thread.calls.iter().find(|call| call.ordinal == ended.ordinal);
            let patch = open.and_then(|call| call.intent.as_ref()?.patch.as_ref());
            let files = patch.filter(|_| status == ItemStatus::Completed).map(|patch| &patch.files[..]);
            let changes = files.unwrap_or_default().iter().map(FileChange::from).collect();
            Some(item(ItemDetails::FileChange { changes, status }))
        }
        Ok(ToolCall::Mcp(call)) => Some(item(ItemDetails::mcp_ended(&call, &ended.output, ended.outcome))),
        Ok(ToolCall::ViewImage(_)) | Err(_) => {
            let is_image = ended.output.starts_with("data:");
            let output = if is_image { String::new() } else { ended.output.clone() };
            Some(item(ItemDetails::ToolCall { tool: call.name.to_owned(), output, status }))
        }
    }
}

/// A command that has ended, or goes on in the background.
fn ran(thread: &Thread, ended: &CallEnded, ordinal: u64) -> Option<Event> {
    let command = thread.command_at(ordinal)?.cmd;
    let code = ended.exit.as_ref().and_then(|record| record.exit.shell_code());
    let status = match (ended.outcome, &ended.exit) {
        (CallOutcome::Ok, None) => ItemStatus::InProgress,
        (CallOutcome::Ok, Some(record)) if record.exit == Exit::Code(0) => ItemStatus::Completed,
        (CallOutcome::Ok | CallOutcome::Error | CallOutcome::Interrupted | CallOutcome::Unknown, _) => {
            ItemStatus::Failed
        }
    };
    let item = ThreadEventItem::new(ordinal, ItemDetails::command(&command, &ended.output, code, status));
    Some(if status == ItemStatus::InProgress {
        Event::ItemUpdated { item }
    } else {
        Event::ItemCompleted { item }
    })
}
