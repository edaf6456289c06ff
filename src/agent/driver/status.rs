//! The attempt's status: made whole from what is known, written rarely.

use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::DriveError;
use super::cluster::{Cluster, ClusterError};
use super::orders::REFUSED_MAX;
use crate::agent::events::Event;
use crate::agent::machine::Machine;
use crate::agent::tools::plan::{PlanStep as ToolPlanStep, StepStatus};
use crate::api::attempt::{
    AgentAttemptStatus, ArtifactRef, NetworkStatus, Outcome, PatchSummary, Phase, PlanStep, PlanStepStatus,
    Usage, VerificationResult, VerificationState, WorkspaceStatus,
};
use crate::api::conditions::plain;

/// Bounds of the schema, in characters; bytes are never fewer.
const LOG_TAIL_MAX: usize = 1024;
const MESSAGE_MAX: usize = 4096;
const STEP_MAX: usize = 256;
const DOING_MAX: usize = 256;
const PLAN_MAX: usize = 32;
const FAILURE_MAX: usize = 1024;

/// Stands in the place of texts that the API server did not take.
const ESSENTIAL: &str = "The agent's own words are left out, since the API server refused the status with them; see \
     the log of the pod's container agent, and the patch and transcript artifacts.";

/// Between two writes of mere progress: what etcd and every watcher bear from a thousand tasks.
const PAUSE: Duration = Duration::from_secs(15);

/// The same after [`SETTLED`]: nobody looks at an hour's work every 15 s.
const LONG_PAUSE: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(600);

/// How long an agent that prepares keeps silent at first: most have begun to work by then, and that is the first thing
/// that people and the controller act on.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// Between two tries of a write that the API server did not take.
const RETRY: Duration = Duration::from_secs(5);

/// How long the last write is waited for before the process ends and its parent begins again.
const LAST_WORD: Duration = Duration::from_secs(300);

/// What the status needs beside the machine's own state.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Number of the pod.
    pub(super) epoch: i32,
    /// How commands are confined.
    pub(super) confinement: String,
    /// The commit that was checked out, before the thread says so.
    pub(super) base_commit: String,
    /// What goes on while the machine waits for the workspace and the sandbox.
    pub(super) doing: String,
    /// The end of the log.
    pub(super) log_tail: String,
    /// The patch as of the end of the last turn.
    pub(super) patch: Option<PatchSummary>,
    /// The transcript.
    pub(super) transcript: Option<ArtifactRef>,
    /// Whether the work is done and the next pod shall verify it.
    pub(super) awaits_verification: bool,
    /// The final answer as JSON, where it has a form to keep to.
    pub(super) output: Option<Value>,
    /// The final answer in words for people, where that is not what the model wrote.
    pub(super) words: Option<String>,
    /// What was refused to commands, where they have a network.
    pub(super) network: Option<NetworkStatus>,
    /// How the attempt ended, once everything else is in place.
    pub(super) outcome: Option<Outcome>,
}

impl Facts {
    /// What the process before this one left.
    pub(super) fn after(status: AgentAttemptStatus, epoch: u32) -> Self {
        let workspace = status.workspace.unwrap_or_default();
        Self {
            epoch: i32::try_from(epoch).unwrap_or(i32::MAX),
            confinement: workspace.confinement,
            base_commit: workspace.base_commit,
            doing: String::new(),
            log_tail: status.log_tail,
            patch: status.patch,
            transcript: status.transcript,
            awaits_verification: false,
            output: status.output,
            words: None,
            network: status.network,
            outcome: None,
        }
    }

    /// An event's line goes into the log, and the log's end into the status.
    pub(super) fn log(&mut self, event: &Event, line: &str, log: &mut dyn Write) {
        // A log that nobody takes ends no task.
        let _ = log.write_all(line.as_bytes()).and_then(|()| log.flush());
        self.log_tail.push_str(line);
        keep_end(&mut self.log_tail, LOG_TAIL_MAX);
        if let Event::PhaseChanged { message, .. } = event {
            self.doing.clone_from(message);
        }
    }
}

/// The whole status but for its time, which is that of its writing.
pub(super) fn build(machine: &Machine, facts: &Facts) -> AgentAttemptStatus {
    let state = machine.state();
    let thread = state.thread.as_ref();
    let phase = match (&facts.outcome, facts.awaits_verification) {
        (Some(_), _) => Phase::Ended,
        (None, true) => Phase::Verifying,
        (None, false) => machine.phase(),
    };
    let doing = match phase {
        Phase::Ended | Phase::Verifying => String::new(),
        Phase::Preparing | Phase::Running | Phase::Parked | Phase::Idle => {
            plain(machine.doing().as_deref().unwrap_or(&facts.doing), DOING_MAX)
        }
    };
    let spoken = thread.map(|thread| thread.last_message.as_str()).filter(|words| !words.is_empty());
    let spoken = facts.words.as_deref().or(spoken);
    let base_commit = thread.map_or(&facts.base_commit, |thread| &thread.opened.base_commit);
    let spent = &state.spent;
    AgentAttemptStatus {
        phase: Some(phase),
        epoch: facts.epoch,
        outcome: facts
            .outcome
            .clone()
            .map(|outcome| Outcome { message: plain(&outcome.message, MESSAGE_MAX), ..outcome }),
        inbox_seq: state.inbox_seq,
        suspended: machine.is_suspended(),
        turn: thread.map_or(0, |thread| i32::try_from(thread.turn).unwrap_or(i32::MAX)),
        step: signed(spent.steps),
        plan: thread.map(|thread| plan(&thread.plan)).unwrap_or_default(),
        log_tail: facts.log_tail.clone(),
        // Until the model has said something, what goes on stands for it.
        model_failure: plain(machine.unavailable().unwrap_or_default(), FAILURE_MAX),
        last_message: spoken.map_or_else(|| doing.clone(), |words| plain(words, MESSAGE_MAX)),
        doing,
        output: facts.output.clone(),
        usage: Some(Usage {
            requests: signed(spent.requests),
            input_tokens: signed(spent.usage.input_tokens),
            cached_input_tokens: signed(spent.usage.cached_input_tokens),
            cache_write_input_tokens: signed(spent.usage.cache_write_input_tokens),
            output_tokens: signed(spent.usage.output_tokens),
            reasoning_tokens: signed(spent.usage.reasoning_tokens),
            commands: signed(spent.commands),
            consecutive_failures: signed(spent.failures),
            estimated: spent.usage.estimated,
        }),
        cost: machine.cost(),
        active_seconds: signed(spent.active.as_secs()),
        workspace: Some(WorkspaceStatus {
            base_commit: base_commit.clone(),
            confinement: facts.confinement.clone(),
        }),
        network: facts.network.clone(),
        patch: facts.patch.clone(),
        transcript: facts.transcript.clone(),
        verification: Vec::new(),
        last_progress_time: None,
    }
}

/// The part of a status that the controller acts on, without any text of the model, a command or a repository: what
/// is written when the API server refuses the whole of it.
fn essential(status: &AgentAttemptStatus) -> AgentAttemptStatus {
    AgentAttemptStatus {
        outcome: status
            .outcome
            .as_ref()
            .map(|outcome| Outcome { reason: outcome.reason, message: ESSENTIAL.to_owned() }),
        plan: Vec::new(),
        log_tail: String::new(),
        last_message: ESSENTIAL.to_owned(),
        doing: String::new(),
        model_failure: String::new(),
        output: None,
        network: status
            .network
            .as_ref()
            .map(|network| NetworkStatus { last_refused: String::new(), ..network.clone() }),
        patch: status.patch.as_ref().map(|patch| PatchSummary {
            inline: None,
            flags: Vec::new(),
            skipped: Vec::new(),
            paths: Vec::new(),
            ..patch.clone()
        }),
        verification: status
            .verification
            .iter()
            .map(|result| VerificationResult { output: String::new(), ..result.clone() })
            .collect(),
        ..status.clone()
    }
}

/// A status on its way.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Number, from 1.
    pub(super) number: u64,
    /// The newest number that must not wait.
    pub(super) urgent: u64,
    /// The status.
    pub(super) status: AgentAttemptStatus,
}

/// The driver's end: what it says is written at once when it matters, and at the allowed rate otherwise.
pub(super) struct Reporter {
    reports: watch::Sender<Report>,
    written: watch::Receiver<u64>,
}

impl Reporter {
    /// Begins to report to `cluster`. What it refuses for good is told through `refused`.
    pub(super) fn new<C: Cluster>(cluster: C, refused: watch::Sender<Option<ClusterError>>) -> Self {
        let (reports, receiver) = watch::channel(Report::default());
        let (sender, written) = watch::channel(0);
        tokio::spawn(write_reports(cluster, receiver, sender, refused));
        Self { reports, written }
    }

    /// Says how things are.
    pub(super) fn say(&mut self, status: &AgentAttemptStatus, now: Timestamp) {
        self.reports.send_if_modified(|report| {
            if says_the_same(&report.status, status) {
                return false;
            }
            report.number += 1;
            if is_urgent(&report.status, status) {
                report.urgent = report.number;
            }
            report.status = AgentAttemptStatus { last_progress_time: Some(Time(now)), ..status.clone() };
            true
        });
    }

    /// Waits until what was said last is written, at most `patience`. Whether it is.
    pub(super) async fn flush(&mut self, patience: Duration) -> bool {
        let mut number = 0;
        self.reports.send_if_modified(|report| {
            number = report.number;
            std::mem::replace(&mut report.urgent, number) != number
        });
        let written = self.written.wait_for(|written| *written >= number);
        tokio::time::timeout(patience, written).await.is_ok_and(|written| written.is_ok())
    }

    /// Says how things are in the end, and waits until that is written.
    ///
    /// # Errors
    /// [`DriveError::Unpublished`] when it is not in time.
    pub(super) async fn last_word(&mut self, status: &AgentAttemptStatus) -> Result<(), DriveError> {
        self.say(status, Timestamp::now());
        if self.flush(LAST_WORD).await { Ok(()) } else { Err(DriveError::Unpublished) }
    }
}

/// Why a status is not written.
enum Unwritten {
    /// A try later may help.
    Yet(ClusterError),
    /// The attempt is gone, or the right on it.
    ForGood(ClusterError),
}

/// Writes statuses, and judges what the API server says to them.
struct Writer<C> {
    cluster: C,
    /// Since when every write is refused.
    refused_since: Option<Instant>,
    /// Whether it was said that a status was reduced.
    has_told: bool,
}

impl<C: Cluster> Writer<C> {
    async fn write(&mut self, status: &AgentAttemptStatus) -> Result<(), Unwritten> {
        let mut result = self.cluster.write_status(status).await;
        if let Err(ClusterError::Refused { code: 400 | 413 | 422, message, .. }) = &result {
            if !std::mem::replace(&mut self.has_told, true) {
                tracing::warn!(message, "the status was refused; its texts are left out from now on");
            }
            result = self.cluster.write_status(&essential(status)).await;
        }
        let Err(error) = result else {
            self.refused_since = None;
            return Ok(());
        };
        Err(match error {
            ClusterError::Refused { code: 404, .. } => Unwritten::ForGood(error),
            ClusterError::Refused { code: 401 | 403, .. } => {
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() < REFUSED_MAX { Unwritten::Yet(error) } else { Unwritten::ForGood(error) }
            }
            ClusterError::Refused { .. } | ClusterError::Unreachable { .. } => Unwritten::Yet(error),
        })
    }
}

async fn write_reports<C: Cluster>(
    cluster: C,
    mut reports: watch::Receiver<Report>,
    written: watch::Sender<u64>,
    refused: watch::Sender<Option<ClusterError>>,
) {
    let mut writer = Writer { cluster, refused_since: None, has_told: false };
    let born = Instant::now();
    let mut last_write: Option<Instant> = None;
    while reports.changed().await.is_ok() {
        let pause = if born.elapsed() < SETTLED { PAUSE } else { LONG_PAUSE };
        let free = last_write.map_or(born + FIRST_WORD, |last| last + pause);
        let done = *written.borrow();
        let is_due = |report: &Report| {
            report.urgent > done && (last_write.is_some() || report.status.phase != Some(Phase::Preparing))
        };
        tokio::select! {
            () = sleep_until(free) => {}
            due = reports.wait_for(is_due) => {
                if due.is_err() {
                    return;
                }
            }
        }
        loop {
            let report = reports.borrow_and_update().clone();
            match writer.write(&report.status).await {
                Ok(()) => {
                    last_write = Some(Instant::now());
                    written.send_replace(report.number);
                    break;
                }
                Err(Unwritten::ForGood(error)) => {
                    refused.send_replace(Some(error));
                    return;
                }
                Err(Unwritten::Yet(error)) => {
                    tracing::warn!(%error, "the status is written later");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// What people and the controller act on is written at once.
fn is_urgent(old: &AgentAttemptStatus, new: &AgentAttemptStatus) -> bool {
    old.phase != new.phase
        || old.outcome != new.outcome
        || old.inbox_seq != new.inbox_seq
        || old.suspended != new.suspended
        || old.patch != new.patch
        || states(old).ne(states(new))
}

fn states(status: &AgentAttemptStatus) -> impl Iterator<Item = VerificationState> + '_ {
    status.verification.iter().map(|result| result.state)
}

/// The passing of time alone is no news.
fn says_the_same(old: &AgentAttemptStatus, new: &AgentAttemptStatus) -> bool {
    let timeless = |status: &AgentAttemptStatus| AgentAttemptStatus {
        active_seconds: 0,
        last_progress_time: None,
        ..status.clone()
    };
    timeless(old) == timeless(new)
}

fn plan(steps: &[ToolPlanStep]) -> Vec<PlanStep> {
    let steps = steps.iter().take(PLAN_MAX).map(|step| PlanStep {
        step: plain(&step.step, STEP_MAX),
        status: match step.status {
            StepStatus::Pending => PlanStepStatus::Pending,
            StepStatus::InProgress => PlanStepStatus::InProgress,
            StepStatus::Completed => PlanStepStatus::Completed,
        },
    });
    steps.collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn keep_end(text: &mut String, max: usize) {
    let start = text.ceil_char_boundary(text.len().saturating_sub(max));
    text.drain(..start);
}

#[cfg(test)]
mod tests;
