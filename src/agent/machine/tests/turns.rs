//! What people say: further turns, words in the middle of one, and the end.

use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;

use super::world::{World, broken, command, config, message, patch, reason, words};
use crate::agent::journal::record::{InputAccepted, InputKind, Record};
use crate::agent::machine::{Config, Signal};
use crate::agent::state::State;
use crate::api::attempt::Phase;
use crate::api::reasons::Reason;
use crate::llm::Item;

#[test]
fn a_prompt_begins_a_further_turn_while_the_pod_waits() {
    let mut world = World::asked(Config { keep: Duration::from_secs(60), ..config() });
    world.item(words("First."));
    world.completed(None);
    assert_eq!(world.machine.phase(), Phase::Idle);
    world.wait(59);
    world.say("prompt", Signal::Message(message(1, InputKind::Prompt, "and this")));
    assert_eq!(world.machine.phase(), Phase::Running);
    world.item(words("Second."));
    world.completed(None);
    world.say("again", Signal::Message(message(1, InputKind::Prompt, "and this")));
    world.wait(60);
    assert_eq!(reason(&world), Some(Reason::Completed));
    assert_eq!((world.machine.state().inbox_seq, turns(&world)), (1, 2));
    assert_snapshot!(world.told());
}

#[test]
fn what_is_said_during_a_turn_joins_it_after_the_outputs_of_the_step() {
    let mut world = World::asked(config());
    world.item(command("c1", "make"));
    world.say("prompt", Signal::Message(message(1, InputKind::Prompt, "and then this")));
    world.completed(None);
    world.say("prompt", Signal::Message(message(2, InputKind::Prompt, "and this")));
    world.ended(2, "built");
    world.item(words("Done."));
    world.completed(None);
    assert_eq!((world.machine.state().inbox_seq, turns(&world)), (2, 1));
    assert_eq!(reason(&world), Some(Reason::Completed));
    assert_snapshot!(world.told());
}

#[test]
fn what_is_said_while_the_answer_comes_makes_the_turn_go_on() {
    let mut world = World::asked(config());
    world.item(words("Done."));
    world.say("prompt", Signal::Message(message(1, InputKind::Prompt, "and then this")));
    world.completed(None);
    assert_eq!(reason(&world), None);
    world.item(words("That as well."));
    world.completed(None);
    assert_eq!(turns(&world), 1);
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, "That as well."));
    assert_snapshot!(world.told());

    // An answer to what came before is none to what was said after it.
    let mut world = World::asked(config());
    world.item(words("Done."));
    world.say("prompt", Signal::Message(message(1, InputKind::Prompt, "and then this")));
    world.completed(None);
    world.completed(None);
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert!(outcome.message.starts_with("EmptyReply: "), "{}", outcome.message);
}

#[test]
fn a_request_that_is_repeated_brings_nothing_new() {
    let mut world = World::asked(config());
    world.say("prompt", Signal::Message(message(1, InputKind::Prompt, "and then this")));
    world.fails(broken());
    world.wait(1);
    assert_eq!(world.machine.state().prompts.len(), 1, "it waits for the end of the step");
    world.restart("the agent dies");
    world.found(BTreeMap::new());
    assert_eq!(world.machine.state().prompts.len(), 1);
    world.item(words("Done."));
    world.completed(None);
    assert!(world.machine.state().prompts.is_empty());
    world.restart("and again, with the message in history");
    world.found(BTreeMap::new());
    world.item(words("That as well."));
    world.completed(None);
    assert_eq!(reason(&world), Some(Reason::Completed));
    let thread = world.machine.state().thread.as_ref().unwrap();
    let said = thread
        .history
        .items()
        .filter(|item| matches!(&item.item, Item::Message(message) if message.text() == "and then this"));
    assert_eq!((said.count(), turns(&world)), (1, 1));
}

#[test]
fn what_is_said_while_the_agent_stands_still_is_in_its_next_request() {
    let mut world = World::asked(config());
    world.item(command("c1", "make"));
    world.completed(None);
    world.say("suspend", Signal::Suspend(true));
    world.ended(2, "built");
    assert!(world.machine.is_suspended());
    world.say("prompt", Signal::Message(message(1, InputKind::Prompt, "and then this")));
    assert!(world.machine.is_suspended());
    world.say("go on", Signal::Suspend(false));
    assert_eq!(world.request(), 2);
    assert!(world.machine.state().prompts.is_empty());
}

#[test]
fn a_cancel_is_not_forgotten_by_the_next_process() {
    let mut world = World::asked(config());
    world.item(command("c1", "sleep 100"));
    world.say("cancel", Signal::Message(message(1, InputKind::Cancel, "")));
    let accepted = world
        .journal
        .iter()
        .position(|entry| entry.record.name() == "input.accepted" && entry.record != first_prompt());
    for length in accepted.unwrap() + 1..world.journal.len() {
        let mut next = World::new(config());
        next.journal = world.journal[..length].to_vec();
        next.restart("the agent dies in the middle of the end");
        assert_eq!(reason(&next), Some(Reason::Cancelled), "after {length} records");
        assert!(next.machine.state().thread.as_ref().unwrap().calls.is_empty());
    }
}

#[test]
fn what_is_said_after_the_end_was_decided_is_not_taken_in() {
    let mut world = World::asked(config());
    world.say("in time", Signal::Message(message(1, InputKind::Cancel, "")));
    let records = world.journal.len();
    world.say("too late", Signal::Message(message(2, InputKind::Prompt, "and this")));
    world.say("too late", Signal::Message(message(3, InputKind::Cancel, "")));
    // The process that finishes in its stead takes in as little.
    world.restart("the agent dies");
    world.say("too late", Signal::Message(message(2, InputKind::Prompt, "and this")));
    world.published();
    world.say("too late", Signal::Message(message(2, InputKind::Prompt, "and this")));
    let state = world.machine.state();
    assert_eq!((state.inbox_seq, state.prompts.len()), (1, 0));
    let names: Vec<_> = world.journal[records..].iter().map(|entry| entry.record.name()).collect();
    assert_eq!(names, ["epoch.started", "finish.done"]);
}

#[test]
fn a_message_that_is_delivered_again_is_acknowledged_by_its_new_number() {
    let mut world = World::asked(config());
    let delivered = |seq| {
        let uid = "uid-1".into();
        Signal::Message(InputAccepted { uid, ..message(seq, InputKind::Prompt, "and then this") })
    };
    for (seq, acknowledged) in [(1, 1), (1, 1), (4, 4), (2, 4)] {
        world.tell(delivered(seq));
        assert_eq!(world.machine.state().inbox_seq, acknowledged, "delivered as {seq}");
        assert_eq!(world.machine.state().prompts.len(), 1, "it is one message");
    }
    let state = State::fold(&world.journal).unwrap();
    assert_eq!((state.inbox_seq, state.prompts.len()), (4, 1));
}

#[test]
fn a_cancel_closes_every_call_and_drops_the_request() {
    let mut world = World::asked(config());
    world.item(command("c1", "sleep 100"));
    world.item(patch("c2"));
    world.now += Duration::from_secs(2);
    world.say("cancel", Signal::Message(message(1, InputKind::Cancel, "")));
    world.ended(2, "too late");
    assert_snapshot!(world.told());
}

fn first_prompt() -> Record {
    message(0, InputKind::Prompt, "do it").into()
}

fn turns(world: &World) -> u32 {
    world.machine.state().thread.as_ref().map_or(0, |thread| thread.turn)
}
