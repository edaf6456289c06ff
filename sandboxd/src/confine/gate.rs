//! The port of the proxy, and which command each connection there comes from.
//!
//! A phase's mediator makes the connections of its commands, and notes whose they are before anybody can accept them.
//! What comes to the port otherwise is nobody's that is known, and is dropped: the port lies in the pod's network, which
//! other containers share.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, ipproto, listen, socket_with,
};

/// Connections that wait to be accepted: as many as are served at a time, so that a crowd waits and is not refused.
const BACKLOG: i32 = 128;

/// Callers that are remembered until their connection is accepted: the backlog, and room for what the kernel counts
/// otherwise. Beyond it the oldest is forgotten, and its connection dropped.
const CALLERS_MAX: usize = 256;

/// Strangers that are turned away before the next look at everything else.
const STRANGERS_MAX: usize = 16;

/// The proxy's listener. It stays as long as its phase, whatever becomes of the nursery.
#[derive(Debug)]
pub struct Gate {
    listener: OwnedFd,
    port: u16,
    callers: Mutex<VecDeque<(SocketAddr, Option<i32>)>>,
}

/// A command's connection.
#[derive(Debug)]
pub struct Guest {
    /// Our end of it, which never blocks.
    pub socket: OwnedFd,
    /// The command's subreaper: [`super::Launched::pid`].
    pub tree: Option<i32>,
}

impl Gate {
    /// Listens on a port of 127.0.0.1 that the kernel chooses.
    ///
    /// # Errors
    /// When the kernel has no port or descriptor left.
    pub fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        bind(&listener, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
        listen(&listener, BACKLOG)?;
        let port = SocketAddr::try_from(getsockname(&listener)?)?.port();
        Ok(Self { listener, port, callers: Mutex::default() })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where commands connect to.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port)
    }

    /// Begins a connection with `connect` and notes whose it is, so that nobody can accept it before.
    pub(super) fn let_in(
        &self,
        socket: impl AsFd,
        tree: Option<i32>,
        connect: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut callers = self.callers();
        let begun = connect();
        if matches!(begun, Ok(()) | Err(Errno::INPROGRESS)) {
            let own = canonical(SocketAddr::try_from(getsockname(socket)?)?);
            if callers.len() == CALLERS_MAX {
                callers.pop_front();
            }
            callers.push_back((own, tree));
        }
        begun
    }

    /// The next connection of a command, if one waits.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn accept(&self) -> Result<Option<Guest>, Errno> {
        for _ in 0..STRANGERS_MAX {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (socket, peer) = match acceptfrom_with(&self.listener, flags) {
                Ok(accepted) => accepted,
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).map(canonical) else {
                continue;
            };
            let mut callers = self.callers();
            let known = callers.iter().position(|(address, _)| *address == peer);
            if let Some((_, tree)) = known.and_then(|at| callers.remove(at)) {
                return Ok(Some(Guest { socket, tree }));
            }
        }
        Ok(None)
    }

    fn callers(&self) -> MutexGuard<'_, VecDeque<(SocketAddr, Option<i32>)>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Gate {
    /// Readable while somebody waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// An IPv6 socket tells its IPv4 address in the mapped form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpStream;

    use rustix::net::connect;

    use super::*;

    fn knock(gate: &Gate, tree: Option<i32>) -> OwnedFd {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        gate.let_in(&socket, tree, || connect(&socket, &gate.address())).unwrap();
        socket
    }

    #[test]
    fn a_guest_is_known_by_who_knocked_and_strangers_are_turned_away() {
        let gate = Gate::open().unwrap();
        assert!(gate.accept().unwrap().is_none());
        let mut stranger = TcpStream::connect(gate.address()).unwrap();
        let (_first, _second) = (knock(&gate, Some(7)), knock(&gate, None));
        let trees: Vec<Option<i32>> =
            std::iter::from_fn(|| gate.accept().unwrap()).map(|guest| guest.tree).collect();
        assert_eq!(trees, [Some(7), None]);
        assert_eq!(stranger.read(&mut [0; 1]).unwrap_or(0), 0);
        // What was let in once is no pass for another.
        assert!(gate.callers().is_empty());
    }

    #[test]
    fn a_connection_that_was_refused_leaves_no_pass() {
        let gate = Gate::open().unwrap();
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        assert_eq!(gate.let_in(&socket, None, || Err(Errno::NETUNREACH)), Err(Errno::NETUNREACH));
        assert!(gate.callers().is_empty());
    }
}
