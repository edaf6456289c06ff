//! From a pod with nothing in it to a thread that can begin: the repository, the sandbox, the setup script,
//! the baseline, the first messages. Each part finds itself done when the agent was restarted in the middle.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use podwright_sandboxd::confine::WRITABLE;
use podwright_sandboxd::protocol::{BootId, ErrorCode, FileState, Network, OpId, Profile, Start};
use secrecy::SecretString;
use url::Url;

use super::cluster::{Cluster, ClusterError};
use super::commands::base_environment;
use super::redact::Redaction;
use super::{Announce, Assignment};
use crate::agent::agents_md::{self, AgentsMd, BUDGET, Found};
use crate::agent::journal::record::{InputAccepted, InputKind, ThreadOpened};
use crate::agent::machine::Prepared;
use crate::agent::prompt::{self, EnvironmentContext, Permissions, PromptInput};
use crate::agent::tools::definitions;
use crate::api::attempt::{Job, JobModel, Outcome};
use crate::api::provider::ModelApi;
use crate::api::reasons::Reason;
use crate::api::task::{ConfigMapKeyRef, FetchMode, ReasoningEffort, Repository};
use crate::llm::{Capabilities, Wire};
use crate::sandbox::{Known, Outcome as CommandOutcome, Sandbox, SandboxError};
use crate::workspace::{
    Bounds, CheckoutError, Credential, Depth, FetchError, FetchSpec, Fetched, Git, Layout, Reference,
    Worktree, checkout, fetch, fetched,
};

/// How much of a setup script's output a person is shown.
const TAIL_MAX: usize = 1500;

/// One look at the setup script; its output so far is dropped then, since only its end is shown.
const SETUP_LOOK: Duration = Duration::from_secs(10);

/// Shells that are looked for, the first that is there runs the model's commands: models write for bash.
/// The second place is for images in which `/bin` is no link.
const SHELLS: [&str; 2] = ["usr/bin/bash", "bin/bash"];

/// The repository as the agent has it.
pub(super) struct Workspace {
    pub(super) fetched: Fetched,
    pub(super) worktree: Worktree,
}

/// A workspace and a sandbox in which the thread can begin.
pub(super) struct Ready {
    pub(super) workspace: Workspace,
    pub(super) prepared: Prepared,
    pub(super) profile: Profile,
}

/// Prepares an attempt.
pub(super) struct Preparation<C> {
    pub(super) cluster: C,
    pub(super) assignment: Assignment,
    pub(super) git: Git,
    pub(super) layout: Layout,
    pub(super) announce: Announce,
}

impl<C: Cluster> Preparation<C> {
    /// Does all of it.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn run(&self, connect: impl FnOnce() -> Sandbox) -> Result<(Sandbox, Ready), Outcome> {
        let prompt = self.prompt().await?;
        let mut workspace = self.workspace().await?;
        self.announce.phase("waiting for the sandbox").await;
        let sandbox = connect();
        let boot = sandbox.ready().await.map_err(lost)?.id;
        self.setup(&sandbox, &boot).await?;
        let profile = begin_agent_phase(&sandbox, &boot, &self.assignment.attempt_uid).await?;
        let snapshot = workspace.worktree.snapshot().await.map_err(|error| internal(&error))?;
        let shell = shell(&sandbox).await?;
        let opened = self.open(&workspace, snapshot.tree.to_string(), shell, &prompt)?;
        let uid = self.assignment.attempt_uid.clone();
        let prompt = InputAccepted { uid, seq: 0, kind: InputKind::Prompt, text: prompt };
        let prepared = Prepared { opened, prompt, boot };
        Ok((sandbox, Ready { workspace, prepared, profile }))
    }

    /// Fetches and checks out the repository, or finds it done.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn workspace(&self) -> Result<Workspace, Outcome> {
        let job = &self.assignment.job;
        let repository = &job.repository;
        self.announce.phase(&format!("fetching {} at {}", repository.url, repository.reference)).await;
        let url = repository.url.parse().map_err(|error| clone_failed(&error))?;
        let reference = repository.reference.parse().map_err(|error| clone_failed(&error))?;
        // After a restart the credential may be gone, and nothing needs it any more.
        let fetched = match fetched(&url, &reference, &self.layout).map_err(|error| clone_failed(&error))? {
            Some(fetched) => fetched,
            None => self.fetch(url, reference).await?,
        };
        checkout(&fetched, &self.layout, &self.git).await.map_err(|error| match error {
            CheckoutError::Foreign => outcome(Reason::SandboxLost, &error),
            CheckoutError::NotFetched
            | CheckoutError::NoSpace
            | CheckoutError::HarmfulPath(_)
            | CheckoutError::Volume(_)
            | CheckoutError::Git(_) => clone_failed(&error),
        })?;
        let excludes = &job.environment.patch_excludes;
        let worktree = Worktree::open(&self.layout, &self.git, &fetched, excludes).await;
        let worktree = worktree.map_err(|error| internal(&error))?;
        self.announce.base_commit(fetched.base_commit.to_string()).await;
        Ok(Workspace { fetched, worktree })
    }

    async fn fetch(&self, url: Url, reference: Reference) -> Result<Fetched, Outcome> {
        let job = &self.assignment.job;
        let repository = &job.repository;
        let spec = FetchSpec {
            url,
            reference,
            depth: match (repository.fetch, u32::try_from(repository.depth).ok().and_then(NonZeroU32::new)) {
                (FetchMode::Shallow, Some(depth)) => Depth::Shallow(depth),
                (FetchMode::Shallow, None) | (FetchMode::Full, _) => Depth::Full,
            },
            credential: self.credential().await?,
            ca_bundle: self.bundle(job.environment.ca_bundle.as_ref()).await?,
            bounds: Bounds::default(),
        };
        fetch(&spec, &self.layout, &self.git).await.map_err(|error| fetch_failed(&error, repository))
    }

    async fn prompt(&self) -> Result<String, Outcome> {
        let job = &self.assignment.job;
        match (&job.prompt, &job.prompt_from) {
            (Some(prompt), _) => Ok(prompt.clone()),
            (None, Some(reference)) => self.value(reference).await,
            (None, None) => Err(invalid("the task has no prompt")),
        }
    }

    async fn bundle(&self, reference: Option<&ConfigMapKeyRef>) -> Result<Option<String>, Outcome> {
        match reference {
            None => Ok(None),
            Some(reference) => self.value(reference).await.map(Some),
        }
    }

    async fn value(&self, reference: &ConfigMapKeyRef) -> Result<String, Outcome> {
        let ConfigMapKeyRef { name, key } = reference;
        let value = self.cluster.config_map_value(name, key).await.map_err(unreadable)?;
        value.ok_or_else(|| invalid(&format!("the ConfigMap {name} has no key {key}")))
    }

    async fn credential(&self) -> Result<Option<Credential>, Outcome> {
        let Some(name) = &self.assignment.job.repository.credentials_secret_name else { return Ok(None) };
        let mut values = self.cluster.secret(name).await.map_err(unreadable)?;
        let mut text = |key: &str| values.remove(key).and_then(|value| String::from_utf8(value).ok());
        let credential = match (text("username"), text("password"), text("token")) {
            (Some(username), Some(password), _) => {
                Credential { username: username.trim().to_owned(), password: trimmed(&password) }
            }
            (_, _, Some(token)) => Credential::token(trimmed(&token)),
            (_, _, None) => {
                let namespace = &self.assignment.namespace;
                return Err(invalid(&format!(
                    "the Secret {name} has neither the keys username and password nor the key token; replace it: \
                     kubectl create secret generic {name} -n {namespace} --from-literal=username=<user> \
                     --from-literal=password=<password>"
                )));
            }
        };
        Ok(Some(credential))
    }

    /// Runs the setup script to its end, once in a life of the sandbox.
    async fn setup(&self, sandbox: &Sandbox, boot: &BootId) -> Result<(), Outcome> {
        let job = &self.assignment.job;
        let Some(setup) = &job.environment.setup else { return Ok(()) };
        self.announce.phase("running the setup script").await;
        let phase = op(&self.assignment.attempt_uid, "setup")?;
        match sandbox.begin_phase(boot, phase.clone(), Network::Open).await {
            Ok(_) => {}
            // Its phase is closed after it succeeded, and never opened again.
            Err(error) if error.code() == Some(ErrorCode::PhaseConflict) => return Ok(()),
            Err(error) => return Err(not_begun(error)),
        }
        let mut secrets = BTreeMap::new();
        for name in &setup.secret_names {
            secrets.extend(self.setup_secret(name).await?);
        }
        let redaction = Redaction::of(&secrets);
        let mut env = base_environment(&variables(job));
        env.extend(secrets);
        let command = Start {
            process_id: phase.clone(),
            argv: ["/bin/sh", "-e", "-c", &setup.script].map(str::to_owned).into(),
            cwd: self.layout.worktree().to_string_lossy().into_owned(),
            env,
            tty: false,
            pipe_stdin: false,
            deadline_ms: Some(setup.timeout_seconds.max(1).unsigned_abs() * 1000),
        };
        let failed = |error: SandboxError| match error {
            SandboxError::Lost(_) => lost(error),
            SandboxError::Refused(_) | SandboxError::TooLarge(_) | SandboxError::Restarted { .. } => {
                setup_failed(&format!("cannot be run: {error}"), "")
            }
        };
        sandbox.start(boot, command, 0).await.map_err(failed)?;
        let mut tail = String::new();
        let (ended, tail) = loop {
            let observed = sandbox.observe(&phase, SETUP_LOOK).await.map_err(failed)?;
            for part in [&observed.output.head, &observed.output.tail] {
                tail.push_str(&String::from_utf8_lossy(part));
            }
            // Whole values only can be recognised, so that a cut must not go through one.
            let kept = TAIL_MAX + redaction.longest();
            let start = tail.ceil_char_boundary(tail.len().saturating_sub(kept));
            tail.drain(..start);
            let tail = redaction.end_of(&tail, TAIL_MAX);
            match observed.outcome {
                CommandOutcome::Running => {}
                CommandOutcome::Exited(ended) => break (ended, tail),
                CommandOutcome::Interrupted { .. } => {
                    return Err(setup_failed("was interrupted by a restart of the sandbox", &tail));
                }
                CommandOutcome::Unknown { why } => {
                    return Err(setup_failed(&format!("has an unknown end ({why})"), &tail));
                }
            }
        };
        match (ended.exit, ended.record.ended_by) {
            (Known::Code(0), _) => {}
            (_, podwright_sandboxd::protocol::EndedBy::Deadline) => {
                let seconds = setup.timeout_seconds;
                let what = format!("ran longer than its timeoutSeconds ({seconds})");
                return Err(setup_failed(&what, &tail));
            }
            (Known::Code(code), _) => {
                return Err(setup_failed(&format!("exited with code {code}"), &tail));
            }
            (Known::Signal(signal), _) => {
                return Err(setup_failed(&format!("was ended by signal {signal}"), &tail));
            }
        }
        sandbox.end_phase(boot, phase).await.map(drop).map_err(failed)
    }

    async fn setup_secret(&self, name: &str) -> Result<BTreeMap<String, String>, Outcome> {
        let values = self.cluster.secret(name).await.map_err(unreadable)?;
        let text = values.into_iter().map(|(key, value)| match String::from_utf8(value) {
            Ok(value) => Ok((key, value)),
            Err(_) => Err(invalid(&format!("the key {key} of the Secret {name} is no text"))),
        });
        text.collect()
    }

    fn open(
        &self,
        workspace: &Workspace,
        baseline_tree: String,
        shell: String,
        prompt: &str,
    ) -> Result<ThreadOpened, Outcome> {
        let Assignment { job, attempt, attempt_uid, task_uid, .. } = &self.assignment;
        let (wire, capabilities) = (wire(&job.model), capabilities(&job.model));
        let tools = wire.tools(&definitions::codex(), &capabilities);
        let cwd = self.layout.worktree().to_string_lossy().into_owned();
        let agents_md = self.agents_md(workspace, &cwd);
        let input = PromptInput {
            instructions: &job.instructions,
            permissions: Permissions {
                writable_roots: &WRITABLE,
                network: job.environment.network,
                command_limit: command_limit(job),
            },
            agents_md: agents_md.as_ref(),
            environment: EnvironmentContext {
                cwd: &cwd,
                workspace_root: &cwd,
                shell: Path::new(&shell).file_name().and_then(|name| name.to_str()).unwrap_or("sh"),
                date: Timestamp::now().to_zoned(TimeZone::UTC).date(),
            },
            prompt,
        };
        let mut messages = prompt::initial_messages(&input);
        // The prompt itself begins the first turn.
        messages.pop();
        let prefix = messages.into_iter().map(|message| wire.message(message, &capabilities)).collect();
        Ok(ThreadOpened {
            thread_id: attempt_uid.clone(),
            task_uid: task_uid.clone(),
            attempt: attempt.clone(),
            base_commit: workspace.fetched.base_commit.to_string(),
            baseline_tree,
            provider: job.model.provider_name.clone(),
            model: job.model.name.clone(),
            reasoning_effort: effort(job.model.reasoning_effort),
            shell,
            wire,
            capabilities,
            tools: String::from_utf8(tools.bytes.to_vec()).map_err(|error| internal(&error))?,
            custom_as_function: tools.custom_as_function,
            prefix,
        })
    }

    fn agents_md(&self, workspace: &Workspace, cwd: &str) -> Option<AgentsMd> {
        let reader = workspace.worktree.reader();
        let mount = self.layout.workspace();
        let read = |path: &String| {
            let relative = Path::new(path).strip_prefix(mount).ok()?;
            // One byte more than counts tells whether something is missing.
            let content = reader.read(relative, BUDGET + 1).ok()?;
            let length = content.bytes.len() as u64;
            Some(Found { path: path.clone(), content: content.bytes, length })
        };
        let found: Vec<Vec<Found>> = agents_md::candidates(cwd, cwd)
            .iter()
            .map(|names| names.iter().filter_map(read).collect())
            .collect();
        agents_md::assemble(&found)
    }
}

/// Opens the phase in which the model's commands run. Safe to repeat.
///
/// # Errors
/// How the attempt ends.
pub(super) async fn begin_agent_phase(
    sandbox: &Sandbox,
    boot: &BootId,
    attempt_uid: &str,
) -> Result<Profile, Outcome> {
    let phase = op(attempt_uid, "agent")?;
    sandbox.begin_phase(boot, phase, Network::Loopback).await.map_err(not_begun)
}

/// An operation of the attempt that is no call of the model.
pub(super) fn op(attempt_uid: &str, name: &str) -> Result<OpId, Outcome> {
    OpId::new(format!("{attempt_uid}-{name}")).map_err(|error| internal(&error))
}

/// The environment's variables.
pub(super) fn variables(job: &Job) -> Vec<(String, String)> {
    job.environment.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect()
}

/// How long one command may run.
pub(super) fn command_limit(job: &Job) -> Duration {
    Duration::from_secs(job.limits.command_seconds.max(1).unsigned_abs())
}

/// How an attempt ends that meets a fault of this program or its image.
pub(super) fn internal(error: &dyn std::fmt::Display) -> Outcome {
    Outcome {
        reason: Reason::InternalError,
        message: format!("{error}. This is a fault of Podwright's own; please report it."),
    }
}

/// How an attempt ends whose sandbox is gone.
pub(super) fn lost(error: SandboxError) -> Outcome {
    outcome(Reason::SandboxLost, &error)
}

/// The shell for the model's commands.
async fn shell(sandbox: &Sandbox) -> Result<String, Outcome> {
    let paths = SHELLS.map(str::to_owned);
    let states = sandbox.fs_state("/", &paths).await.map_err(lost)?;
    let found = states.into_iter().find(|path| matches!(path.state, FileState::File { .. }));
    Ok(found.map_or_else(|| "/bin/sh".to_owned(), |path| format!("/{}", path.path)))
}

fn wire(model: &JobModel) -> Wire {
    match model.api {
        ModelApi::Responses => Wire::Responses,
    }
}

fn capabilities(model: &JobModel) -> Capabilities {
    let can = &model.capabilities;
    Capabilities {
        custom_tools: can.custom_tools,
        parallel_tool_calls: can.parallel_tool_calls,
        developer_role: can.developer_role,
        encrypted_reasoning: can.encrypted_reasoning,
        reasoning_replay: can.reasoning_replay,
        reasoning: can.reasoning,
        reasoning_summary: can.reasoning_summary,
        prompt_cache_key: can.prompt_cache_key,
        image_input: false,
    }
}

fn effort(effort: Option<ReasoningEffort>) -> Option<String> {
    let name = match effort? {
        ReasoningEffort::Minimal => "minimal",
        ReasoningEffort::Low => "low",
        ReasoningEffort::Medium => "medium",
        ReasoningEffort::High => "high",
    };
    Some(name.to_owned())
}

/// Secrets made with a text editor end in a newline, which is never part of a password.
fn trimmed(text: &str) -> SecretString {
    text.trim_end_matches(['\r', '\n']).into()
}

fn not_begun(error: SandboxError) -> Outcome {
    match error.code() {
        Some(ErrorCode::Unconfinable) => Outcome {
            reason: Reason::InvalidSpec,
            message: format!(
                "{error}. Run the task on nodes with a newer kernel (nodeSelector of the AgentEnvironment)."
            ),
        },
        _ => lost(error),
    }
}

fn unreadable(error: ClusterError) -> Outcome {
    match &error {
        ClusterError::Refused { code: 404, .. } => outcome(Reason::InvalidSpec, &error),
        ClusterError::Refused { .. } | ClusterError::Unreachable { .. } => internal(&error),
    }
}

/// A Secret that was refused is named, with the command that replaces what is in it.
fn fetch_failed(error: &FetchError, repository: &Repository) -> Outcome {
    match (error, &repository.credentials_secret_name) {
        (FetchError::AuthenticationFailed { host }, Some(name)) => clone_failed(&format!(
            "{host} refused the user name and password of Secret {name}; put the right ones into it: kubectl create \
             secret generic {name} --from-literal=username=USER --from-literal=password=TOKEN --dry-run=client -o \
             yaml | kubectl apply -f -, and create a new task"
        )),
        _ => clone_failed(error),
    }
}

fn clone_failed(error: &dyn std::fmt::Display) -> Outcome {
    outcome(Reason::CloneFailed, error)
}

fn invalid(what: &str) -> Outcome {
    outcome(Reason::InvalidSpec, &what)
}

fn setup_failed(what: &str, tail: &str) -> Outcome {
    let tail = tail.trim();
    let message = if tail.is_empty() {
        format!("The AgentEnvironment's setup script {what}.")
    } else {
        format!("The AgentEnvironment's setup script {what}. The end of its output:\n{tail}")
    };
    Outcome { reason: Reason::SetupFailed, message }
}

/// An outcome whose message is an error, as a sentence.
fn outcome(reason: Reason, error: &dyn std::fmt::Display) -> Outcome {
    let mut text = error.to_string();
    // A first word that is a host's name or a path stays as it is.
    let word = text.split(' ').next().unwrap_or_default();
    if word.bytes().all(|byte| byte.is_ascii_lowercase())
        && let Some(first) = text.get_mut(..1)
    {
        first.make_ascii_uppercase();
    }
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    Outcome { reason, message: text }
}
