//! Scripts with their whole course as a snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;
use podwright_sandboxd::protocol::{Digest, FileState};
use serde_json::json;

use super::world::{
    World, boot, broken, call, command, config, exit, intent, message, patch, prepared, reason, result, words,
};
use crate::agent::journal::record::{InputKind, SessionCursor, SessionOpened};
use crate::agent::machine::{CallResult, Config, SessionChange, Signal};
use crate::api::attempt::{Outcome, Phase};
use crate::api::reasons::Reason;
use crate::api::task::Limits;
use crate::llm::{Fatal, FatalKind, Misconfiguration, Misconfigured, ModelError};

#[test]
fn a_task_from_start_to_end() {
    let mut world = World::new(config());
    world.start();
    world.say("ready", prepared());
    world.item(words("I look around."));
    world.item(command("c1", "ls"));
    world.completed(None);
    world.ended(3, "a b c");
    world.item(words("Done."));
    world.completed(None);
    world.published();
    assert_eq!(world.machine.phase(), Phase::Ended);
    assert_snapshot!(world.told());
}

#[test]
fn shared_calls_run_together_and_exclusive_ones_alone() {
    let mut world = World::asked(config());
    world.item(command("c1", "one"));
    world.item(command("c2", "two"));
    world.item(patch("c3"));
    world.item(command("c4", "three"));
    world.item(call("c5", "update_plan", json!({"plan": [{"step": "s", "status": "completed"}]})));
    world.completed(None);
    world.ended(3, "second");
    world.ended(2, "first");
    world.say("the patch fits", Signal::PatchComputed { ordinal: 4, patch: intent() });
    world.ended(4, "patched");
    world.ended(5, "third");
    assert_snapshot!(world.told());
}

#[test]
fn what_cannot_be_called_is_told_to_the_model() {
    let mut world = World::asked(config());
    world.item(call("c1", "fly", json!({})));
    world.item(call("c2", "exec_command", json!({"command": "ls"})));
    world.completed(None);
    assert_snapshot!(world.told());
}

#[test]
fn a_broken_stream_keeps_what_is_whole_and_asks_again_after_its_calls() {
    let mut world = World::asked(config());
    world.item(command("c1", "ls"));
    world.fails(broken());
    world.ended(2, "a b c");
    world.wait(1);
    world.item(words("Done."));
    world.completed(None);
    assert_snapshot!(world.told());
}

#[test]
fn the_retry_budgets_end_in_model_failed() {
    let mut world = World::asked(Config { outage: Duration::ZERO, ..config() });
    for _ in 0..6 {
        world.fails(broken());
        world.wait(60);
    }
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
    assert_eq!(world.machine.state().spent.steps, 1, "repetitions belong to one step");
    assert_eq!(world.machine.state().spent.requests, 6);
}

#[test]
fn model_errors_have_their_reasons() {
    let fatal = |kind| ModelError::Fatal(Fatal { kind, message: "no".into(), usage: None });
    let wrong = ModelError::Misconfigured(Misconfigured {
        kind: Misconfiguration::UnknownModel,
        message: "no such model".into(),
    });
    for (error, expected) in [
        (fatal(FatalKind::ContextWindowExceeded), Reason::ModelFailed),
        (fatal(FatalKind::Refused), Reason::ModelRefused),
        (wrong, Reason::ModelMisconfigured),
    ] {
        let mut world = World::asked(config());
        world.fails(error);
        assert_eq!(reason(&world), Some(expected));
    }
}

#[test]
fn end_turn_false_asks_again_and_an_empty_reply_ends_well() {
    let mut world = World::asked(config());
    world.item(words("More to come."));
    world.completed(Some(false));
    world.completed(None);
    assert_snapshot!(world.told());
    assert_eq!(reason(&world), Some(Reason::Completed));

    let mut world = World::asked(config());
    world.item(command("c1", "ls"));
    world.completed(None);
    world.ended(2, "x");
    world.completed(None);
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::Completed);
    assert!(outcome.message.starts_with("EmptyReply: "), "{}", outcome.message);
}

#[test]
fn what_goes_on_is_said_in_words() {
    let mut world = World::new(config());
    world.start();
    assert_eq!(world.machine.doing(), None, "the driver knows more of the preparation");
    world.tell(prepared());
    let doing = |world: &World| world.machine.doing().unwrap_or_default();
    assert_eq!(doing(&world), "waiting for the model");
    world.item(command("c1", "cargo  test \\\n  --all"));
    assert_eq!(doing(&world), "running: cargo test \\ --all");
    world.item(command("c2", &"é".repeat(500)));
    assert_eq!(doing(&world), "running: cargo test \\ --all (and 1 more)");
    world.completed(None);
    world.ended(2, "x");
    assert_eq!(doing(&world), format!("running: {}", "é".repeat(75)));
    world.ended(3, "x");
    world.item(patch("c3"));
    world.completed(None);
    assert_eq!(doing(&world), "applying a patch");
    world.say("the patch fits", Signal::PatchComputed { ordinal: 6, patch: intent() });
    world.ended(6, "patched");
    world.fails(broken());
    let why = doing(&world);
    assert!(why.starts_with("waiting before the model is asked again: "), "{why}");
    world.say("cancel", Signal::Message(message(1, InputKind::Cancel, "")));
    assert_eq!(doing(&world), "gathering the results");
}

#[test]
fn a_session_is_known_until_its_end_was_told_and_then_acknowledged() {
    let mut world = World::asked(config());
    world.item(call("c1", "exec_command", json!({"cmd": "top", "tty": true})));
    world.completed(None);
    let cursor = SessionCursor { output: 5, input: 0 };
    let opened = SessionOpened { session: 10_001, op: 1, ordinal: 2, boot: boot(1), cursor };
    let opened = result(2, "running", Some(SessionChange::Opened(opened)));
    world.say("it goes on", Signal::CallEnded(opened));
    assert_eq!(world.machine.state().thread.as_ref().unwrap().sessions[&10_001].cursor, cursor);
    world.item(call("c2", "write_stdin", json!({"session_id": 10_001, "chars": "q"})));
    world.completed(None);
    let closed = CallResult {
        exit: Some((1, exit(0))),
        ..result(4, "over", Some(SessionChange::Closed { session: 10_001 }))
    };
    world.say("it ends", Signal::CallEnded(closed));
    assert!(world.machine.state().thread.as_ref().unwrap().sessions.is_empty());
    assert_snapshot!(world.told());
}

#[test]
fn a_restart_breaks_the_request_and_finds_calls_by_their_rows() {
    let mut world = World::asked(config());
    world.item(command("c1", "make"));
    world.item(patch("c2"));
    world.restart("the agent dies; the sandbox lives");
    world.found(BTreeMap::new());
    world.ended(2, "built");
    world.say("the patch fits", Signal::PatchComputed { ordinal: 3, patch: intent() });
    world.restart("the agent dies in the middle of the patch");
    let unapplied = file(b"g\n");
    world.found(BTreeMap::from([(2, vec![FileState::Absent, unapplied])]));
    world.say("the patch fits", Signal::PatchComputed { ordinal: 3, patch: intent() });
    world.restart("again, and it was applied");
    world.found(BTreeMap::from([(3, vec![file(b"x\n"), FileState::Absent])]));
    world.item(command("c3", "make"));
    world.completed(None);
    world.boot = 2;
    world.restart("both die");
    world.found(BTreeMap::new());
    assert_snapshot!(world.told());
}

#[test]
fn a_command_that_never_left_is_begun_in_the_next_life_of_the_sandbox() {
    let limits = Limits { commands: 1, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.item(command("c1", "make"));
    world.completed(None);
    world.say("it was not sent", Signal::CallUnsent { ordinal: 2, boot: boot(1) });
    world.say("the sandbox is back", Signal::SandboxRestarted(boot(2)));
    world.ended(2, "built");
    assert_eq!(world.machine.state().spent.commands, 1);
    // The next life was known before the call came back.
    let mut other = World::asked(config());
    other.item(command("c1", "make"));
    other.say("the sandbox is back", Signal::SandboxRestarted(boot(2)));
    other.say("it was not sent", Signal::CallUnsent { ordinal: 2, boot: boot(1) });
    assert_snapshot!(format!("{}---\n{}", world.told(), other.told()));
}

#[test]
fn a_restart_at_the_end_finishes_again_and_after_it_leaves_at_once() {
    let mut world = World::asked(config());
    world.item(words("Done."));
    world.completed(None);
    world.restart("the agent dies before the outcome is published");
    world.published();
    world.restart("and after");
    assert_snapshot!(world.told());
}

#[test]
fn three_fruitless_restarts_are_a_crash_loop() {
    let mut world = World::new(config());
    world.start();
    world.restart("1");
    world.restart("2");
    world.restart("3");
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::InternalError);
    assert!(outcome.message.starts_with("CrashLoop: "), "{}", outcome.message);

    let mut world = World::asked(config());
    for _ in 0..10 {
        world.restart("again");
        world.found(BTreeMap::new());
        world.item(words("x"));
        world.completed(Some(false));
    }
    assert_eq!(reason(&world), None);
}

#[test]
fn a_failed_preparation_ends_the_attempt() {
    let mut world = World::new(config());
    world.start();
    let outcome = Outcome { reason: Reason::CloneFailed, message: "no such branch".into() };
    world.say("failed", Signal::Failed(outcome));
    world.say("late", prepared());
    assert_snapshot!(world.told());
}

fn file(content: &[u8]) -> FileState {
    FileState::File { sha256: Digest::of(content), size: content.len() as u64, executable: false }
}
