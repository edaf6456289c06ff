//! Everything that an agent has around it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use podwright::agent::driver::cluster::ClusterError;
use podwright::agent::driver::{
    Assignment, Cluster, Directories, Drive, DriveError, Orders, Stopped, drive_before, verify,
};
use podwright::agent::events::{Surfaces, surfaces};
use podwright::agent::journal::Journal;
use podwright::agent::journal::record::Entry;
use podwright::agent::state::State;
use podwright::agent::thread::Thread;
use podwright::api::AgentAttemptStatus;
use podwright::api::attempt::{ArtifactRef, InboxMessage, Job};
use podwright::api::message::MessageKind;
use podwright::artifacts::{Encoded, SinkError, decode};
use podwright::sandbox::ChildDial;
use podwright::scripted::{Script, serve};
use podwright::workspace::Git;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::supervisor::program;

/// An attempt's surroundings. Everything in them ends with this value.
pub(crate) struct Stage {
    pub(crate) cluster: FakeCluster,
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) job: Value,
    pub(crate) log: Log,
    pub(crate) surfaces: Surfaces,
    attempt_uid: String,
    volumes: TempDir,
    workspace: PathBuf,
    sandbox: Sandbox,
    git: Child,
}

/// An agent with a runtime of its own, as it has in its process.
pub(crate) struct Agent {
    task: JoinHandle<Result<Stopped, DriveError>>,
    runtime: Option<Runtime>,
}

/// The API server's stand-in: it keeps what the agent writes.
#[derive(Clone, Default)]
pub(crate) struct FakeCluster {
    pub(crate) statuses: Arc<Mutex<Vec<AgentAttemptStatus>>>,
    pub(crate) artifacts: Arc<Mutex<BTreeMap<String, Encoded>>>,
    pub(crate) secrets: Arc<Mutex<BTreeMap<String, Secret>>>,
    pub(crate) config_maps: Arc<Mutex<Values>>,
    /// While true, no artifact is taken.
    pub(crate) holds_artifacts: Arc<AtomicBool>,
    /// Whether the sandbox's container ended last because it used too much memory.
    pub(crate) ran_out_of_memory: Arc<AtomicBool>,
}

/// The values of ConfigMaps, by name and key.
type Values = BTreeMap<(String, String), Vec<u8>>;

/// The values of a Secret.
type Secret = BTreeMap<String, Vec<u8>>;

/// The agent's standard output.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// A supervisor in namespaces of its own.
struct Sandbox {
    unshare: Child,
    pid: u32,
    /// Says where it is, to whoever dials.
    pid_file: PathBuf,
}

impl Stage {
    /// A stage on which the model plays `script`, with a small repository.
    pub(crate) async fn new(script: &str) -> Self {
        Self::with_model(model(script).await)
    }

    /// A stage whose model says what `answer` makes of the newest item of a request, and of nothing else: asked
    /// again, as after a crash, it answers the same. A script would take that for its next step.
    pub(crate) async fn answering(answer: fn(&Value) -> Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let respond = move |Json(body): Json<Value>| async move {
            let newest = body["input"].as_array().and_then(|input| input.last()).cloned().unwrap_or_default();
            let items = answer(&newest)
                .into_iter()
                .map(|item| json!({"type": "response.output_item.done", "item": item}));
            let usage = json!({"input_tokens": 1, "output_tokens": 1, "total_tokens": 2});
            let end = json!({"type": "response.completed", "response": {"id": "r", "usage": usage}});
            let events: String = items.chain([end]).map(|event| format!("data: {event}\n\n")).collect();
            ([("content-type", "text/event-stream")], events)
        };
        let router = Router::new().route("/v1/responses", post(respond));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self::with_model(url)
    }

    /// A stage whose model answers at `model`, the base URL of a Responses API.
    pub(crate) fn with_model(model: String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let volumes = TempDir::new().unwrap();
        // Where commands may write, at the same path on both sides.
        let workspace = PathBuf::from(format!("/workspace/agent-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&workspace).unwrap();
        for name in ["state", "repo", "served"] {
            fs::create_dir(volumes.path().join(name)).unwrap();
        }
        repository(&volumes.path().join("served/app"));
        let (git, port) = git_server(&volumes.path().join("served"));
        let job = json!({
            "prompt": "Mend the greeting.",
            "repository": {"name": "app", "url": format!("http://127.0.0.1:{port}/open/app"), "ref": "main", "depth": 50},
            "environment": {},
            "model": {
                "providerName": "default", "name": "scripted", "api": "Responses", "baseURL": model,
                "capabilities": {
                    "customTools": true, "parallelToolCalls": true, "developerRole": true, "promptCacheKey": true
                },
            },
            "limits": {},
            "patchArtifactName": "fix-1-patch",
            "transcriptArtifactName": "fix-1-transcript",
        });
        let (orders, _) = watch::channel(Orders::Work { inbox: Vec::new(), suspend: false });
        let sandbox = Sandbox::boot(volumes.path().join("sandbox-pid"));
        Self {
            cluster: FakeCluster::default(),
            orders,
            job,
            log: Log::default(),
            surfaces: surfaces(),
            attempt_uid: "6f1b2c3d-0000-4000-8000-000000000001".into(),
            volumes,
            workspace,
            sandbox,
            git,
        }
    }

    /// An agent's process.
    pub(crate) fn agent(&self) -> Agent {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let task = runtime.spawn(drive_before(self.parts(1), self.surfaces.clone()));
        Agent { task, runtime: Some(runtime) }
    }

    /// A process of the pod that verifies.
    pub(crate) fn verifier(&self) -> Agent {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let task = runtime.spawn(verify(self.parts(2)));
        Agent { task, runtime: Some(runtime) }
    }

    /// The next pod: its volumes are empty, and its sandbox is another one.
    pub(crate) fn next_pod(&mut self) {
        for name in ["state", "repo"] {
            let volume = self.volumes.path().join(name);
            fs::remove_dir_all(&volume).unwrap();
            fs::create_dir(&volume).unwrap();
        }
        fs::remove_dir_all(self.workspace.join("app")).unwrap();
        self.sandbox.restart();
    }

    /// The repository that is served.
    pub(crate) fn served(&self) -> PathBuf {
        self.volumes.path().join("served/app")
    }

    fn parts(&self, epoch: u32) -> Drive<FakeCluster, ChildDial> {
        let volume = |name: &str| self.volumes.path().join(name);
        let job: Job = serde_json::from_value(self.job.clone()).unwrap();
        Drive {
            assignment: Assignment {
                namespace: "default".into(),
                attempt: "fix-1".into(),
                attempt_uid: self.attempt_uid.clone(),
                task_uid: "6f1b2c3d-0000-4000-8000-000000000000".into(),
                epoch,
                pod_uid: format!("pod-{epoch}"),
                job,
            },
            cluster: self.cluster.clone(),
            dial: self.sandbox.dial(),
            git: Git::with_helper(env!("CARGO_BIN_EXE_podwright").into()).unwrap(),
            directories: Directories {
                state: volume("state"),
                repo: volume("repo"),
                workspace: self.workspace.clone(),
            },
            status: self.status(),
            orders: self.orders.subscribe(),
            log: Box::new(self.log.clone()),
        }
    }

    /// The journal as it is on disk. No agent may have it open.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        Journal::open(&self.volumes.path().join("state")).unwrap().entries
    }

    /// Damages the journal in its first line. No agent may have it open.
    pub(crate) fn damage_journal(&self) {
        let segment = self.volumes.path().join("state/journal/0001");
        let whole = fs::read(&segment).unwrap();
        fs::write(&segment, [b"damaged\n", &whole[..]].concat()).unwrap();
    }

    /// Runs an agent to its end, and gives the last status.
    pub(crate) async fn run(&self) -> AgentAttemptStatus {
        assert_eq!(self.agent().ended().await, Stopped::Published, "{}", self.log.text());
        self.status()
    }

    pub(crate) fn status(&self) -> AgentAttemptStatus {
        self.cluster.statuses.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// Waits until the log says something.
    pub(crate) async fn logged(&self, text: &str) {
        self.until(|stage| stage.log.text().contains(text)).await;
    }

    /// Waits until it is like this.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let waited = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(120), waited).await;
        assert!(waited.is_ok(), "it never came to that:\n{}", self.log.text());
    }

    /// Says something to the agent.
    pub(crate) fn say(&self, seq: i64, kind: MessageKind, text: &str) {
        let message = InboxMessage { uid: format!("message-{seq}"), seq, kind, text: text.into() };
        self.orders.send_modify(|orders| match orders {
            Orders::Work { inbox, .. } => inbox.push(message),
            Orders::Gone(_) => {}
        });
    }

    /// The thread as the journal has it; no agent may be running.
    pub(crate) fn thread(&self) -> Thread {
        let opened = Journal::open(&self.volumes.path().join("state")).unwrap();
        State::fold(&opened.entries).unwrap().thread.unwrap()
    }

    /// The directory of the work tree.
    pub(crate) fn worktree(&self) -> PathBuf {
        self.workspace.join("app")
    }

    /// A file of the work tree.
    pub(crate) fn file(&self, path: &str) -> String {
        fs::read_to_string(self.worktree().join(path)).unwrap_or_default()
    }

    /// Where a file of the work tree is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.workspace.join("app").join(path)
    }

    /// Makes an empty file in the work tree, as a command could.
    pub(crate) fn put(&self, path: &str) {
        fs::write(self.worktree().join(path), "").unwrap();
    }

    /// The content of an artifact.
    pub(crate) fn artifact(&self, reference: &ArtifactRef) -> String {
        let artifacts = self.cluster.artifacts.lock().unwrap();
        let encoded = &artifacts[&reference.config_map_name];
        String::from_utf8(decode(&encoded.data, &reference.sha256).unwrap()).unwrap()
    }

    /// The sandbox's container ends and starts again.
    pub(crate) fn restart_sandbox(&mut self) {
        self.sandbox.restart();
    }

    /// The pod is gone with everything in it, and the next agent is that of another task.
    pub(crate) fn next_task(&mut self, attempt_uid: &str) {
        for name in ["state", "repo"] {
            fs::remove_dir_all(self.volumes.path().join(name)).unwrap();
            fs::create_dir(self.volumes.path().join(name)).unwrap();
        }
        fs::remove_dir_all(&self.workspace).unwrap();
        fs::create_dir(&self.workspace).unwrap();
        self.cluster.statuses.lock().unwrap().clear();
        self.attempt_uid = attempt_uid.to_owned();
        self.restart_sandbox();
    }

    /// What the agent's events say, line by line.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.log.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Agent {
    /// Waits until it stops.
    pub(crate) async fn ended(mut self) -> Stopped {
        (&mut self.task).await.unwrap().unwrap()
    }

    /// Ends all of it at once: nothing of it runs any more when this returns, as after a kill. Merely aborting
    /// its first task would leave the others running beside the next agent.
    pub(crate) fn crash(mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::block_in_place(|| runtime.shutdown_timeout(Duration::from_secs(60)));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.git.kill();
        let _ = self.git.wait();
        let _ = fs::remove_dir_all(&self.workspace);
    }
}

impl FakeCluster {
    /// Puts a value into a ConfigMap.
    pub(crate) fn config_map(&self, name: &str, key: &str, value: impl Into<Vec<u8>>) {
        self.config_maps.lock().unwrap().insert((name.to_owned(), key.to_owned()), value.into());
    }
}

impl Cluster for FakeCluster {
    async fn secret(&self, name: &str) -> Result<Secret, ClusterError> {
        let secrets = self.secrets.lock().unwrap();
        secrets.get(name).cloned().ok_or_else(|| ClusterError::Refused {
            what: format!("cannot read the Secret {name}"),
            code: 404,
            message: "not found".into(),
        })
    }

    async fn config_map_value(&self, name: &str, key: &str) -> Result<Option<String>, ClusterError> {
        let value = self.config_maps.lock().unwrap().get(&(name.to_owned(), key.to_owned())).cloned();
        Ok(value.map(|value| String::from_utf8(value).unwrap()))
    }

    async fn config_map_bytes(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        let artifact = self.artifacts.lock().unwrap().get(name).map(|encoded| encoded.data.clone());
        let given = self.config_maps.lock().unwrap().get(&(name.to_owned(), key.to_owned())).cloned();
        Ok(artifact.or(given))
    }

    async fn write_status(&self, status: &AgentAttemptStatus) -> Result<(), ClusterError> {
        self.statuses.lock().unwrap().push(status.clone());
        Ok(())
    }

    async fn put_artifact(
        &self,
        name: &str,
        key: &str,
        artifact: &Encoded,
    ) -> Result<ArtifactRef, SinkError> {
        while self.holds_artifacts.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.artifacts.lock().unwrap().insert(name.to_owned(), artifact.clone());
        self.config_map(name, key, artifact.data.clone());
        Ok(ArtifactRef {
            config_map_name: name.to_owned(),
            key: key.to_owned(),
            sha256: artifact.sha256.clone(),
            bytes: i64::try_from(artifact.bytes).unwrap(),
        })
    }

    async fn sandbox_ran_out_of_memory(&self) -> bool {
        self.ran_out_of_memory.load(Ordering::Relaxed)
    }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The supervisor's program inside: the build may lie below the /tmp that the sandbox replaces.
const INSIDE: &str = "/mnt/podwright-sandboxd";

impl Sandbox {
    fn boot(pid_file: PathBuf) -> Self {
        let script = format!(
            "mount -t tmpfs -o mode=755 tmpfs /mnt && cp {} {INSIDE} && mount -t tmpfs tmpfs /tmp \
             && mount -t tmpfs tmpfs /dev/shm && chmod 1777 /tmp /dev/shm \
             && mount -t tmpfs tmpfs /home && mkdir /home/agent && ip link set lo up \
             && exec setpriv --pdeathsig KILL {INSIDE}",
            program().display()
        );
        // Whatever becomes of the test, nothing is left running.
        let unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--mount-proc", "--net", "--ipc"])
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut sandbox = Self { unshare, pid: 0, pid_file };
        let children = format!("/proc/{0}/task/{0}/children", sandbox.unshare.id());
        while sandbox.pid == 0 {
            let pid: u32 = fs::read_to_string(&children).unwrap_or_default().trim().parse().unwrap_or(0);
            let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
            if sockets.contains("@podwright-sandboxd") {
                sandbox.pid = pid;
            }
            assert!(
                sandbox.unshare.try_wait().unwrap().is_none(),
                "the supervisor did not start; are we root?"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::write(&sandbox.pid_file, sandbox.pid.to_string()).unwrap();
        sandbox
    }

    fn restart(&mut self) {
        self.kill();
        *self = Self::boot(self.pid_file.clone());
    }

    /// Joins the supervisor that is there at the time of the dialling.
    fn dial(&self) -> ChildDial {
        let script = format!(
            "exec nsenter --target $(cat {}) --pid --mount --net --ipc {INSIDE} attach",
            self.pid_file.display(),
        );
        ChildDial::new(["sh", "-c", &script])
    }

    fn kill(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status();
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A repository with a script that greets the wrong way, and a branch on which it greets in another one.
pub(crate) fn repository(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("greet.sh"), "#!/bin/sh\necho hullo\n").unwrap();
    fs::write(path.join("AGENTS.md"), "Greet politely.\n").unwrap();
    for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "first"]] {
        git(path, args);
    }
    git(path, &["checkout", "-q", "-b", "feature"]);
    fs::write(path.join("greet.sh"), "#!/bin/sh\necho salve\n").unwrap();
    git(path, &["commit", "-q", "-a", "-m", "Greet in Latin"]);
    git(path, &["checkout", "-q", "main"]);
}

fn git(directory: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let status = Command::new("git").args(identity).args(args).current_dir(directory).status().unwrap();
    assert!(status.success());
}

fn git_server(root: &Path) -> (Child, u16) {
    let mut server = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/git_server.py"))
        .arg(root)
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (server, line.trim().parse().unwrap())
}

/// The scripted model, until the test ends. Gives its base URL.
async fn model(script: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let script = Script::from_yaml(script).unwrap();
    tokio::spawn(serve(listener, script, std::future::pending()));
    url
}
