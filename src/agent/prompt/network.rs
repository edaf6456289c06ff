//! What the model is told of the network: what is enforced, and how to use what there is.

/// What commands reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkAccess<'a> {
    /// Each other alone.
    None,
    /// These hosts, through the proxy.
    Listed {
        /// As the environment lists them.
        names: &'a [String],
        /// Whether requests may only read.
        read_only: bool,
    },
    /// Every public address, through the proxy.
    Public {
        /// Whether requests may only read.
        read_only: bool,
    },
}

impl NetworkAccess<'_> {
    /// The word for it in the environment context.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "restricted",
            Self::Listed { .. } => "allowlist",
            Self::Public { .. } => "enabled",
        }
    }

    /// What commands may do. `loopback`: whether they may talk to each other over it.
    #[must_use]
    pub fn sentences(self, loopback: bool) -> String {
        match (self, loopback) {
            (Self::None, true) => {
                "Network access is restricted: connections are refused, and so is the look-up of names, except \
                 between processes of the sandbox over the loopback addresses 127.0.0.1 and ::1, on which they may \
                 listen. Downloads and package installation from the network will fail; work with what is there."
                    .to_owned()
            }
            (Self::None, false) => {
                "Network access is restricted: there are no network sockets at all, not even for the loopback addresses \
                 127.0.0.1 and ::1, and names cannot be looked up; processes of the sandbox can talk over UNIX sockets \
                 only. A server on a port cannot be started, so tests that need one fail for that reason. Downloads and \
                 package installation from the network will fail; work with what is there."
                    .to_owned()
            }
            (Self::Listed { names, read_only }, _) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                through_proxy(&format!("to these hosts, and no others: {}", names.join(", ")), read_only)
            }
            (Self::Public { read_only }, _) => through_proxy(
                "to public hosts; private and link-local addresses, and those of the cluster, are refused",
                read_only,
            ),
        }
    }
}

fn through_proxy(hosts: &str, read_only: bool) -> String {
    let reading = if read_only {
        " Requests that can be seen may only be GET, HEAD or OPTIONS without a body, and tunnels must be encrypted."
    } else {
        ""
    };
    format!(
        "Network access is limited to an HTTP proxy that the variables `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` name; \
         package managers and most clients use it by themselves. It passes on HTTP and HTTPS {hosts}.{reading} Nothing \
         else leaves the sandbox: a program that does not use the proxy cannot connect, and names are looked up by the \
         proxy alone, so looking one up in the sandbox fails. Processes of the sandbox may talk to each other over the \
         loopback addresses 127.0.0.1 and ::1. What the proxy refused is told beside the output of a command; do not \
         try to get around it, report what was missing."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_named_and_nothing_more_is_promised() {
        let names = ["pypi.org".to_owned(), "*.example.com:8443".to_owned()];
        let listed = NetworkAccess::Listed { names: &names, read_only: false };
        assert!(listed.sentences(true).contains("no others: `pypi.org`, `*.example.com:8443`."));
        assert!(!listed.sentences(true).contains("GET") && !listed.sentences(true).contains("will fail"));
        let reading = NetworkAccess::Listed { names: &names, read_only: true };
        assert!(reading.sentences(true).contains("may only be GET, HEAD or OPTIONS"));
        let public = NetworkAccess::Public { read_only: false };
        assert!(public.sentences(true).contains("public hosts; private and link-local addresses"));
        assert_eq!(
            [NetworkAccess::None, listed, public].map(NetworkAccess::word),
            ["restricted", "allowlist", "enabled"]
        );
    }
}
