//! What changes when a compaction begins another window: the tools of MCP servers, and nothing else.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::world::{World, boot, call, command, config, message, prepared, reason, too_long, words};
use crate::agent::journal::record::{Entry, InputKind, Record};
use crate::agent::machine::{Config, Effect, Signal};
use crate::agent::state::State;
use crate::agent::thread::Thread;
use crate::agent::tools::mcp::selection::{ListedTool, Listing, Offer, Selection, offer, select};
use crate::api::mcp::McpServer;
use crate::api::reasons::Reason;
use crate::llm::{ToolDefinition, Wire};

fn server() -> McpServer {
    serde_json::from_value(json!({"name": "s", "stdio": {"command": "s"}})).unwrap()
}

/// What the server lists: tools by name and description.
fn listed(tools: &[(&str, &str)]) -> Vec<ListedTool> {
    let tool = |(name, description): &(&str, &str)| ListedTool {
        name: (*name).to_owned(),
        description: (*description).to_owned(),
        schema: serde_json::Map::new(),
    };
    tools.iter().map(tool).collect()
}

/// What the server `s` offers by now.
pub(super) fn offered(tools: &[(&str, &str)]) -> Vec<Offer> {
    vec![offer(Listing { server: &server(), tools: listed(tools) })]
}

/// A thread that has a tool of its own and those of the server.
pub(super) fn opened(wire: Wire, tools: &[(&str, &str)]) -> Signal {
    let Signal::Prepared(mut prepared) = prepared() else { panic!("prepared") };
    let own = ToolDefinition::Function {
        name: "exec_command".into(),
        description: "Runs a command.".into(),
        parameters: json!({"type": "object", "properties": {"cmd": {"type": "string"}}}),
    };
    let server = server();
    let Selection { definitions, tools, .. } =
        select(vec![Listing { server: &server, tools: listed(tools) }]);
    let opened = &mut prepared.opened;
    let definitions: Vec<ToolDefinition> = [own].into_iter().chain(definitions).collect();
    let rendered = wire.tools(&definitions, &opened.capabilities);
    opened.wire = wire;
    let content = vec![crate::llm::ContentPart::Text { text: "base".into() }];
    let base = crate::llm::Message { role: crate::llm::Role::Developer, content };
    opened.prefix = vec![wire.message(base, &opened.capabilities)];
    opened.tools = String::from_utf8(rendered.bytes.to_vec()).unwrap();
    opened.mcp_tools = tools;
    opened.boot = Some(boot(1));
    Signal::Prepared(prepared)
}

fn serving() -> Config {
    Config { context_window: Some(10_000), mcp_servers: true, ..config() }
}

fn begun(wire: Wire, tools: &[(&str, &str)]) -> World {
    let mut world = World::new(serving());
    world.start();
    world.tell(opened(wire, tools));
    world
}

fn thread(world: &World) -> &Thread {
    world.machine.state().thread.as_ref().unwrap()
}

/// A step after which the window is full.
fn fill(world: &mut World) {
    world.item(words("On it."));
    world.counted(9_500, Some(false));
}

/// The body of the newest request.
fn body(world: &World) -> Value {
    let asked = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::AskModel(ask) => Some(&ask.prepared.body),
        _ => None,
    });
    serde_json::from_slice(asked.unwrap()).unwrap()
}

/// The names of the tools in it.
fn names(body: &Value) -> Vec<&str> {
    let tools = body["tools"].as_array().unwrap().iter();
    tools.map(|tool| tool["name"].as_str().or(tool["function"]["name"].as_str()).unwrap()).collect()
}

/// How often the servers were asked.
fn listings(world: &World) -> usize {
    world.effects.iter().filter(|effect| **effect == Effect::ListTools).count()
}

#[test]
fn w9_what_servers_offer_comes_in_with_the_compaction_and_not_before() {
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
        let mut world = begun(wire, &[("a", "A"), ("b", "B")]);
        let before = body(&world);
        assert_eq!(names(&before), ["exec_command", "mcp__s__a", "mcp__s__b"], "{wire:?}");
        fill(&mut world);
        assert_eq!((listings(&world), world.request()), (1, 1), "the summary waits for the lists: {wire:?}");
        world.tell(Signal::ToolsListed(offered(&[("b", "other"), ("c", "C")])));
        assert_eq!(world.request(), 2);
        assert_eq!(
            body(&world)["tools"],
            before["tools"],
            "W24: the summary is asked for with the same tools"
        );
        world.item(words("State: fine."));
        world.completed(None);
        let after = body(&world);
        assert_eq!(names(&after), ["exec_command", "mcp__s__b", "mcp__s__c"], "{wire:?}");
        assert_eq!(after["tools"][0], before["tools"][0], "{wire:?}");
        assert!(after["tools"][1].to_string().contains("other"), "{wire:?}");
        assert_eq!(listings(&world), 1, "once a compaction: {wire:?}");

        // The one that is gone answers an error, the new one is called.
        world.item(call("x", "mcp__s__a", json!({})));
        world.item(call("y", "mcp__s__c", json!({})));
        world.completed(None);
        let called: Vec<&str> = world
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::CallMcp { call, .. } => Some(call.tool.tool.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(called, ["c"], "{wire:?}");
        let refused = world.journal.iter().rev().find_map(|entry| match &entry.record {
            Record::CallEnded(ended) => Some(ended.output.as_str()),
            _ => None,
        });
        assert_eq!(refused, Some("unsupported call: mcp__s__a"), "{wire:?}");
        let folded = State::fold(&world.journal).unwrap().thread.unwrap();
        assert_eq!((&folded.tools, &folded.mcp_tools), (&thread(&world).tools, &thread(&world).mcp_tools));
    }
}

#[test]
fn w9_in_the_order_of_things_the_lists_come_before_the_summary() {
    let mut world = begun(Wire::Responses, &[("a", "A")]);
    world.told();
    fill(&mut world);
    assert_eq!(world.machine.doing().as_deref(), Some("asking the MCP servers for their tools"));
    world.say("the servers answer", Signal::ToolsListed(offered(&[("a", "A"), ("b", "B")])));
    world.say("and again, too late", Signal::ToolsListed(offered(&[])));
    world.item(words("State: fine."));
    world.completed(None);
    world.item(words("Done."));
    world.completed(None);
    assert_snapshot!(world.told());
    assert_eq!(reason(&world), Some(Reason::Completed));
}

#[test]
fn w9_offers_that_change_nothing_leave_every_byte_and_the_record_as_they_are() {
    let same = [("a", "A"), ("b", "B")];
    for offers in [vec![], offered(&same)] {
        let mut world = begun(Wire::Responses, &same);
        let before = thread(&world).tools.clone();
        fill(&mut world);
        world.tell(Signal::ToolsListed(offers));
        world.item(words("State: fine."));
        world.completed(None);
        assert_eq!(thread(&world).tools, before);
        let replaced = world.journal.iter().find_map(|entry| match &entry.record {
            Record::HistoryReplaced(replaced) => Some(replaced),
            _ => None,
        });
        assert_eq!(replaced.unwrap().tools, None);
    }
}

#[test]
fn w9_a_thread_without_mcp_servers_asks_nobody() {
    let mut world = World::asked(Config { mcp_servers: false, ..serving() });
    fill(&mut world);
    assert_eq!((listings(&world), world.request()), (0, 2));
}

#[test]
fn w9_servers_are_asked_when_the_provider_finds_the_thread_too_long_and_whatever_becomes_of_the_summary() {
    let mut world = begun(Wire::Responses, &[("a", "A")]);
    let ordinal = thread(&world).history.len() as u64;
    world.item(command("c", "ls"));
    world.completed(None);
    world.ended(ordinal, "output");
    world.fails(too_long());
    assert_eq!((listings(&world), world.request()), (1, 2));
    world.tell(Signal::ToolsListed(offered(&[("b", "B")])));
    // Two answers without a word: the work goes on without a summary.
    world.completed(None);
    world.completed(None);
    assert_eq!(names(&body(&world)), ["exec_command", "mcp__s__b"]);
    assert_eq!(listings(&world), 1);
}

#[test]
fn w9_a_suspended_agent_asks_when_it_goes_on_and_a_cancelled_one_never() {
    let mut world = begun(Wire::Responses, &[("a", "A")]);
    world.tell(Signal::Suspend(true));
    fill(&mut world);
    assert_eq!((listings(&world), world.request()), (0, 1));
    world.tell(Signal::Suspend(false));
    assert_eq!(listings(&world), 1);
    world.tell(Signal::Message(message(1, InputKind::Cancel, "")));
    world.tell(Signal::ToolsListed(offered(&[("b", "B")])));
    assert_eq!((reason(&world), world.request()), (Some(Reason::Cancelled), 1));
}

#[test]
fn the_model_hears_of_a_new_life_of_the_sandbox_as_long_as_servers_run_in_it() {
    let mut world = begun(Wire::Responses, &[]);
    assert_eq!(thread(&world).boot, Some(boot(1)));
    let begin_another = |world: &mut World, tools: &[(&str, &str)]| {
        fill(world);
        world.tell(Signal::ToolsListed(offered(tools)));
        world.item(words("State: fine."));
        world.completed(None);
    };
    begin_another(&mut world, &[("a", "A")]);
    assert_eq!(thread(&world).boot, Some(boot(1)));
    begin_another(&mut world, &[]);
    assert_eq!(thread(&world).boot, None);
    world.tell(Signal::SandboxRestarted(boot(2)));
    begin_another(&mut world, &[("a", "A")]);
    assert_eq!(thread(&world).boot, Some(boot(2)));
}

#[test]
fn w3_at_a_boundary_of_a_running_thread_wire_provider_model_and_reasoning_stay() {
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
        let mut world = World::new(serving());
        world.start();
        let Signal::Prepared(mut prepared) = opened(wire, &[("a", "A")]) else { panic!("prepared") };
        prepared.opened.reasoning_effort = Some("high".into());
        world.tell(Signal::Prepared(prepared));
        let asked = |world: &World| {
            let asked = world.effects.iter().rev().find_map(|effect| match effect {
                Effect::AskModel(ask) => Some(ask.prepared.clone()),
                _ => None,
            });
            let asked = asked.unwrap();
            let mut body: Value = serde_json::from_slice(&asked.body).unwrap();
            for said in ["input", "messages", "tools"] {
                body.as_object_mut().unwrap().remove(said);
            }
            (asked.wire, asked.model, asked.thread_id, asked.path, body)
        };
        let before = asked(&world);
        fill(&mut world);
        world.tell(Signal::ToolsListed(offered(&[("b", "B")])));
        world.item(words("State: fine."));
        world.completed(None);
        assert_eq!(thread(&world).history.windows().len(), 2);
        assert_eq!(asked(&world), before, "{wire:?}");
    }
}

/// A task whose compaction brings other tools, and that calls one of them.
fn journal() -> Vec<Entry> {
    let mut world = begun(Wire::Responses, BEFORE);
    fill(&mut world);
    world.tell(Signal::ToolsListed(offered(AFTER)));
    world.item(words("State: fine."));
    world.completed(None);
    let ordinal = thread(&world).history.len() as u64;
    world.item(call("x", "mcp__s__c", json!({})));
    world.completed(None);
    world.ended(ordinal, "called");
    world.item(words("Done."));
    world.completed(None);
    world.published();
    world.journal
}

const BEFORE: &[(&str, &str)] = &[("a", "A"), ("b", "B")];
const AFTER: &[(&str, &str)] = &[("b", "other"), ("c", "C")];

#[test]
fn w9_after_a_crash_anywhere_each_window_has_its_tools() {
    let journal = journal();
    let whole = State::fold(&journal).unwrap().thread.unwrap();
    let tools = |window: usize| {
        let bytes = if window == 1 { whole.opened.tools.as_bytes() } else { &whole.tools.bytes[..] };
        serde_json::from_slice::<Value>(bytes).unwrap()
    };
    assert_ne!(tools(1), tools(2));
    for length in 0..=journal.len() {
        let mut world = World::new(serving());
        world.journal = journal[..length].to_vec();
        world.restart("crash");
        if world.effects.contains(&Effect::Prepare) {
            world.tell(opened(Wire::Responses, BEFORE));
        } else {
            world.found(BTreeMap::new());
        }
        for _ in 0..100 {
            for effect in std::mem::take(&mut world.effects) {
                match effect {
                    Effect::AskModel(ask) => {
                        let body: Value = serde_json::from_slice(&ask.prepared.body).unwrap();
                        let window = thread(&world).history.windows().len();
                        assert_eq!(body["tools"], tools(window), "window {window} after {length} records");
                        world.item(words("Done."));
                        world.completed(None);
                    }
                    Effect::ListTools => world.tell(Signal::ToolsListed(offered(AFTER))),
                    Effect::CallMcp { ordinal, .. } => world.ended(ordinal, "called"),
                    Effect::Finish(_) => world.published(),
                    _ => {}
                }
            }
        }
        assert_eq!(reason(&world), Some(Reason::Completed), "after {length} records");
        let folded = State::fold(&world.journal).unwrap().thread.unwrap();
        assert_eq!(folded.tools, thread(&world).tools, "after {length} records");
    }
}
