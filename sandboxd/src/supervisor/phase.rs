//! The phase that is open, and how one ends.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use super::process::Started;
use super::wipe::wipe;
use crate::confine::{self, Launch, LaunchError, Nursery, Policy, kill_all, kill_tree};
use crate::protocol::{ErrorCode, Network, OpId, PhaseBegin, PhaseEndResult, Profile, RpcError, Start};

/// Size of a command's terminal.
const TERMINAL: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

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
    nursery: Nursery,
}

/// Work on process trees, which may take seconds.
#[derive(Debug)]
pub(super) enum KillJob {
    /// Ends one command and its descendants.
    Tree(Pid),
    /// Ends everything and wipes.
    Everything,
}

/// What became of a [`KillJob`].
#[derive(Debug)]
pub(super) enum KillDone {
    Tree,
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
    pub(super) fn begin(&mut self, request: PhaseBegin) -> Result<Profile, RpcError> {
        match self {
            Self::Open(open) if open.id == request.phase && open.network == request.network => {
                Ok(open.profile())
            }
            Self::Open(open) => Err(conflict(format!("phase {} is open; end it first", open.id))),
            Self::Ending { id, .. } => Err(conflict(format!("phase {id} is ending"))),
            Self::Ended { id, .. } if *id == request.phase => Err(conflict(format!("phase {id} has ended"))),
            Self::Fresh | Self::Ended { .. } => {
                let nursery = start_nursery(request.network)?;
                let open = OpenPhase { id: request.phase, network: request.network, nursery };
                let profile = open.profile();
                *self = Self::Open(open);
                Ok(profile)
            }
        }
    }
}

impl OpenPhase {
    fn profile(&self) -> Profile {
        match self.nursery.profile() {
            confine::Profile::Strict => Profile::Strict,
            confine::Profile::Reduced => Profile::Reduced,
        }
    }

    /// Starts a command.
    pub(super) fn launch(&mut self, request: &Start) -> Result<Started, RpcError> {
        match self.launch_once(request) {
            // A command of the phase can end the process that starts commands; that harms nobody but the phase.
            Err(LaunchFailure::NurseryGone) => {
                self.nursery = start_nursery(self.network)?;
                self.launch_once(request).map_err(RpcError::from)
            }
            result => result.map_err(RpcError::from),
        }
    }

    fn launch_once(&self, request: &Start) -> Result<Started, LaunchFailure> {
        let (output, input, stdio) = if request.tty { self.terminal()? } else { pipes(request.pipe_stdin)? };
        let launch = Launch {
            argv: request.argv.clone(),
            env: request.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            cwd: request.cwd.clone(),
            tty: request.tty,
        };
        let launched = self.nursery.launch(&launch, stdio)?;
        Ok(Started {
            id: request.process_id.clone(),
            digest: request.digest(),
            output,
            input,
            tty: request.tty,
            launched,
            deadline: request.deadline_ms.map(Duration::from_millis),
        })
    }

    fn terminal(&self) -> Result<(OwnedFd, Option<OwnedFd>, [OwnedFd; 3]), LaunchFailure> {
        let terminal = self.nursery.open_terminal().map_err(|error| LaunchFailure::Os(os_error(&error)))?;
        tcsetwinsize(&terminal.master, TERMINAL)?;
        let input = duplicate(&terminal.master)?;
        let stdio = [duplicate(&terminal.slave)?, duplicate(&terminal.slave)?, terminal.slave];
        Ok((terminal.master, Some(input), stdio))
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
        KillJob::Everything => {
            let killed = count_others();
            let ended = kill_all().map(|()| {
                let wiped = wipe();
                PhaseEndResult { killed, wiped: wiped.removed, left: wiped.left }
            });
            KillDone::Everything(ended.map_err(|error| error.to_string()))
        }
    }
}

/// Standard streams of a command without a terminal: our end of the output, our end of the input, its three. Output
/// and errors are one pipe, so that their order is that of the writes.
fn pipes(keep_input: bool) -> Result<(OwnedFd, Option<OwnedFd>, [OwnedFd; 3]), LaunchFailure> {
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdin, input) = if keep_input {
        let (stdin, input) = pipe_with(PipeFlags::CLOEXEC)?;
        (stdin, Some(input))
    } else {
        (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
    };
    Ok((output, input, [stdin, duplicate(&theirs)?, theirs]))
}

fn start_nursery(network: Network) -> Result<Nursery, RpcError> {
    let network = match network {
        Network::Loopback => confine::Network::Loopback,
        Network::Open => confine::Network::Open,
    };
    let policy = Policy::sandbox(network)
        .map_err(|error| RpcError::new(ErrorCode::Internal, format!("cannot list the image: {error}")))?;
    Nursery::start(&policy).map_err(|error| RpcError::new(ErrorCode::Unconfinable, error.to_string()))
}

/// Processes of the sandbox besides ourselves.
fn count_others() -> u32 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let count = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_process)).count();
    u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1)
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

fn os_error(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn conflict(message: String) -> RpcError {
    RpcError::new(ErrorCode::PhaseConflict, message)
}
