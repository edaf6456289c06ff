//! The agent's loop as a pure machine: it is told what happened and says what to do.
//!
//! A *turn* leads from one user message to the model's final answer, in *steps* of one model request and
//! the calls it led to. The machine is fed whole items only; deltas go past it to surfaces. Everything it
//! decides is first a record, and its [`State`] is the fold of these records, so that a process that was
//! killed goes on from the journal as if nothing had been.
//!
//! | Module | Holds |
//! |---|---|
//! | [`input`], [`effect`] | what it is told, what it wants done |
//! | `beginning` | starts of a process, the opening of the thread |
//! | `model` | steps: requests, responses, retries |
//! | `mend` | failures that another request mends |
//! | `outage` | waiting for a model that cannot be used |
//! | `compaction` | summing up a thread that grew too long |
//! | `calls` | which calls run when, outputs in order, recovery |
//! | `activity` | what goes on, in words |
//! | `answer` | final answers that have a form to keep to |
//! | `notes` | what the model is told of the sandbox |
//! | `turn` | what people say, and how it enters the thread |
//! | `ending` | turns' ends, limits, the attempt's end |

mod activity;
mod answer;
mod beginning;
mod calls;
mod compaction;
pub mod effect;
mod ending;
pub mod input;
mod mend;
mod model;
mod notes;
mod outage;
mod turn;

use std::collections::BTreeMap;
use std::time::Duration;

use podwright_sandboxd::protocol::BootId;

use self::compaction::Offers;
pub use self::effect::{AskModel, Effect, RunCall};
pub use self::input::{CallResult, Input, Moment, Prepared, SessionChange, Signal};
use super::budget::{self, Limit};
use super::journal::record::{Entry, Record, TimePassed};
use super::state::State;
use super::thread::Thread;
use crate::api::attempt::{Outcome, Phase};
use crate::api::money::{Money, Prices};
use crate::api::reasons::Reason;
use crate::api::task::Limits;
use crate::llm::ThreadItem;
use crate::llm::retry::RetryPolicy;

/// How much of the time spent a crash may lose, and how often a line tells of nothing but time.
const TIME_RECORD: Duration = Duration::from_secs(30);

/// What the machine goes by; the same at every start of an attempt.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds on the work.
    pub limits: Limits,
    /// How long a finished turn waits for the next message.
    pub keep: Duration,
    /// How often a failing request is repeated.
    pub retry: RetryPolicy,
    /// What a million tokens cost.
    pub prices: Option<Prices>,
    /// How long a model that cannot be used is waited for.
    pub outage: Duration,
    /// Tokens that the model's context window holds, if that is known.
    pub context_window: Option<u64>,
    /// Whether there are MCP servers, which may offer other tools one day.
    pub mcp_servers: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    state: State,
    stage: Stage,
    at: Moment,
    /// Whether the time since the last input is active time.
    active: bool,
    /// Whether the time since the last input was spent waiting for the model.
    parked: bool,
    /// How long the request under way has been waited for with the turn parked.
    probing: Duration,
    suspended: bool,
    /// Whether the next request is held back by `suspended`.
    held: bool,
    /// Whether the sandbox was reached while the workspace is made ready.
    reached: bool,
    /// The life of the supervisor, once it was reached.
    boot: Option<BootId>,
    /// Whether that life is known to be over while nothing is known of the next: commands wait for it.
    boot_over: bool,
    /// Calls that the driver has, by their place in history, and when they began.
    running: BTreeMap<u64, Duration>,
    /// What came so far of the response to a compaction's request. It is whole or worth nothing, so the journal does
    /// not have it.
    draft: Vec<ThreadItem>,
    /// What MCP servers offer for the window that the next compaction begins.
    offers: Offers,
    /// When the failed request is repeated.
    retry_at: Option<Duration>,
    /// Whether a finished turn waits for a message.
    idle: bool,
    /// When the newest record was written, which tells the time spent by then.
    recorded: Duration,
    /// A fault of this program.
    fault: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not started.
    New,
    /// The workspace is made ready.
    Preparing,
    /// Restarted: the sandbox is looked at.
    Surveying,
    /// In turns or between them.
    Working,
    /// The results are gathered.
    Finishing,
    /// All is done.
    Done,
}

/// What the machine does after it was told something.
enum Progress {
    /// Something changed: look again.
    Again,
    /// Nothing to do until the next input.
    Wait,
}

impl Machine {
    /// A machine that goes on from `state`, the fold of the attempt's journal.
    pub fn new(config: Config, state: State) -> Self {
        Self {
            config,
            state,
            stage: Stage::New,
            at: Moment { wall: jiff::Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO },
            active: false,
            parked: false,
            probing: Duration::ZERO,
            suspended: false,
            held: false,
            reached: false,
            boot: None,
            boot_over: false,
            running: BTreeMap::new(),
            draft: Vec::new(),
            offers: Offers::default(),
            retry_at: None,
            idle: false,
            recorded: Duration::ZERO,
            fault: None,
        }
    }

    /// What the attempt has come to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the agent is doing.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::New | Stage::Preparing => Phase::Preparing,
            Stage::Working if self.idle => Phase::Idle,
            Stage::Surveying | Stage::Working if self.is_parked() => Phase::Parked,
            Stage::Surveying | Stage::Working | Stage::Finishing => Phase::Running,
            Stage::Done => Phase::Ended,
        }
    }

    /// What the tokens have cost so far.
    pub fn cost(&self) -> Option<Money> {
        self.config.prices.map(|prices| budget::cost(&prices, &self.state.spent.usage))
    }

    /// Whether the agent stands still because it was suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended && (self.held || self.idle)
    }

    /// When, by the monotonic clock, the machine wants a [`Signal::Woken`].
    pub fn wake_at(&self) -> Option<Duration> {
        let now = self.at.monotonic;
        let deadline = self.active.then(|| now + budget::active_left(&self.config.limits, &self.state.spent));
        let idle = self.waits_for_prompt().then(|| now + self.config.keep.saturating_sub(self.state.idle));
        let record = self.spends_time().then(|| self.recorded + TIME_RECORD);
        [deadline, idle, record, self.retry_at].into_iter().flatten().min()
    }

    /// Takes in what happened and says what to do about it, in order.
    pub fn step(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let passed = input.at.monotonic.saturating_sub(self.at.monotonic);
        let spent_time = self.spends_time();
        if self.active {
            self.state.spent.active += passed;
        }
        if self.waits_for_prompt() {
            self.state.idle += passed;
        }
        if self.parked {
            self.wait_parked(passed);
        }
        self.at = input.at;
        self.take(input.signal, effects);
        while let Progress::Again = self.advance(effects) {}
        if let Some(fault) = self.fault.take() {
            self.end(internal_error(&fault), effects);
        }
        self.active = self.is_active();
        self.parked = self.is_parked();
        if (spent_time || self.spends_time())
            && self.at.monotonic.saturating_sub(self.recorded) >= TIME_RECORD
        {
            self.append(TimePassed { idle_ms: millis(self.state.idle) }, effects);
        }
    }

    fn take(&mut self, signal: Signal, effects: &mut Vec<Effect>) {
        match signal {
            Signal::Started { epoch, record } => self.started(epoch, record, effects),
            Signal::Prepared(prepared) => self.prepared(*prepared, effects),
            Signal::Surveyed(world) => {
                if self.stage == Stage::Surveying {
                    self.stage = Stage::Working;
                    self.boot = Some(world.boot.clone());
                    self.recover_calls(&world, effects);
                }
            }
            Signal::SandboxReached => self.reached = true,
            Signal::SandboxRestarted(boot) => {
                self.boot = Some(boot);
                self.boot_over = false;
            }
            Signal::Message(message) => self.message(message, effects),
            Signal::Suspend(suspended) => {
                self.suspended = suspended;
                self.held &= suspended;
            }
            Signal::ModelItem { request, item } => self.model_item(request, *item, effects),
            Signal::ModelCompleted { request, completed } => {
                self.model_completed(request, completed, effects);
            }
            Signal::ModelFailed { request, error, jitter } => {
                self.model_failed(request, error, jitter, effects);
            }
            Signal::PatchComputed { ordinal, patch } => self.patch_computed(ordinal, patch, effects),
            Signal::CallUnsent { ordinal, boot } => {
                if self.running.remove(&ordinal).is_some() {
                    self.boot_over |= self.boot.as_ref() == Some(&boot);
                }
            }
            Signal::CallEnded(result) => self.call_ended(result, effects),
            Signal::ToolsListed(offers) => self.tools_listed(offers),
            Signal::Woken => {}
            Signal::Failed(outcome) => self.end(outcome, effects),
            Signal::Published(outcome) => self.published(outcome, effects),
        }
    }

    /// Does the next thing that can be done without waiting.
    fn advance(&mut self, effects: &mut Vec<Effect>) -> Progress {
        if matches!(self.stage, Stage::New | Stage::Finishing | Stage::Done) {
            return Progress::Wait;
        }
        // Here and not where it is said: a process that died between the two must not forget it.
        if self.state.cancelled {
            self.end(cancelled(), effects);
            return Progress::Wait;
        }
        if budget::active_left(&self.config.limits, &self.state.spent).is_zero() {
            return self.trip(Limit::ActiveSeconds, effects);
        }
        let (Stage::Working, Some(thread)) = (self.stage, &self.state.thread) else {
            return Progress::Wait;
        };
        if thread.in_turn {
            self.advance_turn(effects)
        } else if let Some(prompt) = self.state.prompts.front().cloned() {
            self.start_turn(prompt, effects);
            Progress::Again
        } else {
            self.rest(effects)
        }
    }

    fn advance_turn(&mut self, effects: &mut Vec<Effect>) -> Progress {
        if let Progress::Again = self.start_calls(effects) {
            return Progress::Again;
        }
        let Some(thread) = &self.state.thread else { return Progress::Wait };
        // A command over its limit ends the attempt: nothing is asked of the model any more.
        if self.stage != Stage::Working {
            return Progress::Wait;
        }
        if thread.request.is_some() || thread.calls.iter().any(|call| call.ended.is_none()) {
            return Progress::Wait;
        }
        if !thread.calls.is_empty() {
            self.append_outputs(effects);
            return Progress::Again;
        }
        self.next_step(effects)
    }

    /// Writes a fact and takes it in.
    fn append(&mut self, record: impl Into<Record>, effects: &mut Vec<Effect>) {
        let entry = Entry {
            seq: self.state.next_seq,
            at: self.at.wall,
            epoch: self.state.epoch,
            turn: self.thread().map_or(0, |thread| thread.turn),
            step: self.state.spent.steps,
            active_ms: millis(self.state.spent.active),
            outage_ms: millis(self.outage_waited()),
            record: record.into(),
        };
        match self.state.apply(&entry) {
            Ok(()) => {
                self.recorded = self.at.monotonic;
                effects.push(Effect::Append(Box::new(entry)));
            }
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    fn thread(&self) -> Option<&Thread> {
        self.state.thread.as_ref()
    }

    /// Whether time passes that a limit counts.
    fn spends_time(&self) -> bool {
        self.active || self.waits_for_prompt() || self.parked
    }

    /// Whether the time goes by that is kept for a further prompt. It stands still with a suspended agent, which keeps its
    /// pod until it may go on.
    fn waits_for_prompt(&self) -> bool {
        self.idle && !self.suspended
    }

    /// Active is what is neither waiting for people, nor for a provider that asked to wait, nor for the sandbox's first
    /// start, which may be the pull of a large image.
    fn is_active(&self) -> bool {
        match self.stage {
            Stage::Preparing => self.reached,
            Stage::Surveying => !self.is_parked(),
            Stage::Working => !self.idle && !self.held && self.retry_at.is_none() && !self.is_parked(),
            Stage::New | Stage::Finishing | Stage::Done => false,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn cancelled() -> Outcome {
    Outcome {
        reason: Reason::Cancelled,
        message: "The task was cancelled; the patch so far is kept.".to_owned(),
    }
}

fn internal_error(what: &str) -> Outcome {
    Outcome {
        reason: Reason::InternalError,
        message: format!(
            "{what}. This is a fault of Podwright's own; please report it. The patch so far is kept."
        ),
    }
}

#[cfg(test)]
mod tests;
