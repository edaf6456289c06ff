//! A machine with its surroundings, and what it wanted as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use podwright_sandboxd::protocol::{BootId, Digest, EndedBy, Exit, ExitRecord, FileState, Span};
use serde_json::{Value, json};

use crate::agent::journal::record::fixture::opened;
use crate::agent::journal::record::{
    CallOutcome, Entry, EpochStarted, InputAccepted, InputKind, ModelEnd, PatchIntent, PatchedFile, Record,
    RequestKind, ThreadOpened,
};
use crate::agent::machine::{
    CallResult, Config, Effect, Input, Machine, Moment, Prepared, SessionChange, Signal,
};
use crate::agent::recover::World as Found;
use crate::agent::state::State;
use crate::api::reasons::Reason;
use crate::api::task::Limits;
use crate::llm::retry::RetryPolicy;
use crate::llm::{
    Capabilities, Completed, CustomCall, Fatal, FatalKind, FunctionCall, Item, Message, ModelError,
    RetryCause, RetryLayer, Retryable, Role, ThreadItem, Usage, Wire, WireJson,
};

/// A machine, its journal, and what it wanted.
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) journal: Vec<Entry>,
    pub(super) effects: Vec<Effect>,
    pub(super) now: Duration,
    pub(super) boot: u8,
    config: Config,
    told: String,
}

pub(super) fn config() -> Config {
    Config {
        limits: Limits::default(),
        keep: Duration::ZERO,
        retry: RetryPolicy::default(),
        prices: None,
        outage: Duration::from_secs(100),
        context_window: None,
        mcp_servers: false,
    }
}

pub(super) fn boot(number: u8) -> BootId {
    BootId::from_random([number; 16])
}

impl World {
    /// A machine that was not started.
    pub(super) fn new(config: Config) -> Self {
        Self {
            machine: Machine::new(config.clone(), State::default()),
            journal: Vec::new(),
            effects: Vec::new(),
            now: Duration::ZERO,
            boot: 1,
            config,
            told: String::new(),
        }
    }

    /// A machine whose thread is open and whose first request is under way.
    pub(super) fn asked(config: Config) -> Self {
        Self::asked_over(Wire::Responses, config)
    }

    /// The same over one of the APIs.
    pub(super) fn asked_over(wire: Wire, config: Config) -> Self {
        let mut world = Self::new(config);
        world.start();
        world.tell(prepared_over(wire));
        world.told.clear();
        world
    }

    /// Tells the machine and writes down what it wants.
    pub(super) fn tell(&mut self, signal: Signal) {
        let at = Moment { wall: Timestamp::UNIX_EPOCH + self.now, monotonic: self.now };
        let mut effects = Vec::new();
        self.machine.step(Input { at, signal }, &mut effects);
        for effect in &effects {
            if let Effect::Append(entry) = effect {
                self.journal.push(Entry::clone(entry));
            }
            let _ = writeln!(self.told, "  {}", shown(effect));
        }
        self.effects.extend(effects);
    }

    /// Tells the machine, under a heading.
    pub(super) fn say(&mut self, what: &str, signal: Signal) {
        let _ = writeln!(self.told, "{what}");
        self.tell(signal);
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.say(&format!("{seconds} s later"), Signal::Woken);
    }

    /// The process begins.
    pub(super) fn start(&mut self) {
        let record = EpochStarted { agent_version: "0".into(), pod_uid: "pod".into() };
        self.tell(Signal::Started { epoch: 1, record });
    }

    /// The process dies and another one goes on from the journal.
    pub(super) fn restart(&mut self, what: &str) {
        let state = State::fold(&self.journal).unwrap();
        self.machine = Machine::new(self.config.clone(), state);
        self.now = Duration::ZERO;
        let _ = writeln!(self.told, "{what}");
        self.start();
    }

    /// After a restart the sandbox is found like this.
    pub(super) fn found(&mut self, files: BTreeMap<u64, Vec<FileState>>) {
        let boot = boot(self.boot);
        self.say(
            &format!("the sandbox is found in boot {}", self.boot),
            Signal::Surveyed(Found { boot, files }),
        );
    }

    /// The number of the request under way.
    pub(super) fn request(&self) -> u64 {
        self.machine.state().spent.requests
    }

    /// The response brings an item.
    pub(super) fn item(&mut self, item: Item) {
        let what = match &item {
            Item::Message(message) => format!("message {:?}", message.text()),
            Item::FunctionCall(call) => format!("call {} {}", call.name, call.arguments),
            Item::CustomCall(call) => format!("custom call {}", call.name),
            other => format!("{other:?}"),
        };
        let (request, item) = (self.request(), Box::new(received(item)));
        self.say(&format!("model: {what}"), Signal::ModelItem { request, item });
    }

    /// The response is whole.
    pub(super) fn completed(&mut self, end_turn: Option<bool>) {
        self.counted(100, end_turn);
    }

    /// The response is whole, and its request had so many tokens.
    pub(super) fn counted(&mut self, input_tokens: u64, end_turn: Option<bool>) {
        let usage = Usage { input_tokens, cached_input_tokens: 40, output_tokens: 10, ..Usage::default() };
        let completed = Completed { response_id: None, usage, end_turn, items: 0 };
        let request = self.request();
        self.say("model: completed", Signal::ModelCompleted { request, completed });
    }

    /// The request fails.
    pub(super) fn fails(&mut self, error: ModelError) {
        let request = self.request();
        self.say(&format!("model: {error}"), Signal::ModelFailed { request, error, jitter: 0.5 });
    }

    /// A call ends.
    pub(super) fn ended(&mut self, ordinal: u64, output: &str) {
        let signal = Signal::CallEnded(result(ordinal, output, None));
        self.say(&format!("call {ordinal} ends: {output}"), signal);
    }

    /// The results are there, and the attempt ends as it was to.
    pub(super) fn published(&mut self) {
        let outcome = self.machine.state().outcome.clone();
        self.say("published", Signal::Published(outcome));
    }

    /// What was told and wanted since the beginning.
    pub(super) fn told(&mut self) -> String {
        std::mem::take(&mut self.told)
    }
}

/// How the attempt ends, once that is decided.
pub(super) fn reason(world: &World) -> Option<Reason> {
    world.machine.state().outcome.as_ref().map(|outcome| outcome.reason)
}

pub(super) fn result(ordinal: u64, output: &str, session: Option<SessionChange>) -> CallResult {
    CallResult {
        ordinal,
        outcome: CallOutcome::Ok,
        output: output.into(),
        images: vec![],
        exit: None,
        session,
    }
}

pub(super) fn prepared() -> Signal {
    prepared_over(Wire::Responses)
}

pub(super) fn prepared_over(wire: Wire) -> Signal {
    let capabilities = Capabilities { custom_tools: true, developer_role: true, ..Capabilities::default() };
    let content = vec![crate::llm::ContentPart::Text { text: "base".into() }];
    let prefix = vec![wire.message(Message { role: Role::Developer, content }, &capabilities)];
    let opened = ThreadOpened { wire, capabilities, prefix, ..opened() };
    let prompt = message(0, InputKind::Prompt, "do it");
    Signal::Prepared(Box::new(Prepared { opened, prompt, boot: boot(1) }))
}

pub(super) fn message(seq: i64, kind: InputKind, text: &str) -> InputAccepted {
    InputAccepted { uid: format!("uid-{seq}"), seq, kind, text: text.into(), attachments: vec![] }
}

pub(super) fn words(text: &str) -> Item {
    Item::message(Role::Assistant, text)
}

pub(super) fn call(id: &str, name: &str, arguments: Value) -> Item {
    Item::FunctionCall(FunctionCall {
        call_id: id.into(),
        name: name.into(),
        arguments: arguments.to_string(),
    })
}

pub(super) fn command(id: &str, cmd: &str) -> Item {
    call(id, "exec_command", json!({"cmd": cmd}))
}

pub(super) fn patch(id: &str) -> Item {
    let input = "*** Begin Patch\n*** Add File: f\n+x\n*** End Patch".into();
    Item::CustomCall(CustomCall { call_id: id.into(), name: "apply_patch".into(), input })
}

pub(super) fn intent() -> PatchIntent {
    let after = Some(Digest::of(b"x\n"));
    let files = vec![
        PatchedFile { path: "f".into(), before: None, after },
        PatchedFile { path: "g".into(), before: Some(Digest::of(b"g\n")), after: None },
    ];
    PatchIntent { root: "/workspace/main".into(), files, success: "Success.".into() }
}

pub(super) fn broken() -> ModelError {
    ModelError::Retryable(Retryable {
        layer: RetryLayer::Stream,
        cause: RetryCause::StreamBroken,
        server_delay: None,
        message: "the stream broke".into(),
    })
}

/// The provider finds the request too long.
pub(super) fn too_long() -> ModelError {
    let message = "The thread is too long.".into();
    ModelError::Fatal(Fatal { kind: FatalKind::ContextWindowExceeded, message, usage: None })
}

/// The provider has no capacity: an outage at once.
pub(super) fn overloaded() -> ModelError {
    ModelError::Retryable(Retryable {
        layer: RetryLayer::Stream,
        cause: RetryCause::Overloaded,
        server_delay: None,
        message: "no capacity".into(),
    })
}

/// An item as it came over the wire.
pub(super) fn received(item: Item) -> ThreadItem {
    let json = match &item {
        Item::Message(message) => json!({"type": "message", "role": "assistant", "content": message.text()}),
        Item::FunctionCall(call) => {
            json!({"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments})
        }
        Item::CustomCall(call) => {
            json!({"type": "custom_tool_call", "call_id": call.call_id, "name": call.name, "input": call.input})
        }
        other => json!({"type": "other", "debug": format!("{other:?}")}),
    };
    ThreadItem { item, wire: WireJson::render(&json) }
}

fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Append(entry) => format!("+ {}", recorded(&entry.record)),
        Effect::Barrier(barrier) => format!("sync {barrier:?}"),
        Effect::Emit(event) => format!("event {}", event.to_line().trim_end()),
        Effect::Prepare => "prepare".into(),
        Effect::Survey(questions) => {
            format!("survey {:?}", questions.iter().map(|q| q.op).collect::<Vec<_>>())
        }
        Effect::AskModel(ask) => {
            let again = if ask.reread_credential { ", key read again" } else { "" };
            format!("ask {}{again}", ask.request)
        }
        Effect::StopModel => "stop model".into(),
        Effect::RunCall(run) => format!("run {} as op {}", run.ordinal, run.op),
        Effect::ComputePatch { ordinal, .. } => format!("compute patch {ordinal}"),
        Effect::ApplyPatch { ordinal, op } => format!("apply patch {ordinal} as op {op}"),
        Effect::ViewImage { ordinal, .. } => format!("view image {ordinal}"),
        Effect::CallMcp { ordinal, call } => format!("call {} for {ordinal}", call.tool.shown()),
        Effect::ListTools => "list tools".into(),
        Effect::StopCalls => "stop calls".into(),
        Effect::Acknowledge(ops) => format!("acknowledge {ops:?}"),
        Effect::ShowPatch => "show patch".into(),
        Effect::Finish(outcome) => format!("finish {:?}: {}", outcome.reason, outcome.message),
        Effect::Exit => "exit".into(),
    }
}

fn recorded(record: &Record) -> String {
    let name = record.name();
    let details = match record {
        Record::ItemAppended(item) => match &item.item.item {
            Item::FunctionCallOutput(output) | Item::CustomCallOutput(output) => {
                format!(" {} output of {}: {}", item.ordinal, output.call_id, item.item.wire.as_bytes().len())
            }
            Item::Message(message) if message.role == Role::User => {
                format!(" {} said: {:?}", item.ordinal, message.text())
            }
            _ => format!(" {}", item.ordinal),
        },
        Record::ModelIntent(intent) => {
            let what = match intent.kind {
                RequestKind::Turn => String::new(),
                RequestKind::Compaction => format!(" to compact, {} left out", intent.left_out),
            };
            format!(" {} of {} items{what}", intent.request, intent.items)
        }
        Record::HistoryReplaced(replaced) => {
            let (from, to) = replaced.removed;
            let tools = if replaced.tools.is_some() { ", other tools" } else { "" };
            format!(" {from}..{to} by {} items, window {}{tools}", replaced.items.len(), replaced.window)
        }
        Record::ModelEnded(ended) => {
            let how = match &ended.end {
                ModelEnd::Completed { .. } => "completed".to_owned(),
                ModelEnd::Retry { after_ms, .. } => format!("again in {after_ms} ms"),
                ModelEnd::Unavailable { after_ms, .. } => format!("unavailable, again in {after_ms} ms"),
                ModelEnd::TooLong { .. } => "too long".to_owned(),
                ModelEnd::Unusable { .. } => "unusable".to_owned(),
                ModelEnd::Failed { outcome } => format!("failed: {:?}", outcome.reason),
                ModelEnd::Broken { cause } => format!("broken: {cause:?}"),
            };
            let estimated = if ended.usage.estimated { ", estimated" } else { "" };
            format!(" {} {how}{estimated}", ended.request)
        }
        Record::CallIntent(intent) => format!(" {} as op {}", intent.ordinal, intent.op),
        Record::CallEnded(ended) => format!(" {} {:?}: {:?}", ended.ordinal, ended.outcome, ended.output),
        Record::AnswerRejected(rejected) => format!(" {}", rejected.problem),
        Record::SandboxNoted(noted) => format!(" of {} items", noted.items.len()),
        Record::TurnSteered(steered) => format!(" by {}", steered.input_uid),
        Record::TurnEnded(ended) => format!(" {:?}: {}", ended.status, ended.last_message),
        Record::InputAccepted(input) => format!(" {:?} {}", input.kind, input.text),
        Record::FinishIntent(finish) => format!(" {:?}", finish.outcome.reason),
        Record::BudgetTripped(tripped) => format!(" {}", tripped.limit),
        _ => String::new(),
    };
    format!("{name}{details}")
}

/// How a process ended.
pub(super) fn exit(code: u8) -> ExitRecord {
    let span = Span { start: 0, end: 0, sha256: Digest::of(b"") };
    ExitRecord {
        exit: Exit::Code(code),
        ended_by: EndedBy::Itself,
        started_at_ms: 0,
        duration_ms: 1,
        bytes: 0,
        sha256: Digest::of(b""),
        head: span,
        tail: span,
    }
}
