//! A model that cannot be used: the turn waits for it, and the time is not the task's.

use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;

use super::world::{World, broken, command, config, overloaded, reason, words};
use crate::agent::machine::{Config, Effect, Signal};
use crate::agent::state::State;
use crate::api::attempt::Phase;
use crate::api::reasons::Reason;
use crate::llm::retry::RetryPolicy;
use crate::llm::{ModelError, RetryCause, RetryLayer, Retryable};

fn unauthorized() -> ModelError {
    ModelError::Retryable(Retryable {
        layer: RetryLayer::Stream,
        cause: RetryCause::Unauthorized { status: 401 },
        server_delay: None,
        message: "the key is refused".into(),
    })
}

/// The provider asks for more patience than a retry has.
fn come_back_later() -> ModelError {
    ModelError::Retryable(Retryable {
        layer: RetryLayer::Stream,
        cause: RetryCause::RateLimited,
        server_delay: Some(Duration::from_secs(3600)),
        message: "come back in an hour".into(),
    })
}

fn waited(world: &World) -> u64 {
    world.machine.state().outage.as_ref().map_or(0, |outage| outage.waited.as_secs())
}

fn active(world: &World) -> u64 {
    world.machine.state().spent.active.as_secs()
}

/// The driver wakes the machine when it wants.
fn wake(world: &mut World) {
    world.now = world.machine.wake_at().unwrap();
    world.tell(Signal::Woken);
}

#[test]
fn a_turn_waits_for_a_model_that_is_out_and_goes_on_when_it_is_back() {
    let retry = RetryPolicy { request_max: 0, stream_max: 1 };
    let mut world = World::asked(Config { retry, ..config() });
    world.fails(broken());
    world.wait(1);
    assert_eq!((world.machine.phase(), world.machine.unavailable()), (Phase::Running, None));
    world.fails(broken());
    assert_eq!(world.machine.phase(), Phase::Parked);
    assert_eq!(world.machine.unavailable(), Some("the stream broke"));
    world.wait(1);
    world.fails(broken());
    world.wait(2);
    assert_eq!((waited(&world), active(&world)), (3, 0));
    assert_eq!(world.machine.phase(), Phase::Parked, "nobody knows yet whether it is back");
    world.now += Duration::from_secs(5);
    world.item(words("Done."));
    world.completed(None);
    assert_eq!(reason(&world), Some(Reason::Completed));
    let state = world.machine.state();
    assert_eq!((state.spent.steps, state.spent.requests), (1, 4), "it is one step");
    assert_eq!(active(&world), 5, "a request that is answered is work");
    assert_eq!(state.outage, None);
    assert_snapshot!(world.told());
}

#[test]
fn a_model_that_stays_out_is_given_up_when_the_task_says_so() {
    let mut world = World::asked(config());
    let mut requests = 0;
    while reason(&world).is_none() {
        requests += 1;
        world.fails(overloaded());
        if reason(&world).is_none() {
            wake(&mut world);
            while !world.effects.iter().any(|effect| matches!(effect, Effect::AskModel(_))) {
                wake(&mut world);
            }
            world.effects.clear();
        }
    }
    // 1, 2, 4, 8, 16, 30 and 30 s, and the 9 that are left.
    assert_eq!((requests, world.now.as_secs(), active(&world)), (9, 100, 0));
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::ModelFailed);
    assert!(
        outcome.message.contains("no capacity") && outcome.message.contains("outageSeconds (100)"),
        "{}",
        outcome.message
    );
}

#[test]
fn a_task_without_patience_fails_at_once() {
    let mut world = World::asked(Config { outage: Duration::ZERO, ..config() });
    world.fails(overloaded());
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
}

#[test]
fn the_next_process_waits_for_what_is_left() {
    let mut world = World::asked(config());
    world.fails(come_back_later());
    for _ in 0..2 {
        wake(&mut world);
    }
    assert_eq!((world.now.as_secs(), waited(&world)), (60, 60));
    world.now += Duration::from_secs(29);
    world.restart("the agent dies while it waits");
    assert_eq!(world.machine.phase(), Phase::Parked);
    world.found(BTreeMap::new());
    assert_eq!((world.machine.phase(), waited(&world)), (Phase::Parked, 60));
    world.effects.clear();
    for _ in 0..2 {
        wake(&mut world);
    }
    assert!(world.effects.iter().any(|effect| matches!(effect, Effect::AskModel(_))));
    assert_eq!((world.now.as_secs(), waited(&world)), (40, 100));
    world.restart("the agent dies while it asks");
    world.found(BTreeMap::new());
    assert_eq!((world.machine.phase(), waited(&world)), (Phase::Parked, 100));
    world.fails(overloaded());
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
    let spent = State::fold(&world.journal).unwrap().spent;
    assert_eq!((spent.steps, spent.active), (1, Duration::ZERO));
}

#[test]
fn a_key_that_is_refused_after_an_outage_is_read_again() {
    let mut world = World::asked(config());
    world.fails(overloaded());
    world.wait(1);
    world.effects.clear();
    world.fails(unauthorized());
    wake(&mut world);
    let asked = world.effects.iter().find_map(|effect| match effect {
        Effect::AskModel(ask) => Some(ask.reread_credential),
        _ => None,
    });
    assert_eq!(asked, Some(true));
    // One that stays wrong is for a person to mend.
    for _ in 0..5 {
        world.fails(unauthorized());
        world.wait(10);
    }
    assert_eq!(reason(&world), Some(Reason::ModelMisconfigured));
}

#[test]
fn calls_of_a_response_that_broke_off_are_work() {
    let retry = RetryPolicy { request_max: 0, stream_max: 0 };
    let mut world = World::asked(Config { retry, ..config() });
    world.item(command("c1", "make"));
    world.fails(broken());
    assert_eq!(world.machine.phase(), Phase::Running);
    world.now += Duration::from_secs(20);
    world.ended(2, "built");
    assert_eq!((world.machine.phase(), waited(&world), active(&world)), (Phase::Parked, 0, 20));
    world.wait(1);
    assert_eq!((waited(&world), active(&world)), (1, 20));
    let doing = world.machine.doing();
    assert_eq!(doing.as_deref(), Some("waiting until the model can be used again"));
}

#[test]
fn a_suspended_agent_uses_no_patience_up() {
    let mut world = World::asked(config());
    world.fails(overloaded());
    world.say("suspend", Signal::Suspend(true));
    world.wait(1);
    assert!(world.machine.is_suspended() && world.machine.phase() == Phase::Running);
    world.wait(1000);
    assert_eq!((waited(&world), active(&world)), (1, 0));
    world.say("go on", Signal::Suspend(false));
    assert_eq!(world.machine.phase(), Phase::Parked);
    world.wait(1);
    world.item(words("Done."));
    world.completed(None);
    assert_eq!(reason(&world), Some(Reason::Completed));
}
