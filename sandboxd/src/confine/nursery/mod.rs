//! The process that starts the commands of a phase, seen from the supervisor.

mod channel;
mod process;
mod program;
mod shim;
mod terminals;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

use super::{Insufficient, Launch, LaunchError, Launched, Policy, Profile, Support, mediate, tree};
use channel::{Failure, Invalid, Request, Response, Step};
pub use process::nursery_main;
pub use terminals::Terminal;
use terminals::Terminals;

/// The first argument with which this program becomes a nursery.
pub const NURSERY_COMMAND: &str = "nursery";

/// How long a nursery may take to confine itself or to start one command. Both take about a millisecond; only a
/// command that stops or kills its nursery makes it longer.
const PATIENCE: Duration = Duration::from_secs(10);

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
    starter: Mutex<Starter>,
    terminals: Terminals,
}

#[derive(Debug)]
struct Starter {
    /// None once an answer failed to come: the stream may be in the middle of a message.
    stream: Option<UnixStream>,
    subreapers: BTreeSet<i32>,
}

impl Nursery {
    /// Starts a nursery and waits until it has confined itself, some milliseconds. A thread of the supervisor answers
    /// its commands' mediated calls from then on and ends with the last of them.
    ///
    /// # Errors
    /// When the kernel lacks a layer or a step fails; nothing then runs unconfined.
    pub fn start(policy: &Policy) -> Result<Self, ConfineError> {
        Self::start_with(policy, Support::probe()?)
    }

    /// [`Self::start`] with layers that were probed before.
    ///
    /// # Errors
    /// When a step fails; nothing then runs unconfined.
    pub fn start_with(policy: &Policy, support: Support) -> Result<Self, ConfineError> {
        let (ours, theirs) = UnixStream::pair().map_err(cannot("make a socket pair"))?;
        ours.set_read_timeout(Some(PATIENCE)).map_err(cannot("set a deadline"))?;
        ours.set_write_timeout(Some(PATIENCE)).map_err(cannot("set a deadline"))?;
        let terminals = Terminals::open().map_err(cannot("open terminals"))?;
        let pid = spawn(theirs.into()).map_err(cannot("start a nursery"))?;

        let slaves = terminals.slaves().map_err(cannot("open terminals"))?;
        let slaves: Vec<BorrowedFd<'_>> = slaves.iter().map(AsFd::as_fd).collect();
        let request = Request::Confine(policy.clone(), support);
        channel::send(&ours, &request, &slaves).map_err(cannot("speak to the nursery"))?;
        let (response, mut fds) = channel::receive(&ours).map_err(cannot("hear from the nursery"))?;
        let notifications = match response {
            Response::Confined => fds.pop(),
            Response::Refused(reason) => return Err(ConfineError::Refused(reason)),
            Response::Started(_) | Response::Failed(_) => None,
        };
        let notifications =
            notifications.ok_or_else(|| ConfineError::Refused("the nursery sent no notifications".into()))?;
        mediate::spawn(notifications).map_err(cannot("start a thread"))?;
        let starter = Starter { stream: Some(ours), subreapers: BTreeSet::new() };
        Ok(Self { pid, profile: support.profile(), starter: Mutex::new(starter), terminals })
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

    /// Opens a terminal whose device the commands of this phase may also open by its path; after sixteen that are in
    /// use, one that they cannot (`/dev/tty` and its descriptors still work).
    ///
    /// # Errors
    /// When the kernel has no terminal left.
    pub fn open_terminal(&self) -> io::Result<Terminal> {
        self.terminals.take()
    }

    /// Gives a terminal back that no process has open any more, so that a later command can have it. It is closed
    /// instead if somebody still has it open.
    pub fn close_terminal(&self, master: OwnedFd) {
        self.terminals.give_back(master);
    }

    /// Starts a command with these standard streams and returns when its program was executed. Callers on several
    /// threads are served one after the other, about a millisecond each.
    ///
    /// # Errors
    /// See [`LaunchError`]; none of the command's code has then run.
    pub fn launch(&self, launch: &Launch, stdio: [OwnedFd; 3]) -> Result<Launched, LaunchError> {
        let (exit, report) = pipe_with(PipeFlags::CLOEXEC).map_err(LaunchError::Fork)?;
        let [stdin, stdout, stderr] = &stdio;
        let fds = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), report.as_fd()];
        let mut starter = self.starter();
        let stream = starter.stream.as_ref().ok_or(LaunchError::NurseryGone)?;
        let response = channel::send(stream, &Request::Launch(launch.clone()), &fds)
            .and_then(|()| channel::receive::<Response>(stream));
        match response {
            Ok((Response::Started(pid), _)) => {
                starter.subreapers.insert(pid);
                let pid = Pid::from_raw(pid).ok_or(LaunchError::NurseryGone)?;
                Ok(Launched { pid, exit })
            }
            Ok((Response::Failed(failure), _)) => Err(explain(failure, launch)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(LaunchError::Invalid("arguments and environment exceed 4 MiB"))
            }
            Ok((Response::Confined | Response::Refused(_), _)) | Err(_) => {
                // It must not start the command later, when nobody waits for it any more.
                starter.stream = None;
                let _ = kill_process(self.pid, Signal::KILL);
                Err(LaunchError::NurseryGone)
            }
        }
    }

    /// Ends processes that came to the supervisor because their command killed its own subreaper. To be called when a
    /// subreaper was ended by a signal. `except` are other children of the supervisor's own. Returns how many were
    /// ended.
    ///
    /// # Errors
    /// When `/proc` cannot be read or some survive: see [`super::kill_tree`].
    pub fn kill_strays(&self, except: &[Pid]) -> io::Result<usize> {
        // Holding the lock: no command is being started, so every subreaper is known.
        let mut starter = self.starter();
        starter.subreapers.retain(|subreaper| tree::is_alive(*subreaper));
        let mut known = starter.subreapers.clone();
        known.insert(self.pid.as_raw_pid());
        known.extend(except.iter().map(|pid| pid.as_raw_pid()));
        tree::kill_children(rustix::process::getpid(), &known)
    }

    fn starter(&self) -> MutexGuard<'_, Starter> {
        self.starter.lock().unwrap_or_else(PoisonError::into_inner)
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

fn explain(failure: Failure, launch: &Launch) -> LaunchError {
    let program = || launch.argv.first().cloned().unwrap_or_default();
    match failure {
        Failure::Invalid(Invalid::Empty) => LaunchError::Invalid("no program"),
        Failure::Invalid(Invalid::Nul) => LaunchError::Invalid("a NUL byte in it"),
        Failure::Invalid(Invalid::Variable) => {
            LaunchError::Invalid("a variable name is empty or has a = in it")
        }
        Failure::Step(step, errno) => {
            let errno = Errno::from_raw_os_error(errno);
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
    }
}
