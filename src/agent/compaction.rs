//! Compaction: a thread that nears the end of the model's context window goes on from a summary of itself.
//!
//! The model is asked for the summary with the same tools and the same messages as before and one more, so that the
//! provider has all but the last in its cache. What takes the place of history is the layers that the thread began
//! with, the newest words of people, the summary, and what the harness knows better than any summary: the commands
//! that still run, and the plan.

use std::fmt::Write as _;

use podwright_sandboxd::protocol::BootId;

use super::journal::record::{CarriedSession, HistoryReplaced, SessionOpened};
use super::thread::Thread;
use super::tools::plan::{PlanStep, StepStatus};
use super::tools::truncate::shorten;
use crate::api::conditions::cut;
use crate::llm::wire::NativeCompaction;
use crate::llm::{ContentPart, Item, Role, ThreadItem, tokens};

/// What the model is asked for.
const INSTRUCTION: &str = include_str!("prompt/base/compaction.md");

/// Stands before the summary in the new history.
const PREAMBLE: &str = "The conversation before this message was too long to be kept. This is the handover that the \
     model which worked on the task until now wrote for you. Take it as your own notes: go on from there, do not repeat \
     work that it tells as done, and look at the workspace itself wherever the notes and the files differ.";

/// Stands in the place of a summary that could not be had.
const NO_SUMMARY: &str = "(There is no handover: the model gave none. Look at the workspace and at `git diff` to see \
     what was done.)";

/// Of the context window so many hundredths are used before it is compacted. The rest holds the summary and the
/// reasoning that leads to it.
const PERCENT: u64 = 90;

/// Most tokens of people's words that are kept: a prompt of the largest size, and as much again of what was said later.
const WORDS_MAX: u64 = 20_000;

/// Of a small window at most this part is for the words of people, or it would be full again at once.
const WORDS_SHARE: u64 = 4;

/// Longest command that is told with its session, in bytes: enough to know it by.
const COMMAND_MAX: usize = 200;

/// What the model made of the thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Summary {
    /// In words.
    Words(String),
    /// As something that only the provider understands.
    Payload(ThreadItem),
    /// It could not be had.
    Missing,
}

/// Whether the thread should be compacted before the next request. Without a known window only the provider says when
/// it is too long.
pub fn is_due(thread: &Thread, window: Option<u64>) -> bool {
    let Some(window) = window else { return false };
    !thread.compacted
        && thread.history.has_answers()
        && thread.context_tokens() >= window.saturating_mul(PERCENT) / 100
}

/// How the provider itself compacts the thread; nothing when it cannot, or was asked and gave nothing of use.
pub fn native(thread: &Thread) -> Option<NativeCompaction> {
    let gave_nothing = thread.compaction.as_ref().is_some_and(|compaction| compaction.unusable > 0);
    let opened = &thread.opened;
    opened.wire.compaction(&opened.capabilities).filter(|_| !gave_nothing)
}

/// Where history ends for a compaction. Messages that no request has held yet are not summed up: they stay as they are,
/// behind the summary, unless they are so long that the words of people have to be shortened. A request with nothing but
/// a parameter more needs them as its end.
pub fn end(thread: &Thread, window: Option<u64>) -> usize {
    let unsent = thread.history.unsent_messages();
    let fits = thread.history.tokens_from(unsent) <= words_max(window);
    let has_end = !matches!(native(thread), Some(NativeCompaction::Parameter));
    if fits && has_end { unsent } else { thread.history.len() }
}

/// The item that asks for the compaction, the last one of its request.
pub fn instruction(thread: &Thread) -> ThreadItem {
    thread.message(Role::User, INSTRUCTION.trim_end())
}

/// What takes the place of history. `boot` is the life of the sandbox whose sessions go on.
pub fn replacement(
    thread: &Thread,
    window: Option<u64>,
    boot: Option<&BootId>,
    summary: Summary,
) -> HistoryReplaced {
    let sessions = live_sessions(thread, boot);
    let end = end(thread, window);
    let mut items = words_of_people(thread, window, end);
    let said = items.len() as u64;
    let leads =
        matches!((&summary, native(thread)), (Summary::Payload(_), Some(NativeCompaction::Parameter)));
    match summary {
        Summary::Words(words) => items.push(thread.message(Role::User, format!("{PREAMBLE}\n\n{words}"))),
        Summary::Payload(payload) if leads => items.insert(0, payload),
        Summary::Payload(payload) => items.push(payload),
        Summary::Missing => items.push(thread.message(Role::User, format!("{PREAMBLE}\n\n{NO_SUMMARY}"))),
    }
    items.extend(carried_over(&sessions, &thread.plan).map(|text| thread.message(Role::User, text)));
    items.extend(thread.history.items().skip(end).cloned());
    let from = thread.history.windows().last().copied().unwrap_or_default() as u64;
    HistoryReplaced {
        window: thread.history.next_window(),
        removed: (from, thread.history.len() as u64),
        items,
        leads,
        said,
        unsent: (thread.history.len() - end) as u64,
        sessions,
        plan: thread.plan.clone(),
        tools: None,
    }
}

/// Most tokens of people's words that are kept.
fn words_max(window: Option<u64>) -> u64 {
    window.map_or(WORDS_MAX, |window| WORDS_MAX.min(window / WORDS_SHARE))
}

/// The newest words of people before `end`, oldest first. What does not fit whole beside what comes from there on loses
/// its middle, and what is older is left out.
fn words_of_people(thread: &Thread, window: Option<u64>, end: usize) -> Vec<ThreadItem> {
    let mut left = words_max(window).saturating_sub(thread.history.tokens_from(end));
    let mut kept = Vec::new();
    for ordinal in thread.said.iter().rev().copied().filter(|ordinal| *ordinal < end) {
        let Some(item) = thread.history.item(ordinal) else { continue };
        let Item::Message(message) = &item.item else { continue };
        let text = message.text();
        let is_text = message.content.iter().all(|part| matches!(part, ContentPart::Text { .. }));
        let size = if is_text { tokens(text.len() as u64) } else { thread.history.tokens(ordinal) };
        if size <= left {
            left -= size;
            kept.push(item.clone());
            continue;
        }
        if left > 0 {
            let text = shorten(&text, usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(text);
            kept.push(thread.message(Role::User, text));
        }
        break;
    }
    kept.reverse();
    kept
}

fn live_sessions(thread: &Thread, boot: Option<&BootId>) -> Vec<CarriedSession> {
    let alive = thread.sessions.values().filter(|session| boot.is_none_or(|boot| session.boot == *boot));
    alive
        .map(|session| CarriedSession {
            session: session.session,
            command: command_of(thread, session).unwrap_or_default(),
        })
        .collect()
}

/// The command that a session began with, on one line and shortened.
fn command_of(thread: &Thread, session: &SessionOpened) -> Option<String> {
    let command = thread.command_at(session.ordinal)?;
    let line = command.cmd.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(cut(&line, COMMAND_MAX).to_owned())
}

/// What the harness knows by itself, for the model; nothing when there is nothing.
fn carried_over(sessions: &[CarriedSession], plan: &[PlanStep]) -> Option<String> {
    if sessions.is_empty() && plan.is_empty() {
        return None;
    }
    let mut text = String::from("<carried_over>\n");
    if !sessions.is_empty() {
        text.push_str("Commands that still run, each in a session that you reach by its number:\n");
        for CarriedSession { session, command } in sessions {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "- {session}: {command}");
        }
    }
    if !plan.is_empty() {
        text.push_str("Your plan as you last gave it:\n");
        for PlanStep { step, status } in plan {
            let status = match status {
                StepStatus::Pending => "pending",
                StepStatus::InProgress => "in progress",
                StepStatus::Completed => "completed",
            };
            let _ = writeln!(text, "- [{status}] {step}");
        }
    }
    text.push_str("</carried_over>");
    Some(text)
}

#[cfg(test)]
mod tests;
