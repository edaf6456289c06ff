//! The socket, and who may speak on it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use rustix::process::{Pid, PidfdFlags, getuid, pidfd_open};

use crate::confine::parent_of;
use crate::confine::sys::init as sys;
use crate::protocol::SOCKET_NAME;

/// Streams that have not authenticated yet. One is the agent's, one may be a person's look; a command that
/// got this far could at most keep these busy for [`AUTHENTICATE_WITHIN`].
pub(super) const UNAUTHENTICATED_MAX: usize = 2;

/// Time that a stream has for its `initialize`.
pub(super) const AUTHENTICATE_WITHIN: Duration = Duration::from_secs(2);

/// Waiting connections: more than the streams that are accepted at once.
const BACKLOG: i32 = 8;

/// Why a peer was turned away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("a peer of user {0}")]
    User(u32),
    #[error("a peer of another container")]
    OtherContainer,
    #[error("process {0}, which descends from this sandbox's own")]
    Descendant(i32),
    #[error("process {0}, which is gone")]
    Gone(i32),
    #[error("a peer that cannot be looked at: {0}")]
    Unknown(#[from] Errno),
}

/// Opens the abstract socket.
pub(super) fn open() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(SOCKET_NAME)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Takes the next connection that waits, if any.
pub(super) fn accept(listener: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(stream) => Ok(Some(stream)),
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Admits our own user's processes that were put into this container from outside: their parent is 0, while
/// anything that a command starts, however it detaches itself, descends from process 1. A peer in another
/// container of the pod shows process 0.
pub(super) fn admit(stream: &OwnedFd) -> Result<(), Refused> {
    let peer = sys::peer_credentials(stream)?;
    if peer.uid != getuid().as_raw() {
        return Err(Refused::User(peer.uid));
    }
    let pid = Pid::from_raw(peer.pid).ok_or(Refused::OtherContainer)?;
    // The kernel's handle on the peer itself (Linux 6.5). Before that, one made from the number: a number that
    // was given to another process in between is then possible, and the token is what guards.
    let handle = match sys::peer_pidfd(stream) {
        Ok(handle) => handle,
        Err(_) => pidfd_open(pid, PidfdFlags::empty()).map_err(|_| Refused::Gone(peer.pid))?,
    };
    let parent = parent_of(peer.pid).ok_or(Refused::Gone(peer.pid))?;
    if has_ended(&handle)? {
        return Err(Refused::Gone(peer.pid));
    }
    if parent == 0 { Ok(()) } else { Err(Refused::Descendant(peer.pid)) }
}

fn has_ended(handle: &OwnedFd) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_with_a_parent_is_turned_away() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let me = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(admit(&ours.into()), Err(Refused::Descendant(me)));
    }
}
