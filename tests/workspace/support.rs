//! A git server on loopback, repositories to serve, and an attempt's volumes.

use std::io::{BufRead, BufReader};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use podwright::workspace::{
    Bounds, Depth, FetchError, FetchSpec, Fetched, Git, Layout, Reference, Worktree, apply_former, checkout,
    fetch,
};
use tempfile::TempDir;
use url::Url;

/// A server and the directory of its repositories.
pub(crate) struct Server {
    process: Child,
    pub(crate) root: TempDir,
    base: Url,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::serve(None)
    }

    /// With TLS; `pem` has key and certificate.
    pub(crate) fn start_tls(pem: &Path) -> Self {
        Self::serve(Some(pem))
    }

    fn serve(pem: Option<&Path>) -> Self {
        let root = TempDir::new().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/git_server.py");
        let mut process = Command::new("python3")
            .arg(script)
            .arg(root.path())
            .arg("127.0.0.1")
            .args(pem)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for the git server");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let scheme = if pem.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://127.0.0.1:{}/", line.trim()).parse().unwrap();
        Self { process, root, base }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap()
    }

    /// A repository with one branch `main` at its first commit.
    pub(crate) fn repository(&self, name: &str) -> Source {
        let source = Source { path: self.root.path().join(name) };
        std::fs::create_dir(&source.path).unwrap();
        source.git(&["init", "-q", "-b", "main"]);
        source
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A repository that is served, with a work tree to fill it from.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
}

impl Source {
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.path, args)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A", "-f"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// The volumes of one attempt.
pub(crate) struct Volumes {
    pub(crate) directory: TempDir,
    pub(crate) layout: Layout,
}

impl Volumes {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        for name in ["repo", "workspace"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let layout =
            Layout::new(directory.path().join("repo"), directory.path().join("workspace"), "app").unwrap();
        Self { directory, layout }
    }

    pub(crate) fn worktree(&self) -> PathBuf {
        self.layout.worktree()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.worktree().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// As if the agent had died while it wrote the work tree.
    pub(crate) fn stop_in_the_middle_of_the_checkout(&self) {
        let record = self.directory.path().join("repo/app/record.json");
        let text = std::fs::read_to_string(&record).unwrap();
        assert!(text.contains("CheckedOut"), "{text}");
        std::fs::write(&record, text.replace("CheckedOut", "CheckingOut")).unwrap();
    }

    /// As if the agent had died while it put the patch into the work tree.
    pub(crate) fn stop_in_the_middle_of_the_patch(&self) {
        let record = self.directory.path().join("repo/app/record.json");
        let text = std::fs::read_to_string(&record).unwrap();
        assert!(text.contains("Patched"), "{text}");
        std::fs::write(&record, text.replace("Patched", "Patching")).unwrap();
    }

    /// Fetches and checks out, and puts the patch into the bare repository alone.
    pub(crate) async fn prepare_with(&self, spec: &FetchSpec, patch: Vec<u8>) -> Fetched {
        let fetched = self.fetch(spec).await.unwrap();
        let fetched = apply_former(fetched, patch, &self.layout, &confined_git()).await.unwrap();
        checkout(&fetched, &self.layout, &confined_git()).await.unwrap();
        fetched
    }

    pub(crate) async fn fetch(&self, spec: &FetchSpec) -> Result<Fetched, FetchError> {
        fetch(spec, &self.layout, &confined_git()).await
    }

    /// Fetches and checks out; gives the open work tree.
    pub(crate) async fn prepare(&self, spec: &FetchSpec) -> (Fetched, Worktree) {
        let fetched = self.fetch(spec).await.unwrap();
        checkout(&fetched, &self.layout, &confined_git()).await.unwrap();
        let worktree = Worktree::open(&self.layout, &confined_git(), &fetched, &[]).await.unwrap();
        (fetched, worktree)
    }
}

pub(crate) fn confined_git() -> Git {
    Git::with_helper(env!("CARGO_BIN_EXE_podwright").into()).unwrap()
}

pub(crate) fn spec(url: Url, reference: &str) -> FetchSpec {
    FetchSpec {
        url,
        reference: reference.parse::<Reference>().unwrap(),
        depth: Depth::Shallow(NonZeroU32::new(50).unwrap()),
        credential: None,
        ca_bundle: None,
        bounds: Bounds::default(),
    }
}

/// Ordinary git, as a person runs it, with none of the machine's configuration.
pub(crate) fn git(directory: &Path, args: &[&str]) -> String {
    let output = plain_git(directory).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

pub(crate) fn plain_git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(["AUTHOR", "COMMITTER"].into_iter().flat_map(|who| {
            [
                (format!("GIT_{who}_NAME"), "Ada"),
                (format!("GIT_{who}_EMAIL"), "ada@example.com"),
                (format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z"),
            ]
        }));
    command
}

/// Every byte of every file below `directory`.
pub(crate) fn all_bytes(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        bytes.extend_from_slice(entry.file_name().as_encoded_bytes());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            bytes.extend(all_bytes(&entry.path()));
        } else if kind.is_file() {
            bytes.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    bytes
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
