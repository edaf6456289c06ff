//! The stream of events: what was told, and what is told again from the journal.

use std::collections::BTreeMap;

use serde_json::json;

use super::world::{
    World, broken, call, command, config, exit, intent, message, patch, reason, result, words,
};
use crate::agent::events::replay::{BROKEN_BY_RESTART, replay};
use crate::agent::events::{Cursor, Event, Told};
use crate::agent::journal::record::InputKind;
use crate::agent::machine::{CallResult, Effect, Signal};
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;

/// What happened, without what the calls themselves tell and without what the machine does not.
fn kinds(events: &[Event]) -> Vec<String> {
    let shown = events.iter().filter_map(|event| {
        let value = serde_json::to_value(event).unwrap();
        let kind = value["type"].as_str().unwrap().to_owned();
        let item = value["item"]["type"].as_str().unwrap_or_default();
        let skipped = matches!(item, "command_execution" | "file_change" | "unfinished")
            || matches!(kind.as_str(), "thread.usage.updated" | "turn.plan.updated" | "thread.ended");
        (!skipped).then(|| format!("{kind} {} {item}", value["item"]["id"].as_str().unwrap_or_default()))
    });
    shown.collect()
}

fn told(world: &World) -> Vec<Event> {
    let emitted = world.effects.iter().filter_map(|effect| match effect {
        Effect::Emit(event) => Some(event.clone()),
        _ => None,
    });
    emitted.collect()
}

fn again(world: &World, after: Option<Cursor>) -> Vec<Told> {
    replay(&world.journal, after).unwrap()
}

fn events(told: &[Told]) -> Vec<Event> {
    told.iter().map(|told| told.event.clone()).collect()
}

/// A thread with everything in it.
fn life() -> World {
    let mut world = World::asked(config());
    world.item(words("I look."));
    world.item(command("c1", "make"));
    world.item(call("c2", "update_plan", json!({"plan": [{"step": "s", "status": "completed"}]})));
    world.item(patch("c3"));
    world.fails(broken());
    let ended = CallResult { exit: Some((1, exit(2))), ..result(3, "no rule", None) };
    world.tell(Signal::CallEnded(ended));
    world.tell(Signal::PatchComputed { ordinal: 5, patch: intent() });
    world.ended(5, "Success.");
    world.wait(1);
    world.tell(Signal::Message(message(1, InputKind::Prompt, "and then")));
    world.item(call("c4", "fly", json!({})));
    world.completed(None);
    world.item(words("Done."));
    world.completed(None);
    world.published();
    assert_eq!(reason(&world), Some(Reason::Completed));
    world
}

#[test]
fn what_is_told_again_is_what_was_told() {
    let world = life();
    assert_eq!(kinds(&events(&again(&world, None))), kinds(&told(&world)));
}

#[test]
fn calls_are_told_again_with_their_ends() {
    let world = life();
    let shown: Vec<String> = again(&world, None)
        .iter()
        .map(|told| serde_json::to_value(told).unwrap())
        .filter(|value| matches!(value["item"]["type"].as_str(), Some("command_execution" | "file_change")))
        .map(|value| {
            let item = &value["item"];
            format!(
                "{} {} {} {} {}",
                value["type"], item["id"], item["status"], item["exit_code"], item["changes"]
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#""item.started" "item_3" "in_progress" null null"#,
            r#""item.completed" "item_3" "failed" 2 null"#,
            r#""item.completed" "item_5" "completed" null [{"path":"f","kind":"add"},{"path":"g","kind":"delete"}]"#,
        ]
    );
    let plans =
        again(&world, None).into_iter().filter(|told| matches!(told.event, Event::PlanUpdated { .. }));
    assert_eq!(plans.count(), 1);
}

/// Whoever goes on from any cursor hears each thing that is left, once and in its order.
#[test]
fn from_any_cursor_the_rest_is_told_and_nothing_else() {
    let world = life();
    let all = again(&world, None);
    let cursors: Vec<Cursor> = all.iter().filter_map(|told| told.cursor).collect();
    assert!(cursors.is_sorted() && cursors.windows(2).all(|pair| pair[0] != pair[1]));
    for (place, told) in all.iter().enumerate() {
        if told.cursor.is_some() {
            assert_eq!(again(&world, told.cursor), all[place + 1..]);
        }
    }
    let last = all.last().unwrap();
    assert!(matches!(last.event, Event::ThreadEnded { .. }) && last.cursor.is_some());
    assert_eq!(again(&world, Some(Cursor { epoch: 1, seq: u64::MAX })), []);
    assert_eq!(again(&world, Some(Cursor { epoch: 0, seq: u64::MAX })), all, "another pod came after it");
}

/// Without its results the work is no success, whatever was intended; and of work that is verified nobody knows yet.
#[test]
fn the_end_that_is_told_again_is_the_one_that_was_published() {
    let message = "The patch is too large.".to_owned();
    let outcome = Outcome { reason: Reason::PatchTooLarge, message };
    for published in [Some(outcome), None] {
        let mut world = World::asked(config());
        world.item(words("Done."));
        world.completed(None);
        assert_eq!(reason(&world), Some(Reason::Completed));
        world.tell(Signal::Published(published.clone()));
        let ends: Vec<Outcome> = events(&again(&world, None))
            .into_iter()
            .filter_map(|event| if let Event::ThreadEnded { outcome } = event { Some(outcome) } else { None })
            .collect();
        assert_eq!(ends, Vec::from_iter(published.clone()));
        let known = published.map_or(Reason::Completed, |outcome| outcome.reason);
        assert_eq!(reason(&world), Some(known));
    }
}

#[test]
fn a_response_that_a_crash_broke_off_is_closed() {
    let mut world = World::asked(config());
    world.item(words("I look."));
    world.restart("the agent dies");
    world.found(BTreeMap::new());
    let told = events(&again(&world, None));
    let place = told.iter().position(|event| match event {
        Event::Error { message, will_retry } => *will_retry && message == BROKEN_BY_RESTART,
        _ => false,
    });
    let closed = serde_json::to_value(&told[place.unwrap() - 1]).unwrap();
    assert_eq!(closed["type"], "item.completed");
    assert_eq!(closed["item"], json!({"id": "item_3", "type": "unfinished", "status": "failed"}));
}

/// Calls that no driver ends are closed by the machine, at once and in the words of the journal.
#[test]
fn a_call_that_is_cut_off_or_lost_is_closed() {
    let calls = |world: &mut World| {
        world.item(command("c1", "make"));
        world.item(command("c2", "make test"));
        world.item(patch("c3"));
        world.completed(None);
    };
    let mut cancelled = World::asked(config());
    calls(&mut cancelled);
    cancelled.tell(Signal::Message(message(1, InputKind::Cancel, "")));
    let mut lost = World::asked(config());
    calls(&mut lost);
    lost.restart("agent and sandbox die");
    lost.boot = 2;
    lost.found(BTreeMap::new());
    for (world, count) in [(cancelled, 3), (lost, 2)] {
        let failed = |events: &[Event]| -> Vec<String> {
            let lines = events.iter().map(Event::to_line);
            lines.filter(|line| line.contains("item.completed") && line.contains("\"failed\"")).collect()
        };
        let told = failed(&told(&world));
        assert_eq!(told.len(), count, "{told:?}");
        assert_eq!(told, failed(&events(&again(&world, None))));
    }
}
