//! PID 1 of the agent container: starts the agent's process, and at once again when it dies.
//!
//! The kubelet waits 10 s and more before it starts a container for the second time, up to 5 minutes; here
//! a crash costs milliseconds. It also reaps what the agent's children leave behind. It is a program of its own
//! (`podwright-parent`), since as a part of `podwright` it had 7.7 MiB resident for doing nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// What is freed goes back to the node. By itself the C library has an arena for each thread, and once an allocation of
/// some megabytes was freed it keeps as much in each (mallopt(3)).
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// A process that lived for less than this has failed quickly.
const QUICK: Duration = Duration::from_secs(10);

/// Quick failures in a row after which the kubelet's growing pauses are the better answer.
const QUICK_FAILURES_MAX: u32 = 3;

/// What the agent's process says by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The outcome is in the attempt's status.
    Published,
    /// The attempt is gone: another process would find the same.
    Gone,
    /// It could not go on; another one goes on from the journal.
    Again,
}

impl Verdict {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Published => 0,
            Self::Gone => 3,
            Self::Again => 1,
        }
    }

    fn of(status: ExitStatus) -> Self {
        match status.code() {
            Some(0) => Self::Published,
            Some(3) => Self::Gone,
            Some(_) | None => Self::Again,
        }
    }
}

/// Runs a program with its arguments until it says that all is done, fails too often, or the container is ended. Gives
/// the container's exit code: 0 only when the outcome is in the attempt's status.
///
/// # Errors
/// When no process can be started.
pub async fn run(program: &OsStr, arguments: &[OsString]) -> io::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut children = signal(SignalKind::child())?;
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let child = Command::new(program).args(arguments).envs(ALLOCATOR).spawn()?;
        let mut stopping = false;
        let status = loop {
            if let Some(status) = reap(&child)? {
                break status;
            }
            tokio::select! {
                _ = children.recv() => {}
                _ = terminate.recv() => {
                    stopping = true;
                    stop(&child)?;
                }
            }
        };
        let verdict = Verdict::of(status);
        failures = if begun.elapsed() < QUICK { failures + 1 } else { 1 };
        match verdict {
            Verdict::Published | Verdict::Gone => return Ok(verdict.code()),
            Verdict::Again if stopping => return Ok(verdict.code()),
            Verdict::Again if failures >= QUICK_FAILURES_MAX => {
                tracing::error!(%status, failures, "the agent's process fails again and again");
                return Ok(verdict.code());
            }
            Verdict::Again => {
                tracing::warn!(%status, failures, "the agent's process ended and is started again")
            }
        }
    }
}

fn stop(child: &Child) -> io::Result<()> {
    match Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
        Some(pid) => Ok(kill_process(pid, Signal::TERM)?),
        None => Ok(()),
    }
}

/// Reaps everything that has ended; the agent's status if it is among them.
fn reap(child: &Child) -> io::Result<Option<ExitStatus>> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if u32::try_from(pid.as_raw_nonzero().get()).is_ok_and(|pid| pid == child.id()) {
                    ended = Some(ExitStatus::from_raw(status.as_raw()));
                }
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ended),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
