//! Answers to the driver, and the steps of the machine that they lead to.

use jiff::Timestamp;

use super::cluster::Cluster;
use super::patches::Computed;
use super::prepare::Ready;
use super::survey::Survey;
use super::{DriveError, Driver, status};
use crate::agent::events::Event;
use crate::agent::machine::{Effect, Input, Signal};
use crate::agent::thread::Thread;
use crate::llm::StreamEvent;
use crate::sandbox::{Dial, Sandbox};

/// An answer to the driver.
pub(super) enum Message {
    /// For the machine.
    Signal(Signal),
    /// The end of a call, and what surfaces are told of it once it is recorded.
    Ended(Box<(Signal, Event)>),
    /// A part of a response, for surfaces.
    Part(StreamEvent),
    /// For surfaces.
    Event(Event),
    /// The commit that was fetched.
    BaseCommit(String),
    /// The way in is done.
    Ready(Box<(Sandbox, Ready)>),
    /// The sandbox was looked at after a restart.
    Surveyed(Box<Survey>),
    /// A patch was computed.
    Computed { ordinal: u64, computed: Box<Computed> },
}

impl<C: Cluster, D: Dial + Clone> Driver<C, D> {
    /// Takes in answers.
    pub(super) async fn take(&mut self, batch: Vec<Message>) -> Result<(), DriveError> {
        let mut signals = Vec::new();
        for message in batch {
            match message {
                Message::Signal(signal) => signals.push((signal, None)),
                Message::Ended(ended) => {
                    let (signal, event) = *ended;
                    signals.push((signal, Some(event)));
                }
                Message::Part(part) => {
                    // What became whole before it takes its place first.
                    self.step_told(std::mem::take(&mut signals)).await?;
                    let thread = self.machine.state().thread.as_ref();
                    // What the model writes for a compaction is nothing that it says.
                    if thread.is_some_and(Thread::compacts) {
                        continue;
                    }
                    let next = thread.map_or(0, |thread| thread.history.len() as u64);
                    if let Some(event) = self.streaming.part(part, next) {
                        self.emit(&event);
                    }
                }
                Message::Event(event) => self.emit(&event),
                Message::BaseCommit(commit) => self.facts.base_commit = commit,
                Message::Ready(ready) => {
                    let (sandbox, Ready { workspace, prepared, profile }) = *ready;
                    self.facts.confinement = format!("{profile:?}");
                    self.settle(sandbox, &prepared.boot, workspace);
                    signals.push((Signal::Prepared(Box::new(prepared)), None));
                }
                Message::Surveyed(survey) => {
                    let Survey { sandbox, workspace, world, profile } = *survey;
                    self.facts.confinement = format!("{profile:?}");
                    self.settle(sandbox, &world.boot, workspace);
                    signals.push((self.restore(world).await, None));
                }
                Message::Computed { ordinal, computed } => {
                    let patch = computed.intent.clone();
                    self.computed.insert(ordinal, *computed);
                    signals.push((Signal::PatchComputed { ordinal, patch }, None));
                }
            }
        }
        self.step_told(signals).await
    }

    /// Tells the machine, and does what it wants.
    pub(super) async fn step(&mut self, signals: Vec<Signal>) -> Result<(), DriveError> {
        self.step_told(signals.into_iter().map(|signal| (signal, None)).collect()).await
    }

    /// The same with what surfaces are told of a signal: after the record of it, and before all that follows from it.
    async fn step_told(&mut self, mut signals: Vec<(Signal, Option<Event>)>) -> Result<(), DriveError> {
        if signals.is_empty() {
            return Ok(());
        }
        while !signals.is_empty() {
            let mut effects = Vec::new();
            for (signal, event) in signals {
                let begin = effects.len();
                if matches!(signal, Signal::ModelItem { .. }) {
                    self.streaming.whole();
                }
                let ends_response =
                    matches!(signal, Signal::ModelCompleted { .. } | Signal::ModelFailed { .. });
                if let Signal::SandboxRestarted(boot) = &signal {
                    self.boot = Some(boot.clone());
                }
                self.machine.step(Input { at: self.now(), signal }, &mut effects);
                if let Some(event) = event {
                    let recorded =
                        effects.iter().skip(begin).position(|effect| matches!(effect, Effect::Append(_)));
                    let place = recorded.map_or(effects.len(), |place| begin + place + 1);
                    effects.insert(place, Effect::Emit(event));
                }
                if ends_response {
                    self.close_items();
                }
            }
            signals = self.perform(effects).await?.into_iter().map(|signal| (signal, None)).collect();
        }
        self.facts.network = self.network.status();
        let status = status::build(&self.machine, &self.facts);
        self.reporter.say(&status, Timestamp::now());
        Ok(())
    }
}
