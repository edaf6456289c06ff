//! The ports on which commands of the phase listen.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::address::{Binding, Reach};

/// How many listeners are remembered. Beyond it the oldest is forgotten and can no longer be connected to; test suites
/// open some hundreds, mostly one after the other.
const MAX_LISTENERS: usize = 2048;

/// Where the commands of a phase may listen: the sockets that the supervisor bound for them, with their inode numbers.
/// One that was closed stays here, so whether it still is the one that listens has to be asked elsewhere.
#[derive(Debug, Default)]
pub(super) struct Ports {
    listeners: VecDeque<(Binding, u64)>,
}

impl Ports {
    /// Remembers a listener, whose port is by now the real one.
    pub(super) fn add(&mut self, listener: Binding, inode: u64) {
        if self.listeners.len() == MAX_LISTENERS {
            self.listeners.pop_front();
        }
        self.listeners.push_back((listener, inode));
    }

    /// Whether a socket was bound for a command of the phase.
    pub(super) fn owns(&self, inode: u64) -> bool {
        self.listeners.iter().any(|(_, known)| *known == inode)
    }

    /// Where to connect for this loopback address: to the listener on exactly it, or else to one that takes it too.
    pub(super) fn route(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let listeners = || self.listeners.iter().rev().map(|(listener, _)| listener);
        let on_port = || listeners().filter(|listener| listener.address.port() == wanted.port());
        let takes = |listener: &Binding| match (listener.reach, wanted.ip()) {
            (Reach::Exact, ip) => listener.address.ip() == ip,
            (Reach::V4, ip) => ip.is_ipv4(),
            (Reach::Both, _) => true,
        };
        on_port()
            .find(|listener| listener.address == wanted)
            .or_else(|| on_port().find(|listener| takes(listener)))
            .map(|listener| listener.address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::address::binding;
    use super::*;

    fn ports(listeners: &[(&str, bool)]) -> Ports {
        let mut ports = Ports::default();
        for (asked, v6_only) in listeners {
            ports.add(binding(asked.parse().unwrap(), *v6_only).unwrap(), 7);
        }
        ports
    }

    fn route(ports: &Ports, wanted: &str) -> Option<String> {
        ports.route(wanted.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn only_ports_that_were_bound_can_be_reached() {
        let ports = ports(&[("127.0.0.1:80", false), ("[::1]:81", false)]);
        assert_eq!(route(&ports, "127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(route(&ports, "[::1]:81").as_deref(), Some("[::1]:81"));
        for stranger in ["127.0.0.1:81", "127.0.0.2:80", "[::1]:80", "127.0.0.1:0", "127.0.0.1:65535"] {
            assert_eq!(route(&ports, stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_server_on_every_address_is_reached_on_both() {
        let both = ports(&[("[::]:80", false)]);
        assert_eq!(route(&both, "127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(route(&both, "[::1]:80").as_deref(), Some("127.0.0.1:80"));
        let four = ports(&[("0.0.0.0:80", false)]);
        assert_eq!(route(&four, "127.0.0.9:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(route(&four, "[::1]:80"), None);
        let pair = ports(&[("0.0.0.0:80", false), ("[::]:80", true)]);
        assert_eq!(route(&pair, "127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(route(&pair, "[::1]:80").as_deref(), Some("[::1]:80"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut ports = Ports::default();
        for port in 60_000..=u16::MAX {
            ports
                .add(binding(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), false).unwrap(), port.into());
        }
        assert_eq!(ports.listeners.len(), MAX_LISTENERS);
        assert_eq!(route(&ports, "127.0.0.1:60000"), None);
        assert_eq!(route(&ports, "127.0.0.1:65535").as_deref(), Some("127.0.0.1:65535"));
        assert!(ports.owns(65_535) && !ports.owns(60_000));
        assert_eq!(ports.route(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)), None);
    }
}
