//! The only unsafe code of the project: system calls for which neither `rustix` nor `landlock` has a safe function.
//!
//! Each function is a thin, typed cover of one call and keeps no state.
#![allow(unsafe_code)]

pub(crate) mod init;

use std::ffi::{CStr, CString};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};

use libc::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use rustix::io::Errno;

use super::filter::Instruction;

type Result<T> = std::result::Result<T, Errno>;

/// The kernel's Landlock ABI, 0 when there is none.
pub(super) fn landlock_abi() -> i32 {
    const VERSION: c_uint = 1;
    // SAFETY: with this flag the call takes a null pointer and a zero size, touches no memory and returns a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null::<u8>(), 0usize, VERSION) };
    i32::try_from(abi).unwrap_or(0).max(0)
}

/// Whether the kernel has seccomp user notification with the message layout that this program was built for.
pub(super) fn seccomp_can_notify() -> bool {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: this operation reads the 32-bit action that the pointer names.
    let available = unsafe { seccomp(libc::SECCOMP_GET_ACTION_AVAIL, 0, (&raw const action).cast()) };
    // SAFETY: this operation fills the structure that the pointer names, which lives on this frame.
    let measured = unsafe { seccomp(libc::SECCOMP_GET_NOTIF_SIZES, 0, (&raw mut sizes).cast()) };
    available.is_ok()
        && measured.is_ok()
        && usize::from(sizes.seccomp_notif) == size_of::<libc::seccomp_notif>()
        && usize::from(sizes.seccomp_notif_resp) == size_of::<libc::seccomp_notif_resp>()
}

/// Installs a filter on the calling thread, which must have `no_new_privs`, and returns the descriptor on which its
/// notifications arrive. A caller that waits for an answer can then only be interrupted by a deadly signal, so that
/// Go's preemption signals do not make it repeat calls for ever.
pub(super) fn install_filter(program: &[Instruction]) -> Result<OwnedFd> {
    let program: Vec<libc::sock_filter> = program
        .iter()
        .map(|i| libc::sock_filter { code: i.code, jt: i.if_true, jf: i.if_false, k: i.value })
        .collect();
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the kernel reads `len` instructions at `filter`, which `program` keeps alive, and writes nothing there.
    let fd = unsafe { seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, (&raw const program).cast()) }?;
    // SAFETY: with the listener flag the call returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(|_| Errno::BADF)?) })
}

/// A system call that waits for the supervisor's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    /// Names the waiting call.
    pub(super) id: u64,
    /// The calling thread.
    pub(super) thread: u32,
    /// The call's number.
    pub(super) call: c_long,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// How to answer a waiting call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The kernel carries it out, with the arguments as they are by then.
    Continue,
    /// It returns 0.
    Success,
    /// It fails with this error.
    Fail(Errno),
}

/// Lets the kernel hand the processor over to and from the listener's thread, as the two sides wait for each other.
/// Since Linux 6.6; without it answers only take longer.
pub(super) fn wake_on_same_processor(listener: impl AsFd) -> Result<()> {
    const SYNC_WAKE_UP: *mut c_void = std::ptr::without_provenance_mut(1);
    // SAFETY: for this request the argument is a number, not a pointer.
    unsafe { ioctl(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) }.map(drop)
}

/// Takes the next waiting call. `ENOENT` when it has gone away.
pub(super) fn receive_notification(listener: impl AsFd) -> Result<Notification> {
    // SAFETY: the structure holds integers only, for which zero is a value; the kernel demands it zeroed.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills a structure of this size, which `seccomp_can_notify` compared.
    unsafe { ioctl(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, (&raw mut raw).cast()) }?;
    let call = c_long::from(raw.data.nr);
    Ok(Notification { id: raw.id, thread: raw.pid, call, arguments: raw.data.args })
}

/// Whether the call still waits. After a look at the caller's `/proc` entry this tells that the entry was the
/// caller's and not that of a later process with its number.
pub(super) fn notification_is_valid(listener: impl AsFd, id: u64) -> bool {
    // SAFETY: the kernel reads the 64-bit number that the pointer names.
    unsafe { ioctl(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, (&raw const id).cast_mut().cast()) }
        .is_ok()
}

/// Answers a waiting call.
pub(super) fn reply(listener: impl AsFd, id: u64, reply: Reply) -> Result<()> {
    let (error, flags) = match reply {
        Reply::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Reply::Success => (0, 0),
        Reply::Fail(errno) => (-errno.raw_os_error(), 0),
    };
    let mut raw = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the kernel reads a structure of this size, which `seccomp_can_notify` compared.
    unsafe { ioctl(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, (&raw mut raw).cast()) }.map(drop)
}

/// Where a descriptor goes in the calling process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A new number, which the call returns: this is its answer.
    Returned,
    /// In place of this descriptor; the call goes on waiting.
    Over(u32),
}

/// Gives the caller a descriptor of ours.
pub(super) fn hand_over(
    listener: impl AsFd,
    id: u64,
    descriptor: impl AsFd,
    place: Place,
    close_on_exec: bool,
) -> Result<()> {
    let (flags, newfd) = match place {
        Place::Returned => (libc::SECCOMP_ADDFD_FLAG_SEND, 0),
        Place::Over(number) => (libc::SECCOMP_ADDFD_FLAG_SETFD, number),
    };
    let mut raw = libc::seccomp_notif_addfd {
        id,
        flags: flags as u32,
        srcfd: descriptor.as_fd().as_raw_fd().unsigned_abs(),
        newfd,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 },
    };
    // SAFETY: the kernel reads a structure of this size; the descriptor stays borrowed for the call.
    unsafe { ioctl(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, (&raw mut raw).cast()) }.map(drop)
}

/// Whether a later `bind` to port 0 fixes the address alone and leaves the port open.
pub(super) fn bind_leaves_port_open(socket: impl AsFd, on: bool) -> Result<()> {
    let on = c_int::from(on);
    let length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes at the pointer, which is a variable of that size.
    check(c_long::from(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    }))
    .map(drop)
}

/// The two sides of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fork {
    /// In the new process.
    Child,
    /// In the old process: the new one's number.
    Parent(i32),
}

/// Whose child the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// The caller's.
    Caller,
    /// The caller's parent's, so that it is the one that learns of the end.
    CallersParent,
}

/// Copies the calling process, which must have one thread. The child must make system calls through this module and
/// `rustix` only (libc's own state is still that of the parent), must not allocate, and must end by [`execute`] or
/// [`exit_now`].
pub(super) fn fork(parent: Parent) -> Result<Fork> {
    let flags = match parent {
        Parent::Caller => libc::SIGCHLD,
        Parent::CallersParent => libc::SIGCHLD | libc::CLONE_PARENT,
    };
    // SAFETY: without CLONE_VM and with a null stack this is a plain fork; the process has one thread, so the copy
    // holds no lock of another's.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, c_long::from(flags), 0usize, 0usize, 0usize, 0usize)
    })?;
    match i32::try_from(pid) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) => Ok(Fork::Parent(pid)),
        Err(_) => Err(Errno::OVERFLOW),
    }
}

/// Ends the process without running anything more of it.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Strings laid out as `execve` takes them: made before a fork, so that nothing is allocated after it.
#[derive(Debug)]
pub(super) struct StringArray {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl StringArray {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// Replaces the process by a program. Returns only the error.
pub(super) fn execute(program: &CStr, arguments: &StringArray, environment: &StringArray) -> Errno {
    // SAFETY: all three are NUL-terminated, the arrays end in a null pointer and own the strings they point to.
    let failed =
        unsafe { libc::execve(program.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    check(c_long::from(failed)).err().unwrap_or(Errno::NOSYS)
}

/// Keeps every signal but SIGKILL and SIGSTOP from the calling thread.
pub(super) fn block_signals() {
    // SAFETY: the set lives on this frame; both calls only fill or read it.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, null_mut());
    }
}

/// Gives every signal its default effect, also the two that libc keeps to itself and would not touch.
pub(super) fn reset_signal_actions() {
    // The kernel's `sigaction`: handler, flags, restorer, mask. All zero is the default action.
    let default = [0u64; 4];
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the kernel reads a structure of this size and layout; no code of ours is installed. SIGKILL and
        // SIGSTOP fail harmlessly.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Lets every signal through.
pub(super) fn unblock_signals() {
    // SAFETY: as in `block_signals`.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut());
    }
}

/// Closes all descriptors but one. For a forked child that owns nothing else any more.
pub(super) fn close_all_but(kept: BorrowedFd<'_>) -> Result<()> {
    let kept = kept.as_raw_fd().unsigned_abs();
    if kept > 0 {
        close_range(0, kept - 1, 0)?;
    }
    close_range(kept + 1, c_uint::MAX, 0)
}

/// Marks all descriptors above the standard streams to be closed when a program is executed.
pub(super) fn keep_only_standard_streams_on_exec() -> Result<()> {
    close_range(3, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: c_uint, last: c_uint, flags: c_uint) -> Result<()> {
    // SAFETY: takes numbers only. Its callers are forked children that use no owned descriptor afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// # Safety
/// `argument` must be what the operation expects, and live for the call.
unsafe fn seccomp(operation: c_uint, flags: c_ulong, argument: *const c_void) -> Result<c_long> {
    // SAFETY: the caller vouches for the pointer.
    check(unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) })
}

/// # Safety
/// `argument` must point to what the request reads or writes, and live for the call.
unsafe fn ioctl(fd: BorrowedFd<'_>, request: c_ulong, argument: *mut c_void) -> Result<c_int> {
    // SAFETY: the caller vouches for the pointer; the descriptor is borrowed for the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) };
    check(c_long::from(result)).map(|_| result)
}

fn check(result: c_long) -> Result<c_long> {
    if result == -1 {
        let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Err(Errno::from_raw_os_error(raw))
    } else {
        Ok(result)
    }
}
