//! The environment's setup script: run by the supervisor with the pod's network and secrets of its own, in a
//! phase that ends with every process killed. What a model wrote is put into the work tree after it, never before.

use std::collections::BTreeMap;
use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, EndedBy, ErrorCode, Network, OpId, Start};

use super::cluster::Cluster;
use super::commands::base_environment;
use super::prepare::{
    Preparation, clone_failed, internal, invalid, lost, not_begun, op, unreadable, variables,
};
use super::redact::Redaction;
use super::survey::out_of_memory;
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::sandbox::{Known, Outcome as CommandOutcome, Sandbox, SandboxError};
use crate::workspace::{Fetched, OverlayError, Staging, overlay, overlay_begun};

/// How much of a setup script's output a person is shown.
const TAIL_MAX: usize = 1500;

/// One look at the setup script; its output so far is dropped then, since only its end is shown.
const SETUP_LOOK: Duration = Duration::from_secs(10);

impl<C: Cluster> Preparation<C> {
    /// Runs the setup script over the base commit, and then puts the patch with which the work begins.
    ///
    /// The script has Secrets and a model wrote the patch. So once some of the patch is there the script never runs
    /// again, whatever became of the sandbox or of this process meanwhile: all that it may write outlives both.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn furnish(
        &self,
        sandbox: &Sandbox,
        boot: &BootId,
        fetched: &Fetched,
        staging: Staging,
    ) -> Result<(), Outcome> {
        if !overlay_begun(&self.layout).map_err(|error| internal(&error))? {
            self.setup(sandbox, boot).await?;
        }
        if fetched.origin.is_some() {
            self.announce.phase("applying the patch").await;
        }
        let put = overlay(fetched, &self.layout, &self.git, staging).await;
        put.map_err(|error| not_put(&error))
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
            Err(error) if error.code() == Some(ErrorCode::PhaseConflict) => {
                return self.has_ended(sandbox, boot, phase).await;
            }
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
        if let Err(error) = sandbox.start(boot, command, 0).await {
            return Err(self.blame(failed(error)).await);
        }
        // Bytes, since a look may end in the middle of a character.
        let (mut tail, mut is_cut) = (Vec::new(), false);
        let (ended, tail) = loop {
            let observed = sandbox.observe(&phase, SETUP_LOOK).await.map_err(failed)?;
            let output = &observed.output;
            tail.extend_from_slice(&output.head);
            if output.omitted > 0 {
                tail.clear();
                is_cut = true;
            }
            tail.extend_from_slice(&output.tail);
            // Whole values only can be recognised, so more is kept than is shown.
            let start = tail.len().saturating_sub(TAIL_MAX + redaction.longest());
            is_cut |= start > 0;
            tail.drain(..start);
            let tail = redaction.end_of(&String::from_utf8_lossy(&tail), TAIL_MAX, is_cut);
            match observed.outcome {
                CommandOutcome::Running => {}
                CommandOutcome::Exited(ended) => break (ended, tail),
                CommandOutcome::Interrupted { .. } => {
                    let interrupted = setup_failed("was interrupted by a restart of the sandbox", &tail);
                    return Err(self.blame(interrupted).await);
                }
                CommandOutcome::Unknown { why } => {
                    return Err(setup_failed(&format!("has an unknown end ({why})"), &tail));
                }
            }
        };
        match (ended.exit, ended.record.ended_by) {
            (Known::Code(0), _) => {}
            (_, EndedBy::Deadline) => {
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

    /// Waits until nothing of the script runs any more: a process before this one may have died while it ended the phase.
    async fn has_ended(&self, sandbox: &Sandbox, boot: &BootId, phase: OpId) -> Result<(), Outcome> {
        match sandbox.end_phase(boot, phase).await {
            Ok(_) => Ok(()),
            // The next phase is open already.
            Err(error) if error.code() == Some(ErrorCode::PhaseConflict) => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    async fn setup_secret(&self, name: &str) -> Result<BTreeMap<String, String>, Outcome> {
        let values = self.cluster.secret(name).await.map_err(unreadable)?;
        let text = values.into_iter().map(|(key, value)| match String::from_utf8(value) {
            Ok(value) => Ok((key, value)),
            Err(_) => Err(invalid(&format!("the key {key} of the Secret {name} is no text"))),
        });
        text.collect()
    }

    /// A sandbox that ended in the middle has most often run out of memory, and then that is the reason.
    async fn blame(&self, outcome: Outcome) -> Outcome {
        if self.cluster.sandbox_ran_out_of_memory().await { out_of_memory() } else { outcome }
    }
}

fn not_put(error: &OverlayError) -> Outcome {
    match error {
        OverlayError::InTheWay { path, .. } => Outcome {
            reason: Reason::SetupFailed,
            message: format!(
                "After the AgentEnvironment's setup script, which runs over the base commit alone, {error}. Make the \
                 script leave {path} as it is, or make it elsewhere."
            ),
        },
        OverlayError::NoSpace => clone_failed(error),
        OverlayError::NotCheckedOut
        | OverlayError::HarmfulPath { .. }
        | OverlayError::Volume(_)
        | OverlayError::Git(_) => internal(error),
    }
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
