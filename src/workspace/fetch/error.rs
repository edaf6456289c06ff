//! Why a fetch failed, as a closed list, each with a sentence that says what to do.

use std::io;
use std::time::Duration;

use url::Url;

use super::{FetchSpec, host};
use crate::workspace::git::{GitError, last_line};
use crate::workspace::path::shown;

/// Why there is no repository.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host could not be reached.
    #[error("cannot reach {host}: {why}; check the repository's url and the agent's network")]
    Unreachable {
        /// Host and port.
        host: String,
        /// In what way.
        why: Unreachable,
    },
    /// The server answered and then sent nothing.
    #[error("{host} sent nothing for {} s; try again later, or ask those who run it", silence.as_secs())]
    Stalled {
        /// Host and port.
        host: String,
        /// How long it was waited for.
        silence: Duration,
    },
    /// The server has no such repository, or hides it.
    #[error(
        "there is no repository at {url}: check the url; many servers also say so for a private repository \
         when the credential is missing or has no right to it"
    )]
    NotFound {
        /// The repository's URL.
        url: Url,
    },
    /// What answers is not a git server.
    #[error("{url} is no git repository of a smart HTTP server: check the url")]
    NotGit {
        /// The repository's URL.
        url: Url,
    },
    /// The repository has no commit.
    #[error("the repository at {url} is empty: push a first commit to it")]
    Empty {
        /// The repository's URL.
        url: Url,
    },
    /// No branch, tag or commit of that name.
    #[error("the repository has no branch, tag or commit {reference:?}{}", near(nearest))]
    ReferenceNotFound {
        /// What was asked for.
        reference: String,
        /// Names that are like it, the nearest first.
        nearest: Vec<String>,
    },
    /// The reference names something that is not a commit.
    #[error(
        "the reference names no commit (a tag of a file or directory, perhaps): name a branch, tag or commit"
    )]
    NoCommit,
    /// The server wants a credential and there is none.
    #[error(
        "{host} wants a user name and password for this repository: {}",
        how_to_authenticate(host, "NAMESPACE")
    )]
    AuthenticationRequired {
        /// Host and port.
        host: String,
    },
    /// The server refused the credential.
    #[error(
        "{host} refused the user name and password of the credentials Secret: {}",
        how_to_authenticate(host, "NAMESPACE")
    )]
    AuthenticationFailed {
        /// Host and port.
        host: String,
    },
    /// The credential would go over an unencrypted connection.
    #[error(
        "a credential is not sent to {host} over http: use https (http is for hosts within the cluster, \
         *.svc or *.svc.cluster.local)"
    )]
    InsecureCredential {
        /// Host and port.
        host: String,
    },
    /// The server redirects.
    #[error("{url} answers with a redirect, which is not followed: set url to the address that it leads to")]
    Redirected {
        /// The repository's URL.
        url: Url,
    },
    /// The server's certificate is not trusted, or TLS failed.
    #[error(
        "no trusted TLS connection to {host}: {detail}; for a private certificate authority set caBundle on the \
         AgentEnvironment"
    )]
    Tls {
        /// Host and port.
        host: String,
        /// What git said.
        detail: String,
    },
    /// The server has trouble of its own.
    #[error("{host} failed with HTTP {status}: try again later, or ask those who run it")]
    Server {
        /// Host and port.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The repository has objects that git's check refuses.
    #[error("the repository has an object that is damaged or harmful, and is not used: {detail}")]
    Malformed {
        /// What git said.
        detail: String,
    },
    /// The URL is none of the allowed ones.
    #[error("{url} is no https:// or http:// URL without a user name")]
    Url {
        /// The repository's URL.
        url: Url,
    },
    /// The volume already has another repository.
    #[error("this attempt's volume already has another repository: start a new task")]
    OtherRepository,
    /// The volume is full.
    #[error(
        "the repository does not fit the volume: use fetch: Shallow with a small depth, or a larger workspace size"
    )]
    NoSpace,
    /// It takes too much memory to unpack.
    #[error(
        "the repository takes more than {} MiB of memory to unpack: use fetch: Shallow with a small depth; a single file \
         or commit that is as large cannot be used at all",
        max >> 20
    )]
    OutOfMemory {
        /// What it may take, in bytes.
        max: u64,
    },
    /// The volume cannot be written.
    #[error("cannot write the repository's volume: {0}")]
    Volume(#[source] io::Error),
    /// Anything else.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// In what way a host cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Its name has no address.
    #[error("its name does not resolve ({0})")]
    Name(String),
    /// The connection is refused or there is no route.
    #[error("{0}")]
    Connection(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
}

/// What git's standard error means. Its messages are in English (`LC_ALL=C`) and older than this code.
pub(super) fn classify(error: GitError, spec: &FetchSpec) -> FetchError {
    let (url, host) = (spec.url.clone(), host(&spec.url));
    let stderr = match &error {
        GitError::Failed { stderr, .. } => stderr.clone(),
        GitError::Stalled { .. } => return FetchError::Stalled { host, silence: spec.bounds.stall },
        GitError::OutOfMemory { max, .. } => return FetchError::OutOfMemory { max: *max },
        GitError::Missing
        | GitError::Start { .. }
        | GitError::Confinement(_)
        | GitError::Deadline { .. }
        | GitError::OutputTooLarge { .. }
        | GitError::Unexpected { .. } => return FetchError::Git(error),
    };
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| stderr.contains(phrase));
    let detail = || sentence(&stderr);
    let status = http_status(&stderr);
    if says(&["couldn't find remote ref", "not our ref", "unadvertised object", "no such remote ref"]) {
        spec.reference.not_found(Vec::new())
    } else if says(&["could not read Username", "could not read Password"]) {
        FetchError::AuthenticationRequired { host }
    } else if says(&["Authentication failed"]) || matches!(status, Some(401 | 403)) {
        match spec.credential {
            Some(_) => FetchError::AuthenticationFailed { host },
            None => FetchError::AuthenticationRequired { host },
        }
    } else if says(&["Could not resolve host"]) {
        FetchError::Unreachable { host, why: Unreachable::Name(detail()) }
    } else if says(&["Failed to connect", "Couldn't connect", "Connection refused", "Connection timed out"]) {
        FetchError::Unreachable { host, why: Unreachable::Connection(detail()) }
    } else if says(&["Operation too slow", "Operation timed out"]) {
        FetchError::Stalled { host, silence: spec.bounds.stall }
    } else if says(&["certificate", "SSL", "gnutls", "TLS"]) {
        FetchError::Tls { host, detail: detail() }
    } else if matches!(status, Some(300..=399)) {
        FetchError::Redirected { url }
    } else if says(&["fsck error", "fsck_", "invalid object", "inflate: data stream error"]) {
        FetchError::Malformed { detail: detail() }
    } else if says(&["No space left on device", "Disk quota exceeded", "File too large"]) {
        FetchError::NoSpace
    } else if matches!(status, Some(404 | 410)) || (says(&["repository '"]) && says(&["' not found"])) {
        FetchError::NotFound { url }
    } else if says(&[
        "is this a git repository?",
        "dumb http transport",
        "invalid server response",
        "unexpected content-type",
    ]) {
        FetchError::NotGit { url }
    } else if let Some(status @ 500..) = status {
        FetchError::Server { host, status }
    } else {
        FetchError::Git(error)
    }
}

/// The status of "The requested URL returned error: 503".
fn http_status(stderr: &str) -> Option<u16> {
    let (_, rest) = stderr.split_once("returned error: ")?;
    rest.get(..3)?.parse().ok()
}

/// The line of git's own that says most, cut to a length that fits a condition's message.
fn sentence(stderr: &str) -> String {
    let fatal =
        stderr.split(['\n', '\r']).find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
    let line = fatal.unwrap_or_else(|| last_line(stderr));
    let line = line.trim_start_matches("fatal: ").trim_start_matches("error: ");
    shown(line)
}

fn near(nearest: &[String]) -> String {
    match nearest {
        [] => "; set ref to a branch, a tag or a full commit id".to_owned(),
        [one] => format!("; did you mean {one:?}?"),
        many => {
            format!("; it has {}", many.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The commands that make the right Secret in the task's namespace.
#[must_use]
pub fn how_to_authenticate(host: &str, namespace: &str) -> String {
    format!(
        "kubectl create secret generic git-credentials -n {namespace} --from-literal=username=USER \
         --from-literal=password=TOKEN && kubectl annotate secret git-credentials -n {namespace} \
         podwright.dev/hosts={}, then set credentialsSecretName: git-credentials on the repository of a new task",
        without_port(host)
    )
}

/// What the Secret's annotation lists: hosts, whatever the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}
