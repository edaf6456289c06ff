//! Socket addresses as callers give them, and which of them mean this sandbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::io::Errno;

/// The longest address that the kernel knows.
pub(super) const MAX_ADDRESS: usize = 128;

/// An address out of a caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A path or abstract name: Landlock's matter.
    Unix,
    /// No family: dissolves a connection.
    Unspecified,
    /// IPv4 or IPv6.
    Inet(SocketAddr),
}

/// Reads a `sockaddr`.
pub(super) fn parse(bytes: &[u8]) -> Result<Given, Errno> {
    let (family, rest) = bytes.split_first_chunk::<2>().ok_or(Errno::INVAL)?;
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_UNIX => Ok(Given::Unix),
        libc::AF_UNSPEC => Ok(Given::Unspecified),
        libc::AF_INET => {
            let (port, rest) = rest.split_first_chunk::<2>().ok_or(Errno::INVAL)?;
            let (ip, rest) = rest.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
            // The kernel wants the padding too.
            rest.first_chunk::<8>().ok_or(Errno::INVAL)?;
            Ok(Given::Inet((Ipv4Addr::from(*ip), u16::from_be_bytes(*port)).into()))
        }
        libc::AF_INET6 => {
            let (port, rest) = rest.split_first_chunk::<2>().ok_or(Errno::INVAL)?;
            let (_flow, rest) = rest.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
            let (ip, _scope) = rest.split_first_chunk::<16>().ok_or(Errno::INVAL)?;
            Ok(Given::Inet((Ipv6Addr::from(*ip), u16::from_be_bytes(*port)).into()))
        }
        _ => Err(Errno::AFNOSUPPORT),
    }
}

/// The loopback address that an address means, if it means one: the unspecified address is this host.
pub(super) fn loopback(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(v6) if v6.is_unspecified() => Some(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => ip.is_loopback().then_some(ip),
    }
}

/// The address in the form that a socket of this family takes: IPv4 mapped for an IPv6 socket.
pub(super) fn in_family(address: SocketAddr, ipv6: bool) -> SocketAddr {
    match (address.ip(), ipv6) {
        (IpAddr::V4(ip), true) => SocketAddrV6::new(ip.to_ipv6_mapped(), address.port(), 0, 0).into(),
        (IpAddr::V4(_), false) | (IpAddr::V6(_), _) => address,
    }
}

/// Where a listener is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    /// The address to bind, not mapped. Its port is the one that was asked for.
    pub(super) address: SocketAddr,
    /// Which clients reach it.
    pub(super) reach: Reach,
}

/// Which loopback addresses lead to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its own address alone.
    Exact,
    /// All of IPv4's.
    V4,
    /// All of IPv4's, and `::1`: a server on `::` that takes both, which is most of them.
    Both,
}

/// Where to put a listener that was asked for at this address, or nowhere if it is not this host's loopback.
/// `v6_only` is the socket's own setting.
pub(super) fn binding(asked: SocketAddr, v6_only: bool) -> Option<Binding> {
    let ip = loopback(asked.ip())?;
    // One socket cannot listen on both loopback addresses, and on `::` itself it would listen on the pod's: so it
    // listens on IPv4's, and clients of `::1` are sent there.
    let (ip, reach) = match asked.ip() {
        IpAddr::V6(asked) if asked.is_unspecified() && !v6_only => (Ipv4Addr::LOCALHOST.into(), Reach::Both),
        asked if asked.to_canonical() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) => (ip, Reach::V4),
        IpAddr::V4(_) | IpAddr::V6(_) => (ip, Reach::Exact),
    };
    Some(Binding { address: SocketAddr::new(ip, asked.port()), reach })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(ip: [u8; 4], port: u16) -> Vec<u8> {
        let mut bytes = u16::try_from(libc::AF_INET).unwrap().to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend(ip);
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let four = inet([127, 0, 0, 1], 8080);
        assert_eq!(parse(&four), Ok(Given::Inet("127.0.0.1:8080".parse().unwrap())));
        for short in 0..16 {
            assert_eq!(parse(&four[..short]), Err(Errno::INVAL), "{short} bytes");
        }
        let mut six = u16::try_from(libc::AF_INET6).unwrap().to_ne_bytes().to_vec();
        six.extend(443u16.to_be_bytes());
        six.extend([0xff; 4]);
        six.extend("fe80::7".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(parse(&six), Ok(Given::Inet("[fe80::7]:443".parse().unwrap())));
        assert_eq!(parse(&six[..23]), Err(Errno::INVAL));
        assert_eq!(parse(&[1, 0]), Ok(Given::Unix));
        assert_eq!(parse(&[0, 0]), Ok(Given::Unspecified));
        assert_eq!(parse(&[40, 0, 1, 2]), Err(Errno::AFNOSUPPORT));
    }

    #[test]
    fn only_this_host_is_loopback() {
        let table = [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.9.8.7", Some("127.9.8.7")),
            ("0.0.0.0", Some("127.0.0.1")),
            ("::1", Some("::1")),
            ("::", Some("::1")),
            ("::ffff:127.0.0.1", Some("127.0.0.1")),
            ("::ffff:0.0.0.0", Some("127.0.0.1")),
            ("::ffff:10.0.0.1", None),
            ("::127.0.0.1", None),
            ("128.0.0.1", None),
            ("126.255.255.255", None),
            ("10.96.0.1", None),
            ("169.254.169.254", None),
            ("fe80::1", None),
            ("::2", None),
            ("255.255.255.255", None),
        ];
        for (ip, expected) in table {
            let expected = expected.map(|ip: &str| ip.parse::<IpAddr>().unwrap());
            assert_eq!(loopback(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[test]
    fn listeners_are_put_on_loopback() {
        let table = [
            ("0.0.0.0:80", false, Some(("127.0.0.1:80", Reach::V4))),
            ("127.0.0.1:80", false, Some(("127.0.0.1:80", Reach::Exact))),
            ("127.0.0.3:80", false, Some(("127.0.0.3:80", Reach::Exact))),
            ("[::]:80", false, Some(("127.0.0.1:80", Reach::Both))),
            ("[::]:80", true, Some(("[::1]:80", Reach::Exact))),
            ("[::1]:0", false, Some(("[::1]:0", Reach::Exact))),
            ("[::ffff:0.0.0.0]:80", false, Some(("127.0.0.1:80", Reach::V4))),
            ("[::ffff:127.0.0.1]:80", false, Some(("127.0.0.1:80", Reach::Exact))),
            ("10.0.0.7:80", false, None),
            ("[fd00::7]:80", false, None),
        ];
        for (asked, v6_only, expected) in table {
            let expected =
                expected.map(|(at, reach): (&str, _)| Binding { address: at.parse().unwrap(), reach });
            assert_eq!(binding(asked.parse().unwrap(), v6_only), expected, "{asked}");
        }
    }

    #[test]
    fn addresses_take_the_sockets_form() {
        let form = |address: &str, ipv6| in_family(address.parse().unwrap(), ipv6).to_string();
        assert_eq!(form("127.0.0.1:5", true), "[::ffff:127.0.0.1]:5");
        assert_eq!(form("127.0.0.1:5", false), "127.0.0.1:5");
        assert_eq!(form("[::1]:5", true), "[::1]:5");
    }
}
