//! What process 1 needs: signals, who is at the other end of a socket, System V objects.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// Who is at the other end of a Unix socket, as the kernel saw it when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerCredentials {
    /// Process number; 0 when it lives in a PID namespace that we cannot see.
    pub(crate) pid: i32,
    /// User.
    pub(crate) uid: u32,
}

/// Kinds of System V objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SysvKind {
    /// Shared memory.
    Memory,
    /// Semaphores.
    Semaphores,
    /// Message queues.
    Messages,
}

/// `SO_PEERCRED`. `rustix` has it, but its type cannot hold process 0, which is the very case that matters.
pub(crate) fn peer_credentials(socket: &OwnedFd) -> Result<PeerCredentials, Errno> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let size = socket_option(socket, libc::SO_PEERCRED, &mut credentials)?;
    if size != size_of::<libc::ucred>() {
        return Err(Errno::INVAL);
    }
    Ok(PeerCredentials { pid: credentials.pid, uid: credentials.uid })
}

/// `SO_PEERPIDFD` (Linux 6.5): a handle on the process that connected, whatever became of its number.
pub(crate) fn peer_pidfd(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: RawFd = -1;
    let size = socket_option(socket, SO_PEERPIDFD, &mut fd)?;
    if size != size_of::<RawFd>() || fd < 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ends the process with status 1 at SIGTERM, whatever it does at the time: after status 0 the kubelet would
/// never start the container again. Process 1 ignores signals that it has no handler for.
pub(crate) fn exit_on_terminate() -> Result<(), Errno> {
    extern "C" fn exit(_signal: libc::c_int) {
        // SAFETY: async-signal-safe; runs no destructor.
        unsafe { libc::_exit(1) }
    }
    // SAFETY: an all-zero `sigaction` is a valid value; the handler only makes an async-signal-safe call.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = exit as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGTERM, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// A descriptor that is readable once children have ended, in place of a signal: a handler would interrupt system
/// calls in the middle. To be called before the first thread starts, since the signal is blocked for this thread and
/// those that it starts. Programs that `std` starts have it unblocked.
pub(crate) fn ended_children() -> Result<OwnedFd, Errno> {
    // SAFETY: the set is initialised by `sigemptyset` before it is read, and lives throughout; the descriptor is new,
    // and nobody else knows it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(last_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Gives memory that was freed back to the kernel; libc keeps up to some MiB of it.
pub(crate) fn release_freed_memory() {
    // SAFETY: takes a number, and touches only memory that nobody owns.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Removes a System V object. One that is another user's, or gone, is an error.
pub(crate) fn remove_sysv(kind: SysvKind, id: i32) -> Result<(), Errno> {
    // SAFETY: with `IPC_RMID` the third argument is not read, and no memory of ours is touched.
    let result = unsafe {
        match kind {
            SysvKind::Memory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            SysvKind::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
            SysvKind::Messages => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
        }
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Reads a socket option into `value`, a plain old C type, and returns its size.
fn socket_option<T: Copy>(socket: &OwnedFd, option: libc::c_int, value: &mut T) -> Result<usize, Errno> {
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of a live value that any bytes of the kernel's may fill.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_mut(value).cast(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(size as usize) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
