//! Names of hosts: as requests have them, and as an environment lists them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Ports that a listed name means when it has none: those of HTTP and HTTPS.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// Longest name in bytes, as DNS has it.
const NAME_MAX: usize = 253;

/// A host that a request names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// By name: lower case, ASCII (an international name in its `xn--` form), without a dot at the end.
    Name(String),
    /// By address.
    Address(IpAddr),
}

/// Not the name of a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no host's name")]
pub struct InvalidHost;

/// A name of an environment's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Whether all names below it are meant, and not the name itself.
    below: bool,
    name: String,
    port: Option<u16>,
}

/// Not a name that can be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a host such as example.com, *.example.com or example.com:8443 (lower case, no address, and \
     below a * two names at least)"
)]
pub struct InvalidPattern(String);

impl Host {
    /// Reads a host as it stands in a URL: with brackets around an IPv6 address, in any case, in any script, with or
    /// without a dot at the end. A name that is a number in disguise is an address.
    ///
    /// # Errors
    /// [`InvalidHost`] for what no resolver should be asked for.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        // A URL may escape its host; nobody who means a host does.
        if text.contains('%') || text.len() > NAME_MAX * 4 {
            return Err(InvalidHost);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        match url::Host::parse(text).map_err(|_| InvalidHost)? {
            url::Host::Ipv4(address) => Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Self::Address(address.into())),
            url::Host::Domain(name) => {
                let valid = name.len() <= NAME_MAX && name.split('.').all(is_label);
                if valid { Ok(Self::Name(name)) } else { Err(InvalidHost) }
            }
        }
    }
}

impl fmt::Display for Host {
    /// As it stands in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Pattern {
    /// Whether it means this host and port. An address is never listed.
    #[must_use]
    pub fn means(&self, host: &Host, port: u16) -> bool {
        let Host::Name(name) = host else { return false };
        let named = if self.below {
            name.strip_suffix(&self.name).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
        } else {
            *name == self.name
        };
        named && self.port.map_or_else(|| USUAL_PORTS.contains(&port), |own| own == port)
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(text.to_owned());
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => {
                let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(invalid)?;
                (host, Some(port))
            }
            None => (text, None),
        };
        let (below, name) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host),
        };
        // What is listed is what is asked for: any other way to write it would never be met.
        let whole = Host::parse(name) == Ok(Host::Name(name.to_owned()));
        if whole && name.contains('.') && !name.contains('_') {
            Ok(Self { below, name: name.to_owned(), port })
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{below}{}", self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn is_label(label: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_read_in_every_way_in_which_they_are_written() {
        let name = |name: &str| Ok(Host::Name(name.to_owned()));
        let address = |address: &str| Ok(Host::Address(address.parse().unwrap()));
        let long = format!("{}.example", "a".repeat(64));
        let table = [
            ("example.com", name("example.com")),
            ("EXAMPLE.Com", name("example.com")),
            ("example.com.", name("example.com")),
            ("example.com..", Err(InvalidHost)),
            (".example.com", Err(InvalidHost)),
            ("a..b", Err(InvalidHost)),
            ("", Err(InvalidHost)),
            (".", Err(InvalidHost)),
            ("localhost", name("localhost")),
            ("b\u{fc}cher.example", name("xn--bcher-kva.example")),
            ("XN--BCHER-KVA.example", name("xn--bcher-kva.example")),
            // Full-width letters, a full-width dot, and a soft hyphen that vanishes.
            ("\u{ff45}xample\u{ff0e}com", name("example.com")),
            ("exam\u{ad}ple.com", name("example.com")),
            // A Cyrillic letter is another name, not the Latin one.
            ("ex\u{430}mple.com", name("xn--exmple-4nf.com")),
            ("a_b.example.com", name("a_b.example.com")),
            ("127.0.0.1", address("127.0.0.1")),
            ("127.0.0.1.", address("127.0.0.1")),
            ("2130706433", address("127.0.0.1")),
            ("0x7f.1", address("127.0.0.1")),
            ("0177.0.0.1", address("127.0.0.1")),
            ("\u{2460}27.0.0.1", address("127.0.0.1")),
            ("1.2.3.4.5", Err(InvalidHost)),
            ("256.1.1.1", Err(InvalidHost)),
            ("[::1]", address("::1")),
            ("[::ffff:10.0.0.1]", address("::ffff:10.0.0.1")),
            ("::1", Err(InvalidHost)),
            ("[fe80::1%25eth0]", Err(InvalidHost)),
            ("example.com:443", Err(InvalidHost)),
            ("exam ple.com", Err(InvalidHost)),
            ("example.com/x", Err(InvalidHost)),
            ("user@example.com", Err(InvalidHost)),
            ("example%2ecom", Err(InvalidHost)),
            ("example.com\0", Err(InvalidHost)),
            ("a#b", Err(InvalidHost)),
            (&long, Err(InvalidHost)),
        ];
        for (text, expected) in table {
            assert_eq!(Host::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_listed_name_means_itself_and_a_wildcard_what_is_below() {
        let table = [
            ("example.com", "example.com", 443, true),
            ("example.com", "example.com", 80, true),
            ("example.com", "EXAMPLE.com.", 443, true),
            ("example.com", "example.com", 8443, false),
            ("example.com", "example.com", 22, false),
            ("example.com", "www.example.com", 443, false),
            ("example.com", "badexample.com", 443, false),
            ("example.com", "example.com.evil.net", 443, false),
            ("*.example.com", "www.example.com", 443, true),
            ("*.example.com", "a.b.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*.example.com", "badexample.com", 443, false),
            ("*.example.com", "example.com.evil.net", 443, false),
            ("example.com:8443", "example.com", 8443, true),
            ("example.com:8443", "example.com", 443, false),
            ("*.example.com:8443", "www.example.com", 8443, true),
            ("xn--bcher-kva.example", "b\u{fc}cher.example", 443, true),
            // Nobody's name is an address.
            ("1.example.com", "1.2.3.4", 443, false),
        ];
        for (listed, host, port, expected) in table {
            let pattern: Pattern = listed.parse().unwrap();
            assert_eq!(pattern.to_string(), listed);
            assert_eq!(pattern.means(&Host::parse(host).unwrap(), port), expected, "{listed} {host}:{port}");
        }
    }

    #[test]
    fn what_could_never_be_met_or_means_too_much_is_no_list() {
        for text in [
            "",
            "*",
            "*.com",
            "com",
            "localhost",
            "**.example.com",
            "*.*.example.com",
            "a.*.example.com",
            "*example.com",
            "Example.com",
            "example.com.",
            "b\u{fc}cher.example",
            "https://example.com",
            "example.com/x",
            "example.com:0",
            "example.com:",
            "example.com:+80",
            "example.com:65536",
            "example.com:80:80",
            "10.0.0.1",
            "1.2.3.4:80",
            "[::1]",
            "::1",
            "a_b.example.com",
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(InvalidPattern(text.into())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_stays_the_same(text in "\\PC{0,40}|[a-z0-9.:*\\[\\]-]{0,30}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host.clone()));
                prop_assert!(!host.to_string().contains(|c: char| c.is_whitespace() || c.is_control() || c == '/'));
            }
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }

        #[test]
        fn a_wildcard_means_nothing_that_does_not_end_in_it(host in "[a-z]{1,4}(\\.[a-z]{1,4}){0,4}") {
            let pattern: Pattern = "*.b.cc".parse().unwrap();
            if let Ok(named) = Host::parse(&host) {
                prop_assert_eq!(pattern.means(&named, 443), host.ends_with(".b.cc"), "{}", host);
            }
        }
    }
}
