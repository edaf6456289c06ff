//! What an environment lets its commands reach.

use std::net::IpAddr;

use super::address::{Cidr, NotPublic, public};
use super::name::{Host, InvalidPattern, Pattern};
use super::presets;
use crate::api::network::{Methods, Preset};

/// What the commands of an environment may reach through the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    reach: Reach,
    methods: Methods,
    closed: Vec<Cidr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    Listed(Vec<Pattern>),
    Public,
}

/// Why something is refused. For the model, as the rest of a sentence that begins with host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name is on no list.
    #[error("this name is not on the environment's list")]
    NotListed,
    /// An address is on no list.
    #[error("addresses are on no list; use a name that is on the environment's list")]
    Address,
    /// The name leads to where nobody is let.
    #[error("{address} is {what}, and no command may connect there")]
    NotPublic {
        /// Where it leads.
        address: IpAddr,
        /// What that is.
        what: NotPublic,
    },
    /// The request would change something.
    #[error("{0} requests are not allowed, only GET, HEAD and OPTIONS without a body")]
    Method(String),
    /// The request sends something.
    #[error("requests with a body are not allowed, only GET, HEAD and OPTIONS without one")]
    Body,
    /// What goes through a tunnel could be anything.
    #[error("a tunnel may carry nothing but an encrypted connection")]
    NotEncrypted,
}

impl Rules {
    /// A list of names: those of the presets and others.
    ///
    /// # Errors
    /// When a name is none that can be listed.
    pub fn listed(presets: &[Preset], names: &[String], methods: Methods) -> Result<Self, InvalidPattern> {
        let presets = presets.iter().flat_map(|preset| presets::names(*preset)).copied();
        let names = presets.chain(names.iter().map(String::as_str)).map(str::parse);
        Ok(Self { reach: Reach::Listed(names.collect::<Result<_, _>>()?), methods, closed: Vec::new() })
    }

    /// Everything that is public.
    #[must_use]
    pub fn public(methods: Methods) -> Self {
        Self { reach: Reach::Public, methods, closed: Vec::new() }
    }

    /// The same without these addresses: those of a cluster that are no private ones.
    #[must_use]
    pub fn without(self, closed: Vec<Cidr>) -> Self {
        Self { closed, ..self }
    }

    /// Whether a host may be asked for, before anybody knows where it is.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn host(&self, host: &Host, port: u16) -> Result<(), Refused> {
        match (&self.reach, host) {
            (Reach::Public, Host::Address(address)) => self.address(*address),
            (Reach::Public, Host::Name(_)) => Ok(()),
            (Reach::Listed(_), Host::Address(_)) => Err(Refused::Address),
            (Reach::Listed(names), Host::Name(_)) => {
                let listed = names.iter().any(|name| name.means(host, port));
                if listed { Ok(()) } else { Err(Refused::NotListed) }
            }
        }
    }

    /// Whether an address may be connected to, whatever led there.
    ///
    /// # Errors
    /// [`Refused::NotPublic`].
    pub fn address(&self, address: IpAddr) -> Result<(), Refused> {
        let closed = self.closed.iter().any(|block| block.contains(address));
        let judged = if closed { Err(NotPublic::Closed) } else { public(address) };
        judged.map_err(|what| Refused::NotPublic { address, what })
    }

    /// Whether a request that can be seen may be passed on.
    ///
    /// # Errors
    /// [`Refused::Method`], [`Refused::Body`].
    pub fn request(&self, method: &str, has_body: bool) -> Result<(), Refused> {
        match self.methods {
            Methods::All => Ok(()),
            Methods::ReadOnly if !["GET", "HEAD", "OPTIONS"].contains(&method) => {
                // It comes from a command and goes to the model: as much of it as a method has.
                Err(Refused::Method(method.chars().take(16).collect()))
            }
            Methods::ReadOnly if has_body => Err(Refused::Body),
            Methods::ReadOnly => Ok(()),
        }
    }

    /// Whether what begins like this may go through a tunnel: under [`Methods::ReadOnly`] only TLS, since a plain
    /// request in a tunnel would pass by all that is said of requests.
    ///
    /// # Errors
    /// [`Refused::NotEncrypted`].
    pub fn tunnel(&self, beginning: &[u8]) -> Result<(), Refused> {
        /// The type of the record that begins every TLS connection.
        const HANDSHAKE: u8 = 22;
        match self.methods {
            Methods::All => Ok(()),
            Methods::ReadOnly if beginning.first() == Some(&HANDSHAKE) => Ok(()),
            Methods::ReadOnly => Err(Refused::NotEncrypted),
        }
    }

    /// Whether the beginning of a tunnel has to be seen before it is let through.
    #[must_use]
    pub fn looks_into_tunnels(&self) -> bool {
        self.methods == Methods::ReadOnly
    }
}

impl Refused {
    /// The kind, for programs: what the header of an answer says.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotListed | Self::Address => "not-listed",
            Self::NotPublic { .. } => "not-public",
            Self::Method(_) | Self::Body | Self::NotEncrypted => "method",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn a_list_holds_presets_and_names_and_no_address() {
        let names = ["git.example.com".to_owned(), "*.cdn.example.com".to_owned()];
        let rules = Rules::listed(&[Preset::Python], &names, Methods::All).unwrap();
        for listed in
            ["pypi.org", "files.pythonhosted.org", "git.example.com", "a.b.cdn.example.com", "PyPI.org."]
        {
            assert_eq!(rules.host(&host(listed), 443), Ok(()), "{listed}");
        }
        for other in
            ["upload.pypi.org", "example.com", "cdn.example.com", "localhost", "kubernetes.default.svc"]
        {
            assert_eq!(rules.host(&host(other), 443), Err(Refused::NotListed), "{other}");
        }
        assert_eq!(rules.host(&host("pypi.org"), 22), Err(Refused::NotListed));
        for address in ["1.1.1.1", "10.0.0.1", "[::1]", "2130706433"] {
            assert_eq!(rules.host(&host(address), 443), Err(Refused::Address), "{address}");
        }
        assert!(Rules::listed(&[], &["https://a.example".into()], Methods::All).is_err());
        // A name that is listed says nothing about where it leads.
        assert!(rules.address("10.0.0.1".parse().unwrap()).is_err());
    }

    #[test]
    fn everything_public_is_nothing_else() {
        let closed = vec!["52.1.0.0/16".parse().unwrap(), "2a00:1::/32".parse().unwrap()];
        let rules = Rules::public(Methods::All).without(closed);
        assert_eq!(rules.host(&host("anything.example"), 6443), Ok(()));
        assert_eq!(rules.host(&host("1.1.1.1"), 53), Ok(()));
        let refused = |address: &str| match rules.host(&host(address), 443) {
            Err(Refused::NotPublic { what, .. }) => what,
            other => panic!("{address}: {other:?}"),
        };
        assert_eq!(refused("10.96.0.1"), NotPublic::Private);
        assert_eq!(refused("169.254.169.254"), NotPublic::LinkLocal);
        assert_eq!(refused("[::ffff:1.1.1.1]"), NotPublic::Translated);
        assert_eq!(refused("52.1.2.3"), NotPublic::Closed);
        assert_eq!(refused("[2a00:1::5]"), NotPublic::Closed);
        assert_eq!(rules.address("52.2.0.0".parse().unwrap()), Ok(()));
    }

    #[test]
    fn reading_is_reading() {
        let rules = Rules::public(Methods::ReadOnly);
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(rules.request(method, false), Ok(()));
            assert_eq!(rules.request(method, true), Err(Refused::Body));
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "PROPFIND"] {
            assert_eq!(rules.request(method, false), Err(Refused::Method(method.into())));
        }
        assert_eq!(rules.tunnel(&[22, 3, 1]), Ok(()));
        for beginning in [&b"POST / HTTP/1.1"[..], b"SSH-2.0", b""] {
            assert_eq!(rules.tunnel(beginning), Err(Refused::NotEncrypted));
        }
        let any = Rules::public(Methods::All);
        assert_eq!((any.request("POST", true), any.tunnel(b"SSH-2.0")), (Ok(()), Ok(())));
    }
}
