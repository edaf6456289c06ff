//! The process that starts the commands of a phase, seen from the supervisor.

mod channel;
mod process;
mod program;
mod shim;
mod terminals;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    Gate, Insufficient, Launch, LaunchError, Launched, Network, Policy, Profile, Support, mediate, tree,
};
use channel::{Failure, Invalid, Request, Response};
pub use process::nursery_main;
use shim::{FAILURE_RECORD, Step};
use terminals::Terminals;
pub use terminals::{Terminal, TerminalMaster};

/// The first argument with which this program becomes a nursery.
pub const NURSERY_COMMAND: &str = "nursery";

/// How long a nursery may take to confine itself or to start one command. Both take about a millisecond; only a
/// command that stops or kills its nursery makes it longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a phase cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel lacks a layer.
    #[error(transparent)]
    Insufficient(#[from] Insufficient),
    /// The nursery could not be started.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The nursery could not confine itself and has ended.
    #[error("commands cannot be confined: {0}")]
    Refused(String),
}

/// The process that starts the commands of one phase. Dropping it ends that process, not the commands: see
/// [`super::kill_all`] for the end of a phase.
#[derive(Debug)]
pub struct Nursery {
    pid: Pid,
    profile: Profile,
    loopback: bool,
    /// None once an answer failed to come: the stream may be in the middle of a message.
    stream: Mutex<Option<UnixStream>>,
    terminals: Terminals,
}

impl Nursery {
    /// Starts a nursery and waits until it has confined itself, some milliseconds. A thread of the supervisor answers
    /// its commands' mediated calls from then on and ends with the last of them.
    ///
    /// # Errors
    /// When the kernel lacks a layer or a step fails; nothing then runs unconfined.
    pub fn start(policy: &Policy) -> Result<Self, ConfineError> {
        Self::begin(policy, Support::probe()?, None)
    }

    /// [`Self::start`] with layers that were probed before.
    ///
    /// # Errors
    /// When a step fails; nothing then runs unconfined.
    pub fn start_with(policy: &Policy, support: Support) -> Result<Self, ConfineError> {
        Self::begin(policy, support, None)
    }

    /// [`Self::start`] for a phase whose commands may connect to a proxy as well.
    ///
    /// # Errors
    /// When the kernel lacks a layer, that for connections among them, or a step fails; nothing then runs unconfined.
    pub fn start_at(policy: &Policy, gate: Arc<Gate>) -> Result<Self, ConfineError> {
        let support = Support::probe()?;
        if !support.confines_tcp() {
            let missing = vec!["Landlock ABI 4 (Linux 6.7), without which commands have no network at all"];
            return Err(Insufficient { missing }.into());
        }
        Self::begin(policy, support, Some(gate))
    }

    fn begin(policy: &Policy, support: Support, gate: Option<Arc<Gate>>) -> Result<Self, ConfineError> {
        let (ours, theirs) = UnixStream::pair().map_err(cannot("make a socket pair"))?;
        ours.set_read_timeout(Some(PATIENCE)).map_err(cannot("set a deadline"))?;
        ours.set_write_timeout(Some(PATIENCE)).map_err(cannot("set a deadline"))?;
        let terminals = Terminals::open();
        let pid = spawn(theirs.into()).map_err(cannot("start a nursery"))?;

        let slaves = terminals.slaves().map_err(cannot("open terminals"))?;
        let slaves: Vec<BorrowedFd<'_>> = slaves.iter().map(AsFd::as_fd).collect();
        let request = Request::Confine(policy.clone(), support);
        channel::send(&ours, &request, &slaves).map_err(cannot("speak to the nursery"))?;
        let (response, mut fds) = channel::receive(&ours).map_err(cannot("hear from the nursery"))?;
        let notifications = match response {
            Response::Confined => fds.pop(),
            Response::Refused(reason) => return Err(ConfineError::Refused(reason)),
            Response::Prepared(_) | Response::Failed(_) => None,
        };
        let notifications =
            notifications.ok_or_else(|| ConfineError::Refused("the nursery sent no notifications".into()))?;
        mediate::spawn(notifications, gate).map_err(cannot("start a thread"))?;
        let loopback = policy.network == Network::Open || support.confines_tcp();
        Ok(Self { pid, profile: support.profile(), loopback, stream: Mutex::new(Some(ours)), terminals })
    }

    /// The nursery's process: a child of the supervisor, which reaps it. When it has ended, the phase can start no
    /// further command, and a new nursery has to be started.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The profile that its commands run in.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether its commands may talk to each other over loopback.
    #[must_use]
    pub fn loopback(&self) -> bool {
        self.loopback
    }

    /// Opens a terminal whose device the commands of this phase may also open by its path; when eight are in use, one
    /// that they cannot (`/dev/tty` and its descriptors still work).
    ///
    /// # Errors
    /// When the kernel has no terminal left.
    pub fn open_terminal(&self) -> io::Result<Terminal> {
        self.terminals.take()
    }

    /// Starts a command with these standard streams and returns when its program was executed, after about a
    /// millisecond. Several threads may call at a time.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn launch(&self, launch: &Launch, stdio: [OwnedFd; 3]) -> Result<Launched, LaunchError> {
        let (exit, report) = pipe()?;
        let (failures, failed) = pipe()?;
        let (wait, go) = pipe()?;
        let [stdin, stdout, stderr] = &stdio;
        let fds = [stdin, stdout, stderr, &report, &failed, &wait].map(AsFd::as_fd);
        let pid = self.prepare(launch, &fds)?;
        drop((report, failed, wait, stdio));
        // Its copy of the reading end is the only one left: if it was killed meanwhile, `failures` tells.
        let _ = rustix::io::write(&go, &[1]);
        match first_failure(&failures) {
            Some(None) => Ok(Launched { pid, exit }),
            Some(Some((step, errno))) => Err(explain(step, errno, launch)),
            None => {
                let _ = tree::kill_tree(pid);
                let _ = kill_process(pid, Signal::KILL);
                Err(LaunchError::Lost)
            }
        }
    }

    /// Has a command's subreaper made, which then waits.
    fn prepare(&self, launch: &Launch, fds: &[BorrowedFd<'_>]) -> Result<Pid, LaunchError> {
        let mut slot = self.stream();
        let stream = slot.as_ref().ok_or(LaunchError::NurseryGone)?;
        let response = channel::send(stream, &Request::Launch(launch.clone()), fds)
            .and_then(|()| channel::receive::<Response>(stream));
        match response {
            Ok((Response::Prepared(pid), _)) => Pid::from_raw(pid).ok_or(LaunchError::NurseryGone),
            Ok((Response::Failed(Failure::Fork(errno)), _)) => {
                Err(LaunchError::Fork(Errno::from_raw_os_error(errno)))
            }
            Ok((Response::Failed(Failure::Invalid(what)), _)) => Err(LaunchError::Invalid(match what {
                Invalid::Empty => "no program",
                Invalid::Nul => "a NUL byte in it",
                Invalid::Variable => "a variable name is empty or has a = in it",
            })),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(LaunchError::Invalid("arguments and environment exceed 4 MiB"))
            }
            Ok((Response::Confined | Response::Refused(_), _)) | Err(_) => {
                // The stream may be in the middle of a message. What it may have made ends without the word to begin.
                *slot = None;
                let _ = kill_process(self.pid, Signal::KILL);
                Err(LaunchError::NurseryGone)
            }
        }
    }

    fn stream(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts this very program as a nursery. `/proc/self/exe` can be executed even where the file was replaced or may not
/// be read.
fn spawn(socket: OwnedFd) -> io::Result<Pid> {
    let child = Command::new("/proc/self/exe")
        .arg0("podwright-sandboxd")
        .arg(NURSERY_COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Pid::from_child(&child))
}

fn cannot(what: &'static str) -> impl Fn(io::Error) -> ConfineError {
    move |source| ConfineError::Io { what, source }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(LaunchError::Fork)
}

/// Waits until a program was executed (no failure) or could not be. None if neither comes to pass.
fn first_failure(failures: &OwnedFd) -> Option<Option<(Step, Errno)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok()?;
        match poll(&mut [PollFd::new(failures, PollFlags::IN)], Some(&left)) {
            Ok(0) => return None,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => break,
        }
    }
    // Shorter than a pipe's atomic write: it comes whole or not at all.
    let mut record = [0; FAILURE_RECORD];
    match rustix::io::read(failures, &mut record) {
        Ok(FAILURE_RECORD) => Some(Some(shim::read_failure(record))),
        Ok(_) | Err(_) => Some(None),
    }
}

fn explain(step: Step, errno: Errno, launch: &Launch) -> LaunchError {
    let program = || launch.argv.first().cloned().unwrap_or_default();
    match (step, errno) {
        (Step::Fork | Step::Session, errno) => LaunchError::Fork(errno),
        (Step::Directory, errno) => LaunchError::Cwd { cwd: launch.cwd.clone(), errno },
        (Step::Execute, Errno::NOENT | Errno::NOTDIR) => LaunchError::NotFound(program()),
        (Step::Execute, Errno::ACCESS | Errno::PERM) => LaunchError::PermissionDenied(program()),
        (Step::Execute, Errno::TOOBIG) => {
            LaunchError::Invalid("arguments and environment are more than the kernel takes")
        }
        (Step::Execute, errno) => LaunchError::Exec { program: program(), errno },
    }
}
