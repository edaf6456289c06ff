//! The nursery process: takes away its own rights, then forks commands until the supervisor closes the socket.
//!
//! It has one thread, so that a fork copies no lock in a held state. To the supervisor it is as hostile as the
//! commands, which share its domain and can stop or kill it: it learns nothing but what to start.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

use super::channel::{self, Failure, Request, Response};
use super::program::Program;
use super::shim::{self, Descriptors};
use crate::confine::domain::Domain;
use crate::confine::sys::{self, Fork, Parent};
use crate::confine::{Launch, Policy, Support, filter};

/// The score that makes the kernel end commands first when memory runs out. The nursery and the subreapers have it
/// too, since it can no longer be set from inside the domain, but they are the smallest of all.
const OOM_SCORE: &str = "1000";

/// The nursery process itself: `podwright-sandboxd nursery`, whose standard input is the supervisor's socket.
/// Returns its exit code.
#[must_use]
pub fn nursery_main() -> u8 {
    match serve() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn serve() -> io::Result<()> {
    let stream = UnixStream::from(fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);

    let (Request::Confine(policy, support), terminals) = channel::receive(&stream)? else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    match confine(&policy, support, terminals) {
        Ok(notifications) => channel::send(&stream, &Response::Confined, &[notifications.as_fd()])?,
        Err(reason) => return channel::send(&stream, &Response::Refused(reason), &[]),
    }
    loop {
        let (request, fds) = match channel::receive(&stream) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let Request::Launch(launch) = request else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        let response = match prepare(&launch, fds) {
            Ok(pid) => Response::Prepared(pid),
            Err(failure) => Response::Failed(failure),
        };
        channel::send(&stream, &response, &[])?;
    }
}

/// Every restriction, in the order in which they can still be set. Returns the notifications' descriptor.
fn confine(policy: &Policy, support: Support, terminals: Vec<OwnedFd>) -> Result<OwnedFd, String> {
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let errno = |what: &'static str| move |errno: rustix::io::Errno| format!("{what}: {errno}");

    // Only deadly signals reach the nursery and the subreapers; the commands get the default of each back.
    sys::reset_signal_actions();
    sys::block_signals();
    // A process whose program it may not read (mode 0111) does not own its /proc files, until it says so.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(errno("dumpable"))?;
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE).map_err(failed("oom_score_adj"))?;
    // From here on the commands cannot look into the process that starts them.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(errno("dumpable"))?;
    // A core file in the work tree would become part of the patch.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(errno("core limit"))?;
    umask(Mode::from_raw_mode(0o022));

    let domain = Domain::build(policy, support, terminals).map_err(|error| format!("landlock: {error}"))?;
    let filter = filter::build(policy.network, support).map_err(|error| error.to_string())?;
    rustix::thread::set_no_new_privs(true).map_err(errno("no_new_privs"))?;
    domain.enter().map_err(|error| format!("landlock: {error}"))?;
    sys::install_filter(&filter).map_err(errno("seccomp"))
}

/// Makes a command's subreaper, which waits for the supervisor's word.
fn prepare(launch: &Launch, fds: Vec<OwnedFd>) -> Result<i32, Failure> {
    let program = Program::prepare(launch).map_err(Failure::Invalid)?;
    let descriptors = Descriptors::from_received(fds).ok_or(Failure::Fork(libc::EBADF))?;
    match sys::fork(Parent::CallersParent) {
        Ok(Fork::Child) => shim::run(&program, &descriptors),
        Ok(Fork::Parent(pid)) => Ok(pid),
        Err(errno) => Err(Failure::Fork(errno.raw_os_error())),
    }
}
