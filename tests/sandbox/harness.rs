//! A supervisor in namespaces of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use podwright::sandbox::protocol::{
    BootId, EndedBy, Hello, Initialize, InitializeResult, Network, OpId, PROTOCOL_VERSION, Request, RpcError,
    ServerFrame, ServerNotice, Start, Token, encode_request,
};
use podwright::sandbox::{ChildDial, Dial, Known, Observation, Options, Outcome, Sandbox, TokenFile};

use crate::program::program;

/// An ordinary user that nobody else is.
const USER: &str = "1000321";

/// Where commands may write; empty at first.
pub(crate) const WORK: &str = "/tmp/work";

/// A supervisor and everything that it started. Ends with this value.
pub(crate) struct Supervisor {
    unshare: Child,
    pub(crate) pid: u32,
    state: tempfile::TempDir,
}

/// The supervisor's program inside: the build may lie where the sandbox's user can't go, or below the /tmp that the
/// sandbox replaces.
pub(crate) const INSIDE: &str = "/mnt/podwright-sandboxd";

/// A stream without the client: lines in, lines out.
pub(crate) struct RawStream {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Supervisor {
    pub(crate) fn boot() -> Self {
        let script = format!(
            "mount -t tmpfs -o mode=755 tmpfs /mnt && cp {} {INSIDE} && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm && chmod 1777 /tmp /dev/shm && mkdir {WORK} \
             && chown {USER}:{USER} {WORK} && ip link set lo up \
             && exec setpriv --reuid {USER} --regid {USER} --clear-groups --pdeathsig KILL {INSIDE}",
            program().display()
        );
        // Whatever becomes of the test, nothing is left running.
        let unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--mount-proc", "--net", "--ipc"])
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut supervisor = Self { unshare, pid: 0, state: tempfile::tempdir().unwrap() };
        supervisor.pid = supervisor.wait_for_init();
        supervisor
    }

    /// The child of `unshare`, once it is the supervisor itself and listens.
    fn wait_for_init(&mut self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        loop {
            let pid = fs::read_to_string(&children).unwrap_or_default().trim().parse().unwrap_or(0);
            let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix"));
            if sockets.is_ok_and(|sockets| sockets.contains("@podwright-sandboxd")) {
                return pid;
            }
            assert!(self.unshare.try_wait().unwrap().is_none(), "the supervisor did not start; are we root?");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A command line that runs `command` in the container, as exec does: its parent lives outside.
    pub(crate) fn exec(&self, command: &[&str]) -> Vec<String> {
        let target = self.pid.to_string();
        let enter = ["nsenter", "--target", &target, "--pid", "--mount", "--net", "--ipc"];
        let user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"];
        enter.iter().chain(&user).chain(command).map(|&word| word.to_owned()).collect()
    }

    pub(crate) fn dial(&self) -> ChildDial {
        ChildDial::new(self.exec(&[INSIDE, "attach"]))
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            client_name: "test".into(),
            tokens: TokenFile::new(self.state.path().join("token")),
            first_within: Duration::from_secs(60),
            give_up_after: Duration::from_secs(60),
        }
    }

    pub(crate) fn connect(&self) -> Sandbox {
        Sandbox::connect(self.dial(), self.options())
    }

    /// A client with an open phase.
    pub(crate) async fn ready(&self) -> (Sandbox, BootId) {
        self.ready_over(self.dial()).await
    }

    pub(crate) async fn ready_over(&self, dial: impl Dial) -> (Sandbox, BootId) {
        let sandbox = Sandbox::connect(dial, self.options());
        let boot = sandbox.ready().await.unwrap().id;
        sandbox.begin_phase(&boot, op("phase"), Network::Loopback).await.unwrap();
        (sandbox, boot)
    }

    /// A path of the container, seen from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.pid)).join(path.trim_start_matches('/'))
    }

    /// A number of `/proc/PID/status`.
    pub(crate) fn status_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn stream(&self) -> RawStream {
        RawStream::open(&self.exec(&[INSIDE, "attach"]))
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid.to_string()]).status().unwrap().success());
    }

    /// Waits for the supervisor's end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.unshare.wait().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status();
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

impl RawStream {
    pub(crate) fn open(argv: &[String]) -> Self {
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<ServerFrame> {
        let mut line = Vec::new();
        self.output.read_until(b'\n', &mut line).unwrap();
        (!line.is_empty()).then(|| ServerFrame::decode(&line).unwrap())
    }

    pub(crate) fn hello(&mut self) -> Hello {
        match self.next() {
            Some(ServerFrame::Notice(ServerNotice::Hello(hello))) => hello,
            other => panic!("no greeting but {other:?}"),
        }
    }

    /// Sends a line, whether or not anybody is there.
    pub(crate) fn send(&mut self, line: &[u8]) {
        let _ = self.input.write_all(line);
    }

    /// Sends a request and waits for its answer. `None` when the stream has ended.
    pub(crate) fn call<R: Request>(&mut self, params: &R) -> Option<Result<R::Response, RpcError>> {
        self.send(&encode_request(1, params).unwrap());
        loop {
            if let ServerFrame::Response { id: 1, result } = self.next()? {
                return Some(result.map(|result| serde_json::from_str(result.get()).unwrap()));
            }
        }
    }

    pub(crate) fn initialize(&mut self, token: &Token) -> Result<InitializeResult, RpcError> {
        let Hello { boot_id, .. } = self.hello();
        self.call(&initialize(boot_id, token)).unwrap()
    }
}

impl Drop for RawStream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn initialize(boot_id: BootId, token: &Token) -> Initialize {
    let protocol_version = PROTOCOL_VERSION;
    Initialize { protocol_version, client_name: "raw".into(), boot_id, token: token.clone() }
}

pub(crate) fn op(id: &str) -> OpId {
    OpId::new(id).unwrap()
}

/// A shell command with an ordinary environment.
pub(crate) fn shell(id: &str, script: &str) -> Start {
    Start {
        process_id: op(id),
        argv: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
        cwd: WORK.into(),
        env: BTreeMap::from([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]),
        tty: false,
        pipe_stdin: false,
        deadline_ms: None,
    }
}

/// Runs a command to its end, and returns what it wrote and what became of it.
pub(crate) async fn run(sandbox: &Sandbox, boot: &BootId, command: Start) -> Observation {
    let id = command.process_id.clone();
    sandbox.start(boot, command, 0).await.unwrap();
    finish(sandbox, &id).await
}

/// Follows a command to its end. The output is that since the last look before.
pub(crate) async fn finish(sandbox: &Sandbox, id: &OpId) -> Observation {
    let mut output = Vec::new();
    loop {
        let mut observation = sandbox.observe(id, Duration::from_secs(60)).await.unwrap();
        if observation.output.omitted > 0 {
            assert!(output.is_empty());
            return observation;
        }
        output.extend_from_slice(&observation.output.head);
        if !matches!(observation.outcome, Outcome::Running) {
            observation.output.head = output;
            return observation;
        }
    }
}

/// How a command ended that is known to have.
pub(crate) fn exit_of(observation: &Observation) -> (Known, EndedBy) {
    let Outcome::Exited(ended) = &observation.outcome else { panic!("{:?}", observation.outcome) };
    (ended.exit, ended.record.ended_by)
}

/// All of its output.
pub(crate) fn text(observation: &Observation) -> &str {
    assert_eq!(observation.output.omitted, 0);
    std::str::from_utf8(&observation.output.head).unwrap()
}
