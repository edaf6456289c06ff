//! The way in, and the commands one after the other.

use std::path::PathBuf;
use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, EndedBy, ErrorCode, Start};
use tokio::sync::{mpsc, watch};

use super::record::{self, Record};
use super::verdict::{broken_off, pending, verdict};
use super::{Done, News, nothing_to_verify};
use crate::agent::driver::cluster::Cluster;
use crate::agent::driver::commands::base_environment;
use crate::agent::driver::orders::Orders;
use crate::agent::driver::prepare::{
    Preparation, begin_agent_phase, internal, lost, not_checked_out, op, outcome, unreadable, variables,
};
use crate::agent::driver::status::keep_end;
use crate::agent::driver::survey::out_of_memory;
use crate::agent::tools::exec::ExecContext;
use crate::api::attempt::{Outcome, PatchSummary, VerificationResult, VerificationState};
use crate::api::conditions::plain;
use crate::api::reasons::Reason;
use crate::api::task::VerificationCommand;
use crate::artifacts::decode;
use crate::sandbox::{Ended, Known, Outcome as CommandOutcome, Sandbox, SandboxError};
use crate::workspace::{Fetched, Staging, apply_former, checkout};

/// How much of a command's output is kept.
const OUTPUT_MAX: usize = 2048;

/// How much of it is held until then: what must not be shown goes out of it.
const HELD_MAX: usize = 2 * OUTPUT_MAX;

/// One look at a command; its output so far is dropped then, since only its end is shown.
const LOOK: Duration = Duration::from_secs(10);

/// Everything that a verification needs.
pub(super) struct Verification<C> {
    pub(super) preparation: Preparation<C>,
    pub(super) commands: Vec<VerificationCommand>,
    pub(super) patch: Option<PatchSummary>,
    /// The agent's own answer.
    pub(super) answer: String,
    pub(super) state: PathBuf,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) news: mpsc::Sender<News>,
}

impl<C: Cluster> Verification<C> {
    /// Does all of it, or finds it done. `connect` is called when the base commit is checked out: from then on the files
    /// may be hostile.
    pub(super) async fn run(mut self, connect: impl FnOnce() -> Sandbox) -> Done {
        let mut results: Vec<VerificationResult> = self.commands.iter().map(pending).collect();
        let begun = match record::file(&self.state).read() {
            // Its phases may be closed, and then nothing in the sandbox says any more how it came to that.
            Ok(Some(Record::Done(done))) => return done,
            Ok(Some(Record::Running { boot, ended })) => Some((boot, ended)),
            Ok(None) => None,
            Err(error) => return Done { outcome: broken_off(internal(&error)), results },
        };
        let outcome = match self.verify(connect, begun, &mut results).await {
            Ok(()) => verdict(&self.preparation.assignment.attempt, &self.commands, &results, &self.answer),
            Err(outcome) => broken_off(outcome),
        };
        Done { outcome, results }
    }

    async fn verify(
        &mut self,
        connect: impl FnOnce() -> Sandbox,
        begun: Option<(BootId, Vec<VerificationResult>)>,
        results: &mut [VerificationResult],
    ) -> Result<(), Outcome> {
        if let Some((_, ended)) = begun.as_ref().filter(|(_, ended)| ended.len() == self.commands.len()) {
            // Nothing of the sandbox is needed any more.
            results.clone_from_slice(ended);
            return Ok(());
        }
        let fetched = self.check_out().await?;
        self.preparation.announce.phase("waiting for the sandbox").await;
        let sandbox = connect();
        let boot = sandbox.ready().await.map_err(lost)?.id;
        self.tell(News::Sandbox(sandbox.clone())).await;
        if begun.is_none() {
            // No command has run here yet: a setup script that was cut off is found, or run again.
            self.preparation.furnish(&sandbox, &boot, &fetched, Staging::Staged).await?;
        }
        let Preparation { assignment, network, .. } = &self.preparation;
        begin_agent_phase(&sandbox, &boot, &assignment.attempt_uid, network).await?;
        let (begun_in, mut ended) = match begun {
            Some(begun) => begun,
            None => {
                self.keep(&boot, &[])?;
                (boot.clone(), Vec::new())
            }
        };
        if begun_in != boot {
            return Err(self.cut_off().await);
        }
        for (place, command) in self.commands.clone().iter().enumerate() {
            let known = ended.get(place).cloned();
            let result = match known {
                Some(result) => result,
                None => {
                    self.wait_while_suspended().await;
                    self.preparation.announce.phase(&format!("verifying: {}", command.name)).await;
                    set(
                        results,
                        place,
                        VerificationResult { state: VerificationState::Running, ..pending(command) },
                    );
                    self.tell(News::Results(results.to_vec())).await;
                    let result = self.run_one(&sandbox, &boot, place, command).await?;
                    ended.push(result.clone());
                    self.keep(&boot, &ended)?;
                    result
                }
            };
            set(results, place, result);
            self.tell(News::Results(results.to_vec())).await;
            let id = self.id(place)?;
            if let Err(error) = sandbox.acknowledge(&boot, &id).await {
                tracing::debug!(%id, %error, "the supervisor keeps an exit record for longer than needed");
            }
        }
        Ok(())
    }

    /// Leaves to the next process what has ended.
    fn keep(&self, boot: &BootId, ended: &[VerificationResult]) -> Result<(), Outcome> {
        let record = Record::Running { boot: boot.clone(), ended: ended.to_vec() };
        record::file(&self.state).write(&record, true).map_err(|error| internal(&error))
    }

    /// The base commit, before anything in the sandbox is spoken to, and beside it the tree that it is with the patch.
    async fn check_out(&self) -> Result<Fetched, Outcome> {
        let Preparation { cluster, git, layout, .. } = &self.preparation;
        let (Some(patch), false) = (&self.patch, self.commands.is_empty()) else {
            return Err(nothing_to_verify());
        };
        let Some(artifact) = &patch.artifact else { return Err(nothing_to_verify()) };
        // The commit that the patch is made for, wherever the branch is by now.
        let fetched = self.preparation.fetched(&patch.base_commit).await?;
        let fetched = match fetched.origin {
            Some(_) => fetched,
            None => {
                let packed = cluster.config_map_bytes(&artifact.config_map_name, &artifact.key).await;
                let packed = packed.map_err(unreadable)?.ok_or_else(nothing_to_verify)?;
                let text = decode(&packed, &patch.sha256).map_err(|error| internal(&error))?;
                // git takes an empty patch for a mistake.
                if text.is_empty() {
                    fetched
                } else {
                    let applied = apply_former(fetched, text, layout, git).await;
                    applied.map_err(|error| internal(&error))?
                }
            }
        };
        checkout(&fetched, layout, git).await.map_err(|error| not_checked_out(&error))?;
        Ok(fetched)
    }

    /// Runs a command to its end, or finds it again.
    async fn run_one(
        &self,
        sandbox: &Sandbox,
        boot: &BootId,
        place: usize,
        command: &VerificationCommand,
    ) -> Result<VerificationResult, Outcome> {
        let id = self.id(place)?;
        let Preparation { assignment, layout, network, .. } = &self.preparation;
        let own = ExecContext {
            thread_id: &assignment.attempt_uid,
            call_id: &command.name,
            network: network.is_open(),
        };
        let mut env = base_environment(&variables(&assignment.job));
        env.extend(own.environment());
        env.extend(network.variables());
        network.watch(&id);
        let start = Start {
            process_id: id.clone(),
            argv: ["/bin/sh", "-e", "-c", &command.command].map(str::to_owned).into(),
            cwd: layout.worktree().to_string_lossy().into_owned(),
            env,
            tty: false,
            pipe_stdin: false,
            deadline_ms: Some(command.timeout_seconds.max(1).unsigned_abs() * 1000),
        };
        match sandbox.start(boot, start, 0).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::LaunchFailed) => {
                let output = plain(&format!("it could not be started: {error}"), OUTPUT_MAX);
                return Ok(VerificationResult {
                    state: VerificationState::Failed,
                    output,
                    ..pending(command)
                });
            }
            Err(error) => return Err(self.failed(error).await),
        }
        let mut tail = String::new();
        loop {
            let observed = match sandbox.observe(&id, LOOK).await {
                Ok(observed) => observed,
                Err(error) => return Err(self.failed(error).await),
            };
            for part in [&observed.output.head, &observed.output.tail] {
                tail.push_str(&String::from_utf8_lossy(part));
            }
            keep_end(&mut tail, HELD_MAX);
            match observed.outcome {
                CommandOutcome::Running => {}
                CommandOutcome::Exited(ended) => {
                    if let Some(note) = network.note(&id) {
                        tail.push('\n');
                        tail.push_str(&note);
                    }
                    network.leave(&id);
                    return Ok(result(command, &ended, &tail));
                }
                CommandOutcome::Interrupted { .. } => return Err(self.cut_off().await),
                CommandOutcome::Unknown { why } => {
                    let what = format!("how the command {} ended is not known ({why})", command.name);
                    return Err(outcome(Reason::SandboxLost, &what));
                }
            }
        }
    }

    fn id(&self, place: usize) -> Result<podwright_sandboxd::protocol::OpId, Outcome> {
        op(&self.preparation.assignment.attempt_uid, &format!("verify-{}", place + 1))
    }

    async fn failed(&self, error: SandboxError) -> Outcome {
        match error {
            SandboxError::Restarted { .. } => self.cut_off().await,
            SandboxError::Lost(_) => lost(error),
            SandboxError::Refused(_) | SandboxError::TooLarge(_) => internal(&error),
        }
    }

    /// The sandbox was restarted in the middle: what a command has left half done is in the files.
    async fn cut_off(&self) -> Outcome {
        if self.preparation.cluster.sandbox_ran_out_of_memory().await {
            return out_of_memory();
        }
        outcome(Reason::SandboxLost, &"the sandbox was restarted in the middle of the verification")
    }

    /// A suspended task begins no further command.
    async fn wait_while_suspended(&mut self) {
        let is_held = |orders: &Orders| matches!(orders, Orders::Work { suspend: true, .. });
        if !is_held(&self.orders.borrow()) {
            return;
        }
        self.tell(News::Suspended(true)).await;
        // An error means that nobody gives orders any more, and then the driver stops by itself.
        let _ = self.orders.wait_for(|orders| !is_held(orders)).await;
        self.tell(News::Suspended(false)).await;
    }

    async fn tell(&self, news: News) {
        // Nobody listens only when the driver has stopped.
        let _ = self.news.send(news).await;
    }
}

fn result(command: &VerificationCommand, ended: &Ended, tail: &str) -> VerificationResult {
    let (state, exit_code) = match (ended.record.ended_by, ended.exit) {
        (EndedBy::Deadline, _) => (VerificationState::TimedOut, None),
        (_, Known::Code(0)) => (VerificationState::Passed, Some(0)),
        (_, exit) => (VerificationState::Failed, Some(exit.shell_code())),
    };
    let mut output = plain(tail, HELD_MAX);
    keep_end(&mut output, OUTPUT_MAX);
    VerificationResult {
        name: command.name.clone(),
        state,
        exit_code,
        seconds: i64::try_from(ended.record.duration_ms / 1000).unwrap_or(i64::MAX),
        output,
    }
}

fn set(results: &mut [VerificationResult], place: usize, result: VerificationResult) {
    if let Some(slot) = results.get_mut(place) {
        *slot = result;
    }
}
