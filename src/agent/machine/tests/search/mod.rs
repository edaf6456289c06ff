//! Lives of one agent by chance: processes that are killed between any two things that they do, journals whose newest
//! bytes are lost, a sandbox that is restarted, a model that breaks off, people who speak, all at any time. What the
//! machine and the fold of its journal make of it is held against what the world outside has seen.

mod disk;
mod outside;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use podwright_sandboxd::protocol::Digest;
use serde::Deserialize;
use serde_json::value::RawValue;

use self::disk::Disk;
use self::outside::{CONTENT, Outside};
use super::world::{
    boot, broken, command, config, exit, message, overloaded, patch, prepared_over, received, words,
};
use crate::agent::journal::record::{
    CallOutcome, Entry, EpochStarted, InputAccepted, InputKind, PatchIntent, PatchedFile, Record,
};
use crate::agent::machine::{CallResult, Config, Effect, Input, Machine, Moment, RunCall, Signal};
use crate::agent::recover::World as Found;
use crate::agent::tools::ToolCall;
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::api::task::Limits;
use crate::llm::{Completed, CustomCall, Item, Usage, Wire};
use crate::search::{Dice, Told, search};

/// Seeds that have failed once. 6: a command over its limit ended the attempt, and one more request was made.
const KEPT_SEEDS: &[u64] = &[6];

/// Lives in a run without a given time.
const LIVES: u64 = 300;

/// Things that happen in a life before it becomes calm, at most.
const STEPS: usize = 300;

/// Things that happen in a calm world until the attempt has ended, at most: a step has a request, a few calls and their
/// ends, and a calm model gives its final answer at once.
const CALM_STEPS: usize = 400;

/// Restarts of a sandbox that an attempt bears.
const RESTARTS: u8 = 3;

/// Processes that die in a row without getting anything done before it is given up.
const FRUITLESS: u32 = 3;

/// What one command of the model is doing.
#[derive(Clone, Debug)]
struct Running {
    run: RunCall,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The driver has it.
    Begun,
    /// The driver has seen that the sandbox lives as it did, and sends it.
    Leaving,
    /// The supervisor knows it, in this life.
    Started(u8),
}

/// What a process of the agent has under way. It is gone with the process.
#[derive(Default)]
struct Hands {
    asking: Option<u64>,
    running: Vec<Running>,
    computing: Vec<(u64, String)>,
    /// Patches that were computed, by their calls; the files that they write.
    computed: BTreeMap<u64, Vec<String>>,
    /// Patches that are being applied: the call, and the files that are still to be written.
    applying: Vec<(u64, Vec<String>)>,
    preparing: bool,
    surveying: Option<Vec<crate::agent::recover::Question>>,
    finishing: Option<Outcome>,
    /// Lives of the sandbox of which the machine has not heard.
    restarts: Vec<u8>,
}

struct Life {
    dice: Dice,
    told: Told,
    config: Config,
    wire: Wire,
    machine: Machine,
    now: Duration,
    disk: Disk,
    outside: Outside,
    hands: Hands,
    /// What was said, in order, and whether the agent has acknowledged it.
    inbox: Vec<InputAccepted>,
    acknowledged: i64,
    /// The messages of the newest request, and the number of its window.
    sent: Option<(usize, Vec<String>)>,
    requests: u64,
    answered: u64,
    kills: u64,
    names: u32,
    published: Option<Outcome>,
    exited: bool,
    calm: bool,
    /// Whether the response under way has called for something: a response that has not is an answer, and mostly the end.
    called: bool,
}

/// A request's messages.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, alias = "messages")]
    input: Vec<&'a RawValue>,
}

#[test]
fn search_agent() {
    search("search_agent", KEPT_SEEDS, LIVES, |seed| {
        let mut life = Life::new(seed);
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.live()));
        if lived.is_err() || std::env::var_os("PODWRIGHT_SEARCH_SEED").is_some() {
            println!("{}", life.told.end());
        }
        if let Err(panic) = lived {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let few = |dice: &mut Dice, most: usize| {
            if dice.chance(70) { 1_000_000 } else { 1 + dice.below(most) as i64 }
        };
        let limits = Limits {
            steps: few(&mut dice, 12),
            commands: few(&mut dice, 8),
            output_tokens: few(&mut dice, 120),
            uncached_input_tokens: few(&mut dice, 900),
            consecutive_failures: 1 + few(&mut dice, 6),
            ..Limits::default()
        };
        let keep = Duration::from_secs(if dice.chance(20) { 60 } else { 0 });
        let config = Config { limits, keep, ..config() };
        let wire = *dice.pick(&[Wire::Responses, Wire::Chat, Wire::Messages]);
        Self {
            machine: Machine::new(config.clone(), crate::agent::state::State::default()),
            told: Told::default(),
            config,
            wire,
            now: Duration::ZERO,
            disk: Disk::default(),
            outside: Outside::new(),
            hands: Hands::default(),
            inbox: Vec::new(),
            acknowledged: 0,
            sent: None,
            requests: 0,
            answered: 0,
            kills: 0,
            names: 0,
            published: None,
            exited: false,
            calm: false,
            called: false,
            dice,
        }
    }

    fn live(&mut self) {
        self.start();
        for _ in 0..self.dice.below(STEPS) {
            if self.exited {
                break;
            }
            self.step();
        }
        self.told.tell("-- from here on nothing is lost any more --");
        self.calm = true;
        let mut steps = 0;
        while !self.exited {
            self.step();
            steps += 1;
            assert!(steps < CALM_STEPS, "the attempt never ends");
        }
        self.check_end();
        // Whoever starts once more finds that all is done.
        self.restart();
        assert!(self.exited, "an attempt that has ended begins again");
    }

    /// A process begins, from what the disk holds.
    fn start(&mut self) {
        let state = self.disk.read();
        assert!(state.inbox_seq >= self.acknowledged, "what was acknowledged is forgotten");
        if let (Some(published), Some(outcome)) = (&self.published, &state.outcome) {
            assert_eq!(outcome, published, "an end that was shown is another one now");
        }
        self.machine = Machine::new(self.config.clone(), state);
        self.now = Duration::ZERO;
        self.hands = Hands::default();
        self.exited = false;
        let record = EpochStarted { agent_version: "0".into(), pod_uid: "pod".into() };
        self.tell(Signal::Started { epoch: 1, record });
    }

    fn restart(&mut self) {
        self.told.tell("a process starts");
        self.start();
    }

    /// The process is gone. What was on its way to the sandbox arrives before the next process is there, or never.
    fn kill(&mut self) {
        self.kills += 1;
        for Running { run, stage } in std::mem::take(&mut self.hands.running) {
            if stage == Stage::Leaving && self.outside.boot == boot_of(&run) && self.dice.chance(50) {
                self.arrive(&run);
            }
        }
        // A patch is one request, and whoever asked for it need not wait for its end.
        for (_, files) in std::mem::take(&mut self.hands.applying) {
            files.iter().for_each(|file| self.outside.create(file));
        }
        let at_risk = self.disk.at_risk();
        let lost = if self.dice.chance(50) { 0 } else { self.dice.below(at_risk + 1) };
        self.disk.lose(lost);
        self.told.tell(format!("the process is killed, {lost} bytes of {at_risk} are lost"));
        self.restart();
    }

    /// Something happens.
    fn step(&mut self) {
        if !self.calm {
            match self.dice.below(100) {
                0..=2 => return self.kill(),
                3 if self.outside.boot <= RESTARTS => return self.restart_sandbox(),
                4..=6 => return self.speak(),
                7 => return self.suspend(),
                8..=10 => return self.wait(),
                _ => {}
            }
        }
        let mut can: Vec<fn(&mut Self)> = Vec::new();
        let hands = &self.hands;
        if hands.asking.is_some() {
            can.extend([Self::model as fn(&mut Self); 3]);
        }
        if !hands.running.is_empty() {
            can.extend([Self::command as fn(&mut Self); 3]);
        }
        if !hands.computing.is_empty() {
            can.push(Self::compute);
        }
        if !hands.applying.is_empty() {
            can.push(Self::apply);
        }
        if hands.preparing {
            can.push(Self::prepare);
        }
        if hands.surveying.is_some() {
            can.push(Self::survey);
        }
        if hands.finishing.is_some() {
            can.push(Self::publish);
        }
        if !hands.restarts.is_empty() && !hands.preparing && hands.surveying.is_none() {
            can.push(Self::reach);
        }
        if self.acknowledged < self.inbox.last().map_or(0, |message| message.seq) {
            can.push(Self::deliver);
        }
        match can.len() {
            0 => self.wait(),
            count => can[self.dice.below(count)](self),
        }
    }

    /// Tells the machine, and does what it wants, as the driver does: all records in one write, then one sync, then
    /// everything else in order. It may die at any point of that.
    fn tell(&mut self, signal: Signal) {
        let wall = Timestamp::UNIX_EPOCH + self.now;
        let mut effects = Vec::new();
        self.machine.step(Input { at: Moment { wall, monotonic: self.now }, signal }, &mut effects);
        let entries: Vec<Entry> = effects
            .iter()
            .filter_map(
                |effect| if let Effect::Append(entry) = effect { Some(Entry::clone(entry)) } else { None },
            )
            .collect();
        let syncs = effects.iter().any(|effect| matches!(effect, Effect::Barrier(_)));
        entries.iter().for_each(|entry| self.told.tell(format!("  {} {}", entry.seq, entry.record.name())));
        let is_last = !self.calm && self.dice.chance(3);
        if is_last && self.dice.chance(50) {
            let written = self.dice.below(101);
            self.disk.write(entries, written);
            return self.kill();
        }
        self.disk.write(entries, 100);
        if syncs {
            self.disk.sync();
        }
        let rest: Vec<Effect> = effects
            .into_iter()
            .filter(|effect| !matches!(effect, Effect::Append(_) | Effect::Barrier(_)))
            .collect();
        let count = if is_last { self.dice.below(rest.len() + 1) } else { rest.len() };
        for effect in rest.into_iter().take(count) {
            self.perform(effect);
        }
        if is_last {
            return self.kill();
        }
        // The status says what was taken in once all of that is done.
        self.acknowledged = self.acknowledged.max(self.machine.state().inbox_seq);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare => self.hands.preparing = true,
            Effect::Survey(questions) => self.hands.surveying = Some(questions),
            Effect::AskModel(ask) => self.asked(ask.request, &ask.prepared.body),
            Effect::StopModel => self.hands.asking = None,
            Effect::RunCall(run) => {
                self.told.tell(format!("  runs {} as {}, resumed {}", run.ordinal, run.op, run.resumed));
                self.check_left(run.op);
                self.hands.running.push(Running { run, stage: Stage::Begun });
            }
            Effect::ComputePatch { ordinal, patch } => {
                let text = format!("{patch:?}");
                let name = text.split("patched-").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
                self.hands.computing.push((ordinal, name.to_owned()));
            }
            Effect::ApplyPatch { ordinal, op } => {
                self.check_left(op);
                let files = self.hands.computed.remove(&ordinal).unwrap();
                self.hands.applying.push((ordinal, files));
            }
            Effect::StopCalls => {
                self.hands.running.clear();
                self.hands.computing.clear();
                // The supervisor does what it was asked for.
                for (_, files) in std::mem::take(&mut self.hands.applying) {
                    files.iter().for_each(|file| self.outside.create(file));
                }
            }
            Effect::Acknowledge(ops) => {
                for op in ops {
                    let is_told = self.disk.durable().any(
                        |entry| matches!(&entry.record, Record::CallEnded(ended) if ended.process == Some(op)),
                    );
                    assert!(is_told, "operation {op} is forgotten before its end is on disk");
                    self.outside.processes.remove(&op);
                }
            }
            Effect::Finish(outcome) => {
                let mut durable = self.disk.durable();
                let is_known = durable.any(|entry| match &entry.record {
                    Record::FinishIntent(_) => true,
                    Record::TurnEnded(ended) => ended.outcome.is_some(),
                    _ => false,
                });
                assert!(is_known, "an end is shown before it is on disk");
                self.hands.finishing = Some(outcome);
            }
            Effect::Exit => self.exited = true,
            Effect::ViewImage { .. } | Effect::CallMcp { .. } | Effect::ListTools => {
                panic!("nobody has called for {effect:?}")
            }
            Effect::Append(_) | Effect::Barrier(_) | Effect::Emit(_) | Effect::ShowPatch => {}
        }
    }

    /// What leaves for the sandbox is on disk before.
    fn check_left(&self, op: u64) {
        let is_known = |entry: &Entry| matches!(&entry.record, Record::CallIntent(intent) if intent.op == op);
        assert!(self.disk.durable().any(is_known), "operation {op} leaves before it is on disk");
    }

    /// A request is on disk before, is counted, and begins with the one before it.
    fn asked(&mut self, request: u64, body: &[u8]) {
        self.told.tell(format!("  asks {request}"));
        let is_it =
            |entry: &Entry| matches!(&entry.record, Record::ModelIntent(intent) if intent.request == request);
        assert!(self.disk.durable().any(is_it), "request {request} leaves before it is on disk");
        assert_eq!(self.hands.asking, None, "two requests at a time");
        self.called = false;
        self.hands.asking = Some(request);
        self.requests += 1;
        let counted = self.machine.state().spent.requests;
        assert!(self.requests <= counted, "{} requests are counted as {counted}", self.requests);
        // One for each answer, and one more for each process that died.
        assert!(
            self.requests <= self.answered + self.kills + 1,
            "{} requests, {} answers, {} kills",
            self.requests,
            self.answered,
            self.kills
        );
        let steps = self.machine.state().spent.steps;
        assert!(i64::try_from(steps).unwrap() <= self.config.limits.steps, "{steps} steps");
        let body: Body<'_> = serde_json::from_slice(body).unwrap();
        let messages: Vec<String> = body.input.iter().map(|raw| raw.get().to_owned()).collect();
        let thread = self.machine.state().thread.as_ref().unwrap();
        let window = thread.history.windows().len();
        if let Some((before, sent)) = &self.sent
            && *before == window
        {
            assert!(
                messages.starts_with(sent),
                "a request does not begin with the one before: {sent:?} {messages:?}"
            );
        }
        self.sent = Some((window, messages));
    }

    /// The model says something.
    fn model(&mut self) {
        let Some(request) = self.hands.asking else { return };
        let what = if self.calm { 90 + self.dice.below(2) * 9 } else { self.dice.below(100) };
        self.names += 1;
        let name = self.names;
        // Providers repeat ids.
        let id = format!("c{}", name % 3);
        let item = match what {
            0..=44 => command(&id, &format!("run-{name}-")),
            45..=59 => patch_of(&id, name),
            60 | 61 => words("Hm."),
            62..=89 if self.called || self.dice.chance(3) => {
                let usage = Usage {
                    input_tokens: 100,
                    cached_input_tokens: 40,
                    output_tokens: 10,
                    ..Usage::default()
                };
                let end_turn = (self.wire == Wire::Responses && self.dice.chance(10)).then_some(false);
                let completed = Completed { response_id: None, usage, end_turn, items: 0 };
                return self.answer(Signal::ModelCompleted { request, completed });
            }
            62..=89 => return,
            90 if self.calm => words("Done."),
            90..=94 => {
                let error = if self.dice.chance(50) { overloaded() } else { broken() };
                return self.answer(Signal::ModelFailed { request, error, jitter: 0.5 });
            }
            _ if !self.calm => return,
            _ => {
                let usage = Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() };
                let completed = Completed { response_id: None, usage, end_turn: None, items: 0 };
                return self.answer(Signal::ModelCompleted { request, completed });
            }
        };
        self.told.tell(format!("the model says {}", brief(&item)));
        self.called |= !matches!(item, Item::Message(_));
        let item = Box::new(received(item));
        self.tell(Signal::ModelItem { request, item });
    }

    fn answer(&mut self, signal: Signal) {
        self.told.tell(match &signal {
            Signal::ModelCompleted { .. } => "the model is done",
            _ => "the model fails",
        });
        self.hands.asking = None;
        self.answered += 1;
        self.tell(signal);
    }

    /// A command goes on.
    fn command(&mut self) {
        let place = self.dice.below(self.hands.running.len());
        let Running { run, stage } = self.hands.running[place].clone();
        match stage {
            Stage::Begun if self.outside.boot != boot_of(&run) && !run.resumed => {
                self.hands.running.remove(place);
                self.told.tell(format!("call {} was never sent", run.ordinal));
                self.tell(Signal::CallUnsent { ordinal: run.ordinal, boot: run.boot });
            }
            Stage::Begun => self.hands.running[place].stage = Stage::Leaving,
            Stage::Leaving if self.outside.boot != boot_of(&run) => self.lost(place),
            Stage::Leaving => {
                self.arrive(&run);
                self.hands.running[place].stage = Stage::Started(self.outside.boot);
            }
            Stage::Started(life) if life != self.outside.boot => self.lost(place),
            Stage::Started(_) => {
                let code =
                    if self.dice.chance(60) { 0 } else { 1 + u8::try_from(self.dice.below(200)).unwrap() };
                self.outside.end(run.op, code);
                let process = self.outside.processes[&run.op].clone();
                let code = process.code.unwrap();
                self.hands.running.remove(place);
                self.told.tell(format!("{} has exited with {code}", process.command));
                self.tell(Signal::CallEnded(CallResult {
                    ordinal: run.ordinal,
                    outcome: if code == 0 { CallOutcome::Ok } else { CallOutcome::Error },
                    output: format!("[{}] exited with [{code}]", process.command),
                    images: vec![],
                    exit: Some((run.op, exit(code))),
                    session: None,
                }));
            }
        }
    }

    fn arrive(&mut self, run: &RunCall) {
        let ToolCall::ExecCommand(command) = &run.call else { panic!("no command: {run:?}") };
        self.told.tell(format!("the supervisor is asked for {}", command.cmd));
        self.outside.start(run.op, &command.cmd);
    }

    /// Nobody knows what became of a command.
    fn lost(&mut self, place: usize) {
        let Running { run, .. } = self.hands.running.remove(place);
        self.told.tell(format!("call {} is lost", run.ordinal));
        self.tell(Signal::CallEnded(unknown(run.ordinal)));
    }

    fn compute(&mut self) {
        let place = self.dice.below(self.hands.computing.len());
        let (ordinal, name) = self.hands.computing.remove(place);
        if !self.calm && self.dice.chance(20) {
            self.told.tell(format!("patch {name} does not fit"));
            let output = "it does not fit".to_owned();
            let result = CallResult { outcome: CallOutcome::Error, output, ..unknown(ordinal) };
            return self.tell(Signal::CallEnded(result));
        }
        let paths = ["a", "b"].map(|file| format!("patched-{name}-{file}"));
        let file = |path: &String| PatchedFile {
            path: path.clone(),
            before: None,
            after: Some(Digest::of(CONTENT)),
        };
        let files = paths.iter().map(file).collect();
        self.hands.computed.insert(ordinal, paths.to_vec());
        let patch = PatchIntent { root: "/workspace/main".into(), files, success: "Success.".into() };
        self.tell(Signal::PatchComputed { ordinal, patch });
    }

    fn apply(&mut self) {
        let place = self.dice.below(self.hands.applying.len());
        let (ordinal, mut files) = self.hands.applying.remove(place);
        if let Some(file) = files.pop() {
            self.outside.create(&file);
            return self.hands.applying.push((ordinal, files));
        }
        self.told.tell(format!("patch {ordinal} is applied"));
        let result = CallResult { outcome: CallOutcome::Ok, output: "Success.".into(), ..unknown(ordinal) };
        self.tell(Signal::CallEnded(result));
    }

    fn prepare(&mut self) {
        self.hands.preparing = false;
        self.hands.restarts.clear();
        let Signal::Prepared(mut prepared) = prepared_over(self.wire) else { return };
        prepared.boot = boot(self.outside.boot);
        prepared.opened.boot = Some(prepared.boot.clone());
        self.told.tell("the workspace is ready");
        self.tell(Signal::Prepared(prepared));
    }

    fn survey(&mut self) {
        let questions = self.hands.surveying.take().unwrap();
        self.hands.restarts.clear();
        let files = questions.iter().map(|question| (question.op, self.outside.look(question))).collect();
        self.told.tell(format!("the sandbox is found in life {}", self.outside.boot));
        self.tell(Signal::Surveyed(Found { boot: boot(self.outside.boot), files }));
    }

    fn restart_sandbox(&mut self) {
        self.outside.restart();
        self.told.tell(format!("the sandbox begins life {}", self.outside.boot));
        self.hands.restarts.push(self.outside.boot);
        // What was being applied is applied in part, and the answer says that nobody knows.
        for (ordinal, _) in std::mem::take(&mut self.hands.applying) {
            self.tell(Signal::CallEnded(unknown(ordinal)));
        }
    }

    fn reach(&mut self) {
        let life = self.hands.restarts.remove(0);
        self.told.tell(format!("the sandbox is reached in life {life}"));
        if life > RESTARTS {
            let outcome = Outcome { reason: Reason::SandboxLost, message: "Gone.".into() };
            return self.tell(Signal::Failed(outcome));
        }
        self.tell(Signal::SandboxRestarted(boot(life)));
    }

    fn speak(&mut self) {
        if self.inbox.len() == 5 {
            return;
        }
        let seq = self.inbox.len() as i64 + 1;
        let kind = if self.dice.chance(12) { InputKind::Cancel } else { InputKind::Prompt };
        self.told.tell(format!("somebody says {seq}: {kind:?}"));
        self.inbox.push(message(seq, kind, &format!("said-{seq}-")));
    }

    fn deliver(&mut self) {
        let seq = self.acknowledged;
        for message in self.inbox.clone().into_iter().filter(|message| message.seq > seq) {
            if !self.exited && message.seq > self.acknowledged {
                self.told.tell(format!("message {} arrives", message.seq));
                let kills = self.kills;
                self.tell(Signal::Message(message));
                // The next process is told again.
                if self.kills > kills {
                    return;
                }
            }
        }
        // The end is decided: nobody takes anything in any more.
        if self.calm && self.acknowledged == seq {
            self.inbox.truncate(usize::try_from(seq).unwrap());
        }
    }

    fn suspend(&mut self) {
        let suspended = self.dice.chance(50);
        self.told.tell(format!("suspended: {suspended}"));
        self.tell(Signal::Suspend(suspended));
    }

    fn wait(&mut self) {
        if self.calm {
            self.tell(Signal::Suspend(false));
        }
        let wake = self.machine.wake_at().filter(|_| self.calm || self.dice.chance(30));
        let passing = Duration::from_secs(self.dice.below(20) as u64);
        self.now = wake.unwrap_or(self.now + passing).max(self.now);
        self.told.tell(format!("it is {:?}", self.now));
        self.tell(Signal::Woken);
    }

    /// The outcome is shown, whatever becomes of the process then.
    fn publish(&mut self) {
        let outcome = self.hands.finishing.take().unwrap();
        if let Some(published) = &self.published {
            assert_eq!(*published, outcome, "an end that was shown becomes another one");
        }
        self.told.tell(format!("the end is shown: {}", outcome.reason.as_str()));
        self.published = Some(outcome.clone());
        self.tell(Signal::Published(Some(outcome)));
    }

    fn check_end(&self) {
        let state = self.machine.state();
        let outcome = state.outcome.as_ref().expect("an attempt ends with an outcome");
        assert_eq!(Some(outcome), self.published.as_ref());
        assert_ne!(outcome.reason.verdict(), crate::api::reasons::Verdict::Working);
        if outcome.reason == Reason::InternalError {
            let is_loop = outcome.message.starts_with("CrashLoop: ") && self.kills >= u64::from(FRUITLESS);
            assert!(is_loop, "{}", outcome.message);
        }
        let spent = &state.spent;
        assert!(self.requests <= spent.requests && spent.requests <= self.requests + self.kills);
        assert!(
            i64::try_from(self.outside.commands()).unwrap() <= self.config.limits.commands,
            "too many commands"
        );
        self.check_history();
        let said: Vec<i64> = self
            .disk
            .durable()
            .filter_map(|entry| match &entry.record {
                Record::InputAccepted(input) if input.seq > 0 => Some(input.seq),
                _ => None,
            })
            .collect();
        assert!(said.is_sorted_by(|a, b| a < b), "what people say is taken in once, in its order: {said:?}");
    }

    /// One output a call, in the order of the calls, and none that claims what was not.
    fn check_history(&self) {
        let Some(thread) = &self.machine.state().thread else { return };
        let mut calls: Vec<(String, String)> = Vec::new();
        for item in thread.history.items() {
            match &item.item {
                Item::FunctionCall(call) => calls.push((call.call_id.clone(), call.arguments.clone())),
                Item::CustomCall(call) => calls.push((call.call_id.clone(), call.input.clone())),
                Item::FunctionCallOutput(output) | Item::CustomCallOutput(output) => {
                    let (id, asked) = calls.remove(0);
                    assert_eq!(id, output.call_id, "outputs are in the order of their calls");
                    let text = format!("{:?}", output.content);
                    let mut parts = text.split(['[', ']']).skip_while(|part| !part.starts_with("run-"));
                    if let (Some(command), Some(_), Some(code)) = (parts.next(), parts.next(), parts.next()) {
                        assert!(asked.contains(command), "{command} answers {asked}");
                        self.outside.check(command, code.parse().unwrap());
                    }
                }
                Item::Message(_) | Item::Reasoning(_) | Item::Opaque(_) => {}
            }
        }
        assert!(calls.is_empty(), "calls without outputs: {calls:?}");
    }
}

fn boot_of(run: &RunCall) -> u8 {
    (1..=u8::MAX).find(|number| boot(*number) == run.boot).unwrap()
}

fn unknown(ordinal: u64) -> CallResult {
    CallResult {
        ordinal,
        outcome: CallOutcome::Unknown,
        output: "nobody knows".into(),
        images: vec![],
        exit: None,
        session: None,
    }
}

fn patch_of(id: &str, name: u32) -> Item {
    let Item::CustomCall(call) = patch(id) else { panic!("no custom call") };
    let input = call.input.replace("Add File: f", &format!("Add File: patched-{name}"));
    Item::CustomCall(CustomCall { input, ..call })
}

fn brief(item: &Item) -> String {
    match item {
        Item::FunctionCall(call) => call.arguments.clone(),
        Item::CustomCall(call) => call.input.lines().nth(1).unwrap_or_default().to_owned(),
        Item::Message(message) => message.text(),
        other => format!("{other:?}"),
    }
}
