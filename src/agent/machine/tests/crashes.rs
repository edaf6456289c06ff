//! A crash after every single record, which is more than at every barrier: the next process goes on to the
//! end, runs no command twice, and makes nothing up.

use std::collections::{BTreeMap, BTreeSet};

use podwright_sandboxd::protocol::{Digest, FileState};
use serde_json::Value;

use super::world::{World, broken, command, config, intent, message, patch, prepared_over, words};
use crate::agent::journal::record::{CallIntent, CallOutcome, Entry, InputKind, ModelEnd, Record};
use crate::agent::machine::{Config, Effect, Signal};
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::llm::{Fatal, FatalKind, Item, ModelError, Wire};

/// A task with two commands beside each other, a patch and a command after it.
fn journal(wire: Wire) -> Vec<Entry> {
    let mut world = World::asked_over(wire, config());
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
fn compacted(wire: Wire) -> Vec<Entry> {
    let mut world = World::asked_over(wire, Config { context_window: Some(10_000), ..config() });
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
fn go_on(wire: Wire, prefix: &[Entry], boot: u8, applied: bool) -> (World, Vec<(u64, u64)>) {
    let mut world = World::new(Config { context_window: Some(10_000), ..config() });
    world.journal = prefix.to_vec();
    world.boot = boot;
    world.restart("crash");
    let patches = under_way(prefix).into_values().filter(|intent| intent.patch.is_some());
    let found = patches.map(|intent| (intent.op, files(applied))).collect();
    if world.effects.contains(&Effect::Prepare) {
        world.tell(prepared_over(wire));
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
                Effect::AskModel(ask) => {
                    assert_ne!(last_speaker(wire, &ask.prepared.body).as_deref(), Some("assistant"));
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

/// Who speaks in the last message of a request, on the APIs that have messages.
fn last_speaker(wire: Wire, body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let last = (wire != Wire::Responses).then(|| body["messages"].as_array().unwrap().last().unwrap());
    last.map(|message| message["role"].as_str().unwrap().to_owned())
}

#[test]
fn after_every_record_the_next_process_goes_on_to_the_end() {
    goes_on_after_every_record(Wire::Responses, &journal(Wire::Responses));
}

#[test]
fn after_every_record_of_a_compaction_too() {
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
        let journal = compacted(wire);
        assert!(journal.iter().any(|entry| entry.record.name() == "history.replaced"));
        goes_on_after_every_record(wire, &journal);
    }
}

/// Servers refuse to go on from the model's own words, which are last when the process dies between them and the end of
/// their response.
#[test]
fn w11_a_request_ends_with_the_users_word_after_a_crash() {
    for wire in [Wire::Chat, Wire::Messages] {
        goes_on_after_every_record(wire, &journal(wire));
        let mut world = World::asked_over(wire, config());
        world.item(words("Nearly done."));
        let mut last = String::new();
        // The second process dies before it asks anything of the model, and the note is there once.
        for crash in ["crash", "another"] {
            world.restart(crash);
            world.effects.clear();
            world.found(BTreeMap::new());
            let asked = world.effects.iter().find_map(|effect| match effect {
                Effect::AskModel(ask) => Some(ask.prepared.body.clone()),
                _ => None,
            });
            last = String::from_utf8(asked.unwrap().to_vec()).unwrap();
            assert_eq!(last.matches("<response_interrupted>").count(), 1, "{wire:?}: {last}");
            let noted =
                |entry: &Entry| matches!(&entry.record, Record::ItemAppended(item) if item.request.is_none());
            let note = world.journal.iter().rposition(noted).unwrap();
            world.journal.truncate(note + 1);
        }
        assert!(last.contains("Nearly done."), "{last}");
    }
}

/// What the provider paused is sent back as it came, also when that has to be repeated.
#[test]
fn w22_a_response_that_was_paused_stays_the_last() {
    let mut world = World::asked_over(Wire::Messages, config());
    world.item(words("Searching."));
    world.completed(Some(false));
    world.fails(broken());
    world.wait(60);
    let asked: Vec<_> = world
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::AskModel(ask) => last_speaker(Wire::Messages, &ask.prepared.body),
            _ => None,
        })
        .collect();
    assert_eq!(asked, ["user", "assistant", "assistant"]);
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
            let (world, _) = go_on(Wire::Responses, &journal[..length], 1, false);
            let outcome = world.machine.state().outcome.clone();
            assert_eq!(outcome.as_ref(), Some(&ended), "after {length} of {} records", journal.len());
        }
    }
}

fn refused() -> ModelError {
    ModelError::Fatal(Fatal { kind: FatalKind::Refused, message: "No.".into(), usage: None })
}

fn goes_on_after_every_record(wire: Wire, journal: &[Entry]) {
    for length in 0..=journal.len() {
        let prefix = &journal[..length];
        let open = under_way(prefix);
        for (boot, applied) in [(1, false), (1, true), (2, false), (2, true)] {
            let (world, run) = go_on(wire, prefix, boot, applied);
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
