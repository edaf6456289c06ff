//! The rows of the recovery table.

use serde_json::json;

use super::*;
use crate::agent::journal::record::fixture::opened;
use crate::agent::journal::record::{CallEnded, EffectClass, ItemAppended, PatchedFile, Record};
use crate::llm::{FunctionCall, Item, ThreadItem, WireJson};

const OP: u64 = 4;

fn boot(number: u8) -> BootId {
    BootId::from_random([number; 16])
}

/// A thread with one call, which left for the sandbox in boot 1.
fn thread(patch: Option<PatchIntent>) -> Thread {
    let mut thread = Thread::open(&opened()).unwrap();
    let call = FunctionCall { call_id: "c".into(), name: "exec_command".into(), arguments: "{}".into() };
    let item = ThreadItem { item: Item::FunctionCall(call), wire: WireJson::render(&json!({})) };
    thread.apply(&ItemAppended { ordinal: 0, request: Some(1), item }.into()).unwrap();
    let intent = CallIntent {
        op: OP,
        ordinal: 0,
        tool: "exec_command".into(),
        arguments: Digest::of(b"{}"),
        class: EffectClass::SandboxDurable,
        boot: boot(1),
        patch,
    };
    thread.apply(&Record::from(intent)).unwrap();
    thread
}

/// A file that is changed, one that is made and one that is removed.
fn patch() -> PatchIntent {
    let file = |path: &str, before: Option<&[u8]>, after: Option<&[u8]>| PatchedFile {
        path: path.into(),
        before: before.map(Digest::of),
        after: after.map(Digest::of),
    };
    PatchIntent {
        root: "/workspace/main".into(),
        files: vec![
            file("changed", Some(b"old"), Some(b"new")),
            file("made", None, Some(b"made")),
            file("removed", Some(b"gone"), None),
        ],
        success: "Success.".into(),
    }
}

fn file(content: &[u8]) -> FileState {
    FileState::File { sha256: Digest::of(content), size: 0, executable: false }
}

fn recovered(thread: &Thread, boot_number: u8, files: Option<[FileState; 3]>) -> Vec<Recovery> {
    let files = files.map(|files| (OP, files.to_vec())).into_iter().collect();
    recover(thread, &World { boot: boot(boot_number), files })
}

fn conclusion(recoveries: &[Recovery]) -> (CallOutcome, &str) {
    match recoveries {
        [Recovery::Conclude { ordinal: 0, outcome, output }] => (*outcome, output),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_of_the_same_boot_is_asked_for_again() {
    let thread = thread(None);
    assert_eq!(questions(&thread), []);
    assert_eq!(recovered(&thread, 1, None), [Recovery::Resume { ordinal: 0, op: OP }]);
}

#[test]
fn a_command_of_another_boot_is_never_run_again() {
    let recoveries = recovered(&thread(None), 2, None);
    let (outcome, output) = conclusion(&recoveries);
    assert_eq!(outcome, CallOutcome::Unknown);
    assert!(output.contains("exit status is unknown"), "{output}");
}

#[test]
fn a_call_that_ended_or_never_left_needs_nothing() {
    let mut thread = thread(None);
    let ended = CallEnded {
        ordinal: 0,
        op: Some(OP),
        outcome: CallOutcome::Ok,
        process: Some(OP),
        exit: None,
        output: "out".into(),
        images: vec![],
    };
    thread.apply(&ended.into()).unwrap();
    assert_eq!(recovered(&thread, 1, None), []);
    thread.calls[0].intent = None;
    thread.calls[0].ended = None;
    assert_eq!(recovered(&thread, 1, None), []);
}

#[test]
fn a_patch_is_judged_by_its_files_whatever_the_boot() {
    let thread = thread(Some(patch()));
    let paths = ["changed", "made", "removed"].map(str::to_owned).to_vec();
    assert_eq!(questions(&thread), [Question { op: OP, root: "/workspace/main".into(), paths }]);
    for boot in [1, 2] {
        let after = [file(b"new"), file(b"made"), FileState::Absent];
        assert_eq!(conclusion(&recovered(&thread, boot, Some(after))), (CallOutcome::Ok, "Success."));
        let before = [file(b"old"), FileState::Absent, file(b"gone")];
        assert_eq!(recovered(&thread, boot, Some(before)), [Recovery::Restart { ordinal: 0 }]);
    }
}

#[test]
fn a_patch_that_is_partly_there_names_its_files() {
    let thread = thread(Some(patch()));
    let recoveries = recovered(&thread, 1, Some([file(b"new"), FileState::Absent, FileState::Special]));
    let (outcome, output) = conclusion(&recoveries);
    assert_eq!(outcome, CallOutcome::Unknown);
    assert_eq!(
        output,
        "The patch was interrupted and may be partly applied:\n\
         changed: changed\n\
         made: not changed\n\
         removed: neither as before nor as after the patch\n\
         Look at these files before changing them again."
    );
    // Nobody could look: nothing is said to have happened, and nothing is done again.
    let recoveries = recovered(&thread, 1, None);
    let (outcome, output) = conclusion(&recoveries);
    assert_eq!(outcome, CallOutcome::Unknown);
    assert!(output.contains("made: unknown"), "{output}");
}
