//! The attempt's next pod: a clean checkout with the agent's patch, and the commands that say whether the work is good.
//!
//! No model is asked and no journal kept: what must outlive this process are the results of the commands that have
//! ended, the boot of the sandbox in which they ran, and how the attempt ends, a single small file. A command has an
//! operation id, so a process that is started anew finds it where it is.

mod commands;
mod record;
mod verdict;

use std::io::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use self::commands::Verification;
use self::record::Record;
use self::verdict::{cancelled, pending};
use super::network::CommandNetwork;
use super::prepare::{Announce, Preparation, internal};
use super::status::{Facts, Reporter};
use super::{Cluster, Drive, DriveError, Message, Orders, QUEUE, Stopped, connect, finish};
use crate::agent::events::Event;
use crate::api::attempt::{AgentAttemptStatus, InboxMessage, Outcome, Phase, VerificationResult};
use crate::api::message::MessageKind;
use crate::api::reasons::Reason;
use crate::sandbox::{Dial, Sandbox};
use crate::workspace::Layout;

/// What the work has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
struct Report {
    /// What the agent left, and the record of the patch.
    left: AgentAttemptStatus,
    facts: Facts,
    results: Vec<VerificationResult>,
    suspended: bool,
    inbox_seq: i64,
    network: CommandNetwork,
    reporter: Reporter,
    log: Box<dyn Write + Send>,
}

/// Verifies the patch that the agent of the pod before left.
///
/// # Errors
/// [`DriveError`]: nothing is lost, and another process goes on.
pub async fn verify<C: Cluster, D: Dial + Clone>(parts: Drive<C, D>) -> Result<Stopped, DriveError> {
    let Drive { assignment, cluster, dial, git, directories, outside, status, mut orders, log } = parts;
    let network = CommandNetwork::new(&assignment.job, outside, status.network.as_ref());
    let layout = Layout::new(directories.repo, directories.workspace, &assignment.job.repository.name)?;
    let (refused_sender, mut refused) = watch::channel(None);
    let reporter = Reporter::new(cluster.clone(), refused_sender);
    let commands = assignment.job.verification.iter().flat_map(|verification| &verification.commands);
    let commands: Vec<_> = commands.cloned().collect();
    let mut report = Report {
        results: commands.iter().map(pending).collect(),
        facts: Facts::after(status.clone(), assignment.epoch),
        suspended: false,
        inbox_seq: status.inbox_seq,
        network: network.clone(),
        left: status,
        reporter,
        log,
    };
    let record = record::file(&directories.state);
    let (messages, mut received) = mpsc::channel(QUEUE);
    let (news, mut heard) = mpsc::channel(QUEUE);
    let options = connect::options("podwright-verify", &assignment.attempt, &directories.state);
    let preparation = Preparation {
        cluster: cluster.clone(),
        assignment: assignment.clone(),
        git,
        layout,
        network: network.clone(),
        announce: Announce { messages, phase: Phase::Verifying },
    };
    let verification = Verification {
        preparation,
        commands,
        patch: report.left.patch.clone(),
        answer: report.left.last_message.clone(),
        state: directories.state,
        orders: orders.clone(),
        news,
    };
    let work: JoinHandle<Done> = tokio::spawn(async move {
        let connect = || {
            let sandbox = Sandbox::connect(dial, options);
            network.serve(&sandbox);
            sandbox
        };
        verification.run(connect).await
    });
    let mut work = AbortOnDropHandle::new(work);
    let mut sandbox = None;
    report.say();
    orders.mark_changed();
    let done = loop {
        tokio::select! {
            // In this order: what was said before the end is heard before it.
            biased;
            Ok(()) = refused.changed() => return Ok(Stopped::refused(refused.borrow().as_ref())),
            Ok(()) = orders.changed() => {
                let given = orders.borrow_and_update().clone();
                match given {
                    Orders::Gone(why) => return Ok(Stopped::Gone(why)),
                    Orders::Work { inbox, .. } => if let Some(seq) = cancellation(&inbox) {
                        report.inbox_seq = report.inbox_seq.max(seq);
                        work.abort();
                        // Once it is over, nothing but this replaces the record.
                        let _ = (&mut work).await;
                        break Done { outcome: cancelled(), results: report.results.clone() };
                    },
                }
            }
            Some(message) = received.recv() => report.hear(message),
            Some(news) = heard.recv() => match news {
                News::Results(results) => {
                    report.results = results;
                    report.say();
                }
                News::Suspended(suspended) => {
                    report.suspended = suspended;
                    report.say();
                }
                News::Sandbox(reached) => sandbox = Some(reached),
            },
            ended = &mut work => break ended?,
        }
    };
    match record.write(&Record::Done(done.clone()), true) {
        Ok(()) => {
            if let Some(sandbox) = sandbox.filter(|_| done.outcome.reason != Reason::SandboxLost) {
                finish::stop_commands(&sandbox, &assignment).await;
            }
        }
        // A phase that is closed passes for one that went well, should this process die before it has said otherwise.
        Err(error) => tracing::warn!(%error, "the sandbox is left as it is, to be found again"),
    }
    report.end(done).await
}

/// The number of the message that cancels the attempt.
fn cancellation(inbox: &[InboxMessage]) -> Option<i64> {
    let cancels = inbox.iter().filter(|message| message.kind == MessageKind::Cancel);
    cancels.map(|message| message.seq).max()
}

impl Report {
    /// What preparations say.
    fn hear(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.emit(&event),
            // The commit is known since the agent's own pod, and nothing else is said here.
            Message::BaseCommit(_)
            | Message::Signal(_)
            | Message::Ended(_)
            | Message::Part(_)
            | Message::Ready(_)
            | Message::Surveyed(_)
            | Message::Computed { .. } => {}
        }
        self.say();
    }

    fn emit(&mut self, event: &Event) {
        self.facts.log(event, &event.to_line(), &mut self.log);
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
            network: self.network.status(),
            outcome,
            ..self.left.clone()
        }
    }

    async fn end(mut self, Done { outcome, results }: Done) -> Result<Stopped, DriveError> {
        self.results = results.into_iter().map(verdict::closed).collect();
        self.suspended = false;
        self.emit(&Event::ThreadEnded { outcome: outcome.clone() });
        self.facts.outcome = Some(outcome);
        let status = self.status();
        self.reporter.last_word(&status).await?;
        Ok(Stopped::Published)
    }
}

/// How an attempt ends that has nothing to verify, which the controller never asks for.
fn nothing_to_verify() -> Outcome {
    internal(&"The pod is to verify a patch, and there is none")
}
