//! A thread that grows too long goes on from a summary of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;

use super::world::{
    World, boot, broken, call, command, config, message, overloaded, prepared, reason, result, too_long,
    words,
};
use crate::agent::events::{Event, ItemDetails, ItemStatus};
use crate::agent::journal::record::{InputKind, ModelEnd, Record, RequestKind, SessionCursor, SessionOpened};
use crate::agent::machine::{Config, Effect, SessionChange, Signal};
use crate::agent::state::State;
use crate::api::provider::CompactionMode;
use crate::api::reasons::Reason;
use crate::api::task::Limits;
use crate::llm::{Fatal, FatalKind, Item, Misconfiguration, Misconfigured, ModelError, Opaque, Role, Wire};

fn windowed(context_window: u64) -> Config {
    Config { context_window: Some(context_window), ..config() }
}

/// The newest request's body.
fn body(world: &World) -> serde_json::Value {
    let asked = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::AskModel(ask) => Some(&ask.prepared.body),
        _ => None,
    });
    serde_json::from_slice(asked.unwrap()).unwrap()
}

/// What the newest request says, text by text.
fn texts(world: &World) -> Vec<String> {
    let body = body(world);
    let text = |item: &serde_json::Value| item["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    body["input"].as_array().unwrap().iter().map(text).collect()
}

/// The kind of the newest request.
fn asked(world: &World) -> RequestKind {
    let intents = world.journal.iter().rev().find_map(|entry| match &entry.record {
        Record::ModelIntent(intent) => Some(intent.kind),
        _ => None,
    });
    intents.unwrap()
}

fn compactions(world: &World) -> usize {
    let replaced = |record: &Record| matches!(record, Record::HistoryReplaced(_));
    world.journal.iter().filter(|entry| replaced(&entry.record)).count()
}

/// A step of one command whose response says that its request had so many tokens.
fn step(world: &mut World, tokens: u64) {
    let ordinal = world.machine.state().thread.as_ref().unwrap().history.len() as u64;
    world.item(command(&format!("c{ordinal}"), "ls"));
    world.counted(tokens, None);
    world.ended(ordinal, "output");
}

#[test]
fn a_thread_that_nears_the_end_of_the_window_goes_on_from_a_summary() {
    let mut world = World::asked(windowed(10_000));
    world.item(call(
        "p",
        "update_plan",
        json!({"plan": [
            {"step": "look", "status": "completed"}, {"step": "serve", "status": "in_progress"},
        ]}),
    ));
    world.item(command("c1", "npm run\n  dev"));
    world.counted(8_985, None);
    let opened =
        SessionOpened { session: 10_001, op: 1, ordinal: 3, boot: boot(1), cursor: SessionCursor::default() };
    world.say(
        "the command goes on",
        Signal::CallEnded(result(
            3,
            "Process running with session ID 10001",
            Some(SessionChange::Opened(opened)),
        )),
    );
    world.item(call("x", "exec_command", json!({"cmd": "ignored"})));
    world.item(words("State: it is served."));
    world.completed(None);
    world.item(words("Done."));
    world.completed(None);
    assert_snapshot!(world.told());
    let texts = texts(&world);
    assert_eq!(texts[..2], ["base", "do it"]);
    assert!(texts[2].ends_with("\n\nState: it is served."), "{}", texts[2]);
    assert_eq!(
        texts[3..],
        ["<carried_over>\nCommands that still run, each in a session that you reach by its number:\n\
          - 10001: npm run dev\nYour plan as you last gave it:\n- [completed] look\n- [in progress] serve\n\
          </carried_over>"]
    );
    assert_eq!(reason(&world), Some(Reason::Completed));
}

#[test]
fn nine_tenths_of_the_window_count_with_what_is_not_sent_yet() {
    // 10 tokens of output, and 16 of the call's output.
    for (tokens, kind) in [(8_973, RequestKind::Turn), (8_974, RequestKind::Compaction)] {
        let mut world = World::asked(windowed(10_000));
        step(&mut world, tokens);
        assert_eq!(asked(&world), kind, "{tokens}");
    }
    let mut world = World::asked(config());
    step(&mut world, 10_000_000);
    assert_eq!(asked(&world), RequestKind::Turn, "nobody knows the window");
}

#[test]
fn the_request_is_the_next_one_and_an_instruction_more() {
    let mut world = World::asked(windowed(10_000));
    let before = body(&world);
    step(&mut world, 9_500);
    let after = body(&world);
    assert_eq!(after["tools"], before["tools"]);
    let (before, after) = (before["input"].as_array().unwrap(), after["input"].as_array().unwrap());
    assert_eq!(after[..before.len()], before[..]);
    let kinds: Vec<&str> = after[before.len()..].iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["function_call", "function_call_output", "message"]);
}

#[test]
fn a_request_that_the_provider_finds_too_long_is_compacted_once() {
    let mut world = World::asked(config());
    step(&mut world, 100);
    let (steps, requests) = (world.machine.state().spent.steps, world.request());
    world.fails(too_long());
    assert_eq!(asked(&world), RequestKind::Compaction);
    world.item(words("State: fine."));
    world.completed(None);
    assert_eq!((asked(&world), compactions(&world)), (RequestKind::Turn, 1));
    let spent = &world.machine.state().spent;
    assert_eq!(
        (spent.steps, spent.requests),
        (steps, requests + 2),
        "the request that is repeated is no new step"
    );
    world.fails(too_long());
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
    let message = &world.machine.state().outcome.as_ref().unwrap().message;
    assert!(message.contains("a larger context window"), "{message}");
    assert_eq!(compactions(&world), 1);
}

#[test]
fn a_prompt_that_does_not_fit_is_told_at_once() {
    let mut world = World::asked(config());
    world.fails(too_long());
    assert_eq!((reason(&world), world.request()), (Some(Reason::ModelFailed), 1));
}

#[test]
fn a_compaction_that_does_not_fit_leaves_out_more_and_more_of_the_oldest() {
    let mut world = World::asked(windowed(10_000));
    for _ in 0..5 {
        step(&mut world, 100);
    }
    step(&mut world, 9_500);
    let whole = texts(&world).len();
    assert_eq!(whole, 2 + 6 * 2 + 1);
    for left_out in [1, 3] {
        world.fails(too_long());
        let body = body(&world);
        let input = body["input"].as_array().unwrap();
        assert_eq!(input.len(), whole - 2 * left_out, "pairs go together");
        assert_eq!(input[1]["content"][0]["text"], "do it", "what was said stays");
        assert_eq!(input[2]["call_id"], format!("c{}", 2 + 2 * left_out));
    }
    world.item(words("State: fine."));
    world.completed(None);
    assert_eq!((asked(&world), compactions(&world)), (RequestKind::Turn, 1));

    let mut world = World::asked(windowed(10_000));
    step(&mut world, 9_500);
    // The step, then the prompt, and then there is nothing more.
    for _ in 0..2 {
        world.fails(too_long());
        assert_eq!(reason(&world), None);
    }
    world.fails(too_long());
    assert_eq!(reason(&world), Some(Reason::ModelFailed));
}

#[test]
fn a_compaction_that_fails_is_repeated_waited_out_and_restarted_like_any_request() {
    let mut world = World::asked(windowed(10_000));
    step(&mut world, 9_500);
    world.fails(broken());
    world.wait(1);
    world.fails(overloaded());
    assert!(world.machine.unavailable().is_some());
    world.restart("the agent dies while the provider is out");
    world.found(BTreeMap::new());
    world.wait(10);
    world.item(words("State: "));
    world.restart("the agent dies in the middle of the summary");
    world.found(BTreeMap::new());
    assert_eq!(asked(&world), RequestKind::Compaction);
    world.item(words("State: fine."));
    world.completed(None);
    assert!(world.machine.unavailable().is_none());
    assert_eq!((asked(&world), compactions(&world)), (RequestKind::Turn, 1));
    let said = texts(&world).concat();
    assert!(said.ends_with("\n\nState: fine."), "nothing of the broken one: {said}");
    assert_snapshot!(world.told());
}

#[test]
fn without_a_summary_the_work_goes_on_all_the_same() {
    let cut_off =
        ModelError::Fatal(Fatal { kind: FatalKind::Incomplete, message: "cut off".into(), usage: None });
    for second in [None, Some(cut_off)] {
        let mut world = World::asked(windowed(10_000));
        step(&mut world, 9_500);
        world.item(command("x", "ignored"));
        world.completed(None);
        assert_eq!((asked(&world), compactions(&world)), (RequestKind::Compaction, 0));
        match second {
            None => world.completed(None),
            Some(error) => world.fails(error),
        }
        assert_eq!((asked(&world), compactions(&world)), (RequestKind::Turn, 1));
        assert!(texts(&world).concat().contains("There is no handover"));
    }
}

#[test]
fn limits_are_checked_before_a_compaction_too_and_it_is_no_step() {
    let limits = Limits { steps: 2, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..windowed(10_000) });
    step(&mut world, 9_500);
    assert_eq!(world.machine.state().spent.steps, 1);
    world.item(words("State: fine."));
    world.completed(None);
    let spent = &world.machine.state().spent;
    assert_eq!((spent.steps, spent.requests, spent.usage.input_tokens), (2, 3, 9_600));
    step(&mut world, 9_500);
    assert_eq!((reason(&world), world.request()), (Some(Reason::BudgetExceeded), 3), "no summary for nobody");

    let limits = Limits { uncached_input_tokens: 9_000, ..Limits::default() };
    let mut world = World::asked(Config { limits, ..windowed(10_000) });
    step(&mut world, 9_500);
    assert_eq!((reason(&world), world.request()), (Some(Reason::BudgetExceeded), 1));
}

#[test]
fn what_is_said_during_a_compaction_comes_after_it_and_a_cancellation_ends_it() {
    let mut world = World::asked(windowed(10_000));
    step(&mut world, 9_500);
    world.tell(Signal::Message(message(1, InputKind::Prompt, "and this")));
    world.item(words("State: fine."));
    world.completed(None);
    let said = texts(&world);
    assert!(said[2].ends_with("State: fine.") && said[3] == "and this", "{said:?}");

    let mut world = World::asked(windowed(10_000));
    step(&mut world, 9_500);
    world.tell(Signal::Message(message(1, InputKind::Cancel, "")));
    assert_eq!(reason(&world), Some(Reason::Cancelled));
    let shown: Vec<ItemStatus> = world
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Emit(Event::ItemStarted { item } | Event::ItemCompleted { item }) => match item.details {
                ItemDetails::ContextCompaction { window: 2, status } => Some(status),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(shown, [ItemStatus::InProgress, ItemStatus::Failed]);
    let end = world.journal.iter().rev().find_map(|entry| match &entry.record {
        Record::ModelEnded(ended) => Some(ended.end.clone()),
        _ => None,
    });
    assert!(matches!(end, Some(ModelEnd::Broken { .. })));
}

#[test]
fn what_no_request_has_held_yet_stays_whole_behind_the_summary() {
    let more = |text: &str| Signal::Message(message(1, InputKind::Prompt, text));
    let in_the_turn = |text: &str| {
        let mut world = World::asked(windowed(10_000));
        world.tell(more(text));
        step(&mut world, 9_500);
        world
    };
    let after_the_turn = |text: &str| {
        let mut world = World::asked(Config { keep: Duration::from_secs(100), ..windowed(10_000) });
        world.item(words("Done."));
        world.counted(9_500, None);
        world.tell(more(text));
        world
    };
    for mut world in [in_the_turn("and this"), after_the_turn("and this")] {
        assert_eq!(asked(&world), RequestKind::Compaction);
        assert!(!texts(&world).contains(&"and this".to_owned()), "{:?}", texts(&world));
        world.item(words("State: fine."));
        world.completed(None);
        let said = texts(&world);
        assert!(said[2].ends_with("State: fine."), "{said:?}");
        assert_eq!((said.len(), &said[3]), (4, &"and this".to_owned()));
        step(&mut world, 9_500);
        world.item(words("State: better."));
        world.completed(None);
        let again = texts(&world);
        assert_eq!(again[..3], ["base", "do it", "and this"]);
        assert!(again[3].ends_with("State: better."), "{again:?}");
    }
    // More than a quarter of the window is summed up with the rest, and shortened.
    let long = "a".repeat(12_000);
    for mut world in [in_the_turn(&long), after_the_turn(&long)] {
        assert!(texts(&world).contains(&long));
        world.item(words("State: fine."));
        world.completed(None);
        let said = texts(&world);
        assert!(said[1].contains("tokens truncated") && said[2].ends_with("State: fine."), "{said:?}");
    }
}

#[test]
fn only_the_newest_words_of_people_are_kept_and_no_older_summary() {
    let mut world = World::asked(windowed(100_000));
    let long = |letter: &str| letter.repeat(60_000);
    for (seq, text) in [(1, "dropped".to_owned()), (2, long("a")), (3, long("b"))] {
        world.tell(Signal::Message(message(seq, InputKind::Prompt, &text)));
    }
    step(&mut world, 95_000);
    world.item(words("State: first."));
    world.completed(None);
    // 15,000 tokens of the newest and 5,000 of the one before it.
    let said = texts(&world);
    assert_eq!((said.len(), said[2].as_str()), (4, long("b").as_str()));
    let half = "a".repeat(10_000);
    assert_eq!(said[1], format!("{half}…10000 tokens truncated…{half}"));
    step(&mut world, 95_000);
    world.item(words("State: second."));
    world.completed(None);
    let again = texts(&world);
    assert_eq!((again.len(), &again[2]), (4, &said[2]));
    assert!(again[3].ends_with("State: second.") && !again[3].contains("first"), "{}", again[3]);
    assert_eq!(compactions(&world), 2);
}

#[test]
fn a_window_that_is_full_at_once_is_not_compacted_again_before_the_model_has_said_something() {
    let mut world = World::asked(windowed(10_000));
    step(&mut world, 9_500);
    world.item(words(&"long ".repeat(10_000)));
    world.completed(None);
    assert_eq!((asked(&world), compactions(&world)), (RequestKind::Turn, 1));
    world.completed(Some(false));
    assert_eq!((asked(&world), compactions(&world)), (RequestKind::Turn, 1));
}

/// A thread on a wire whose provider compacts by itself, with its payload asked for.
fn native(wire: Wire, mode: CompactionMode) -> World {
    let mut world = World::new(windowed(10_000));
    world.start();
    let Signal::Prepared(mut prepared) = prepared() else { panic!("prepared") };
    prepared.opened.capabilities.compaction = Some(mode);
    let capabilities = prepared.opened.capabilities;
    let layers = [Item::message(Role::Developer, "base"), Item::message(Role::User, "here")];
    let layers = layers.into_iter().map(|layer| match layer {
        Item::Message(message) => wire.message(message, &capabilities),
        other => panic!("{other:?}"),
    });
    prepared.opened.wire = wire;
    prepared.opened.prefix = layers.collect();
    world.tell(Signal::Prepared(prepared));
    world.item(words("On it."));
    world.counted(9_500, Some(false));
    assert_eq!(asked(&world), RequestKind::Compaction);
    world
}

fn payload() -> Item {
    Item::Opaque(Opaque { kind: "compaction".into() })
}

#[test]
fn w23_a_payload_of_responses_comes_after_the_words_of_people() {
    for (mode, last, members) in
        [(CompactionMode::TriggerItem, "compaction_trigger", 5), (CompactionMode::Endpoint, "message", 2)]
    {
        let mut world = native(Wire::Responses, mode);
        let asked_with = body(&world);
        assert_eq!(asked_with["input"].as_array().unwrap().last().unwrap()["type"], last);
        let bare = asked_with.as_object().unwrap().keys().filter(|name| !name.starts_with("tool")).count();
        assert!(bare <= members, "{asked_with}");
        world.item(Item::message(Role::User, "do it"));
        world.item(words("ignored"));
        world.item(payload());
        world.completed(None);
        assert_eq!(asked(&world), RequestKind::Turn);
        assert_eq!(texts(&world)[..3], ["base", "here", "do it"]);
        let body = body(&world);
        let input = body["input"].as_array().unwrap();
        assert_eq!((input.len(), &input[3]["type"]), (4, &json!("other")), "as it came");
    }
}

#[test]
fn w23_a_payload_of_messages_is_the_first_message() {
    let mut world = native(Wire::Messages, CompactionMode::OnDemand);
    let body_before = body(&world);
    assert_eq!(body_before["compaction"], json!({"type": "summarize"}));
    let last = body_before["messages"].as_array().unwrap().last().unwrap().to_string();
    assert!(last.contains("On it."), "nothing is added: {last}");
    world.item(payload());
    world.completed(None);
    let body = body(&world);
    assert_eq!((&body["system"], &body["compaction"]), (&body_before["system"], &json!(null)));
    let messages = body["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["assistant", "user"]);
    assert_eq!(messages[0]["content"][0]["type"], "other");
    assert!(messages[1].to_string().contains("do it"));
    let folded = State::fold(&world.journal).unwrap().thread.unwrap();
    let live = world.machine.state().thread.as_ref().unwrap();
    assert_eq!(folded.history.input(), live.history.input());
    // What was said in this window is left out before its payload is, which is never.
    world.item(words("And on."));
    world.counted(9_500, Some(false));
    world.fails(too_long());
    let body = self::body(&world);
    assert_eq!(body["messages"][0]["role"], "assistant");
    assert!(!body["messages"].to_string().contains("And on."));
}

#[test]
fn w23_a_provider_without_a_payload_is_asked_in_words() {
    let refused = ModelError::Fatal(Fatal {
        kind: FatalKind::InvalidRequest,
        message: "unknown item".into(),
        usage: None,
    });
    let nowhere = ModelError::Misconfigured(Misconfigured {
        kind: Misconfiguration::WrongApi,
        message: "no such address".into(),
    });
    for (wire, mode) in [
        (Wire::Responses, CompactionMode::TriggerItem),
        (Wire::Responses, CompactionMode::Endpoint),
        (Wire::Messages, CompactionMode::OnDemand),
    ] {
        for error in [None, Some(refused.clone()), Some(nowhere.clone())] {
            let mut world = native(wire, mode);
            match error {
                None => world.completed(None),
                Some(error) => world.fails(error),
            }
            assert_eq!(asked(&world), RequestKind::Compaction);
            let body = body(&world);
            assert!(body.to_string().contains("Write the handover") && body["compaction"].is_null());
            world.item(words("State: fine."));
            world.completed(None);
            assert_eq!((asked(&world), compactions(&world)), (RequestKind::Turn, 1));
        }
    }
}

#[test]
fn each_wire_asks_with_what_it_sent_before() {
    for wire in [Wire::Chat, Wire::Messages] {
        let mut world = World::new(windowed(10_000));
        world.start();
        let Signal::Prepared(mut prepared) = prepared() else { panic!("prepared") };
        let capabilities = prepared.opened.capabilities;
        let base = Item::message(Role::Developer, "base");
        let Item::Message(base) = base else { panic!("a message") };
        prepared.opened.wire = wire;
        prepared.opened.prefix = vec![wire.message(base, &capabilities)];
        world.tell(Signal::Prepared(prepared));
        let before = body(&world)["messages"].as_array().unwrap().clone();
        world.item(words("On it."));
        world.counted(9_500, Some(false));
        let asked = body(&world)["messages"].as_array().unwrap().clone();
        assert_eq!(asked[..before.len()], before[..], "{wire:?}");
        assert!(asked.last().unwrap()["content"].to_string().contains("Write the handover"), "{wire:?}");
    }
}
