//! What the machine's effects come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use podwright_sandboxd::protocol::OpId;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::commands::{CommandContext, Commands, Done};
use super::images::Images;
use super::patches::Patches;
use super::prepare::{Announce, Preparation, Workspace, command_limit, variables};
use super::{DriveError, Driver, Message, survey};
use crate::agent::events::{Event, ItemDetails, ItemStatus, ThreadEventItem, replay};
use crate::agent::journal::Barrier;
use crate::agent::machine::{Effect, RunCall, Signal};
use crate::agent::recover::World;
use crate::agent::tools::image::ViewImage;
use crate::agent::tools::{ApplyPatch, ToolCall};
use crate::api::attempt::Phase;
use crate::sandbox::{Dial, Sandbox};
use crate::workspace::Reader;
use podwright_sandboxd::protocol::BootId;

use super::cluster::Cluster;

impl<C: Cluster, D: Dial + Clone> Driver<C, D> {
    /// Does what the machine wants: first all records in one write and at most one sync, then the rest in order.
    /// A record before its time does no harm, since it tells a decision that is made. Gives the answer to what is
    /// not a task of its own: it needs no place in the queue, and so cannot be lost.
    pub(super) async fn perform(&mut self, effects: Vec<Effect>) -> Result<Option<Signal>, DriveError> {
        let mut entries = Vec::new();
        let mut barrier = None;
        let mut rest = Vec::new();
        let first = effects
            .iter()
            .find_map(|effect| if let Effect::Append(entry) = effect { Some(entry.seq) } else { None });
        // What stands before the first record goes with the one before it.
        let mut seq = first.unwrap_or(self.machine.state().next_seq).saturating_sub(1);
        for effect in effects {
            match effect {
                Effect::Append(entry) => {
                    seq = entry.seq;
                    let beside = replay::beside(&entry, self.machine.state());
                    rest.extend(beside.map(|event| (Effect::Emit(event), seq)));
                    entries.push(*entry);
                }
                Effect::Barrier(next) => barrier = Some(next),
                Effect::Emit(_)
                | Effect::Prepare
                | Effect::Survey(_)
                | Effect::AskModel(_)
                | Effect::StopModel
                | Effect::RunCall(_)
                | Effect::ComputePatch { .. }
                | Effect::ApplyPatch { .. }
                | Effect::ViewImage { .. }
                | Effect::CallMcp { .. }
                | Effect::ListTools
                | Effect::StopCalls
                | Effect::Acknowledge(_)
                | Effect::ShowPatch
                | Effect::Finish(_)
                | Effect::Exit => rest.push((effect, seq)),
            }
        }
        self.write(entries, barrier).await?;
        let mut answer = None;
        // What is told last of a record says so.
        let tells =
            |effect: &Effect| matches!(effect, Effect::Emit(_) | Effect::RunCall(_) | Effect::CallMcp { .. });
        let told = rest.iter().enumerate().filter(|(_, (effect, _))| tells(effect));
        let last: BTreeMap<u64, usize> = told.map(|(place, (_, seq))| (*seq, place)).collect();
        for (place, (effect, seq)) in rest.into_iter().enumerate() {
            let is_last = last.get(&seq) == Some(&place);
            answer = answer.or(self.perform_one(effect, is_last.then_some(seq)).await?);
        }
        Ok(answer)
    }

    async fn write(
        &mut self,
        entries: Vec<crate::agent::journal::record::Entry>,
        barrier: Option<Barrier>,
    ) -> Result<(), DriveError> {
        if entries.is_empty() && barrier.is_none() {
            return Ok(());
        }
        let Some(mut journal) = self.journal.take() else { return Ok(()) };
        let written = tokio::task::spawn_blocking(move || {
            journal.append(&entries)?;
            barrier.map_or(Ok(()), |barrier| journal.barrier(barrier))?;
            Ok::<_, crate::agent::journal::JournalError>(journal)
        });
        self.journal = Some(written.await??);
        Ok(())
    }

    async fn perform_one(&mut self, effect: Effect, seq: Option<u64>) -> Result<Option<Signal>, DriveError> {
        match effect {
            Effect::Append(_) | Effect::Barrier(_) => {}
            Effect::Emit(event) => self.tell(&event, seq),
            Effect::Prepare => self.prepare(),
            Effect::Survey(questions) => self.survey(questions),
            Effect::AskModel(ask) => {
                let (messages, request) = (self.messages.clone(), *ask);
                // Parts of a response are of use to those alone who show them.
                let in_parts = self.surfaces.receiver_count() > 0;
                self.provider.ask(request, messages, in_parts).await;
            }
            Effect::StopModel => {
                self.provider.stop();
                self.close_items();
            }
            Effect::RunCall(run) => self.run_call(run, seq),
            Effect::ComputePatch { ordinal, patch } => self.compute_patch(ordinal, patch),
            Effect::ApplyPatch { ordinal, op } => self.apply_patch(ordinal, op),
            Effect::ViewImage { ordinal, view } => self.view_image(ordinal, view),
            Effect::CallMcp { ordinal, call } => self.call_mcp(ordinal, call, seq),
            Effect::ListTools => self.list_tools(),
            Effect::StopCalls => {
                self.calls.abort_all();
                self.computed.clear();
            }
            Effect::Acknowledge(ops) => {
                if let (Some(commands), Some(boot)) = (self.commands.clone(), self.boot.clone()) {
                    self.calls.spawn(async move { commands.acknowledge(&boot, ops).await });
                }
            }
            Effect::ShowPatch => self.show_patch().await,
            Effect::Finish(outcome) => return self.finish(outcome).await.map(Some),
            Effect::Exit => self.exit = true,
        }
        Ok(None)
    }

    pub(super) fn preparation(&self) -> Preparation<C> {
        Preparation {
            cluster: self.cluster.clone(),
            assignment: self.assignment.clone(),
            git: self.git.clone(),
            layout: self.layout.clone(),
            network: self.network.clone(),
            announce: Announce { messages: self.messages.clone(), phase: Phase::Preparing },
        }
    }

    fn prepare(&mut self) {
        let (preparation, connect, messages) = (self.preparation(), self.connector(), self.messages.clone());
        let servers = self.servers.clone();
        let arrival = tokio::spawn(async move {
            let message = match preparation.run(connect, &servers).await {
                Ok(ready) => Message::Ready(Box::new(ready)),
                Err(outcome) => Message::Signal(Signal::Failed(outcome)),
            };
            // Nobody listens only when the driver has stopped.
            let _ = messages.send(message).await;
        });
        self.arrival = Some(AbortOnDropHandle::new(arrival));
    }

    fn survey(&mut self, questions: Vec<crate::agent::recover::Question>) {
        let (preparation, connect, messages) = (self.preparation(), self.connector(), self.messages.clone());
        let arrival = tokio::spawn(async move {
            let message = match survey::look(&preparation, connect, questions).await {
                Ok(survey) => Message::Surveyed(Box::new(survey)),
                Err(outcome) => Message::Signal(Signal::Failed(outcome)),
            };
            let _ = messages.send(message).await;
        });
        self.arrival = Some(AbortOnDropHandle::new(arrival));
    }

    /// The sandbox is reached and the workspace is open.
    pub(super) fn settle(&mut self, sandbox: Sandbox, boot: &BootId, workspace: Workspace) {
        let follow = survey::FollowSandbox {
            cluster: self.cluster.clone(),
            sandbox: sandbox.clone(),
            attempt_uid: self.assignment.attempt_uid.clone(),
            network: self.network.clone(),
            messages: self.messages.clone(),
        };
        tokio::spawn(follow.run(boot.clone()));
        self.sandbox = Some(sandbox);
        self.boot = Some(boot.clone());
        self.workspace = Some(Arc::new(Mutex::new(workspace)));
        self.arrival = None;
    }

    /// The thread goes on in a new process: its sessions are found again.
    pub(super) async fn restore(&mut self, world: World) -> Signal {
        self.open_tools();
        self.restart_servers();
        if let (Some(commands), Some(thread)) = (&self.commands, &self.machine.state().thread)
            && let Err(error) = commands.restore(thread, &world.boot).await
        {
            return Signal::Failed(super::prepare::lost(error));
        }
        Signal::Surveyed(world)
    }

    /// The tools of an open thread.
    fn open_tools(&mut self) {
        if self.commands.is_some() {
            return;
        }
        let (Some(sandbox), Some(thread)) = (&self.sandbox, &self.machine.state().thread) else { return };
        let cwd = self.layout.worktree().to_string_lossy().into_owned();
        let context = CommandContext {
            thread_id: thread.opened.thread_id.clone(),
            shell: thread.opened.shell.clone(),
            cwd: cwd.clone(),
            env: variables(&self.assignment.job),
            network: self.network.clone(),
            limit: command_limit(&self.assignment.job),
        };
        self.commands = Some(Commands::new(sandbox.clone(), context));
        let mount = self.layout.workspace();
        match Reader::open(mount) {
            Ok(reader) => {
                let (reader, mount) = (Arc::new(reader), mount.to_string_lossy().into_owned());
                self.images = Some(Images::new(reader.clone(), cwd.clone(), mount.clone()));
                self.patches = Some(Patches::new(sandbox.clone(), reader, cwd, mount));
            }
            Err(error) => tracing::error!(%error, "the workspace cannot be opened"),
        }
    }

    fn run_call(&mut self, run: RunCall, seq: Option<u64>) {
        self.open_tools();
        let Some(commands) = self.commands.clone() else { return };
        let messages = self.messages.clone();
        if let ToolCall::ExecCommand(command) = &run.call {
            let details = ItemDetails::command(&command.cmd, "", None, ItemStatus::InProgress);
            self.tell(&Event::ItemStarted { item: ThreadEventItem::new(run.ordinal, details) }, seq);
        }
        self.calls.spawn(async move {
            let done = match &run.call {
                ToolCall::ExecCommand(command) => commands.exec(&run, command).await,
                ToolCall::WriteStdin(write) => commands.write_stdin(&run, write).await,
                // The machine sends these elsewhere.
                ToolCall::ApplyPatch(_)
                | ToolCall::UpdatePlan(_)
                | ToolCall::ViewImage(_)
                | ToolCall::Mcp(_) => return,
            };
            tell(&messages, done).await;
        });
    }

    fn compute_patch(&mut self, ordinal: u64, patch: ApplyPatch) {
        self.open_tools();
        let Some(patches) = self.patches.clone() else { return };
        let messages = self.messages.clone();
        self.calls.spawn(async move {
            match patches.compute(ordinal, patch).await {
                Ok(computed) => {
                    let computed = Box::new(computed);
                    let _ = messages.send(Message::Computed { ordinal, computed }).await;
                }
                Err((result, event)) => tell(&messages, Done::ended(result, Some(event))).await,
            }
        });
    }

    fn apply_patch(&mut self, ordinal: u64, op: u64) {
        let (Some(patches), Some(computed)) = (self.patches.clone(), self.computed.remove(&ordinal)) else {
            return;
        };
        let id = self.machine.state().thread.as_ref().and_then(|thread| OpId::new(thread.op_id(op)).ok());
        let messages = self.messages.clone();
        self.calls.spawn(async move {
            let (result, event) = patches.apply(ordinal, id, computed).await;
            tell(&messages, Done::ended(result, Some(event))).await;
        });
    }

    fn view_image(&mut self, ordinal: u64, view: ViewImage) {
        self.open_tools();
        let Some(images) = self.images.clone() else { return };
        let messages = self.messages.clone();
        self.calls.spawn(async move {
            let (result, event) = images.view(ordinal, view).await;
            tell(&messages, Done::ended(result, Some(event))).await;
        });
    }
}

pub(super) async fn tell(messages: &tokio::sync::mpsc::Sender<Message>, done: Done) {
    let message = match done.event {
        Some(event) => Message::Ended(Box::new((done.signal, event))),
        None => Message::Signal(done.signal),
    };
    // Nobody listens only when the driver has stopped.
    let _ = messages.send(message).await;
}
