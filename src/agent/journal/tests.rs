use std::fs;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::blob::INLINE_MAX;
use super::record::{
    BudgetTripped, CallEnded, CallOutcome, EpochStarted, FinishDone, InputAccepted, InputKind, ItemAppended,
    Record,
};
use super::*;
use crate::llm::{ContentPart, Item, ThreadItem, WireJson};

fn entry(seq: u64, record: impl Into<Record>) -> Entry {
    Entry {
        seq,
        at: Timestamp::from_second(1_700_000_000 + i64::try_from(seq).unwrap()).unwrap(),
        epoch: 1,
        turn: 2,
        step: 3,
        active_ms: 40 + seq,
        outage_ms: 0,
        record: record.into(),
    }
}

fn output(seq: u64, text: &str) -> Entry {
    let output = text.to_owned();
    let outcome = CallOutcome::Ok;
    entry(
        seq,
        CallEnded { ordinal: seq, op: None, outcome, process: None, exit: None, output, images: vec![] },
    )
}

fn some_entries() -> Vec<Entry> {
    // The wire's bytes are none that this program would write: spaces, an unknown member, a big number.
    let raw = r#"{ "type":"message", "x":12345678901234567890123, "text":"über" }"#;
    let wire: WireJson = serde_json::value::RawValue::from_string(raw.to_owned()).unwrap().into();
    let item = ThreadItem { item: Item::message(crate::llm::Role::Assistant, "über"), wire };
    let input = InputAccepted {
        uid: "u".into(),
        seq: 1,
        kind: InputKind::Prompt,
        text: "do\nit".into(),
        attachments: vec![ContentPart::Text { text: "with this".into() }],
    };
    vec![
        entry(1, EpochStarted { agent_version: "0.1.0".into(), pod_uid: "pod".into() }),
        entry(2, input),
        entry(3, ItemAppended { ordinal: 7, request: Some(1), item }),
        output(4, &"long ".repeat(INLINE_MAX)),
        output(5, "short"),
    ]
}

/// A journal with entries, closed.
fn written(entries: &[Entry]) -> TempDir {
    let state = TempDir::new().unwrap();
    let mut journal = Journal::open(state.path()).unwrap().journal;
    journal.append(entries).unwrap();
    journal.barrier(Barrier::Opened).unwrap();
    state
}

fn segment(state: &TempDir) -> PathBuf {
    state.path().join("journal/0001")
}

#[test]
fn what_is_written_is_read() {
    let entries = some_entries();
    let state = written(&entries);
    let opened = Journal::open(state.path()).unwrap();
    assert_eq!(opened.entries, entries);
    assert_eq!(opened.next_seq, 6);
    let text = fs::read_to_string(segment(&state)).unwrap();
    assert!(text.lines().all(|line| line.len() < INLINE_MAX), "long strings are elsewhere");
    assert_eq!(fs::read_dir(state.path().join("blobs")).unwrap().count(), 1);
}

#[test]
fn a_line_is_a_checksum_and_an_envelope() {
    let state = written(&[output(1, "x")]);
    let text = fs::read_to_string(segment(&state)).unwrap();
    let (checksum, json) = text.trim_end().split_once(' ').unwrap();
    assert_eq!(checksum, format!("{:08x}", crc32c::crc32c(json.as_bytes())));
    let mut envelope: Value = serde_json::from_str(json).unwrap();
    let data = envelope.as_object_mut().unwrap().remove("data").unwrap();
    assert_eq!(
        envelope,
        json!({"v": 1, "seq": 1, "at": "2023-11-14T22:13:21Z", "epoch": 1, "turn": 2, "step": 3,
            "activeMs": 41, "critical": true, "type": "call.ended"})
    );
    assert_eq!(data["output"], "x");
}

#[test]
fn every_torn_tail_is_cut_and_the_journal_goes_on() {
    let entries = some_entries();
    let state = written(&entries);
    let whole = fs::read(segment(&state)).unwrap();
    let lines: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for length in 0..=whole.len() {
        fs::write(segment(&state), &whole[..length]).unwrap();
        let complete = lines.iter().filter(|end| **end <= length).count();
        let mut opened = Journal::open(state.path()).unwrap();
        assert_eq!(opened.entries, entries[..complete], "cut at {length}");
        let next = output(opened.next_seq, "after the crash");
        opened.journal.append(std::slice::from_ref(&next)).unwrap();
        drop(opened);
        let again = Journal::open(state.path()).unwrap();
        assert_eq!(again.entries.last(), Some(&next));
        assert_eq!(again.entries.len(), complete + 1);
    }
}

#[test]
fn any_other_damage_is_corruption() {
    let state = written(&some_entries());
    let whole = fs::read(segment(&state)).unwrap();
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for at in [0, 8, 9, first_line / 2, first_line] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(segment(&state), &damaged).unwrap();
        let error = Journal::open(state.path()).unwrap_err();
        assert!(matches!(error, JournalError::Corrupt { line: 1, .. }), "byte {at}: {error}");
    }
    // A line is missing, or there twice.
    let rest = &whole[first_line + 1..];
    for content in [rest.to_vec(), [&whole[..=first_line], &whole].concat()] {
        fs::write(segment(&state), content).unwrap();
        assert!(matches!(Journal::open(state.path()), Err(JournalError::Corrupt { .. })));
    }
    // A torn line in a segment that is not the last.
    fs::write(segment(&state), &whole[..whole.len() - 1]).unwrap();
    fs::write(state.path().join("journal/0002"), "").unwrap();
    assert!(matches!(Journal::open(state.path()), Err(JournalError::Corrupt { .. })));
}

#[test]
fn a_blob_that_is_missing_or_another_is_corruption() {
    let state = written(&some_entries());
    let blob = fs::read_dir(state.path().join("blobs")).unwrap().next().unwrap().unwrap().path();
    fs::write(&blob, "something else").unwrap();
    assert!(matches!(Journal::open(state.path()), Err(JournalError::Corrupt { line: 4, .. })));
    fs::remove_file(&blob).unwrap();
    assert!(matches!(Journal::open(state.path()), Err(JournalError::Corrupt { line: 4, .. })));
}

/// A line of a later program.
fn foreign(seq: u64, version: u32, critical: bool) -> Vec<u8> {
    let mut json = frame::to_json(&entry(seq, FinishDone { outcome: None })).unwrap();
    json["v"] = version.into();
    json["critical"] = critical.into();
    json["type"] = "future.thing".into();
    frame::encode_line(&json)
}

#[test]
fn an_unknown_record_is_skipped_and_a_critical_one_stops() {
    let state = written(&[output(1, "x")]);
    let line = fs::read(segment(&state)).unwrap();
    fs::write(segment(&state), [&line[..], &foreign(2, 1, false)].concat()).unwrap();
    let opened = Journal::open(state.path()).unwrap();
    assert_eq!((opened.entries.len(), opened.next_seq), (1, 3));
    for line in [foreign(1, 1, true), foreign(1, 2, false)] {
        fs::write(segment(&state), line).unwrap();
        let error = Journal::open(state.path()).unwrap_err();
        assert!(error.to_string().starts_with("JournalVersion: "), "{error}");
    }
}

#[test]
fn segments_follow_each_other() {
    let state = TempDir::new().unwrap();
    let mut journal = Journal::open(state.path()).unwrap().journal;
    // Not long enough for blobs, so that the segment itself grows.
    let text = "x".repeat(INLINE_MAX);
    let count = 2 * SEGMENT_MAX / INLINE_MAX as u64 + 2;
    let entries: Vec<Entry> = (1..=count).map(|seq| output(seq, &text)).collect();
    for entry in &entries {
        journal.append(std::slice::from_ref(entry)).unwrap();
    }
    assert_eq!(fs::read_dir(state.path().join("journal")).unwrap().count(), 3);
    assert_eq!(Journal::open(state.path()).unwrap().entries, entries);
}

#[test]
fn records_tell_whether_a_reader_must_know_them() {
    assert!(Record::from(FinishDone { outcome: None }).is_critical());
    assert!(!Record::from(BudgetTripped { limit: "steps".into() }).is_critical());
}

proptest! {
    #[test]
    fn any_text_comes_back(text in prop_oneof![".{0,200}", "\\PC{0,200}", Just("\u{0}\n\r\u{2028}\"\\".to_owned())]) {
        let state = written(&[output(1, &text)]);
        prop_assert_eq!(Journal::open(state.path()).unwrap().entries, vec![output(1, &text)]);
    }
}
