//! Who listens on a port, asked of the kernel.
//!
//! That a command once bound a port does not make its listener the one that answers there now: it may never have
//! listened or have closed it, and something else in the pod may listen there since. So before each connection the
//! kernel is asked which socket would take it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::sockets;

/// The kernel's socket diagnosis.
#[derive(Debug)]
pub(super) struct Listeners {
    /// None where the kernel or the container's profile does not offer it.
    diagnosis: Option<OwnedFd>,
}

/// Who would take a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// The socket with this number.
    Socket(u64),
    /// Nobody.
    Nobody,
    /// The kernel does not say.
    Unknown,
}

impl Listeners {
    /// Opens the diagnosis and tries it on a listener of its own, since a kernel that lacks it gives the same answer as
    /// one where nobody listens.
    pub(super) fn open() -> Self {
        let opened = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::SOCK_DIAG),
        );
        let listeners = Self { diagnosis: opened.ok() };
        if listeners.finds_its_own() { listeners } else { Self { diagnosis: None } }
    }

    fn finds_its_own(&self) -> bool {
        let Ok(own) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { return false };
        let (Ok(address), Ok(inode)) = (own.local_addr(), sockets::inode(&own)) else { return false };
        self.at(address) == Listening::Socket(inode)
    }

    /// Who would take a connection to this address, given unmapped.
    pub(super) fn at(&self, address: SocketAddr) -> Listening {
        let Some(diagnosis) = &self.diagnosis else { return Listening::Unknown };
        let mut answer = [0; 512];
        let asked = send(diagnosis, &question(address), SendFlags::empty());
        // The kernel has answered when the question is sent.
        match asked.and_then(|_| recv(diagnosis, &mut answer[..], RecvFlags::empty())) {
            Ok((length, _)) => read(&answer[..length.min(512)]),
            Err(_) => Listening::Unknown,
        }
    }
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const TCP_LISTEN: u32 = 10;
const QUESTION: usize = 72;

/// `nlmsghdr`, then `inet_diag_req_v2` for the one socket that has this local address and no peer.
fn question(address: SocketAddr) -> [u8; QUESTION] {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            (libc::AF_INET, bytes)
        }
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets()),
    };
    let mut bytes = [0; QUESTION];
    bytes[..4].copy_from_slice(&(QUESTION as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    bytes[16] = family.to_le_bytes()[0];
    bytes[17] = libc::IPPROTO_TCP.to_le_bytes()[0];
    bytes[20..24].copy_from_slice(&(1u32 << TCP_LISTEN).to_ne_bytes());
    bytes[24..26].copy_from_slice(&address.port().to_be_bytes());
    bytes[28..44].copy_from_slice(&ip);
    // No cookie: whichever socket it is.
    bytes[64..72].fill(0xFF);
    bytes
}

/// `nlmsghdr`, then `inet_diag_msg`, whose last word is the inode, or an error number.
fn read(answer: &[u8]) -> Listening {
    let word =
        |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        Some(SOCK_DIAG_BY_FAMILY) if answer.get(17).is_some_and(|state| u32::from(*state) == TCP_LISTEN) => {
            word(84).map_or(Listening::Unknown, |inode| Listening::Socket(inode.into()))
        }
        Some(SOCK_DIAG_BY_FAMILY) => Listening::Nobody,
        Some(NLMSG_ERROR) if word(16) == Some(Errno::NOENT.raw_os_error().wrapping_neg().cast_unsigned()) => {
            Listening::Nobody
        }
        _ => Listening::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_who_listens() {
        let listeners = Listeners::open();
        assert!(listeners.diagnosis.is_some());
        for own in ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).unwrap()) {
            let address = own.local_addr().unwrap();
            assert_eq!(listeners.at(address), Listening::Socket(sockets::inode(&own).unwrap()));
            drop(own);
            assert_eq!(listeners.at(address), Listening::Nobody);
        }
        let wild = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), wild.local_addr().unwrap().port());
        assert_eq!(listeners.at(address), Listening::Socket(sockets::inode(&wild).unwrap()));
    }

    #[test]
    fn broken_answers_say_nothing() {
        let mut error = [0; 36];
        error[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        error[16..20].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        assert_eq!(read(&error), Listening::Nobody);
        error[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(read(&error), Listening::Unknown);
        assert_eq!(read(&[]), Listening::Unknown);
        let mut cut = [0; 80];
        cut[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        cut[17] = 10;
        assert_eq!(read(&cut), Listening::Unknown);
    }
}
