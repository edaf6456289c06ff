//! The phase that is open, and how one ends.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitStatus};

use super::process::{Outlet, Started};
use super::wipe::wipe;
use crate::confine::{
    Gate, Launch, LaunchError, Nursery, Policy, count_others, kill_all, kill_strays, kill_tree, strays,
};
use crate::protocol::{
    ErrorCode, Network, OpId, PhaseBegin, PhaseBeginResult, PhaseEndResult, RpcError, Start,
};

/// Where the sandbox is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing has run yet.
    Fresh,
    /// Commands may run.
    Open(OpenPhase),
    /// Everything is being killed and wiped, or that has failed and is to be asked for again.
    Ending { id: OpId, busy: bool, waiting: Option<Waiting> },
    /// Nothing runs.
    Ended { id: OpId, result: PhaseEndResult },
}

/// A request that is answered later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) stream: u64,
    pub(super) request: u64,
}

/// A phase in which commands may run.
#[derive(Debug)]
pub(super) struct OpenPhase {
    id: OpId,
    network: Network,
    /// The proxy's port, which outlives a nursery.
    gate: Option<Arc<Gate>>,
    nursery: Nursery,
    /// Subreapers of commands: children of ours, until they are reaped.
    subreapers: BTreeSet<i32>,
    /// Whether a child has ended in a way that may have left us others.
    strays_suspected: bool,
    /// Whether such are being ended. One job at a time, whatever the commands fork.
    ending_strays: bool,
}

/// Standard streams of a command.
struct Streams {
    /// Our end of the output.
    output: Outlet,
    /// Our end of the input.
    input: Option<OwnedFd>,
    /// The command's three.
    stdio: [OwnedFd; 3],
}

/// Work on process trees, which may take seconds.
#[derive(Debug)]
pub(super) enum KillJob {
    /// Ends one command and its descendants.
    Tree(Pid),
    /// Ends these and their descendants.
    Strays(BTreeSet<i32>),
    /// Ends everything and wipes.
    Everything,
}

/// What became of a [`KillJob`].
#[derive(Debug)]
pub(super) enum KillDone {
    Tree,
    Strays,
    Everything(Result<PhaseEndResult, String>),
}

impl Phase {
    /// The open phase's id.
    pub(super) fn open_id(&self) -> Option<&OpId> {
        match self {
            Self::Open(open) => Some(&open.id),
            Self::Fresh | Self::Ending { .. } | Self::Ended { .. } => None,
        }
    }

    /// Opens a phase, or finds it open.
    pub(super) fn begin(&mut self, request: PhaseBegin) -> Result<PhaseBeginResult, RpcError> {
        match self {
            Self::Open(open) if open.id == request.phase && open.network == request.network => {
                Ok(open.begun())
            }
            Self::Open(open) => Err(conflict(format!("phase {} is open; end it first", open.id))),
            Self::Ending { id, .. } => Err(conflict(format!("phase {id} is ending"))),
            Self::Ended { id, .. } if *id == request.phase => Err(conflict(format!("phase {id} has ended"))),
            Self::Fresh | Self::Ended { .. } => {
                let gate = open_gate(request.network)?;
                let nursery = start_nursery(request.network, gate.as_ref())?;
                let open = OpenPhase {
                    id: request.phase,
                    network: request.network,
                    gate,
                    nursery,
                    subreapers: BTreeSet::new(),
                    strays_suspected: false,
                    ending_strays: false,
                };
                let begun = open.begun();
                *self = Self::Open(open);
                Ok(begun)
            }
        }
    }
}

impl OpenPhase {
    fn begun(&self) -> PhaseBeginResult {
        PhaseBeginResult {
            profile: self.nursery.profile(),
            loopback: self.nursery.loopback(),
            proxy: self.gate.as_ref().map(|gate| gate.port()),
        }
    }

    /// The proxy's port, in a phase that has one.
    pub(super) fn gate(&self) -> Option<&Gate> {
        self.gate.as_deref()
    }

    /// Starts a command.
    pub(super) fn launch(&mut self, request: &Start) -> Result<Started, RpcError> {
        match self.launch_once(request) {
            // A command of the phase can end the process that starts commands; that harms nobody but the phase.
            Err(LaunchFailure::NurseryGone) => {
                self.nursery = start_nursery(self.network, self.gate.as_ref())?;
                self.launch_once(request).map_err(RpcError::from)
            }
            result => result.map_err(RpcError::from),
        }
    }

    fn launch_once(&mut self, request: &Start) -> Result<Started, LaunchFailure> {
        let Streams { output, input, stdio } =
            if request.tty { self.terminal()? } else { pipes(request.pipe_stdin)? };
        let launch = Launch {
            argv: request.argv.clone(),
            env: request.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            cwd: request.cwd.clone(),
            tty: request.tty,
        };
        let launched = self.nursery.launch(&launch, stdio)?;
        self.subreapers.insert(launched.pid.as_raw_pid());
        Ok(Started {
            id: request.process_id.clone(),
            digest: request.digest(),
            output,
            input,
            launched,
            deadline: request.deadline_ms.map(Duration::from_millis),
        })
    }

    fn terminal(&self) -> Result<Streams, LaunchFailure> {
        let terminal = self.nursery.open_terminal().map_err(|error| LaunchFailure::Os(os_error(&error)))?;
        let input = duplicate(&terminal.master)?;
        let stdio = [duplicate(&terminal.slave)?, duplicate(&terminal.slave)?, terminal.slave];
        Ok(Streams { output: Outlet::Terminal(terminal.master), input: Some(input), stdio })
    }

    /// A child of ours was reaped. A subreaper leaves by itself when it has no descendant left. If it was killed, its
    /// descendants have become our children, and so had any other child.
    pub(super) fn reaped(&mut self, pid: Pid, status: WaitStatus) {
        let in_order = self.subreapers.remove(&pid.as_raw_pid()) && status.exited();
        self.strays_suspected |= !in_order;
    }

    /// The job of ending processes whose subreaper was killed, when there are such and none are being ended.
    pub(super) fn stray_job(&mut self) -> Option<KillJob> {
        if !self.strays_suspected || self.ending_strays {
            return None;
        }
        // Nothing is being launched while we are here, so every child of ours that may live is known.
        let mut known = self.subreapers.clone();
        known.insert(self.nursery.pid().as_raw_pid());
        let strays = strays(&known).ok()?;
        self.strays_suspected = false;
        self.ending_strays = !strays.is_empty();
        self.ending_strays.then_some(KillJob::Strays(strays))
    }

    /// Strays were ended, or could not be. Others may have been forked meanwhile.
    pub(super) fn strays_ended(&mut self) {
        self.ending_strays = false;
        self.strays_suspected = true;
    }
}

enum LaunchFailure {
    NurseryGone,
    Command(LaunchError),
    Os(Errno),
}

impl From<LaunchError> for LaunchFailure {
    fn from(error: LaunchError) -> Self {
        if matches!(error, LaunchError::NurseryGone) { Self::NurseryGone } else { Self::Command(error) }
    }
}

impl From<Errno> for LaunchFailure {
    fn from(error: Errno) -> Self {
        Self::Os(error)
    }
}

impl From<LaunchFailure> for RpcError {
    fn from(failure: LaunchFailure) -> Self {
        let message = match failure {
            LaunchFailure::NurseryGone => LaunchError::NurseryGone.to_string(),
            LaunchFailure::Command(error) => error.to_string(),
            LaunchFailure::Os(error) => format!("cannot prepare the command's streams: {error}"),
        };
        Self::new(ErrorCode::LaunchFailed, message)
    }
}

/// Does the work on process trees.
pub(super) fn perform(job: KillJob) -> KillDone {
    match job {
        KillJob::Tree(pid) => {
            // A survivor is found by the next attempt.
            let _ = kill_tree(pid);
            KillDone::Tree
        }
        KillJob::Strays(strays) => {
            // Survivors are found by the next look.
            let _ = kill_strays(&strays);
            KillDone::Strays
        }
        KillJob::Everything => {
            let killed = count_others().ok().and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
            let ended = kill_all().map(|()| {
                let wiped = wipe();
                PhaseEndResult { killed, wiped: wiped.removed, left: wiped.left }
            });
            KillDone::Everything(ended.map_err(|error| error.to_string()))
        }
    }
}

/// Streams of a command without a terminal. Output and errors are one pipe, so that their order is that of the writes.
fn pipes(keep_input: bool) -> Result<Streams, LaunchFailure> {
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdin, input) = if keep_input {
        let (stdin, input) = pipe_with(PipeFlags::CLOEXEC)?;
        (stdin, Some(input))
    } else {
        (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
    };
    let stdio = [stdin, duplicate(&theirs)?, theirs];
    Ok(Streams { output: Outlet::Pipe(output), input, stdio })
}

fn open_gate(network: Network) -> Result<Option<Arc<Gate>>, RpcError> {
    match network {
        Network::Loopback | Network::Open => Ok(None),
        Network::Proxied => {
            let failed =
                |error| RpcError::new(ErrorCode::Internal, format!("the proxy has no port: {error}"));
            Ok(Some(Arc::new(Gate::open().map_err(failed)?)))
        }
    }
}

fn start_nursery(network: Network, gate: Option<&Arc<Gate>>) -> Result<Nursery, RpcError> {
    let policy = Policy::sandbox(network)
        .map_err(|error| RpcError::new(ErrorCode::Internal, format!("cannot list the image: {error}")))?;
    let started = match gate {
        Some(gate) => Nursery::start_at(&policy, gate.clone()),
        None => Nursery::start(&policy),
    };
    started.map_err(|error| RpcError::new(ErrorCode::Unconfinable, error.to_string()))
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

fn os_error(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn conflict(message: String) -> RpcError {
    RpcError::new(ErrorCode::PhaseConflict, message)
}
