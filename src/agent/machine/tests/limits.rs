//! Limits: checked before the spending, and what a crash may lose of what was spent.

use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;

use super::world::{World, broken, call, command, config, exit, message, patch, reason, result, words};
use crate::agent::journal::record::{InputKind, Record};
use crate::agent::machine::{CallResult, Config, Signal};
use crate::api::attempt::{Outcome, Phase};
use crate::api::money::{Money, Prices};
use crate::api::reasons::Reason;
use crate::api::task::Limits;

#[test]
fn limits_are_checked_before_the_spending() {
    let limits = Limits { steps: 1, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.item(command("c1", "ls"));
    world.completed(None);
    world.ended(2, "x");
    assert_snapshot!(world.told());

    let limits = Limits { commands: 1, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.item(command("c1", "ls"));
    world.item(command("c2", "ls"));
    assert_eq!(world.machine.state().spent.commands, 1);
    assert_eq!(reason(&world), Some(Reason::BudgetExceeded));
    assert_eq!(world.machine.state().spent.requests, 1, "nothing is asked once the end is decided");

    let limits = Limits { uncached_input_tokens: 60, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.item(command("c1", "ls"));
    world.completed(None);
    world.ended(2, "x");
    assert_eq!(reason(&world), Some(Reason::BudgetExceeded));
}

#[test]
fn commands_are_counted_on_either_surface() {
    for (name, argument) in [("exec_command", "cmd"), ("shell", "command")] {
        let limits = Limits { commands: 1, ..Limits::default() };
        let mut world = World::asked(Config { limits, ..config() });
        world.item(call("c1", name, json!({argument: "ls"})));
        assert_eq!((world.machine.state().spent.commands, reason(&world)), (1, None), "{name}");
        world.item(call("c2", name, json!({argument: "ls"})));
        assert_eq!(reason(&world), Some(Reason::BudgetExceeded), "{name}");
    }
}

#[test]
fn money_is_counted_and_limited_by_the_prices() {
    // A response is 60 new, 40 cached and 10 output tokens: 60 * 10 + 40 * 1 + 10 * 100 millionths.
    let prices = Prices {
        input: Money::from_micros(10_000_000),
        cached_input: Some(Money::from_micros(1_000_000)),
        cache_write_input: None,
        output: Money::from_micros(100_000_000),
    };
    let limits = Limits { cost: Some(Money::from_micros(3_000)), ..Limits::default() };
    let mut world = World::asked(Config { limits, prices: Some(prices), ..config() });
    world.completed(Some(false));
    assert_eq!((reason(&world), world.machine.cost()), (None, Some(Money::from_micros(1_640))));
    world.completed(Some(false));
    assert_eq!(reason(&world), Some(Reason::BudgetExceeded));
    assert_eq!(world.machine.cost(), Some(Money::from_micros(3_280)));
}

#[test]
fn a_request_that_would_surely_cross_a_limit_is_not_sent() {
    let limits = Limits { uncached_input_tokens: 1000, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.item(command("c1", "cat big"));
    world.completed(None);
    world.ended(2, &"x".repeat(4000));
    assert_eq!(reason(&world), Some(Reason::BudgetExceeded));
    assert_eq!(world.machine.state().spent.requests, 1);
}

#[test]
fn a_repeated_request_is_no_step_but_may_exceed_a_budget() {
    let limits = Limits { steps: 1, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.restart("the agent dies in the middle of its last step");
    world.found(BTreeMap::new());
    assert_eq!((reason(&world), world.machine.state().spent.requests), (None, 2));

    // What broken responses have probably cost counts before the next try.
    let limits = Limits { uncached_input_tokens: 200, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    for _ in 0..5 {
        if reason(&world).is_none() {
            world.fails(broken());
            world.wait(10);
        }
    }
    assert_eq!(reason(&world), Some(Reason::BudgetExceeded));
}

#[test]
fn calls_that_only_fail_end_the_attempt_before_the_next_step() {
    let limits = Limits { consecutive_failures: 3, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    let mut place = 2;
    for codes in [&[1, 1][..], &[1, 0], &[1], &[1, 1]] {
        assert_eq!(reason(&world), None);
        for _ in codes {
            world.item(command("c", "make"));
        }
        world.completed(None);
        for (ordinal, code) in (place..).zip(codes) {
            let failed = CallResult { exit: Some((1, exit(*code))), ..result(ordinal, "x", None) };
            world.tell(Signal::CallEnded(failed));
        }
        place += 2 * codes.len() as u64;
    }
    assert_eq!(world.machine.state().spent.failures, 3);
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::BudgetExceeded);
    assert!(outcome.message.contains("limits.consecutiveFailures (3)"), "{}", outcome.message);
}

#[test]
fn active_time_ends_a_command_and_does_not_pass_while_suspended() {
    let limits = Limits { active_seconds: 100, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.item(command("c1", "make"));
    world.completed(None);
    world.wait(60);
    world.say("suspend", Signal::Suspend(true));
    assert!(!world.machine.is_suspended(), "the command still runs");
    world.ended(2, "built");
    assert!(world.machine.is_suspended());
    world.wait(100_000);
    world.say("go on", Signal::Suspend(false));
    assert!(!world.machine.is_suspended());
    world.wait(39);
    assert_eq!(world.machine.wake_at(), Some(world.now + Duration::from_secs(1)));
    world.wait(1);
    assert_eq!(reason(&world), Some(Reason::DeadlineExceeded));
    assert_snapshot!(world.told());
}

/// Nobody reads that a person stopped it when none did.
#[test]
fn a_call_that_is_cut_off_says_by_what() {
    let outputs = |world: &World| -> Vec<String> {
        let ended = world.journal.iter().filter_map(|entry| match &entry.record {
            Record::CallEnded(ended) => Some(ended.output.clone()),
            _ => None,
        });
        ended.collect()
    };
    let limits = Limits { active_seconds: 100, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    world.item(command("c1", "make"));
    world.completed(None);
    world.wait(100);
    assert_eq!(outputs(&world), ["Wall time: 100.0 seconds\naborted by limits.activeSeconds (100)"]);

    let limits = Limits { commands: 1, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..config() });
    for cmd in ["make", "make test"] {
        world.item(command(cmd, cmd));
    }
    let by = "Wall time: 0.0 seconds\naborted by limits.commands (1)";
    assert_eq!(outputs(&world), [by, by]);

    let mut world = World::asked(config());
    world.item(patch("c1"));
    let message = "The sandbox is gone.".to_owned();
    world.tell(Signal::Failed(Outcome { reason: Reason::SandboxLost, message }));
    assert_eq!(outputs(&world), ["aborted by the end of the task (SandboxLost) after 0.0s"]);
}

#[test]
fn active_time_begins_when_the_sandbox_can_be_used() {
    let limits = Limits { active_seconds: 100, ..Limits::default() };
    let mut world = World::new(Config { limits, ..config() });
    world.start();
    world.wait(1_700);
    assert_eq!((world.machine.wake_at(), reason(&world)), (None, None), "an image may take this long");
    world.tell(Signal::SandboxReached);
    world.wait(40);
    world.restart("the agent dies in the setup script");
    world.wait(1_700);
    assert_eq!(world.machine.state().spent.active, Duration::from_secs(40));
    world.tell(Signal::SandboxReached);
    world.wait(60);
    assert_eq!(reason(&world), Some(Reason::DeadlineExceeded));
}

#[test]
fn the_time_kept_for_a_prompt_does_not_pass_while_suspended() {
    let mut world = World::asked(Config { keep: Duration::from_secs(100), ..config() });
    world.item(words("Done."));
    world.completed(None);
    world.wait(60);
    world.say("suspend", Signal::Suspend(true));
    assert!(world.machine.is_suspended());
    assert_eq!(world.machine.wake_at(), None);
    world.wait(100_000);
    assert_eq!((world.machine.phase(), reason(&world)), (Phase::Idle, None));
    world.say("go on", Signal::Suspend(false));
    world.wait(39);
    assert_eq!((world.machine.phase(), reason(&world)), (Phase::Idle, None));
    world.wait(1);
    assert_eq!(reason(&world), Some(Reason::Completed));
}

#[test]
fn a_crash_loses_at_most_half_a_minute_of_the_time_spent() {
    let limits = Limits { active_seconds: 100, ..Limits::default() };
    let mut world = World::asked(Config { limits, keep: Duration::from_secs(100), ..config() });
    world.item(command("c1", "make"));
    world.completed(None);
    // The driver wakes the machine when it wants.
    for _ in 0..2 {
        world.now = world.machine.wake_at().unwrap();
        world.tell(Signal::Woken);
    }
    world.now += Duration::from_secs(29);
    world.restart("the agent dies in the middle of the command");
    world.found(BTreeMap::new());
    assert_eq!(world.machine.state().spent.active, Duration::from_secs(60));
    world.ended(2, "built");
    world.item(words("Done."));
    world.completed(None);
    assert_eq!(world.machine.phase(), Phase::Idle);
    for _ in 0..3 {
        world.now = world.machine.wake_at().unwrap();
        world.tell(Signal::Woken);
    }
    world.restart("the agent dies while it waits for a message");
    world.found(BTreeMap::new());
    assert_eq!(world.machine.state().idle, Duration::from_secs(90));
    assert_eq!(world.machine.wake_at(), Some(world.now + Duration::from_secs(10)));
    world.say("prompt", Signal::Message(message(1, InputKind::Prompt, "and this")));
    assert_eq!(world.machine.state().idle, Duration::ZERO, "the next wait is a new one");
    assert_eq!(world.machine.state().spent.active, Duration::from_secs(60), "waiting is not active");
}
