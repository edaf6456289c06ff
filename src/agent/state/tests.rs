use jiff::Timestamp;

use super::*;
use crate::agent::journal::record::{EpochStarted, FinishIntent, TurnEnded, TurnStatus};
use crate::api::reasons::Reason;

fn entry(seq: u64, active_ms: u64, record: impl Into<Record>) -> Entry {
    let record = record.into();
    Entry { seq, at: Timestamp::UNIX_EPOCH, epoch: 2, turn: 0, step: 0, active_ms, outage_ms: 0, record }
}

fn started() -> EpochStarted {
    EpochStarted { agent_version: String::new(), pod_uid: String::new() }
}

fn prompt(seq: i64) -> InputAccepted {
    InputAccepted {
        uid: format!("u{seq}"),
        seq,
        kind: InputKind::Prompt,
        text: String::new(),
        attachments: vec![],
    }
}

#[test]
fn time_goes_on_from_the_newest_entry_whatever_the_clock_says() {
    let entries = [entry(1, 0, started()), entry(2, 1500, prompt(1)), entry(3, 1500, started())];
    let state = State::fold(&entries).unwrap();
    assert_eq!(state.spent.active, Duration::from_millis(1500));
    assert_eq!((state.next_seq, state.epoch, state.fruitless_starts), (4, 2, 2));
}

#[test]
fn the_tasks_own_prompt_comes_before_what_was_said_during_preparation() {
    let entries = [entry(1, 0, prompt(3)), entry(2, 0, prompt(4)), entry(3, 0, prompt(0))];
    let state = State::fold(&entries).unwrap();
    let order: Vec<i64> = state.prompts.iter().map(|prompt| prompt.seq).collect();
    assert_eq!(order, [0, 3, 4]);
    assert_eq!(state.inbox_seq, 4);
    assert!(state.has_accepted("u3") && !state.has_accepted("u5"));
}

#[test]
fn an_end_before_the_thread_is_open_is_an_end() {
    let outcome = Outcome { reason: Reason::CloneFailed, message: "no".into() };
    let entries = [entry(1, 0, started()), entry(2, 0, FinishIntent { outcome: outcome.clone() })];
    let state = State::fold(&entries).unwrap();
    assert_eq!(state.outcome, Some(outcome));
    assert!(state.thread.is_none() && !state.published);
}

#[test]
fn a_fact_of_no_thread_is_corruption() {
    let ended = TurnEnded { status: TurnStatus::Completed, last_message: String::new(), outcome: None };
    let error = State::fold(&[entry(1, 0, ended)]).unwrap_err();
    assert_eq!(error.to_string(), "JournalCorrupt: record 1 (turn.ended) comes before the thread was opened");
}
