//! A crash after every single record, which is more than at every barrier: the next process goes on to the
//! end, runs no command twice, and makes nothing up.

use std::collections::{BTreeMap, BTreeSet};

use podwright_sandboxd::protocol::{Digest, FileState};

use super::world::{World, command, config, intent, message, patch, words};
use crate::agent::journal::record::{CallIntent, CallOutcome, Entry, InputKind, ModelEnd, Record};
use crate::agent::machine::{Config, Effect, Signal};
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::llm::{Fatal, FatalKind, Item, ModelError};

/// A task with two commands beside each other, a patch and a command after it.
fn journal() -> Vec<Entry> {
    let mut world = World::asked(config());
    world.item(command("c1", "one"));
    world.tell(Signal::Message(message(1, InputKind::Prompt, "and then this")));
    world.item(command("c1", "two"));
    world.item(patch("c1"));
    world.completed(None);
    world.ended(3, "second");
    world.ended(2, "first");
    world.tell(Signal::PatchComputed { ordinal: 4, patch: intent() });
    world.ended(4, "patched");
    world.item(command("c1", "three"));
    world.completed(None);
    world.ended(9, "third");
    world.item(words("Done."));
    world.completed(None);
    world.published();
    world.journal
}

/// A task that is compacted in the middle, after a response that could not be used.
fn compacted() -> Vec<Entry> {
    let mut world = World::asked(Config { context_window: Some(10_000), ..config() });
    world.item(command("c1", "one"));
    world.tell(Signal::Message(message(1, InputKind::Prompt, "and then this")));
    world.counted(9_500, None);
    world.ended(2, "first");
    world.completed(None);
    world.item(words("State: fine."));
    world.completed(None);
    world.item(command("c1", "two"));
    world.completed(None);
    let ordinal = world.machine.state().thread.as_ref().unwrap().calls[0].ordinal;
    world.ended(ordinal, "second");
    world.item(words("Done."));
    world.completed(None);
    world.published();
    world.journal
}

/// The commands that left in a journal and did not end in it.
fn under_way(journal: &[Entry]) -> BTreeMap<u64, CallIntent> {
    let mut open = BTreeMap::new();
    for entry in journal {
        match &entry.record {
            Record::CallIntent(intent) => drop(open.insert(intent.ordinal, intent.clone())),
            Record::CallEnded(ended) => drop(open.remove(&ended.ordinal)),
            _ => {}
        }
    }
    open
}

/// What is at the patch's paths.
fn files(applied: bool) -> Vec<FileState> {
    let file = |content: &[u8]| FileState::File { sha256: Digest::of(content), size: 2, executable: false };
    if applied { vec![file(b"x\n"), FileState::Absent] } else { vec![FileState::Absent, file(b"g\n")] }
}

/// Goes on from a journal in one kind of world, and gives the operations that were run.
fn go_on(prefix: &[Entry], boot: u8, applied: bool) -> (World, Vec<(u64, u64)>) {
    let mut world = World::new(Config { context_window: Some(10_000), ..config() });
    world.journal = prefix.to_vec();
    world.boot = boot;
    world.restart("crash");
    let patches = under_way(prefix).into_values().filter(|intent| intent.patch.is_some());
    let found = patches.map(|intent| (intent.op, files(applied))).collect();
    if world.effects.contains(&Effect::Prepare) {
        world.tell(super::world::prepared());
    } else {
        world.found(found);
    }
    let mut run = Vec::new();
    // Every effect leads to a step at most, and a step here to a few effects.
    for _ in 0..100 {
        let effects = std::mem::take(&mut world.effects);
        if effects.is_empty() {
            break;
        }
        for effect in effects {
            match effect {
                Effect::AskModel(_) => {
                    world.item(words("Done."));
                    world.completed(None);
                }
                Effect::RunCall(call) => {
                    run.push((call.ordinal, call.op));
                    world.ended(call.ordinal, "output");
                }
                Effect::ComputePatch { ordinal, .. } => {
                    world.tell(Signal::PatchComputed { ordinal, patch: intent() });
                }
                Effect::ApplyPatch { ordinal, op } => {
                    run.push((ordinal, op));
                    world.ended(ordinal, "patched");
                }
                Effect::Finish(_) => world.published(),
                _ => {}
            }
        }
    }
    (world, run)
}

#[test]
fn after_every_record_the_next_process_goes_on_to_the_end() {
    goes_on_after_every_record(&journal());
}

#[test]
fn after_every_record_of_a_compaction_too() {
    let journal = compacted();
    assert!(journal.iter().any(|entry| entry.record.name() == "history.replaced"));
    goes_on_after_every_record(&journal);
}

/// How an attempt ends is known with the first record that says so, whatever of its end is lost.
#[test]
fn after_every_record_of_an_end_the_next_process_ends_in_the_same_way() {
    let ends: [fn(&mut World); 3] = [
        |world| world.fails(refused()),
        |world| {
            world.item(command("c1", "one"));
            world.tell(Signal::Message(message(1, InputKind::Cancel, "")));
        },
        |world| {
            world.item(command("c1", "one"));
            world.tell(Signal::Failed(Outcome { reason: Reason::SandboxLost, message: "Gone.".into() }));
        },
    ];
    for end in ends {
        let mut world = World::asked(config());
        world.item(words("Hm."));
        let begins = world.journal.len();
        end(&mut world);
        let ended = world.machine.state().outcome.clone().unwrap();
        let journal = world.journal;
        let says = |entry: &Entry| match &entry.record {
            Record::ModelEnded(ended) => matches!(ended.end, ModelEnd::Failed { .. }),
            Record::InputAccepted(_) | Record::TurnEnded(_) | Record::FinishIntent(_) => true,
            _ => false,
        };
        let known = begins + journal[begins..].iter().position(says).unwrap() + 1;
        for length in known..=journal.len() {
            let (world, _) = go_on(&journal[..length], 1, false);
            let outcome = world.machine.state().outcome.clone();
            assert_eq!(outcome.as_ref(), Some(&ended), "after {length} of {} records", journal.len());
        }
    }
}

fn refused() -> ModelError {
    ModelError::Fatal(Fatal { kind: FatalKind::Refused, message: "No.".into(), usage: None })
}

fn goes_on_after_every_record(journal: &[Entry]) {
    for length in 0..=journal.len() {
        let prefix = &journal[..length];
        let open = under_way(prefix);
        for (boot, applied) in [(1, false), (1, true), (2, false), (2, true)] {
            let (world, run) = go_on(prefix, boot, applied);
            let at = format!("after {length} records, boot {boot}, applied {applied}: {run:?}");
            let outcome = world.machine.state().outcome.clone().expect(&at);
            assert_eq!(outcome.reason, Reason::Completed, "{at}: {}", outcome.message);
            assert!(world.machine.state().published, "{at}");
            let thread = world.machine.state().thread.as_ref().expect(&at);
            let asked = thread
                .history
                .items()
                .filter(|item| matches!(&item.item, Item::Message(message) if message.text() == "do it"));
            assert_ne!(asked.count(), 0, "the task's own prompt is lost; {at}");
            let ordinals: BTreeSet<u64> = run.iter().map(|(ordinal, _)| *ordinal).collect();
            assert_eq!(ordinals.len(), run.len(), "nothing runs twice in one process; {at}");
            for intent in open.values() {
                let again = run.iter().find(|(ordinal, _)| *ordinal == intent.ordinal);
                match (&intent.patch, boot) {
                    // The supervisor knows the operation, so it is asked for under its id.
                    (None, 1) => assert_eq!(again, Some(&(intent.ordinal, intent.op)), "{at}"),
                    (None, _) => assert_eq!(again, None, "{at}"),
                    (Some(_), _) if applied => assert_eq!(again, None, "{at}"),
                    (Some(_), _) => assert!(again.is_some_and(|(_, op)| *op > intent.op), "{at}"),
                }
            }
            // What was accepted is in the thread, once.
            let accepted =
                prefix.iter().any(|entry| entry.record.name() == "input.accepted" && entry.turn > 0);
            let items = world.machine.state().thread.as_ref().expect(&at).history.window();
            let said = items.filter(
                |item| matches!(&item.item, Item::Message(message) if message.text() == "and then this"),
            );
            assert_eq!(said.count(), usize::from(accepted), "{at}");
            // What ended before is not run again.
            for entry in prefix {
                if let Record::CallEnded(ended) = &entry.record {
                    assert!(!ordinals.contains(&ended.ordinal), "{at}");
                }
            }
            let unknown = world.journal.iter().filter(|entry| {
                matches!(&entry.record, Record::CallEnded(ended) if ended.outcome == CallOutcome::Unknown)
            });
            let lost =
                if boot == 1 { 0 } else { open.values().filter(|intent| intent.patch.is_none()).count() };
            assert_eq!(unknown.count(), lost, "{at}");
        }
    }
}
