//! TCP sockets that the supervisor made for commands.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};

use crate::confine::sys;

/// How many sockets are held that are neither bound nor connected. The supervisor has a copy of each, and may have no
/// more than 1,024 descriptors in all. Beyond it the oldest is let go and treated as [`State::Bound`].
const MAX_FRESH: usize = 256;
/// How many others are remembered, by number only.
const MAX_USED: usize = 4096;

/// What has become of a socket.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing yet: this copy is the same socket, with all the options that the command has set on it.
    Fresh(OwnedFd),
    /// It has a port of its own, and the supervisor let go of it, or it was not made here.
    Bound,
    /// It is connected or was.
    Connected,
}

/// The sockets of a phase, by inode number.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    fresh: VecDeque<(u64, OwnedFd)>,
    connected: VecDeque<u64>,
}

impl Sockets {
    /// Takes a socket out.
    pub(super) fn take(&mut self, inode: u64) -> State {
        if let Some(at) = self.fresh.iter().position(|(known, _)| *known == inode)
            && let Some((_, socket)) = self.fresh.remove(at)
        {
            return State::Fresh(socket);
        }
        if self.connected.contains(&inode) { State::Connected } else { State::Bound }
    }

    /// Keeps a socket that is neither bound nor connected.
    pub(super) fn keep(&mut self, inode: u64, socket: OwnedFd) {
        if self.fresh.len() == MAX_FRESH {
            self.fresh.pop_front();
        }
        self.fresh.push_back((inode, socket));
    }

    /// Remembers that a socket is connected.
    pub(super) fn connected(&mut self, inode: u64) {
        if self.connected.len() == MAX_USED {
            self.connected.pop_front();
        }
        self.connected.push_back(inode);
    }
}

/// Makes a TCP socket whose own address is fixed to loopback, with the port still open. Whatever the command does to
/// it, `listen` without `bind` for instance, it does on loopback.
pub(super) fn make(ipv6: bool, nonblocking: bool) -> Result<OwnedFd, Errno> {
    let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblocking);
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sys::bind_leaves_port_open(&socket, true)?;
    // Mapped, since binding to ::1 would make an IPv6 socket refuse IPv4 for ever.
    let own = if ipv6 {
        SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), 0)
    } else {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
    };
    bind(&socket, &own)?;
    Ok(socket)
}

/// Moves a fresh IPv6 socket's own address to where it can reach an address of IPv6's loopback.
pub(super) fn prepare_for(socket: impl AsFd, target: SocketAddr) -> Result<(), Errno> {
    match target {
        SocketAddr::V6(address) if address.ip().to_ipv4_mapped().is_none() => {
            bind(socket, &SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0))
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Ok(()),
    }
}

/// The number by which `/proc` names a socket.
pub(super) fn inode(socket: impl AsFd) -> Result<u64, Errno> {
    Ok(fstat(socket)?.st_ino)
}
