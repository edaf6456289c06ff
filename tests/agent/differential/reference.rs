//! The reference agent's program.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout};

use super::requests::{EFFORT, MODEL, RETRIES, WINDOW};

/// The port of the model in the network namespace of each run, which has nothing else.
const PORT: u16 = 8080;

/// Longest run; the scripts take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What commands look for programs in; the same as in our sandbox.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path of the program.
fn program() -> PathBuf {
    let path = std::env::var_os("PODWRIGHT_TEST_REFERENCE").map(PathBuf::from);
    let path = path.expect("PODWRIGHT_TEST_REFERENCE names no program: run this by `make differential`, or set it to what `hack/tool codex` prints");
    assert!(path.is_file(), "{} is missing: `hack/tool codex` fetches it", path.display());
    path
}

/// A person's home with the agent's settings, and the threads so far.
pub(crate) struct Reference {
    program: PathBuf,
    home: TempDir,
    thread: Option<String>,
}

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether by itself.
    pub(crate) completed: bool,
    /// The model's last message, where it did.
    pub(crate) message: String,
}

impl Reference {
    /// An agent that has never run.
    pub(crate) fn new() -> Self {
        let home = home();
        fs::write(home.path().join("config.toml"), settings()).unwrap();
        Self { program: program(), home, thread: None }
    }

    /// Runs a turn: the thread's first one, or the next of it. It reaches only loopback, in a network namespace of its
    /// own: `serve` gets the listener there that the model is to answer on. Nothing of it is left running.
    pub(crate) async fn turn(&mut self, cwd: &Path, prompt: &str, serve: impl FnOnce(TcpListener)) -> Ended {
        let last = self.home.path().join("last-message");
        let _ = fs::remove_file(&last);
        let Told { text, status, events } = self.begin(cwd, prompt, serve).await.ended().await;
        let completed = events.iter().any(|event| event["type"] == "turn.completed");
        assert_eq!(completed, status.success(), "{status}\n{text}");
        self.thread = Some(thread_of(&events).unwrap_or_else(|| panic!("{status}\n{text}")));
        let message = if completed { fs::read_to_string(&last).unwrap_or_default() } else { String::new() };
        Ended { completed, message }
    }

    /// The same, interrupted as by a person at a terminal as soon as `begun` holds.
    pub(crate) async fn interrupted_turn(
        &mut self,
        cwd: &Path,
        prompt: &str,
        serve: impl FnOnce(TcpListener),
        begun: impl Fn() -> bool,
    ) {
        let run = self.begin(cwd, prompt, serve).await;
        let waited = async {
            while !begun() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.unwrap();
        run.interrupt();
        let Told { text, status, events } = run.ended().await;
        assert!(!status.success(), "an interrupted turn fails: {text}");
        self.thread = Some(thread_of(&events).unwrap_or_else(|| panic!("{status}\n{text}")));
    }

    async fn begin(&self, cwd: &Path, prompt: &str, serve: impl FnOnce(TcpListener)) -> Run {
        let mut arguments: Vec<OsString> = vec!["exec".into()];
        if self.thread.is_some() {
            arguments.push("resume".into());
        }
        arguments.extend(["--strict-config", "--json", "--skip-git-repo-check", "-o"].map(OsString::from));
        arguments.push(self.home.path().join("last-message").into());
        arguments.extend(self.thread.iter().map(OsString::from));
        arguments.push(prompt.into());
        let script = "ip link set lo up && echo up && read -r go && \"$@\" </dev/null; exit $?";
        let mut process = tokio::process::Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", script, "sh"])
            .arg(&self.program)
            .args(arguments)
            .current_dir(cwd)
            .env_clear()
            .envs([("PATH", PATH), ("SHELL", "/bin/bash"), ("TZ", "UTC"), ("LANG", "C.UTF-8")])
            .env("HOME", self.home.path())
            .env("CODEX_HOME", self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).await.unwrap();
        assert_eq!(line, "up\n", "no network namespace; are we root?");
        serve(listen_in(process.id().unwrap()));
        process.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        Run { process, stdout }
    }
}

/// A run under way.
struct Run {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

/// What it said, and how it ended.
struct Told {
    text: String,
    status: ExitStatus,
    events: Vec<Value>,
}

impl Run {
    /// As Control-C does: the program is the only child of the shell that is the only child of unshare.
    fn interrupt(&self) {
        let child = |process: u32| -> u32 {
            let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
            children.trim().parse().unwrap_or_else(|_| panic!("{process} has the children {children:?}"))
        };
        let program = child(child(self.process.id().unwrap()));
        let sent = Command::new("kill").args(["-INT", &program.to_string()]).status().unwrap();
        assert!(sent.success());
    }

    async fn ended(mut self) -> Told {
        let mut stderr = self.process.stderr.take().unwrap();
        let (mut told, mut errors) = (String::new(), String::new());
        let ending = async {
            tokio::try_join!(self.stdout.read_to_string(&mut told), stderr.read_to_string(&mut errors))
                .unwrap();
            self.process.wait().await.unwrap()
        };
        let ended = tokio::time::timeout(PATIENCE, ending).await;
        let status = ended.unwrap_or_else(|_| panic!("the reference agent has not come to an end"));
        let events = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Told { text: format!("{told}\n{errors}"), status, events }
    }
}

fn thread_of(events: &[Value]) -> Option<String> {
    events.iter().find_map(|event| event["thread_id"].as_str()).map(str::to_owned)
}

/// A new home. Not below /tmp, where the program declines to keep its helpers.
fn home() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What is fixed for a comparison: one model of the built-in catalogue, and no tool that needs a service, a second
/// agent or a person.
fn settings() -> String {
    format!(
        r#"
model = "{MODEL}"
model_provider = "scripted"
model_reasoning_effort = "{EFFORT}"
model_reasoning_summary = "auto"
model_context_window = {WINDOW}
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
web_search = "disabled"

[model_providers.scripted]
name = "scripted"
base_url = "http://127.0.0.1:{PORT}/v1"
wire_api = "responses"
request_max_retries = {RETRIES}
stream_max_retries = {RETRIES}

[tools]
update_plan = {{ enabled = true }}

[agents]
enabled = false

[skills]
include_instructions = false
bundled = {{ enabled = false }}

[analytics]
enabled = false

[features]
apps = false
browser_use = false
computer_use = false
goals = false
hooks = false
image_generation = false
plugins = false
shell_snapshot = false
skill_search = false
sleep_tool = false
tool_suggest = false
"#
    )
}

/// A listener in the network namespace of a process. A socket stays in the namespace in which it was made.
fn listen_in(process: u32) -> TcpListener {
    let made = std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{process}/ns/net")).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap()
    });
    made.join().unwrap()
}

/// The program under the name `apply_patch`, as which it applies a patch to files and does nothing else.
pub(crate) struct Patcher {
    home: TempDir,
}

impl Patcher {
    pub(crate) fn new() -> Self {
        let home = home();
        symlink(program(), home.path().join("apply_patch")).unwrap();
        Self { home }
    }

    pub(crate) fn apply(&self, directory: &Path, patch: &str) -> Output {
        Command::new(self.home.path().join("apply_patch"))
            .arg(patch)
            .current_dir(directory)
            .env_clear()
            .envs([("PATH", PATH)])
            .env("HOME", self.home.path())
            .env("CODEX_HOME", self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}
