//! Fetching the repository into a bare one that the sandbox never sees.

mod beside;
mod config;
mod error;
mod refs;

use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use url::Url;

use super::Layout;
use super::askpass::Answer;
use super::git::{FETCH_MEMORY, Git, GitError};
use super::object::ObjectId;
use super::record::{self, Record, Stage};

pub use beside::{Beside, fetch_beside};
pub use error::{FetchError, Unreachable, how_to_authenticate};
pub use refs::{ParseReferenceError, Reference};

pub(crate) use config::{ATTRIBUTES, BIG_FILES, quoted, threads};

/// What git's own stall bound does not see (a TLS handshake that never ends) is noticed this much later,
/// so that git's better sentence comes first where there is one.
const STALL_GRACE: Duration = Duration::from_secs(3);

/// A whole fetch: enough for a repository of 10 GiB at 3 MiB/s, and an end to a server that drips.
const FETCH_DEADLINE: Duration = Duration::from_secs(3600);

/// The list of a server's refs, read only to help a person with a wrong name.
const REFS_MAX: usize = 8 << 20;

/// What to fetch.
#[derive(Clone, Debug)]
pub struct FetchSpec {
    /// `https://`, or `http://`, without user information.
    pub url: Url,
    /// A branch, a tag or a full commit id.
    pub reference: Reference,
    /// How much of the history.
    pub depth: Depth,
    /// Sent to this URL's host only.
    pub credential: Option<Credential>,
    /// PEM certificates that are trusted beside the system's.
    pub ca_bundle: Option<String>,
    /// How long a silent network is waited for.
    pub bounds: Bounds,
}

/// How long a silent network is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For a connection: 10 s by default. Git itself would wait 300 s.
    pub connect: Duration,
    /// For the next byte of an answer: 30 s by default, in whole seconds.
    pub stall: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), stall: Duration::from_secs(30) }
    }
}

/// How much of the history is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// This many of them.
    Shallow(NonZeroU32),
    /// All commits that lead to the one branch, tag or commit.
    Full,
}

/// A user name and a password or token for the git server.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

/// A repository that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Where from.
    pub url: Url,
    /// What was asked for.
    pub reference: Reference,
    /// What it turned out to be.
    pub found: Found,
    /// The commit that the work starts from.
    pub base_commit: ObjectId,
    /// That commit's tree.
    pub base_tree: ObjectId,
    /// What was fetched beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// The tree that the work starts from, where that is not the commit's: with the patch of former work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ObjectId>,
}

/// What a reference turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// A branch: it is checked out by name.
    Branch,
    /// A tag: its commit is checked out, on no branch.
    Tag,
    /// A commit id: checked out on no branch.
    Commit,
}

impl Credential {
    /// A token without a user name of its own: hosts ignore the name, but want one.
    pub fn token(token: SecretString) -> Self {
        Self { username: "x-access-token".to_owned(), password: token }
    }
}

impl Found {
    /// The ref of the bare repository that has the branch or tag of this name.
    pub(crate) fn stored_as(self, reference: &Reference) -> Option<String> {
        let name = reference.short()?;
        match self {
            Self::Branch => Some(format!("{TRACKING}{name}")),
            Self::Tag => Some(format!("refs/tags/{name}")),
            Self::Commit => None,
        }
    }
}

/// What was fetched before. Neither credential nor network is needed for it.
///
/// # Errors
/// [`FetchError::OtherRepository`] when it is not what is asked for.
pub fn fetched(url: &Url, reference: &Reference, layout: &Layout) -> Result<Option<Fetched>, FetchError> {
    fs::create_dir_all(layout.private())?;
    let Some(record) = record::read(&layout.private())? else { return Ok(None) };
    let same = record.fetched.url == *url && record.fetched.reference == *reference;
    if same { Ok(Some(record.fetched)) } else { Err(FetchError::OtherRepository) }
}

/// Fetches into the bare repository, unless that was done before.
///
/// The first connection is given up after 10 s, a silent transfer after 30 s.
///
/// # Errors
/// [`FetchError`]: each shows as a sentence that says what to do.
pub async fn fetch(spec: &FetchSpec, layout: &Layout, git: &Git) -> Result<Fetched, FetchError> {
    if let Some(fetched) = fetched(&spec.url, &spec.reference, layout)? {
        return Ok(fetched);
    }
    check(spec)?;
    connect(&spec.url, spec.bounds.connect).await?;
    // A fetch that was cut off leaves a directory; its git may even still be writing there.
    let directory = tempfile::Builder::new().prefix("fetch-").tempdir_in(layout.private())?;
    config::init(directory.path(), spec)?;
    let fetcher = Fetcher { spec, git, directory: directory.path(), commit_as: BASE };
    let fetched = fetcher.fetch().await?;
    if layout.git_dir().exists() {
        fs::remove_dir_all(layout.git_dir())?;
    }
    fs::rename(directory.keep(), layout.git_dir())?;
    record::write(&layout.private(), &Record { fetched: fetched.clone(), stage: Stage::Fetched })?;
    Ok(fetched)
}

/// One fetch into a new bare repository.
struct Fetcher<'a> {
    spec: &'a FetchSpec,
    git: &'a Git,
    directory: &'a std::path::Path,
    /// The ref that keeps a commit without a name.
    commit_as: &'a str,
}

impl Fetcher<'_> {
    /// Only what is wanted is asked for: a branch costs one round, a tag (rarer) two.
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        for (name, found) in self.spec.reference.candidates() {
            let (source, target) = match found {
                Found::Branch => (name.replacen(TRACKING, "refs/heads/", 1), name),
                Found::Tag => (name.clone(), name),
                Found::Commit => (name, self.commit_as.to_owned()),
            };
            match self.git_fetch(&format!("+{source}:{target}")).await {
                Ok(()) => return self.resolve(&target, found).await?.ok_or(FetchError::NoCommit),
                Err(FetchError::ReferenceNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.wrong_reference().await)
    }

    async fn git_fetch(&self, refspec: &str) -> Result<(), FetchError> {
        let depth = match self.spec.depth {
            Depth::Shallow(depth) => Some(format!("--depth={depth}")),
            Depth::Full => None,
        };
        let args = ["fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        let what = ["--".to_owned(), self.spec.url.to_string(), refspec.to_owned()];
        let run = self
            .git
            .run_in(self.directory, args.map(str::to_owned).into_iter().chain(depth).chain(what))
            .stalls_after(self.spec.bounds.stall + STALL_GRACE, self.directory.join("objects/pack"));
        self.online(run).output(0).await.map(drop).map_err(|error| error::classify(error, self.spec))
    }

    /// The commit and tree behind a name; `None` when there is no such name here.
    async fn resolve(&self, name: &str, found: Found) -> Result<Option<Fetched>, FetchError> {
        let args = ["rev-parse".to_owned(), format!("{name}^{{commit}}"), format!("{name}^{{tree}}")];
        let output =
            match self.git.run_in(self.directory, args).env("GIT_DIR", self.directory).output(4096).await {
                Ok(output) => output,
                Err(GitError::Failed { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        let text = String::from_utf8_lossy(&output);
        let mut ids = text.lines().map(str::parse::<ObjectId>);
        let (Some(Ok(base_commit)), Some(Ok(base_tree))) = (ids.next(), ids.next()) else {
            return Err(FetchError::NoCommit);
        };
        let (url, reference) = (self.spec.url.clone(), self.spec.reference.clone());
        Ok(Some(Fetched { url, reference, found, base_commit, base_tree, beside: None, origin: None }))
    }

    /// The error for a name that the server does not have, with those that are like it.
    async fn wrong_reference(&self) -> FetchError {
        let args = ["ls-remote", "--heads", "--tags", "--refs", "--", self.spec.url.as_str()];
        let listed = self.online(self.git.run_in(self.directory, args)).output(REFS_MAX).await;
        let listed = match listed {
            Ok(listed) => String::from_utf8_lossy(&listed).into_owned(),
            Err(GitError::OutputTooLarge { .. }) => return self.spec.reference.not_found(Vec::new()),
            Err(error) => return error::classify(error, self.spec),
        };
        let names: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        if names.is_empty() {
            let url = self.spec.url.clone();
            return if self.speaks_git().await {
                FetchError::Empty { url }
            } else {
                FetchError::NotGit { url }
            };
        }
        self.spec.reference.not_found(refs::nearest(&self.spec.reference.to_string(), &names))
    }

    /// Whether a server without refs is a git server: git takes any page for an old one that has none.
    async fn speaks_git(&self) -> bool {
        let trace = self.directory.join("packets");
        let args = ["ls-remote", "--", self.spec.url.as_str()];
        let run = self.online(self.git.run_in(self.directory, args)).env("GIT_TRACE_PACKET", &trace);
        run.output(REFS_MAX).await.is_ok() && fs::read(trace).is_ok_and(|packets| !packets.is_empty())
    }

    fn online<'a>(&self, run: super::git::Run<'a>) -> super::git::Run<'a> {
        let credential = self.spec.credential.as_ref().map(|credential| Answer {
            username: credential.username.clone(),
            password: credential.password.expose_secret().to_owned(),
        });
        // 53: a name whose addresses do not fit a datagram is asked for over TCP.
        run.env("GIT_DIR", self.directory)
            .connect(self.spec.url.port_or_known_default().into_iter().chain([53]))
            .credential(credential)
            .deadline(FETCH_DEADLINE)
            .memory(FETCH_MEMORY)
    }
}

/// Where the server's branches are kept.
const TRACKING: &str = "refs/remotes/origin/";

/// Where a commit without a name is kept.
const BASE: &str = "refs/podwright/base";

/// What the API refuses too; here it guards the credential.
fn check(spec: &FetchSpec) -> Result<(), FetchError> {
    let url = &spec.url;
    let bare = url.username().is_empty() && url.password().is_none() && url.host_str().is_some();
    if !bare || !matches!(url.scheme(), "https" | "http") {
        let mut url = url.clone();
        // A password in it is shown to nobody. These fail for a URL that can have none.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        return Err(FetchError::Url { url });
    }
    if url.scheme() == "http" && spec.credential.is_some() && !stays_inside(url) {
        return Err(FetchError::InsecureCredential { host: host(url) });
    }
    Ok(())
}

/// Whether what is sent without encryption leaves neither the cluster's own network nor this pod.
fn stays_inside(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.ends_with(".svc") || name.ends_with(".svc.cluster.local"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Git has no bound of its own for the connection, so one is made first.
async fn connect(url: &Url, bound: Duration) -> Result<(), FetchError> {
    let unreachable = |why| FetchError::Unreachable { host: host(url), why };
    let name = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let reach = async {
        let addresses: Vec<_> = match tokio::net::lookup_host((name, port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => return Err(Unreachable::Name(error.to_string())),
        };
        let mut last = Unreachable::Name("it has no address".to_owned());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(_connection) => return Ok(()),
                Err(error) => last = Unreachable::Connection(error.to_string()),
            }
        }
        Err(last)
    };
    match tokio::time::timeout(bound, reach).await {
        Ok(result) => result.map_err(unreachable),
        Err(_elapsed) => Err(unreachable(Unreachable::NoAnswer(bound))),
    }
}

/// Host and port as in the URL.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Self::NoSpace } else { Self::Volume(error) }
    }
}
