//! Whatever comes in whatever order: every call gets one output, in the order of the calls; every request
//! begins with the one before; and the journal tells the state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::boundary::{offered, opened};
use super::world::{
    World, boot, broken, call, command, config, intent, message, overloaded, patch, result, too_long, words,
};
use crate::agent::budget::{Spent, cost};
use crate::agent::journal::record::{EffectClass, InputKind, ModelEnd, Record};
use crate::agent::machine::{Config, Effect, Signal};
use crate::agent::state::State;
use crate::agent::thread::Thread;
use crate::agent::tools::CallClass;
use crate::api::money::{Money, Prices};
use crate::api::reasons::Reason;
use crate::api::task::Limits;
use crate::llm::{CallKind, Item, Role, Wire};

/// What is under way outside, as the effects said.
#[derive(Default)]
struct Outside {
    asking: bool,
    running: Vec<u64>,
    computing: Vec<u64>,
    /// Whether the MCP servers are asked for their tools.
    listing: bool,
    requests: Vec<Asked>,
    /// What was spent when each of them was asked.
    spent: Vec<Spent>,
    finishing: bool,
    crashes: u32,
}

/// A request, byte for byte.
struct Asked {
    /// The number of its window.
    window: usize,
    tools: String,
    /// What the window begins with: the instructions beside the messages, or the first message.
    layers: String,
    /// The messages, or the items, without the one that asks for a compaction.
    messages: Vec<String>,
}

/// The same as it is sent.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow, alias = "messages")]
    input: Vec<&'a RawValue>,
}

impl Outside {
    fn take(&mut self, world: &mut World) {
        for effect in std::mem::take(&mut world.effects) {
            match effect {
                Effect::AskModel(ask) => {
                    self.asking = true;
                    self.spent.push(world.machine.state().spent);
                    let thread = world.machine.state().thread.as_ref().unwrap();
                    let body: Body<'_> = serde_json::from_slice(&ask.prepared.body).unwrap();
                    let text = |raw: &RawValue| raw.get().to_owned();
                    let mut messages: Vec<String> = body.input.iter().copied().map(text).collect();
                    self.check_end(thread, &messages);
                    let layers = body.system.map_or_else(|| messages[0].clone(), text);
                    if let Some(compaction) = &thread.compaction {
                        messages.pop();
                        // Only one that did not fit leaves something out.
                        if compaction.left_out > 0 {
                            continue;
                        }
                    }
                    let window = thread.history.windows().len();
                    let tools = body.tools.map(text).unwrap_or_default();
                    self.requests.push(Asked { window, tools, layers, messages });
                }
                Effect::StopModel => self.asking = false,
                Effect::ListTools => self.listing = true,
                Effect::RunCall(run) => self.running.push(run.ordinal),
                Effect::ComputePatch { ordinal, .. } => self.computing.push(ordinal),
                Effect::ApplyPatch { ordinal, .. }
                | Effect::ViewImage { ordinal, .. }
                | Effect::CallMcp { ordinal, .. } => {
                    self.running.push(ordinal);
                }
                Effect::StopCalls => {
                    self.running.clear();
                    self.computing.clear();
                }
                Effect::Finish(_) => self.finishing = true,
                Effect::Append(_)
                | Effect::Barrier(_)
                | Effect::Emit(_)
                | Effect::Prepare
                | Effect::Survey(_)
                | Effect::Acknowledge(_)
                | Effect::ShowPatch
                | Effect::Exit => {}
            }
        }
        self.check_classes(world);
    }

    /// Where an API has messages, a request ends with the user's word; but for a response that the provider paused, which is
    /// sent back as it came, and as often as it takes.
    fn check_end(&self, thread: &Thread, messages: &[String]) {
        let is_paused = matches!(thread.last_end, Some(ModelEnd::Completed { end_turn: Some(false), .. }));
        let repeats = self.requests.last().is_some_and(|before| before.messages == messages);
        if thread.opened.wire == Wire::Responses || is_paused || repeats {
            return;
        }
        let last: Value = serde_json::from_str(messages.last().unwrap()).unwrap();
        assert_ne!(last["role"], "assistant", "{last}");
    }

    /// An exclusive call runs alone.
    fn check_classes(&self, world: &World) {
        let Some(thread) = &world.machine.state().thread else { return };
        let under_way: Vec<u64> = self.running.iter().chain(&self.computing).copied().collect();
        let exclusive = under_way.iter().any(|ordinal| {
            let call = thread.call_at(*ordinal).unwrap();
            thread.meaning(call).unwrap().class() == CallClass::Exclusive
        });
        assert!(!exclusive || under_way.len() == 1, "{under_way:?}");
    }
}

/// What the MCP server may have.
const TOOLS: [&str; 4] = ["a", "b", "c", "d"];

/// One thing that happens, chosen by two bytes among those that can.
fn happen(world: &mut World, outside: &mut Outside, (what, which): (u8, u8)) {
    let id = format!("c{}", which % 3);
    let pick = |list: &mut Vec<u64>| (!list.is_empty()).then(|| list.remove(usize::from(which) % list.len()));
    match what % 16 {
        0 | 1 if outside.asking => world.item(command(&id, "true")),
        2 if outside.asking => world.item(patch(&id)),
        3 if outside.asking => world.item(call(&id, "update_plan", json!({"plan": []}))),
        // Of the four servers' tools that there are some are not there at the time.
        4 if outside.asking => {
            world.item(call(&id, &format!("mcp__s__{}", TOOLS[usize::from(which % 4)]), json!({})))
        }
        5 if outside.asking => world.item(words("words")),
        6 if outside.asking => {
            outside.asking = false;
            world.completed((which % 2 == 0).then_some(false));
        }
        7 if outside.asking => {
            outside.asking = false;
            world.fails(match which % 4 {
                0 => overloaded(),
                1 => too_long(),
                _ => broken(),
            });
        }
        8 => {
            if let Some(ordinal) = pick(&mut outside.computing) {
                let signal = if which % 3 == 0 {
                    Signal::CallEnded(result(ordinal, "does not fit", None))
                } else {
                    Signal::PatchComputed { ordinal, patch: intent() }
                };
                world.tell(signal);
            }
        }
        9 | 10 => {
            if let Some(ordinal) = pick(&mut outside.running) {
                world.ended(ordinal, "output");
            }
        }
        11 => world.wait(u64::from(which)),
        12 if which == 0 => world.tell(Signal::Message(message(500, InputKind::Cancel, ""))),
        12 => world.tell(Signal::Message(message(i64::from(which) + 1, InputKind::Prompt, "more"))),
        14 if !outside.running.is_empty() => {
            let ordinal = outside.running[0];
            let thread = world.machine.state().thread.as_ref().unwrap();
            let call = thread.calls.iter().find(|call| call.ordinal == ordinal).unwrap();
            let intent = call.intent.clone().unwrap();
            if intent.patch.is_none() && intent.class == EffectClass::SandboxDurable {
                outside.running.remove(0);
                world.tell(Signal::CallUnsent { ordinal, boot: intent.boot });
                outside.take(world);
                world.boot += 1;
                world.tell(Signal::SandboxRestarted(boot(world.boot)));
            }
        }
        13 if which < 40 => {
            outside.crashes += 1;
            outside.asking = false;
            outside.listing = false;
            outside.running.clear();
            outside.computing.clear();
            world.boot += which % 2;
            world.restart("crash");
            world.found(BTreeMap::new());
        }
        13 => world.tell(Signal::Suspend(which % 2 == 0)),
        15 if outside.listing => {
            outside.listing = false;
            // Which tools there are, and how they are described.
            let there = TOOLS.iter().enumerate().filter(|(place, _)| which >> place & 1 == 1);
            let described = if which & 16 == 0 { "as ever" } else { "otherwise" };
            let tools: Vec<(&str, &str)> = there.map(|(_, name)| (*name, described)).collect();
            world.tell(Signal::ToolsListed(if which & 32 == 0 { offered(&tools) } else { vec![] }));
        }
        _ => {}
    }
    outside.take(world);
}

fn check(world: &World, outside: &Outside) {
    for pair in outside.requests.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        assert_eq!(after.layers, before.layers, "a window begins with the layers");
        if before.window == after.window {
            assert_eq!(
                after.tools, before.tools,
                "a window has the same tools from its beginning to its end"
            );
            assert!(
                after.messages.starts_with(&before.messages),
                "a request begins with the one before of its window: {:?} {:?}",
                before.messages,
                after.messages
            );
        } else {
            assert_eq!(before.window + 1, after.window);
        }
    }
    let folded = State::fold(&world.journal).unwrap();
    let live = world.machine.state();
    assert_eq!(folded.next_seq, live.next_seq);
    assert_eq!(folded.prompts, live.prompts);
    let lost = live.spent.active - folded.spent.active;
    assert!(lost < Duration::from_secs(30), "{lost:?} would be lost");
    let waited = |state: &State| state.outage.as_ref().map(|outage| outage.waited);
    let lost = waited(live).unwrap_or_default() - waited(&folded).unwrap_or_default();
    assert!(
        lost < Duration::from_secs(30) && waited(live).is_some() == waited(&folded).is_some(),
        "{lost:?}"
    );
    assert_eq!(folded.inbox_seq, live.inbox_seq);
    assert_eq!(folded.spent.usage, live.spent.usage);
    let (folded, live) = (folded.thread.unwrap(), live.thread.as_ref().unwrap());
    assert_eq!(folded.calls, live.calls);
    assert_eq!(folded.last_end, live.last_end);
    assert_eq!(folded.compaction, live.compaction);
    assert_eq!((folded.compacted, &folded.said), (live.compacted, &live.said));
    assert_eq!(folded.context_tokens(), live.context_tokens());
    assert_eq!((folded.tools, folded.mcp_tools), (live.tools.clone(), live.mcp_tools.clone()));
    assert!(folded.history.items().eq(live.history.items()));
    let state = world.machine.state();
    if let Some(outcome) = &state.outcome {
        // Three crashes are what they are; nothing else is a fault.
        let crash_loop = outside.crashes >= 3 && outcome.message.starts_with("CrashLoop: ");
        assert!(outcome.reason != Reason::InternalError || crash_loop, "{}", outcome.message);
    }
}

/// Every call has exactly one output, in the order of the calls and before anything that the user says; told from the
/// items alone. Gives how many calls are open.
fn check_outputs(world: &World) -> usize {
    let mut open = VecDeque::new();
    for item in world.machine.state().thread.as_ref().unwrap().history.items() {
        match &item.item {
            Item::FunctionCall(call) => open.push_back((CallKind::Function, call.call_id.clone())),
            Item::CustomCall(call) => open.push_back((CallKind::Custom, call.call_id.clone())),
            Item::FunctionCallOutput(output) => {
                assert_eq!(open.pop_front(), Some((CallKind::Function, output.call_id.clone())));
            }
            Item::CustomCallOutput(output) => {
                assert_eq!(open.pop_front(), Some((CallKind::Custom, output.call_id.clone())));
            }
            Item::Message(message) if message.role == Role::User => assert!(open.is_empty(), "{open:?}"),
            Item::Message(_) | Item::Reasoning(_) | Item::Opaque(_) => {}
        }
    }
    let ended = world.journal.iter().filter_map(|entry| match &entry.record {
        Record::CallEnded(ended) => Some(ended.ordinal),
        _ => None,
    });
    let ended: Vec<u64> = ended.collect();
    assert_eq!(ended.iter().collect::<BTreeSet<_>>().len(), ended.len(), "a call ends once: {ended:?}");
    open.len()
}

/// What was said is in the thread once, in the order in which it was taken in, or waits.
fn check_prompts(world: &World) {
    let mut accepted = Vec::new();
    let mut said = Vec::new();
    for entry in &world.journal {
        match &entry.record {
            Record::InputAccepted(input)
                if input.kind == InputKind::Prompt && !accepted.contains(&input.uid) =>
            {
                accepted.push(input.uid.clone());
            }
            Record::TurnStarted(started) => said.push(started.input_uid.clone()),
            Record::TurnSteered(steered) => said.push(steered.input_uid.clone()),
            _ => {}
        }
    }
    said.extend(world.machine.state().prompts.iter().map(|prompt| prompt.uid.clone()));
    assert_eq!(said, accepted);
}

/// A response of 60 new, 40 cached and 10 output tokens costs 1640 millionths.
const PRICES: Prices = Prices {
    input: Money::from_micros(10_000_000),
    cached_input: Some(Money::from_micros(1_000_000)),
    cache_write_input: None,
    output: Money::from_micros(100_000_000),
};

/// Bounds that a few steps reach, or none.
fn limits() -> impl Strategy<Value = Limits> {
    let below = |bound: i64| prop_oneof![Just(1_000_000), 0..bound];
    let bounds = (below(8), below(700), below(80), below(6), 1..6_i64, below(12_000));
    bounds.prop_map(|(steps, input, output, commands, failures, micros)| Limits {
        steps,
        uncached_input_tokens: input,
        output_tokens: output,
        commands,
        consecutive_failures: failures,
        cost: u64::try_from(micros).ok().map(Money::from_micros),
        ..Limits::default()
    })
}

proptest! {
    /// Whatever comes in whatever order, each request begins below every bound: so only the newest one can cross one.
    #[test]
    fn no_budget_is_overspent_by_more_than_one_request(
        limits in limits(),
        happenings in prop::collection::vec(any::<(u8, u8)>(), 0..120),
    ) {
        let mut world = World::asked(Config {
            limits: limits.clone(),
            prices: Some(PRICES),
            keep: Duration::from_secs(30),
            context_window: Some(250),
            ..config()
        });
        let mut outside = Outside::default();
        outside.take(&mut world);
        for happening in happenings {
            if outside.finishing {
                break;
            }
            happen(&mut world, &mut outside, happening);
        }
        let is_below = |amount: u64, bound: i64| i64::try_from(amount).unwrap() < bound;
        for spent in &outside.spent {
            prop_assert!(is_below(spent.usage.uncached_input_tokens(), limits.uncached_input_tokens), "{:?}", spent);
            prop_assert!(is_below(spent.usage.output_tokens, limits.output_tokens), "{:?}", spent);
            prop_assert!(cost(&PRICES, &spent.usage) < limits.cost.unwrap(), "{:?}", spent);
        }
        let spent = world.machine.state().spent;
        prop_assert_eq!(spent.requests, outside.spent.len() as u64);
        prop_assert!(is_below(spent.steps, limits.steps + 1) && is_below(spent.commands, limits.commands + 1));
    }

    #[test]
    fn keep_pairing_order_and_prefix(
        wire in select(vec![Wire::Responses, Wire::Chat, Wire::Messages]),
        happenings in prop::collection::vec(any::<(u8, u8)>(), 0..120),
    ) {
        let mut world = World::new(Config {
            keep: Duration::from_secs(30),
            context_window: Some(400),
            mcp_servers: true,
            ..config()
        });
        world.start();
        world.tell(opened(wire, &[("a", "as ever"), ("b", "as ever")]));
        let mut outside = Outside::default();
        outside.take(&mut world);
        for happening in happenings {
            happen(&mut world, &mut outside, happening);
            check(&world, &outside);
            check_outputs(&world);
            check_prompts(&world);
            if outside.finishing {
                break;
            }
        }
        if !outside.finishing {
            world.tell(Signal::Message(message(1000, InputKind::Cancel, "")));
        }
        prop_assert_eq!(check_outputs(&world), 0);
        let thread = world.machine.state().thread.as_ref().unwrap();
        prop_assert!(thread.calls.is_empty());
        prop_assert!(thread.history.input().is_ok());
    }
}
