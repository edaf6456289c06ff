//! From a pod with nothing in it to a thread that can begin: the repository, the sandbox, the setup script,
//! the baseline, the first messages. Each part finds itself done when the agent was restarted in the middle.

use std::num::NonZeroU32;
use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, ErrorCode, OpId, PhaseBeginResult, Profile};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::cluster::{Cluster, ClusterError};
use super::mcp::Servers;
use super::network::CommandNetwork;
use super::{Assignment, Message, opening};
use crate::agent::events::Event;
use crate::agent::journal::record::{InputAccepted, InputKind};
use crate::agent::machine::{Prepared, Signal};
use crate::api::attempt::{Job, Outcome, Phase};
use crate::api::reasons::Reason;
use crate::api::task::{ConfigMapKeyRef, FetchMode, Repository};
use crate::sandbox::{Sandbox, SandboxError};
use crate::workspace::{
    Bounds, CheckoutError, Credential, Depth, FetchError, FetchSpec, Fetched, Git, Layout, Reference,
    Staging, Worktree, apply_former, checkout, fetch, fetch_beside, fetched, how_to_authenticate,
};

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

/// What long work says on the way.
#[derive(Clone)]
pub(super) struct Announce {
    pub(super) messages: mpsc::Sender<Message>,
    /// The phase that it is part of.
    pub(super) phase: Phase,
}

impl Announce {
    /// What is done now.
    pub(super) async fn phase(&self, message: &str) {
        self.say(Event::PhaseChanged { phase: self.phase, message: message.to_owned() }).await;
    }

    /// Something that people should know and that stops nothing.
    pub(super) async fn warning(&self, message: String) {
        self.say(Event::Error { message, will_retry: false }).await;
    }

    /// The commit that was fetched.
    pub(super) async fn base_commit(&self, commit: String) {
        let _ = self.messages.send(Message::BaseCommit(commit)).await;
    }

    /// The sandbox can be used.
    async fn sandbox_reached(&self) {
        let _ = self.messages.send(Message::Signal(Signal::SandboxReached)).await;
    }

    async fn say(&self, event: Event) {
        // Nobody listens only when the driver has stopped.
        let _ = self.messages.send(Message::Event(event)).await;
    }
}

/// Prepares an attempt.
pub(super) struct Preparation<C> {
    pub(super) cluster: C,
    pub(super) assignment: Assignment,
    pub(super) git: Git,
    pub(super) layout: Layout,
    pub(super) network: CommandNetwork,
    pub(super) announce: Announce,
}

impl<C: Cluster> Preparation<C> {
    /// Does all of it.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn run(
        &self,
        connect: impl FnOnce() -> Sandbox,
        servers: &Servers<C>,
    ) -> Result<(Sandbox, Ready), Outcome> {
        // While the repository is fetched, the sandbox's container starts.
        let sandbox = connect();
        let _watch = self.watch_for(sandbox.clone());
        let brought = self.brought().await?;
        let mut workspace = self.workspace().await?;
        self.announce.phase("waiting for the sandbox").await;
        let boot = sandbox.ready().await.map_err(lost)?.id;
        self.furnish(&sandbox, &boot, &workspace.fetched, Staging::Unstaged).await?;
        let begun = begin_agent_phase(&sandbox, &boot, &self.assignment.attempt_uid, &self.network).await?;
        self.place(&sandbox, &brought.files).await?;
        let snapshot = workspace.worktree.snapshot().await.map_err(|error| internal(&error))?;
        let shell = opening::shell(&sandbox).await?;
        // After the snapshot: what they write into the repository is a change like any other.
        let offered = self.start_servers(servers, &sandbox, &boot).await?;
        let (opened, warnings) =
            self.open(&workspace, snapshot.tree.to_string(), shell, begun.loopback, &brought, offered)?;
        for warning in warnings {
            self.announce.warning(warning).await;
        }
        let uid = self.assignment.attempt_uid.clone();
        let prompt = InputAccepted {
            uid,
            seq: 0,
            kind: InputKind::Prompt,
            text: brought.prompt,
            attachments: brought.attachments,
        };
        let prepared = Prepared { opened, prompt, boot };
        Ok((sandbox, Ready { workspace, prepared, profile: begun.profile }))
    }

    /// Tells when the sandbox can be used, whatever is done meanwhile, until the handle is dropped.
    fn watch_for(&self, sandbox: Sandbox) -> AbortOnDropHandle<()> {
        let announce = self.announce.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            if sandbox.ready().await.is_ok() {
                announce.sandbox_reached().await;
            }
        }))
    }

    /// Fetches and checks out the repository, or finds it done.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn workspace(&self) -> Result<Workspace, Outcome> {
        let job = &self.assignment.job;
        let fetched = self.fetched(&job.repository.reference).await?;
        let fetched = self.fetch_base(fetched).await?;
        let fetched = self.apply_former(fetched).await?;
        checkout(&fetched, &self.layout, &self.git).await.map_err(|error| not_checked_out(&error))?;
        let excludes = &job.environment.patch_excludes;
        let worktree = Worktree::open(&self.layout, &self.git, &fetched, excludes).await;
        let worktree = worktree.map_err(|error| internal(&error))?;
        self.announce.base_commit(fetched.base_commit.to_string()).await;
        Ok(Workspace { fetched, worktree })
    }

    /// Fetches the repository at a reference, or finds it done.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn fetched(&self, reference: &str) -> Result<Fetched, Outcome> {
        let repository = &self.assignment.job.repository;
        self.announce.phase(&format!("fetching {} at {reference}", repository.url)).await;
        let url = repository.url.parse().map_err(|error| clone_failed(&error))?;
        let reference = reference.parse().map_err(|error| clone_failed(&error))?;
        // After a restart the credential may be gone, and nothing needs it any more.
        let before = fetched(&url, &reference, &self.layout).map_err(|error| clone_failed(&error))?;
        if let Some(fetched) = before {
            return Ok(fetched);
        }
        let spec = self.fetch_spec(url, reference).await?;
        let fetched = fetch(&spec, &self.layout, &self.git).await;
        fetched.map_err(|error| self.fetch_failed(&error))
    }

    /// What a review compares with, beside what it looks at.
    async fn fetch_base(&self, fetched: Fetched) -> Result<Fetched, Outcome> {
        let Some(review) = &self.assignment.job.review else { return Ok(fetched) };
        if fetched.beside.is_some() {
            return Ok(fetched);
        }
        let url = fetched.url.clone();
        let base = review.base.parse().map_err(|error| clone_failed(&error))?;
        self.announce.phase(&format!("fetching {url} at {}", review.base)).await;
        let spec = self.fetch_spec(url, base).await?;
        let fetched = fetch_beside(&spec, fetched, &self.layout, &self.git).await;
        fetched.map_err(|error| self.fetch_failed(&error))
    }

    /// The base commit with the patch of the work that this one goes on with, as a tree that the sandbox does not see.
    async fn apply_former(&self, fetched: Fetched) -> Result<Fetched, Outcome> {
        let job = &self.assignment.job;
        match job.continue_from.as_ref().and_then(|former| former.patch.as_ref()) {
            Some(patch) if fetched.origin.is_none() => {
                let patch = self.former_artifact(patch).await?;
                let applied = apply_former(fetched, patch, &self.layout, &self.git).await;
                applied.map_err(|error| internal(&error))
            }
            Some(_) | None => Ok(fetched),
        }
    }

    fn fetch_failed(&self, error: &FetchError) -> Outcome {
        fetch_failed(error, &self.assignment.job.repository, &self.assignment.namespace)
    }

    /// What is fetched, with the credential for it.
    async fn fetch_spec(&self, url: Url, reference: Reference) -> Result<FetchSpec, Outcome> {
        let job = &self.assignment.job;
        let repository = &job.repository;
        Ok(FetchSpec {
            url,
            reference,
            depth: match (repository.fetch, u32::try_from(repository.depth).ok().and_then(NonZeroU32::new)) {
                (FetchMode::Shallow, Some(depth)) => Depth::Shallow(depth),
                (FetchMode::Shallow, None) | (FetchMode::Full, _) => Depth::Full,
            },
            credential: self.credential().await?,
            ca_bundle: self.bundle(job.environment.ca_bundle.as_ref()).await?,
            bounds: Bounds::default(),
        })
    }

    async fn bundle(&self, reference: Option<&ConfigMapKeyRef>) -> Result<Option<String>, Outcome> {
        match reference {
            None => Ok(None),
            Some(reference) => self.value(reference).await.map(Some),
        }
    }

    pub(super) async fn value(&self, reference: &ConfigMapKeyRef) -> Result<String, Outcome> {
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
}

/// Opens the phase in which the model's commands run. Safe to repeat.
///
/// # Errors
/// How the attempt ends.
pub(super) async fn begin_agent_phase(
    sandbox: &Sandbox,
    boot: &BootId,
    attempt_uid: &str,
    network: &CommandNetwork,
) -> Result<PhaseBeginResult, Outcome> {
    let phase = op(attempt_uid, "agent")?;
    let begun = sandbox.begin_phase(boot, phase, network.mode()?).await.map_err(not_begun)?;
    network.begun(begun)?;
    Ok(begun)
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

/// Secrets made with a text editor end in a newline, which is never part of a password or a token.
pub(super) fn trimmed(text: &str) -> SecretString {
    text.trim_end_matches(['\r', '\n']).into()
}

pub(super) fn not_begun(error: SandboxError) -> Outcome {
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

pub(super) fn unreadable(error: ClusterError) -> Outcome {
    match &error {
        ClusterError::Refused { code: 404, .. } => outcome(Reason::InvalidSpec, &error),
        ClusterError::Refused { .. } | ClusterError::Unreachable { .. } => internal(&error),
    }
}

/// A Secret that is missing or was refused is named, with the command that makes it, or replaces what is in it.
fn fetch_failed(error: &FetchError, repository: &Repository, namespace: &str) -> Outcome {
    match (error, &repository.credentials_secret_name) {
        (FetchError::AuthenticationRequired { host }, _) => clone_failed(&format!(
            "{host} wants a user name and password for this repository: {}",
            how_to_authenticate(host, namespace)
        )),
        (FetchError::AuthenticationFailed { host }, Some(name)) => clone_failed(&format!(
            "{host} refused the user name and password of Secret {name}; put the right ones into it: kubectl create \
             secret generic {name} -n {namespace} --from-literal=username=USER --from-literal=password=TOKEN \
             --dry-run=client -o yaml | kubectl apply -f -, and create a new task"
        )),
        _ => clone_failed(error),
    }
}

pub(super) fn not_checked_out(error: &CheckoutError) -> Outcome {
    match error {
        CheckoutError::Foreign => outcome(Reason::SandboxLost, error),
        CheckoutError::NotFetched
        | CheckoutError::NoSpace
        | CheckoutError::HarmfulPath(_)
        | CheckoutError::Volume(_)
        | CheckoutError::Git(_) => clone_failed(error),
    }
}

pub(super) fn clone_failed(error: &dyn std::fmt::Display) -> Outcome {
    outcome(Reason::CloneFailed, error)
}

pub(super) fn invalid(what: &str) -> Outcome {
    outcome(Reason::InvalidSpec, &what)
}

/// An outcome whose message is an error, as a sentence.
pub(super) fn outcome(reason: Reason, error: &dyn std::fmt::Display) -> Outcome {
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
