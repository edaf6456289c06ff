//! Requests that are changed because of how the one before them ended, or when.

use std::collections::BTreeMap;

use super::world::{World, broken, call, command, config, prepared, reason, words};
use crate::agent::journal::record::{ModelEnd, Record};
use crate::agent::machine::{Config, Effect, Signal};
use crate::api::reasons::Reason;
use crate::llm::wire::messages::{CACHE_MARKER, LONG_CACHE_MARKER};
use crate::llm::{Capabilities, Fatal, FatalKind, Item, ModelError, Reasoning, Usage, Wire};

/// A thread of an API in its first turn.
fn world(wire: Wire, capabilities: Capabilities) -> World {
    let mut world = World::new(config());
    world.start();
    let Signal::Prepared(mut prepared) = prepared() else { panic!("prepared") };
    prepared.opened.wire = wire;
    prepared.opened.capabilities = capabilities;
    prepared.opened.prefix.clear();
    world.tell(Signal::Prepared(prepared));
    world
}

fn thinking() -> World {
    world(Wire::Responses, Capabilities { encrypted_reasoning: true, ..Capabilities::default() })
}

fn reasoning(text: &str) -> Item {
    Item::Reasoning(Reasoning { text: vec![text.into()], encrypted: true })
}

fn fatal(kind: FatalKind) -> ModelError {
    let usage = (kind == FatalKind::Incomplete).then(|| Usage {
        input_tokens: 100,
        output_tokens: 8192,
        ..Usage::default()
    });
    ModelError::Fatal(Fatal { kind, message: format!("{kind:?}."), usage })
}

/// The bodies of all requests so far.
fn bodies(world: &World) -> Vec<String> {
    let asked = world.effects.iter().filter_map(|effect| match effect {
        Effect::AskModel(ask) => Some(String::from_utf8(ask.prepared.body.to_vec()).unwrap()),
        _ => None,
    });
    asked.collect()
}

fn last_body(world: &World) -> String {
    bodies(world).pop().unwrap()
}

#[test]
fn w10_reasoning_that_nothing_follows_is_left_out_when_the_next_request_is_refused() {
    let mut world = thinking();
    world.item(reasoning("first"));
    world.item(reasoning("second"));
    world.fails(broken());
    world.wait(1);
    assert!(last_body(&world).contains("first") && last_body(&world).contains("second"));
    world.fails(fatal(FatalKind::InvalidRequest));
    let body = last_body(&world);
    assert!(body.contains("first") && !body.contains("second"), "that one item: {body}");
    let spent = &world.machine.state().spent;
    assert_eq!((spent.steps, spent.requests), (1, 3));
    // Once.
    world.fails(fatal(FatalKind::InvalidRequest));
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
}

#[test]
fn w10_what_was_left_out_stays_out_after_a_crash_at_any_record() {
    let mut world = thinking();
    world.item(reasoning("alone"));
    world.fails(broken());
    world.wait(1);
    world.fails(fatal(FatalKind::InvalidRequest));
    world.item(words("Done."));
    let journal = world.journal;
    let left_out = journal.iter().position(|entry| match &entry.record {
        Record::ModelEnded(ended) => matches!(ended.end, ModelEnd::Retry { leave_out: Some(1), .. }),
        _ => false,
    });
    let left_out = left_out.unwrap();
    for cut in left_out..=journal.len() {
        let mut next = World::new(config());
        next.journal = journal[..cut].to_vec();
        next.restart("crash");
        next.found(BTreeMap::new());
        assert_eq!(last_body(&next).contains("alone"), cut <= left_out, "{cut}");
        if cut <= left_out {
            // It was sent again as it is, and is refused again.
            next.fails(fatal(FatalKind::InvalidRequest));
            assert!(!last_body(&next).contains("alone"), "{cut}");
        }
        assert_eq!(reason(&next), None);
    }
}

#[test]
fn w10_a_refused_request_that_ends_otherwise_is_not_changed() {
    let mut world = thinking();
    world.item(reasoning("with a call"));
    world.item(command("c", "ls"));
    world.completed(None);
    world.ended(2, "out");
    world.fails(fatal(FatalKind::InvalidRequest));
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
}

#[test]
fn w13_a_response_that_was_cut_off_is_gone_on_with_once() {
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
        let mut world = world(wire, Capabilities::default());
        world.fails(fatal(FatalKind::Incomplete));
        assert!(last_body(&world).contains("<response_cut_off>"));
        let spent = &world.machine.state().spent;
        assert_eq!((spent.steps, spent.requests, spent.usage.output_tokens), (1, 2, 8192));
        world.fails(fatal(FatalKind::Incomplete));
        assert_eq!(reason(&world), Some(Reason::ModelFailed), "{wire:?}");
    }
}

#[test]
fn w13_every_step_has_a_continuation_of_its_own() {
    let mut world = world(Wire::Responses, Capabilities::default());
    for step in 0..3 {
        world.fails(fatal(FatalKind::Incomplete));
        world.item(command("c", "ls"));
        world.completed(None);
        let place = world.machine.state().thread.as_ref().unwrap().calls[0].ordinal;
        world.ended(place, "out");
        assert_eq!((reason(&world), bodies(&world).len()), (None, 3 + 2 * step));
    }
}

#[test]
fn w13_an_outage_gives_no_second_continuation() {
    let retry = crate::llm::retry::RetryPolicy { request_max: 0, stream_max: 0 };
    let mut world = World::asked(Config { retry, ..config() });
    world.fails(fatal(FatalKind::Incomplete));
    world.fails(broken());
    world.wait(1);
    world.fails(fatal(FatalKind::Incomplete));
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
}

#[test]
fn w13_a_call_that_was_dispatched_stays_whatever_becomes_of_its_response() {
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
        let mut world = world(wire, Capabilities::default());
        world.item(command("c7", "ls"));
        world.fails(broken());
        let place = world.machine.state().thread.as_ref().unwrap().calls[0].ordinal;
        world.ended(place, "what it wrote");
        world.wait(1);
        let body = last_body(&world);
        assert!(body.matches("c7").count() >= 2 && body.contains("what it wrote"), "{wire:?}: {body}");
    }
}

#[test]
fn w10_a_continuation_leaves_reasoning_out_when_it_is_refused() {
    let mut world = thinking();
    world.item(reasoning("cut off"));
    world.fails(fatal(FatalKind::Incomplete));
    world.fails(fatal(FatalKind::InvalidRequest));
    let body = last_body(&world);
    assert!(body.contains("<response_cut_off>") && !body.contains("Reasoning"), "{body}");
    assert_eq!(reason(&world), None);
}

#[test]
fn w21_the_cache_is_kept_for_an_hour_after_a_step_that_waited_long() {
    let capabilities = Capabilities { cache_markers: true, ..Capabilities::default() };
    let mut world = world(Wire::Messages, capabilities);
    for (seconds, marker) in [(299, CACHE_MARKER), (302, LONG_CACHE_MARKER), (10, CACHE_MARKER)] {
        world.item(command(&format!("c{seconds}"), "make"));
        world.completed(None);
        world.now += std::time::Duration::from_secs(seconds);
        let place = world.machine.state().thread.as_ref().unwrap().calls[0].ordinal;
        world.ended(place, "out");
        let body = last_body(&world);
        let markers = body.matches("cache_control").count();
        assert_eq!(body.matches(marker).count(), markers, "{seconds}: {body}");
        assert_ne!(markers, 0);
    }
}

#[test]
fn w8_an_image_is_estimated_by_a_constant_before_it_is_sent() {
    let mut world = world(Wire::Responses, Capabilities { image_input: true, ..Capabilities::default() });
    world.item(call("v", "view_image", serde_json::json!({"path": "a.png"})));
    world.completed(None);
    let place = world.machine.state().thread.as_ref().unwrap().calls[0].ordinal;
    world.ended(place, &format!("data:image/png;base64,{}", "A".repeat(400_000)));
    let thread = world.machine.state().thread.as_ref().unwrap();
    let estimated = thread.request.as_ref().unwrap().estimated_input_tokens;
    assert!((1_600..2_000).contains(&estimated), "{estimated}");
    assert!(last_body(&world).len() > 400_000);
}

#[test]
fn w3_a_thread_asks_as_it_was_opened_whichever_process_asks() {
    let mut world = thinking();
    let before = world.effects.iter().find_map(|effect| match effect {
        Effect::AskModel(ask) => Some(ask.prepared.clone()),
        _ => None,
    });
    world.restart("the agent dies");
    world.effects.clear();
    world.found(BTreeMap::new());
    let after = world.effects.iter().find_map(|effect| match effect {
        Effect::AskModel(ask) => Some(ask.prepared.clone()),
        _ => None,
    });
    assert_eq!(before, after);
    assert!(before.is_some());
}
