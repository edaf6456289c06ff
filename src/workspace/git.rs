//! The caller's side of a confined git: starting it, feeding it, bounding it, ending it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::askpass::Answer;
use super::confine::{self, Access, Instructions};
use super::path::shown;

/// Local work of one git child (trees, a diff, a patch) ends within this time or is given up: on the
/// largest repositories that were tried it takes seconds.
pub(crate) const LOCAL_DEADLINE: Duration = Duration::from_secs(300);

/// What is kept of the standard error, which has progress lines in it: its end.
const STDERR_KEPT: usize = 16 * 1024;

/// Any one file that a child writes. Larger than the packs of the largest public repositories, smaller
/// than what fills a node's disk.
const FILE_MAX: u64 = 16 << 30;

/// Memory of a child for local work, and of one that fetches, when the agent itself has next to nothing. Both share the
/// 512 MiB of the agent's container with the agent, and what exceeds those ends the agent too. So a file with too many
/// lines to be compared, or an object that unpacks to more than this, ends git alone, with a sentence.
const LOCAL_MEMORY: u64 = 256 << 20;
pub(crate) const FETCH_MEMORY: u64 = 384 << 20;

/// Where distributions put git.
const PROGRAMS: [&str; 3] = ["/usr/bin/git", "/usr/local/bin/git", "/bin/git"];

/// Where git's own programs are, by distribution.
const EXEC_PATHS: [&str; 4] =
    ["/usr/lib/git-core", "/usr/libexec/git-core", "/usr/local/libexec/git-core", "/usr/local/lib/git-core"];

/// What git and the libraries of its HTTP transport read: shared libraries, name resolution, certificates.
const READ: [&str; 20] = [
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/gnutls",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/ca-certificates",
];

/// The dynamic loaders: a program that needs one cannot be executed without it.
const LOADERS: [&str; 5] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-armhf.so.3",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// A git program to run confined.
#[derive(Clone, Debug)]
pub struct Git {
    helper: PathBuf,
    program: PathBuf,
    exec_path: PathBuf,
}

/// Why a git child gave no result.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git on this machine.
    #[error("no git found in {}: install it in the agent's image", PROGRAMS.join(", "))]
    Missing,
    /// The child could not be started or spoken to.
    #[error("cannot run git {command}: {source}")]
    Start {
        /// The git command.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The child did not become git: the sentence says why.
    #[error("{0}")]
    Confinement(String),
    /// The child was killed at its deadline.
    #[error("git {command} was ended after {} s", after.as_secs())]
    Deadline {
        /// The git command.
        command: String,
        /// How long it had run.
        after: Duration,
    },
    /// The child gave no sign of progress.
    #[error("git {command} made no progress for {} s and was ended", silence.as_secs())]
    Stalled {
        /// The git command.
        command: String,
        /// How long nothing was heard.
        silence: Duration,
    },
    /// The child wrote more than the caller takes.
    #[error("git {command} wrote more than {max} bytes")]
    OutputTooLarge {
        /// The git command.
        command: String,
        /// The bound.
        max: usize,
    },
    /// The child wanted more memory than it may have.
    #[error(
        "git {command} needed more than {} MiB of memory: a file, a commit or the number of them is too large for it",
        max >> 20
    )]
    OutOfMemory {
        /// The git command.
        command: String,
        /// What it may have, in bytes.
        max: u64,
    },
    /// Git failed.
    #[error("git {command} failed ({status}): {}", shown(last_line(stderr)))]
    Failed {
        /// The git command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its standard error.
        stderr: String,
    },
    /// Git succeeded and said something that cannot be read.
    #[error("git {command} wrote something unexpected: {what}")]
    Unexpected {
        /// The git command.
        command: String,
        /// What was wrong.
        what: String,
    },
}

/// One run of git, to be described and then performed.
pub(crate) struct Run<'a> {
    git: &'a Git,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    directory: PathBuf,
    access: Access,
    input: Vec<u8>,
    credential: Option<Answer>,
    deadline: Duration,
    memory: u64,
    watch: Option<Watch>,
}

/// Gives up on a child whose standard error and whose `growing` directory are silent.
struct Watch {
    growing: PathBuf,
    silence: Duration,
}

impl Git {
    /// The git of this machine, shut in by this program itself.
    ///
    /// # Errors
    /// [`GitError::Missing`] without git.
    pub fn new() -> Result<Self, GitError> {
        let helper = std::env::current_exe()
            .map_err(|source| GitError::Start { command: "--exec-path".to_owned(), source })?;
        Self::with_helper(helper)
    }

    /// As [`Git::new`] when this process is another program than `podwright`: `helper` is that one's path.
    ///
    /// # Errors
    /// [`GitError::Missing`] without git.
    pub fn with_helper(helper: PathBuf) -> Result<Self, GitError> {
        let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
        let program = first(&PROGRAMS).ok_or(GitError::Missing)?;
        let exec_path = first(&EXEC_PATHS).ok_or(GitError::Missing)?;
        Ok(Self { helper, program, exec_path })
    }

    /// A run that may read and write `directory` and nothing else that is not git's own.
    pub(crate) fn run_in<'a, S: Into<String>>(
        &'a self,
        directory: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Run<'a> {
        let mut execute = vec![self.program.clone(), self.exec_path.clone(), self.helper.clone()];
        execute.extend(LOADERS.iter().map(PathBuf::from));
        let access = Access {
            read: READ.iter().map(PathBuf::from).collect(),
            execute,
            write: vec![directory.to_owned(), PathBuf::from("/dev/null")],
            connect: Vec::new(),
        };
        let fixed = [
            ("GIT_EXEC_PATH", self.exec_path.to_string_lossy().into_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
            ("GIT_ATTR_NOSYSTEM", "1".to_owned()),
            ("GIT_NO_REPLACE_OBJECTS", "1".to_owned()),
            ("GIT_NO_LAZY_FETCH", "1".to_owned()),
            ("GIT_TERMINAL_PROMPT", "0".to_owned()),
            ("LC_ALL", "C".to_owned()),
            ("PATH", "/usr/bin:/bin".to_owned()),
            // A directory that cannot be: nothing of a home is read.
            ("HOME", "/dev/null".to_owned()),
        ];
        Run {
            git: self,
            args: args.into_iter().map(Into::into).collect(),
            environment: fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            directory: directory.to_owned(),
            access,
            input: Vec::new(),
            credential: None,
            deadline: LOCAL_DEADLINE,
            memory: LOCAL_MEMORY,
            watch: None,
        }
    }
}

impl Run<'_> {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().to_string_lossy().into_owned()));
        self
    }

    pub(crate) fn read(mut self, path: &Path) -> Self {
        self.access.read.push(path.to_owned());
        self
    }

    pub(crate) fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = bytes;
        self
    }

    pub(crate) fn credential(mut self, answer: Option<Answer>) -> Self {
        self.credential = answer;
        self
    }

    pub(crate) fn connect(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.access.connect.extend(ports);
        self
    }

    pub(crate) fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Ends the child when for `silence` it wrote no standard error and nothing grew in `growing`.
    pub(crate) fn stalls_after(mut self, silence: Duration, growing: PathBuf) -> Self {
        self.watch = Some(Watch { growing, silence });
        self
    }

    /// Performs the run; the standard output comes whole, at most `max` bytes of it.
    pub(crate) async fn output(self, max: usize) -> Result<Vec<u8>, GitError> {
        let command = self.command();
        let mut output = Vec::new();
        let mut total = 0_usize;
        self.stream(|bytes| {
            total = total.saturating_add(bytes.len());
            if total <= max {
                output.extend_from_slice(bytes);
            }
        })
        .await?;
        if total > max { Err(GitError::OutputTooLarge { command, max }) } else { Ok(output) }
    }

    /// Performs the run and hands each piece of the standard output to `sink`.
    pub(crate) async fn stream(mut self, mut sink: impl FnMut(&[u8])) -> Result<(), GitError> {
        let command = self.command();
        let start = |source| GitError::Start { command: command.clone(), source };
        let input = std::mem::take(&mut self.input);
        let watch = self.watch.take();
        let (deadline, memory) = (self.deadline, self.memory);
        let mut child = self.spawn()?;
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
            (child.process.stdin.take(), child.process.stdout.take(), child.process.stderr.take())
        else {
            return Err(start(std::io::Error::other("no pipes")));
        };
        let frame = confine::encode(&self.instructions()).map_err(|error| start(error.into()))?;

        let heard = Arc::new(AtomicU64::new(0));
        let feed = async move {
            // A child that ends early closes its end; its status tells why.
            if stdin.write_all(&frame).await.is_ok() {
                let _ = stdin.write_all(&input).await;
            }
            drop(stdin);
        };
        let drain = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match stdout.read(&mut buffer).await {
                    Ok(0) => return Ok(()),
                    Ok(read) => sink(buffer.get(..read).unwrap_or_default()),
                    Err(error) => return Err(error),
                }
            }
        };
        let work = async {
            let ((), drained, stderr) = tokio::join!(feed, drain, tail(stderr, &heard));
            drained?;
            Ok::<_, std::io::Error>((child.process.wait().await?, stderr))
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(deadline, work) => ended,
            silence = silence(watch, &heard) => return Err(GitError::Stalled { command, silence }),
        };
        let (status, stderr) = match ended {
            Ok(done) => done.map_err(start)?,
            Err(_elapsed) => return Err(GitError::Deadline { command, after: deadline }),
        };
        child.group = None;
        if status.success() {
            return Ok(());
        }
        if status.code() == Some(i32::from(confine::NOT_STARTED)) {
            return Err(GitError::Confinement(last_line(&stderr).to_owned()));
        }
        if wants_memory(&stderr) {
            return Err(GitError::OutOfMemory { command, max: memory });
        }
        Err(GitError::Failed { command, status, stderr })
    }

    fn spawn(&self) -> Result<Running, GitError> {
        let process = Command::new(&self.git.helper)
            .arg(confine::SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| GitError::Start { command: self.command(), source })?;
        let group = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Running { group, process })
    }

    fn instructions(&self) -> Instructions {
        let credential = self
            .credential
            .as_ref()
            .map(|answer| Answer { username: answer.username.clone(), password: answer.password.clone() });
        Instructions {
            program: self.git.program.clone(),
            args: self.args.clone(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            access: self.access.clone(),
            file_max: FILE_MAX,
            memory_max: self.memory,
            credential,
        }
    }

    /// The git command's name, for errors.
    fn command(&self) -> String {
        self.args.iter().find(|arg| !arg.starts_with('-')).cloned().unwrap_or_default()
    }
}

/// A child and its process group, which dies with this value.
struct Running {
    group: Option<Pid>,
    process: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Still set: the child was not reaped, so the number is its own.
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The end of a stream, and in `heard` how many bytes came.
async fn tail(mut stream: impl AsyncRead + Unpin, heard: &AtomicU64) -> String {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 4096];
    // An error of a pipe is its end.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        heard.fetch_add(read as u64, Ordering::Relaxed);
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if kept.len() > 2 * STDERR_KEPT {
            kept.drain(..kept.len() - STDERR_KEPT);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Resolves when there was no progress for the watch's time; never without a watch.
async fn silence(watch: Option<Watch>, heard: &AtomicU64) -> Duration {
    let Some(Watch { growing, silence }) = watch else { return std::future::pending().await };
    let step = Duration::from_secs(1);
    let mut quiet = Duration::ZERO;
    let mut last = (0, 0);
    while quiet < silence {
        tokio::time::sleep(step).await;
        let now = (heard.load(Ordering::Relaxed), size_of(&growing));
        quiet = if now == last { quiet + step } else { Duration::ZERO };
        last = now;
    }
    silence
}

/// The bytes of the files in one directory; 0 where it cannot be read.
fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Whether git, or the system, says that there is no memory. What a server says of its own begins with "remote:".
fn wants_memory(stderr: &str) -> bool {
    let own = stderr.split(['\n', '\r']).filter(|line| !line.starts_with("remote:"));
    let phrases = ["Out of memory", "out of memory", "Cannot allocate memory"];
    own.into_iter().any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
}

/// The last line that says something.
pub(crate) fn last_line(stderr: &str) -> &str {
    stderr.split(['\n', '\r']).map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing")
}
