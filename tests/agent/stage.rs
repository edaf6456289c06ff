//! Everything that an agent has around it.

mod cluster;
mod model;
mod repository;
mod sandbox;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podwright::agent::driver::network::Outside;
use podwright::agent::driver::{
    Assignment, Directories, Drive, DriveError, Orders, Stopped, drive_before, verify,
};
use podwright::agent::events::{Surfaces, surfaces};
use podwright::agent::journal::Journal;
use podwright::agent::journal::record::Entry;
use podwright::agent::state::State;
use podwright::agent::thread::Thread;
use podwright::api::AgentAttemptStatus;
use podwright::api::attempt::{ArtifactRef, InboxMessage, Job};
use podwright::api::message::MessageKind;
use podwright::artifacts::decode;
use podwright::sandbox::ChildDial;
use podwright::workspace::Git;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::cluster::FakeCluster;
pub(crate) use self::model::{counting, listening, playing, serving};
use self::repository::git_server;
pub(crate) use self::repository::{git, repository};
use self::sandbox::Sandbox;

/// An attempt's surroundings. Everything in them ends with this value.
pub(crate) struct Stage {
    pub(crate) cluster: FakeCluster,
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) job: Value,
    pub(crate) log: Log,
    pub(crate) surfaces: Surfaces,
    /// The way of the proxy to other hosts: the pod's network, unless a test has another.
    pub(crate) outside: Outside,
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

/// The agent's standard output.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Stage {
    /// A stage on which the model plays `script`, with a small repository.
    pub(crate) async fn new(script: &str) -> Self {
        Self::with_model(serving(script).await)
    }

    /// A stage whose model says what `answer` makes of the newest item of a request, and of nothing else: asked
    /// again, as after a crash, it answers the same. A script would take that for its next step.
    pub(crate) async fn answering(answer: fn(&Value) -> Vec<Value>) -> Self {
        Self::with_model(model::answering(answer).await)
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
            outside: Outside::default(),
            attempt_uid: "6f1b2c3d-0000-4000-8000-000000000001".into(),
            volumes,
            workspace,
            sandbox,
            git,
        }
    }

    /// An agent's process.
    pub(crate) fn agent(&self) -> Agent {
        Agent::spawn(drive_before(self.parts(1), self.surfaces.clone()))
    }

    /// A process of the pod that verifies.
    pub(crate) fn verifier(&self) -> Agent {
        Agent::spawn(verify(self.parts(2)))
    }

    /// The next pod: its volumes are empty, and its sandbox is another one.
    pub(crate) fn next_pod(&mut self) {
        self.empty_volumes();
        fs::remove_dir_all(self.worktree()).unwrap();
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
            outside: self.outside.clone(),
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
        State::fold(&self.journal()).unwrap().thread.unwrap()
    }

    /// The directory of the work tree.
    pub(crate) fn worktree(&self) -> PathBuf {
        self.workspace.join("app")
    }

    /// A file of the work tree.
    pub(crate) fn file(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Where a file of the work tree is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.worktree().join(path)
    }

    /// Makes an empty file in the work tree, as a command could.
    pub(crate) fn put(&self, path: &str) {
        fs::write(self.path(path), "").unwrap();
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
        self.empty_volumes();
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

    fn empty_volumes(&self) {
        for name in ["state", "repo"] {
            let volume = self.volumes.path().join(name);
            fs::remove_dir_all(&volume).unwrap();
            fs::create_dir(&volume).unwrap();
        }
    }
}

impl Agent {
    fn spawn(work: impl Future<Output = Result<Stopped, DriveError>> + Send + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { task: runtime.spawn(work), runtime: Some(runtime) }
    }

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
