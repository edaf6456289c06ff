//! The driver: performs what the machine wants, and tells it what came of it.
//!
//! One task owns the machine, the journal and the status. Whatever takes time (the model, a command, the
//! preparation) is a task of its own that answers through one channel; every answer is a step of the machine,
//! and its records are on disk before anything that depends on them happens.
//!
//! | Module | Holds |
//! |---|---|
//! | [`boot`] | from the pod's environment to an attempt |
//! | [`cluster`], `orders`, `status` | the API server: Secrets, the attempt's spec, its status |
//! | `prepare`, `brought`, `setup`, `opening` | the way in: repository, ConfigMaps, setup script, first messages |
//! | [`network`] | what commands reach |
//! | `disk`, `connect`, `survey`, `finish` | the way back after a restart, and the way out |
//! | `perform`, `answers` | the machine's effects, and what comes back to it |
//! | `model`, `commands`, `patches`, `images`, `mcp` | what the effects come to |
//! | `verify` | the attempt's next pod: no machine and no model, only the patch and the commands that verify it |

mod answers;
pub mod boot;
mod brought;
pub mod cluster;
mod commands;
mod connect;
mod disk;
mod finish;
mod images;
mod mcp;
mod model;
pub mod network;
mod opening;
mod orders;
mod patches;
mod perform;
mod prepare;
mod redact;
mod setup;
mod status;
mod survey;
#[cfg(test)]
mod told;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use podwright_sandboxd::protocol::BootId;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

pub use self::cluster::Cluster;
pub use self::orders::Orders;
pub use self::verify::verify;

use self::answers::Message;
use self::cluster::ClusterError;
use self::commands::Commands;
use self::images::Images;
use self::mcp::Servers;
use self::model::Provider;
use self::network::{CommandNetwork, Outside};
use self::patches::{Patches, Waiting};
use self::prepare::{Announce, Workspace};
use self::status::{Facts, Reporter};
use super::events::streaming::{Streaming, unfinished};
use super::events::{Cursor, Event, Surfaces, Told, replay, surfaces};
use super::journal::record::EpochStarted;
use super::journal::{Journal, JournalError};
use super::machine::{Config, Machine, Moment, Signal};
use super::state::State;
use crate::api::attempt::{AgentAttemptStatus, Job, Outcome, Phase};
use crate::llm::retry::RetryPolicy;
use crate::sandbox::{Dial, Sandbox};
use crate::workspace::{Git, Layout};

/// Answers that wait for the driver; a full queue makes their tasks wait, and with them the model's stream
/// and the sandbox's output.
const QUEUE: usize = 64;

/// An attempt as its pod is told of it.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The namespace of everything.
    pub namespace: String,
    /// Name of the attempt.
    pub attempt: String,
    /// Its UID, which is also the thread's id.
    pub attempt_uid: String,
    /// The task's UID.
    pub task_uid: String,
    /// Number of the pod.
    pub epoch: u32,
    /// The pod's UID.
    pub pod_uid: String,
    /// The work.
    pub job: Job,
}

/// Where the agent's volumes are.
#[derive(Clone, Debug)]
pub struct Directories {
    /// The journal and the sandbox's token.
    pub state: PathBuf,
    /// The bare repository.
    pub repo: PathBuf,
    /// The workspace, at the same path as in the sandbox.
    pub workspace: PathBuf,
}

/// Everything that an attempt is driven with.
pub struct Drive<C, D> {
    /// The attempt.
    pub assignment: Assignment,
    /// The API server.
    pub cluster: C,
    /// The way to the sandbox.
    pub dial: D,
    /// The git of the agent's image.
    pub git: Git,
    /// The volumes.
    pub directories: Directories,
    /// The way to the hosts that commands may reach.
    pub outside: Outside,
    /// The attempt's status as the process before this one left it: a status is written whole, so what is
    /// not made anew must be said again.
    pub status: AgentAttemptStatus,
    /// What the controller wants.
    pub orders: watch::Receiver<Orders>,
    /// Where events go, one JSON value a line.
    pub log: Box<dyn Write + Send>,
}

/// Why the driver stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The outcome is in the attempt's status.
    Published,
    /// The attempt is gone, or the agent has no right on it any more.
    Gone(String),
}

/// Why the driver cannot go on. Its parent starts it again.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A task of ours ended in a way that it must not.
    #[error("a part of the agent ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The repository's name is none.
    #[error(transparent)]
    Layout(#[from] crate::workspace::InvalidName),
    /// The status could not be written.
    #[error("the outcome could not be written into the attempt's status")]
    Unpublished,
}

struct Driver<C, D> {
    assignment: Assignment,
    cluster: C,
    dial: D,
    git: Git,
    network: CommandNetwork,
    state_directory: PathBuf,
    layout: Layout,
    log: Box<dyn Write + Send>,
    surfaces: Surfaces,
    streaming: Streaming,
    machine: Machine,
    /// Away only while it is written.
    journal: Option<Journal>,
    facts: Facts,
    reporter: Reporter,
    provider: Provider<C>,
    messages: mpsc::Sender<Message>,
    /// The way in, or the look after a restart.
    arrival: Option<AbortOnDropHandle<()>>,
    calls: JoinSet<()>,
    sandbox: Option<Sandbox>,
    boot: Option<BootId>,
    workspace: Option<Arc<Mutex<Workspace>>>,
    commands: Option<Commands>,
    patches: Option<Patches>,
    images: Option<Images>,
    servers: Servers<C>,
    computed: Waiting,
    begun: Instant,
    exit: bool,
}

/// Drives an attempt to its end.
///
/// # Errors
/// [`DriveError`]: nothing is lost, and another process goes on from the journal.
pub async fn drive<C: Cluster, D: Dial + Clone>(drive: Drive<C, D>) -> Result<Stopped, DriveError> {
    drive_before(drive, surfaces()).await
}

/// Drives an attempt to its end, with surfaces that hear of it.
///
/// # Errors
/// As [`drive`].
pub async fn drive_before<C: Cluster, D: Dial + Clone>(
    drive: Drive<C, D>,
    surfaces: Surfaces,
) -> Result<Stopped, DriveError> {
    let Drive { assignment, cluster, dial, git, directories, outside, status, mut orders, log } = drive;
    let network = CommandNetwork::new(&assignment.job, outside, status.network.as_ref());
    let facts = Facts::after(status.clone(), assignment.epoch);
    let layout = Layout::new(directories.repo, directories.workspace, &assignment.job.repository.name)?;
    let state_directory = directories.state;
    let path = state_directory.clone();
    let (journal, state) = match tokio::task::spawn_blocking(move || disk::open(&path)).await? {
        Ok((_, state)) if state.published => return Ok(Stopped::Published),
        Ok(opened) => opened,
        Err(disk::Unusable::Now(error)) => return Err(error.into()),
        Err(disk::Unusable::ForGood(outcome)) => {
            return give_up(&assignment, cluster, status, facts, outcome).await;
        }
    };
    let (refused_sender, mut refused) = watch::channel(None);
    let reporter = Reporter::new(cluster.clone(), refused_sender);
    let (messages, mut received) = mpsc::channel(QUEUE);
    let servers = Servers::new(
        cluster.clone(),
        &assignment,
        Announce { messages: messages.clone(), phase: Phase::Preparing },
        layout.worktree().to_string_lossy().into_owned(),
        state_directory.clone(),
        network.clone(),
    );
    let mut driver = Driver {
        machine: Machine::new(config(&assignment.job), state),
        provider: Provider::new(cluster.clone(), assignment.job.model.clone(), assignment.namespace.clone()),
        surfaces,
        streaming: Streaming::default(),
        facts,
        assignment,
        cluster,
        dial,
        git,
        network,
        state_directory,
        layout,
        log,
        journal: Some(journal),
        reporter,
        messages,
        arrival: None,
        calls: JoinSet::new(),
        sandbox: None,
        boot: None,
        workspace: None,
        commands: None,
        patches: None,
        images: None,
        servers,
        computed: Waiting::new(),
        begun: Instant::now(),
        exit: false,
    };
    driver.start().await?;
    orders.mark_changed();
    while !driver.exit {
        let wake = driver.machine.wake_at().map(|at| driver.begun + at);
        let wake = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(message) = received.recv() => {
                let mut batch = vec![message];
                while batch.len() < QUEUE && let Ok(message) = received.try_recv() {
                    batch.push(message);
                }
                driver.take(batch).await?;
            }
            Ok(()) = orders.changed() => {
                let now = orders.borrow_and_update().clone();
                match now {
                    Orders::Gone(why) => return Ok(Stopped::Gone(why)),
                    Orders::Work { inbox, suspend } => {
                        let messages = inbox.into_iter().filter_map(orders::accepted).map(Signal::Message);
                        let signals = std::iter::once(Signal::Suspend(suspend)).chain(messages).collect();
                        driver.step(signals).await?;
                    }
                }
            }
            Ok(()) = refused.changed() => return Ok(Stopped::refused(refused.borrow().as_ref())),
            Some(ended) = driver.calls.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    return Err(error.into());
                }
            }
            () = wake => driver.step(vec![Signal::Woken]).await?,
        }
    }
    Ok(Stopped::Published)
}

/// Ends an attempt whose journal cannot be understood. Nobody knows what was done, so nothing more is, and what was
/// said of it before (tokens, money, the messages that it took in) is left as it is.
async fn give_up<C: Cluster>(
    assignment: &Assignment,
    cluster: C,
    left: AgentAttemptStatus,
    facts: Facts,
    outcome: Outcome,
) -> Result<Stopped, DriveError> {
    let (refused, _) = watch::channel(None);
    let mut reporter = Reporter::new(cluster, refused);
    let machine = Machine::new(config(&assignment.job), State::default());
    let AgentAttemptStatus { phase, epoch, outcome, suspended, doing, model_failure, .. } =
        status::build(&machine, &Facts { outcome: Some(outcome), ..facts });
    let status = AgentAttemptStatus { phase, epoch, outcome, suspended, doing, model_failure, ..left };
    reporter.last_word(&status).await?;
    Ok(Stopped::Published)
}

impl Stopped {
    /// What the API server refuses for good.
    fn refused(error: Option<&ClusterError>) -> Self {
        Self::Gone(error.map(ClusterError::to_string).unwrap_or_default())
    }
}

impl<C: Cluster, D: Dial + Clone> Driver<C, D> {
    async fn start(&mut self) -> Result<(), DriveError> {
        let record = EpochStarted {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pod_uid: self.assignment.pod_uid.clone(),
        };
        let state = self.machine.state();
        let broken =
            state.thread.as_ref().filter(|thread| thread.request.is_some() && state.outcome.is_none());
        if let Some(thread) = broken {
            // Nobody knows any more whether an item had begun; one that had not is closed without harm.
            let next = thread.history.len() as u64;
            self.emit(&unfinished(next));
            let message = replay::BROKEN_BY_RESTART.to_owned();
            self.emit(&Event::Error { message, will_retry: true });
        }
        self.step(vec![Signal::Started { epoch: self.assignment.epoch, record }]).await
    }

    /// Tells what no record says.
    fn emit(&mut self, event: &Event) {
        self.tell(event, None);
    }

    /// An event goes to every surface and to the log, and its line's end into the status.
    fn tell(&mut self, event: &Event, seq: Option<u64>) {
        let cursor = seq.map(|seq| Cursor { epoch: self.assignment.epoch, seq });
        let told = Told { event: event.clone(), cursor };
        if event.is_logged() {
            self.facts.log(event, &told.to_line(), &mut self.log);
        }
        // Nobody need listen.
        let _ = self.surfaces.send(told);
    }

    /// What of a response did not become whole never will.
    fn close_items(&mut self) {
        for event in self.streaming.over() {
            self.emit(&event);
        }
    }

    fn now(&self) -> Moment {
        Moment { wall: Timestamp::now(), monotonic: self.begun.elapsed() }
    }

    /// Connects to the sandbox. Called once; nothing but the supervisor runs in it before a phase begins.
    fn connector(&self) -> impl FnOnce() -> Sandbox + use<C, D> {
        let options = connect::options("podwright-agent", &self.assignment.attempt, &self.state_directory);
        let (dial, network) = (self.dial.clone(), self.network.clone());
        move || {
            let sandbox = Sandbox::connect(dial, options);
            network.serve(&sandbox);
            sandbox
        }
    }
}

fn config(job: &Job) -> Config {
    let retries = |number: i32| u32::try_from(number).unwrap_or(0);
    Config {
        limits: job.limits.clone(),
        keep: Duration::from_secs(job.idle.keep_seconds.max(0).unsigned_abs()),
        retry: RetryPolicy {
            request_max: retries(job.model.retry.request_max),
            stream_max: retries(job.model.retry.stream_max),
        },
        prices: job.model.prices,
        outage: Duration::from_secs(job.model.outage_seconds.max(0).unsigned_abs()),
        context_window: job.model.context_window.and_then(|tokens| u64::try_from(tokens).ok()),
        mcp_servers: !job.environment.mcp_servers.is_empty(),
    }
}
