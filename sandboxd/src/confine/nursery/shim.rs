//! A command's subreaper, and the way from a fork to the command's program.
//!
//! Everything here runs in forked copies of the nursery: no allocation, no lock, no panic.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, ioctl_tiocsctty, set_child_subreaper, setsid, wait};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::program::Program;
use crate::confine::launch::exit_record;
use crate::confine::sys::{self, Fork, Parent};
use crate::protocol::Exit;

/// The descriptors of one launch, in the order in which they are sent.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Where the subreaper reports the command's end.
    pub(super) exit: OwnedFd,
    /// Where a failure on the way to the program is reported. Closes when the program is executed.
    pub(super) failures: OwnedFd,
    /// Brings one byte once the supervisor knows of the subreaper. Without it, a supervisor that never heard of it is
    /// gone or has given up, and nothing is run behind its back.
    pub(super) go: OwnedFd,
}

impl Descriptors {
    pub(super) fn from_received(fds: Vec<OwnedFd>) -> Option<Self> {
        let [stdin, stdout, stderr, exit, failures, go] = fds.try_into().ok()?;
        Some(Self { stdin, stdout, stderr, exit, failures, go })
    }
}

/// The steps after which a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Making a process.
    Fork,
    /// Giving it a session, a terminal and its streams.
    Session,
    /// Entering the working directory.
    Directory,
    /// Executing the program.
    Execute,
}

/// Bytes of a failure report: the step and the error, as two little-endian words.
pub(super) const FAILURE_RECORD: usize = 8;

/// The subreaper's life: start the command when told to, report its main process's end, stay while descendants live.
pub(super) fn run(program: &Program, descriptors: &Descriptors) -> ! {
    let failures = &descriptors.failures;
    // Any process number means "yes". From here on the command's orphans come to this process.
    if let Err(errno) = set_child_subreaper(Some(Pid::INIT)) {
        fail(failures, Step::Fork, errno);
    }
    if rustix::io::read(&descriptors.go, &mut [0; 1]) != Ok(1) {
        sys::exit_now(1);
    }
    let main = match sys::fork(Parent::Caller) {
        Ok(Fork::Child) => become_command(program, descriptors),
        Ok(Fork::Parent(main)) => main,
        Err(errno) => fail(failures, Step::Fork, errno),
    };
    let exit = descriptors.exit.as_fd();
    // The command's streams have to end when the command closes them, so no copy may stay here.
    if sys::close_all_but(exit).is_err() {
        sys::exit_now(1);
    }
    reap(main, exit)
}

fn reap(main: i32, exit: BorrowedFd<'_>) -> ! {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == main => {
                if let Some(ended) = ended(status) {
                    // Nobody may be listening any more, which changes nothing.
                    let _ = rustix::io::write(exit, &exit_record(ended));
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            // No child is left: the command and every descendant are gone.
            Err(_) => sys::exit_now(0),
        }
    }
}

/// A code or signal out of range was not made by the kernel: nobody knows then.
fn ended(status: WaitStatus) -> Option<Exit> {
    let number = |number: i32, known: fn(u8) -> Exit| u8::try_from(number).map_or(Exit::Lost, known);
    let code = status.exit_status().map(|code| number(code, Exit::Code));
    code.or_else(|| status.terminating_signal().map(|signal| number(signal, Exit::Signal)))
}

fn become_command(program: &Program, descriptors: &Descriptors) -> ! {
    let failures = &descriptors.failures;
    if let Err(errno) = own_session(program.tty, descriptors) {
        fail(failures, Step::Session, errno);
    }
    if let Err(errno) = rustix::process::chdir(program.directory.as_c_str()) {
        fail(failures, Step::Directory, errno);
    }
    sys::reset_signal_actions();
    sys::unblock_signals();
    let errno = program.execute();
    fail(failures, Step::Execute, errno)
}

fn own_session(tty: bool, descriptors: &Descriptors) -> Result<(), Errno> {
    setsid()?;
    dup2_stdin(&descriptors.stdin)?;
    dup2_stdout(&descriptors.stdout)?;
    dup2_stderr(&descriptors.stderr)?;
    if tty {
        ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    sys::keep_only_standard_streams_on_exec()
}

fn fail(failures: &OwnedFd, step: Step, errno: Errno) -> ! {
    let step: u32 = match step {
        Step::Fork => 0,
        Step::Session => 1,
        Step::Directory => 2,
        Step::Execute => 3,
    };
    let mut record = [0; FAILURE_RECORD];
    record[..4].copy_from_slice(&step.to_le_bytes());
    record[4..].copy_from_slice(&errno.raw_os_error().to_le_bytes());
    let _ = rustix::io::write(failures, &record);
    sys::exit_now(127)
}

/// What a failure report says.
pub(super) fn read_failure(record: [u8; FAILURE_RECORD]) -> (Step, Errno) {
    let [s0, s1, s2, s3, e0, e1, e2, e3] = record;
    let step = match u32::from_le_bytes([s0, s1, s2, s3]) {
        0 => Step::Fork,
        1 => Step::Session,
        2 => Step::Directory,
        _ => Step::Execute,
    };
    (step, Errno::from_raw_os_error(i32::from_le_bytes([e0, e1, e2, e3])))
}
