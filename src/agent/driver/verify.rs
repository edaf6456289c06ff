//! The attempt's next pod: a clean checkout with the agent's patch, and the commands that say whether the work is good.
//!
//! No model is asked and no journal kept: what must outlive this process are the results of the commands that have
//! ended and the boot of the sandbox in which they ran, a single small file. A command has an operation id, so a process
//! that is started anew finds it where it is.

mod commands;
mod record;
mod verdict;

use std::io::Write;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use self::commands::Verification;
use self::verdict::{cancelled, pending};
use super::cluster::ClusterError;
use super::prepare::{Announce, Preparation, internal};
use super::status::{Facts, Reporter};
use super::{
    Cluster, Drive, DriveError, LAST_WORD, Message, Orders, QUEUE, SANDBOX_PATIENCE, SANDBOX_START, Stopped,
    finish,
};
use crate::agent::events::Event;
use crate::api::attempt::{AgentAttemptStatus, InboxMessage, Outcome, Phase, VerificationResult};
use crate::api::message::MessageKind;
use crate::api::reasons::Reason;
use crate::sandbox::{Dial, Options, Sandbox, TokenFile};
use crate::workspace::Layout;

/// What the work has come to.
struct Done {
    outcome: Outcome,
    results: Vec<VerificationResult>,
}

/// What the work says on its way.
enum News {
    /// The results so far.
    Results(Vec<VerificationResult>),
    /// Whether it stands still because the task is suspended.
    Suspended(bool),
    /// The sandbox, once it is reached.
    Sandbox(Sandbox),
}

/// The attempt's status as this pod tells it.
struct Told {
    /// What the agent left, and the record of the patch.
    left: AgentAttemptStatus,
    facts: Facts,
    results: Vec<VerificationResult>,
    suspended: bool,
    inbox_seq: i64,
    reporter: Reporter,
    log: Box<dyn Write + Send>,
}

/// Verifies the patch that the agent of the pod before left.
///
/// # Errors
/// [`DriveError`]: nothing is lost, and another process goes on.
pub async fn verify<C: Cluster, D: Dial + Clone>(parts: Drive<C, D>) -> Result<Stopped, DriveError> {
    let Drive { assignment, cluster, dial, git, directories, status, mut orders, log } = parts;
    let layout = Layout::new(directories.repo, directories.workspace, &assignment.job.repository.name)?;
    let (refused_sender, mut refused) = watch::channel(None);
    let reporter = Reporter::new(cluster.clone(), refused_sender);
    let commands = assignment.job.verification.iter().flat_map(|verification| &verification.commands);
    let commands: Vec<_> = commands.cloned().collect();
    let epoch = i32::try_from(assignment.epoch).unwrap_or(i32::MAX);
    let mut told = Told {
        results: commands.iter().map(pending).collect(),
        facts: Facts::after(status.clone(), epoch),
        suspended: false,
        inbox_seq: status.inbox_seq,
        left: status,
        reporter,
        log,
    };
    let (messages, mut received) = mpsc::channel(QUEUE);
    let (news, mut heard) = mpsc::channel(QUEUE);
    let options = Options {
        client_name: format!("podwright-verify {}", assignment.attempt),
        tokens: TokenFile::new(directories.state.join("sandbox-token")),
        first_within: SANDBOX_START,
        give_up_after: SANDBOX_PATIENCE,
    };
    let preparation = Preparation {
        cluster: cluster.clone(),
        assignment: assignment.clone(),
        git,
        layout,
        announce: Announce(messages),
    };
    let verification = Verification {
        preparation,
        commands,
        patch: told.left.patch.clone(),
        answer: told.left.last_message.clone(),
        state: directories.state,
        orders: orders.clone(),
        news,
    };
    let work: JoinHandle<Done> =
        tokio::spawn(async move { verification.run(|| Sandbox::connect(dial, options)).await });
    let mut work = AbortOnDropHandle::new(work);
    let mut sandbox = None;
    told.say();
    orders.mark_changed();
    let done = loop {
        tokio::select! {
            // In this order: what was said before the end is heard before it.
            biased;
            Ok(()) = refused.changed() => return Ok(Stopped::Gone(words(&refused.borrow()))),
            Ok(()) = orders.changed() => match orders.borrow_and_update().clone() {
                Orders::Gone(why) => return Ok(Stopped::Gone(why)),
                Orders::Work { inbox, .. } => if let Some(seq) = cancellation(&inbox) {
                    told.inbox_seq = told.inbox_seq.max(seq);
                    break Done { outcome: cancelled(), results: told.results.clone() };
                },
            },
            Some(message) = received.recv() => told.hear(message),
            Some(news) = heard.recv() => match news {
                News::Results(results) => {
                    told.results = results;
                    told.say();
                }
                News::Suspended(suspended) => {
                    told.suspended = suspended;
                    told.say();
                }
                News::Sandbox(reached) => sandbox = Some(reached),
            },
            ended = &mut work => break ended?,
        }
    };
    drop(work);
    if let Some(sandbox) = sandbox.filter(|_| done.outcome.reason != Reason::SandboxLost) {
        finish::stop_commands(&sandbox, &assignment).await;
    }
    told.end(done).await
}

/// The number of the message that cancels the attempt.
fn cancellation(inbox: &[InboxMessage]) -> Option<i64> {
    let cancels = inbox.iter().filter(|message| message.kind == MessageKind::Cancel);
    cancels.map(|message| message.seq).max()
}

fn words(refused: &Option<ClusterError>) -> String {
    refused.as_ref().map(ClusterError::to_string).unwrap_or_default()
}

impl Told {
    /// What preparations say.
    fn hear(&mut self, message: Message) {
        match message {
            Message::Event(Event::PhaseChanged { message, .. }) => self.event(&message),
            Message::Event(event) => self.emit(&event),
            // The commit is known since the agent's own pod, and nothing else is said here.
            Message::BaseCommit(_)
            | Message::Signal(_)
            | Message::Ready(_)
            | Message::Surveyed(_)
            | Message::Computed { .. } => {}
        }
        self.say();
    }

    fn event(&mut self, message: &str) {
        self.emit(&Event::PhaseChanged { phase: Phase::Verifying, message: message.to_owned() });
    }

    fn emit(&mut self, event: &Event) {
        let line = event.to_line();
        // A log that nobody takes ends no task.
        let _ = self.log.write_all(line.as_bytes()).and_then(|()| self.log.flush());
        self.facts.log(event, &line);
    }

    fn say(&mut self) {
        let status = self.status();
        self.reporter.say(&status, Timestamp::now());
    }

    fn status(&self) -> AgentAttemptStatus {
        let outcome = self.facts.outcome.clone();
        AgentAttemptStatus {
            phase: Some(if outcome.is_some() { Phase::Ended } else { Phase::Verifying }),
            epoch: self.facts.epoch,
            inbox_seq: self.inbox_seq,
            suspended: self.suspended,
            doing: if outcome.is_some() { String::new() } else { self.facts.doing.clone() },
            log_tail: self.facts.log_tail.clone(),
            model_failure: String::new(),
            verification: self.results.clone(),
            outcome,
            ..self.left.clone()
        }
    }

    async fn end(mut self, Done { outcome, results }: Done) -> Result<Stopped, DriveError> {
        self.results = results.into_iter().map(verdict::closed).collect();
        self.suspended = false;
        self.emit(&Event::ThreadEnded { outcome: outcome.clone() });
        self.facts.outcome = Some(outcome);
        self.say();
        if self.reporter.flush(LAST_WORD).await {
            Ok(Stopped::Published)
        } else {
            Err(DriveError::Unpublished)
        }
    }
}

/// How an attempt ends that has nothing to verify, which the controller never asks for.
fn nothing_to_verify() -> Outcome {
    internal(&"The pod is to verify a patch, and there is none")
}
