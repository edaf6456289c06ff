//! Tools of MCP servers: beside what they run, what becomes of them after a crash, and what the model is told.

use std::collections::BTreeMap;

use podwright_sandboxd::protocol::Digest;
use serde_json::json;

use super::world::{World, boot, call, command, config, prepared, result, words};
use crate::agent::journal::record::{CallOutcome, EffectClass, Entry, Record, SessionCursor, SessionOpened};
use crate::agent::machine::{CallResult, Effect, SessionChange, Signal};
use crate::agent::tools::image::IMAGES_MAX;
use crate::agent::tools::mcp::McpTool;
use crate::api::reasons::Reason;
use crate::llm::{ContentPart, Item, Role};

fn tool(name: &str, sandboxed: bool, parallel: bool, retryable: bool) -> McpTool {
    McpTool {
        name: format!("mcp__s__{name}"),
        server: "s".into(),
        tool: name.into(),
        sandboxed,
        parallel,
        retryable,
        definition: Digest::of(b"x"),
    }
}

/// A thread that has MCP tools, with its preparation done.
fn opened() -> Signal {
    let Signal::Prepared(mut prepared) = prepared() else { panic!("prepared") };
    prepared.opened.capabilities.image_input = true;
    prepared.opened.boot = Some(boot(1));
    prepared.opened.mcp_tools = vec![
        tool("get", false, true, true),
        tool("look", true, true, false),
        tool("write", true, false, false),
    ];
    Signal::Prepared(prepared)
}

fn world() -> World {
    let mut world = World::new(config());
    world.start();
    world.tell(opened());
    world.effects.clear();
    world
}

fn mcp(id: &str, name: &str) -> Item {
    call(id, &format!("mcp__s__{name}"), json!({"a": 1}))
}

/// The calls that were wanted since the last time.
fn wanted(world: &mut World) -> Vec<(u64, String)> {
    let effects = std::mem::take(&mut world.effects);
    let calls = effects.into_iter().filter_map(|effect| match effect {
        Effect::CallMcp { ordinal, call } => Some((ordinal, call.tool.tool)),
        Effect::RunCall(run) => Some((run.ordinal, "command".into())),
        _ => None,
    });
    calls.collect()
}

/// The newest output in history.
fn output(world: &World, call_id: &str) -> Vec<ContentPart> {
    let thread = world.machine.state().thread.as_ref().unwrap();
    let outputs = thread.history.items().filter_map(|item| match &item.item {
        Item::FunctionCallOutput(output) if output.call_id == call_id => Some(output.content.clone()),
        _ => None,
    });
    outputs.last().expect("an output")
}

#[test]
fn calls_run_beside_others_only_where_the_operator_says_so() {
    let mut world = world();
    for (id, item) in [("a", "look"), ("b", "get")] {
        world.item(mcp(id, item));
    }
    world.item(command("c", "ls"));
    world.item(mcp("d", "write"));
    world.item(mcp("e", "look"));
    world.completed(None);
    assert_eq!(wanted(&mut world), [(2, "look".into()), (3, "get".into()), (4, "command".into())]);
    world.ended(3, "x");
    world.ended(2, "x");
    assert_eq!(wanted(&mut world), []);
    world.ended(4, "x");
    assert_eq!(wanted(&mut world), [(5, "write".into())]);
    world.ended(5, "x");
    assert_eq!(wanted(&mut world), [(6, "look".into())]);
}

#[test]
fn a_call_is_recorded_as_external_before_it_leaves() {
    let mut world = world();
    world.item(mcp("a", "look"));
    let at = |wanted: fn(&Effect) -> bool| world.effects.iter().position(wanted).expect("it is there");
    let intent = at(
        |effect| matches!(effect, Effect::Append(entry) if matches!(&entry.record, Record::CallIntent(intent) if intent.class == EffectClass::External)),
    );
    assert!(intent < at(|effect| matches!(effect, Effect::Barrier(_))));
    assert!(
        at(|effect| matches!(effect, Effect::Barrier(_)))
            < at(|effect| matches!(effect, Effect::CallMcp { .. }))
    );
}

#[test]
fn what_the_thread_does_not_have_is_no_tool() {
    let mut world = world();
    world.item(mcp("a", "other"));
    world.item(call("b", "mcp__s__look", json!([1])));
    world.completed(None);
    assert_eq!(wanted(&mut world), []);
    assert_eq!(output(&world, "a"), [ContentPart::Text { text: "unsupported call: mcp__s__other".into() }]);
    let ContentPart::Text { text } = &output(&world, "b")[0] else { panic!("a text") };
    assert!(text.starts_with("failed to parse function arguments: "), "{text}");
}

/// A task with calls of all kinds, in parallel and alone.
fn journal() -> Vec<Entry> {
    let mut world = world();
    world.item(mcp("a", "get"));
    world.item(mcp("b", "look"));
    world.item(mcp("c", "write"));
    world.completed(None);
    world.ended(3, "looked");
    world.ended(2, "got");
    world.ended(4, "written");
    world.item(words("Done."));
    world.completed(None);
    world.published();
    world.journal
}

#[test]
fn after_a_crash_anywhere_no_call_is_repeated_but_those_that_may_be() {
    let journal = journal();
    for length in 0..=journal.len() {
        for boot in [1, 2] {
            let prefix = &journal[..length];
            let mut left = BTreeMap::new();
            for entry in prefix {
                match &entry.record {
                    Record::CallIntent(intent) => drop(left.insert(intent.ordinal, false)),
                    Record::CallEnded(ended) => drop(left.insert(ended.ordinal, true)),
                    _ => {}
                }
            }
            let mut world = World::new(config());
            world.journal = prefix.to_vec();
            world.boot = boot;
            world.restart("crash");
            if world.effects.contains(&Effect::Prepare) {
                world.tell(opened());
            } else {
                world.found(BTreeMap::new());
            }
            let mut called = Vec::new();
            for _ in 0..100 {
                for effect in std::mem::take(&mut world.effects) {
                    match effect {
                        Effect::AskModel(_) => {
                            world.item(words("Done."));
                            world.completed(None);
                        }
                        Effect::CallMcp { ordinal, .. } => {
                            called.push(ordinal);
                            world.ended(ordinal, "again");
                        }
                        Effect::Finish(_) => world.published(),
                        _ => {}
                    }
                }
            }
            let at = format!("after {length} records, boot {boot}: {called:?}");
            let outcome = world.machine.state().outcome.clone().expect(&at);
            assert_eq!(outcome.reason, Reason::Completed, "{at}: {}", outcome.message);
            for (ordinal, ended) in &left {
                // The first call is of the tool that may be called again.
                let again = !ended && *ordinal == 2;
                assert_eq!(called.contains(ordinal), again, "{at}");
            }
            let unknown = world.journal.iter().filter(|entry| {
                matches!(&entry.record, Record::CallEnded(ended) if ended.outcome == CallOutcome::Unknown)
            });
            let lost = left.iter().filter(|(ordinal, ended)| !**ended && **ordinal != 2).count();
            assert_eq!(unknown.count(), lost, "{at}");
        }
    }
}

/// What was said to the model by the harness since the beginning.
fn notes(world: &World) -> Vec<String> {
    let thread = world.machine.state().thread.as_ref().unwrap();
    let notes = thread.history.items().filter_map(|item| match &item.item {
        Item::Message(message) if message.role == Role::Developer => Some(message.text()),
        _ => None,
    });
    notes.skip(1).collect()
}

#[test]
fn the_model_is_told_once_that_servers_in_the_sandbox_lost_their_memory() {
    let mut world = world();
    world.item(mcp("a", "look"));
    world.completed(None);
    world.say("the sandbox is new", Signal::SandboxRestarted(boot(2)));
    assert_eq!(notes(&world), [""; 0]);
    world.ended(2, "looked");
    assert_eq!(notes(&world).len(), 1);
    assert!(notes(&world)[0].contains("its MCP servers (s)"), "{:?}", notes(&world));
    // The note stands behind the output, and in the request.
    let thread = world.machine.state().thread.as_ref().unwrap();
    assert!(matches!(thread.history.get(3), Some(Item::FunctionCallOutput(_))));
    assert!(matches!(thread.history.get(4), Some(Item::Message(_))));
    world.item(mcp("b", "look"));
    world.completed(None);
    world.ended(5, "looked");
    assert_eq!(notes(&world).len(), 1);
    // A process that was killed before it said so says it as well.
    world.boot = 3;
    world.restart("crash");
    world.found(BTreeMap::new());
    assert_eq!(notes(&world).len(), 1, "a repeated request brings nothing new");
    world.item(mcp("c", "look"));
    world.completed(None);
    world.ended(7, "looked");
    assert_eq!(notes(&world).len(), 2);
}

#[test]
fn a_thread_without_servers_in_the_sandbox_hears_nothing_of_it() {
    let mut world = World::asked(config());
    world.item(command("a", "ls"));
    world.completed(None);
    world.say("the sandbox is new", Signal::SandboxRestarted(boot(2)));
    world.ended(2, "x");
    assert_eq!(notes(&world), [""; 0]);
}

#[test]
fn the_model_is_told_once_which_sessions_are_gone_with_the_sandbox() {
    let mut world = World::asked(config());
    world.item(command("a", "npm run\n dev"));
    world.completed(None);
    let opened =
        SessionOpened { session: 10_001, op: 1, ordinal: 2, boot: boot(1), cursor: SessionCursor::default() };
    let running = result(2, "Process running with session ID 10001", Some(SessionChange::Opened(opened)));
    world.say("the command goes on", Signal::CallEnded(running));
    world.say("the sandbox is new", Signal::SandboxRestarted(boot(2)));
    for (id, told) in [("b", 1), ("c", 1)] {
        let ordinal = world.machine.state().thread.as_ref().unwrap().history.len() as u64;
        world.item(command(id, "ls"));
        world.completed(None);
        world.ended(ordinal, "x");
        assert_eq!(notes(&world).len(), told, "{:?}", notes(&world));
    }
    assert!(notes(&world)[0].ends_with("is not known: 10001."), "{:?}", notes(&world));
    assert!(world.machine.state().thread.as_ref().unwrap().sessions.is_empty());
}

#[test]
fn pictures_of_a_result_go_with_its_text_as_long_as_there_is_room() {
    let mut world = world();
    let urls = |count: usize| vec!["data:image/png;base64,AA==".to_owned(); count];
    for (id, count) in [("a", IMAGES_MAX - 1), ("b", 3)] {
        world.item(mcp(id, "look"));
        world.completed(None);
        let (ordinal, _) = wanted(&mut world)[0];
        let ended = CallResult { images: urls(count), ..result(ordinal, "see", None) };
        world.say("pictures", Signal::CallEnded(ended));
    }
    let first = output(&world, "a");
    assert_eq!((first.len(), &first[0]), (IMAGES_MAX, &ContentPart::Text { text: "see".into() }));
    let second = output(&world, "b");
    assert_eq!(second.len(), 2);
    let ContentPart::Text { text } = &second[0] else { panic!("a text") };
    assert!(text.contains("2 images left out"), "{text}");
}

#[test]
fn a_call_that_ends_well_ends_a_row_of_failures() {
    let mut world = world();
    for (id, outcome, failures) in
        [("a", CallOutcome::Error, 1), ("b", CallOutcome::Unknown, 1), ("c", CallOutcome::Ok, 0)]
    {
        world.item(mcp(id, "look"));
        world.completed(None);
        let (ordinal, _) = wanted(&mut world)[0];
        let ended = CallResult { outcome, ..result(ordinal, "x", None) };
        world.say("it ends", Signal::CallEnded(ended));
        assert_eq!(world.machine.state().spent.failures, failures);
    }
}
