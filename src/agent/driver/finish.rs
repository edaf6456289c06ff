//! The end of an attempt: nothing runs any more, the results are gathered and kept.

use std::sync::Arc;
use std::time::Duration;

use podwright_sandboxd::protocol::Digest;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::prepare::{Workspace, internal, op};
use super::{Assignment, DriveError, Driver, status};
use crate::agent::events::Event;
use crate::agent::machine::Signal;
use crate::agent::review;
use crate::agent::state::State;
use crate::agent::thread::Thread;
use crate::agent::transcript;
use crate::answer::AnswerSchema;
use crate::api::attempt::{
    ArtifactRef, Job, Outcome, PatchFlag, PatchFlagKind, PatchSummary, Phase, SkippedPath,
};
use crate::api::conditions::{plain, plain_json};
use crate::api::environment::TranscriptPolicy;
use crate::api::reasons::Reason;
use crate::api::task::Mode;
use crate::artifacts::{encode, inline, transcript as encode_transcript};
use crate::names;
use crate::sandbox::{Dial, Sandbox};
use crate::workspace::patch::{ChangedFile, PatchBody};
use crate::workspace::{GitError, ObjectId, Patch, PatchError, PatchStats};

/// How long the sandbox may take in all to be reached and to kill everything: half of what the controller grants a
/// cancelled agent. The patch is read without it then: a command that goes on can only spoil its own attempt's patch.
const PHASE_END: Duration = Duration::from_secs(60);

/// Bounds of the status, as in the schema.
const SHOWN_FLAGS: usize = 16;
const SHOWN_SKIPPED: usize = 32;
const SHOWN_PATHS: usize = 64;
const SHOWN_PATH_BYTES: usize = 256;
const SHOWN_REASON_BYTES: usize = 128;

impl<C: Cluster, D: Dial + Clone> Driver<C, D> {
    /// A turn is over and the pod stays: people see the patch so far.
    pub(super) async fn show_patch(&mut self) {
        self.emit(&Event::PhaseChanged {
            phase: Phase::Idle,
            message: "waiting for a further message".to_owned(),
        });
        let (Some(workspace), Some(thread)) = (self.workspace.clone(), &self.machine.state().thread) else {
            return;
        };
        let baseline = thread.opened.baseline_tree.clone();
        let mut workspace = workspace.lock().await;
        match keep_patch(&self.cluster, &self.assignment, &mut workspace, &baseline).await {
            Ok(patch) | Err((Some(patch), _)) => self.patch_made(patch),
            Err((None, outcome)) => tracing::warn!(message = outcome.message, "no patch of this turn"),
        }
    }

    /// Gathers and keeps the results, and says how the attempt ends.
    pub(super) async fn finish(&mut self, outcome: Outcome) -> Result<Signal, DriveError> {
        // Dropped, it stops.
        self.arrival = None;
        self.provider.stop();
        self.calls.abort_all();
        if let Some(sandbox) = &self.sandbox
            && outcome.reason != Reason::SandboxLost
        {
            stop_commands(sandbox, &self.assignment).await;
        }
        let outcome = self.gather(outcome).await;
        if outcome.reason == Reason::Completed && self.assignment.job.verification.is_some() {
            let message = "the work is done; its patch is verified in the next pod".to_owned();
            self.emit(&Event::PhaseChanged { phase: Phase::Verifying, message });
            self.facts.awaits_verification = true;
        } else {
            self.emit(&Event::ThreadEnded { outcome: outcome.clone() });
            self.facts.outcome = Some(outcome);
        }
        self.reporter.last_word(&status::build(&self.machine, &self.facts)).await?;
        Ok(Signal::Published(self.facts.outcome.clone()))
    }

    /// Patch and transcript, and how the attempt ends with them.
    async fn gather(&mut self, outcome: Outcome) -> Outcome {
        if self.workspace.is_none() && self.machine.state().thread.is_some() {
            // Restarted in the middle of the end: the repository is still there.
            match self.preparation().workspace().await {
                Ok(workspace) => self.workspace = Some(Arc::new(Mutex::new(workspace))),
                Err(error) => tracing::warn!(message = error.message, "the workspace cannot be opened again"),
            }
        }
        let state = self.machine.state();
        let Some(thread) = &state.thread else { return outcome };
        let outcome = if outcome.reason == Reason::Completed {
            let reads_as_review = reads_as_review(&self.assignment.job);
            (self.facts.output, self.facts.words) = answer(thread, reads_as_review);
            Outcome { message: self.facts.words.clone().unwrap_or(outcome.message), ..outcome }
        } else {
            outcome
        };
        self.facts.transcript = keep_transcript(&self.cluster, &self.assignment, state).await;
        let Some(workspace) = self.workspace.clone() else {
            // Work without its patch is no success.
            let lost = || workspace_lost(&outcome);
            return if outcome.reason == Reason::Completed { lost() } else { outcome };
        };
        let baseline = thread.opened.baseline_tree.clone();
        let mut workspace = workspace.lock().await;
        match keep_patch(&self.cluster, &self.assignment, &mut workspace, &baseline).await {
            Ok(patch) => {
                let dropped = dropped(&patch, self.assignment.job.mode);
                self.patch_made(patch);
                match dropped {
                    Some(told) => Outcome { message: format!("{} {told}", outcome.message), ..outcome },
                    None => outcome,
                }
            }
            Err((patch, failure)) => {
                self.facts.patch = patch;
                // What went wrong before says more than that the patch of it is missing; both are told.
                if outcome.reason == Reason::Completed {
                    failure
                } else {
                    Outcome { message: format!("{} {}", outcome.message, failure.message), ..outcome }
                }
            }
        }
    }

    fn patch_made(&mut self, patch: PatchSummary) {
        let PatchSummary { files, insertions, deletions, .. } = patch;
        let sha256 = patch.sha256.clone();
        self.emit(&Event::DiffUpdated { files, insertions, deletions, sha256 });
        self.facts.patch = Some(patch);
    }
}

/// Kills every command of the attempt.
pub(super) async fn stop_commands(sandbox: &Sandbox, assignment: &Assignment) {
    if timeout(PHASE_END, end_phases(sandbox, &assignment.attempt_uid)).await.is_err() {
        tracing::warn!("the sandbox did not get quiet in time");
    }
}

async fn end_phases(sandbox: &Sandbox, attempt_uid: &str) {
    for phase in ["agent", "setup"] {
        let (Ok(phase), Ok(boot)) = (op(attempt_uid, phase), sandbox.ready().await) else { return };
        match sandbox.end_phase(&boot.id, phase).await {
            Ok(ended) => {
                tracing::debug!(killed = ended.killed, "the sandbox is quiet");
                return;
            }
            // The phase is not the one that is open, or the sandbox is gone with everything in it.
            Err(error) => tracing::debug!(%error, "no such phase to end"),
        }
    }
}

/// The patch so far, kept as an artifact.
///
/// # Errors
/// How the attempt ends when it cannot be made or kept.
async fn keep_patch<C: Cluster>(
    cluster: &C,
    assignment: &Assignment,
    workspace: &mut Workspace,
    baseline: &str,
) -> Result<PatchSummary, (Option<PatchSummary>, Outcome)> {
    let failed = |error: &dyn std::fmt::Display| (None, internal(error));
    let baseline: ObjectId = baseline.parse().map_err(|error| failed(&error))?;
    let max = assignment.job.limits.patch_bytes.max(0).unsigned_abs();
    let patch = workspace.worktree.patch(baseline, max).await;
    let patch = patch.map_err(|error| {
        if let PatchError::Git(GitError::OutOfMemory { max, .. }) = &error {
            (None, too_much_to_compare(*max))
        } else {
            failed(&error)
        }
    })?;
    let patch = if assignment.job.mode.changes() { patch } else { emptied(patch) };
    let mut summary = summary(&patch, assignment.job.mode);
    if let PatchBody::Whole(body) = &patch.body {
        let contents = crate::patch::read(body).map_err(|error| failed(&error))?;
        summary.flags.extend(contents.flags.shown());
        summary.flag_count += signed(contents.flags.count());
    }
    let too_large = |summary: PatchSummary, bound: String| {
        let bytes = patch.stats.bytes;
        let message = format!(
            "The patch of {bytes} bytes is larger than {bound}; its figures and paths are kept, its text is not. \
             Exclude generated files with patchExcludes in the AgentEnvironment, or divide the task."
        );
        let paths = patch.files.iter().take(SHOWN_PATHS).map(|file| shown(&file.path.to_string())).collect();
        (Some(PatchSummary { paths, ..summary }), Outcome { reason: Reason::PatchTooLarge, message })
    };
    let body = match &patch.body {
        PatchBody::Whole(body) => body,
        PatchBody::TooLarge => return Err(too_large(summary, format!("limits.patchBytes ({max})"))),
    };
    let encoded = match encode(body) {
        Ok(encoded) => encoded,
        Err(error) => return Err(too_large(summary, format!("what its artifact holds ({error})"))),
    };
    let name = &assignment.job.patch_artifact_name;
    let artifact = cluster.put_artifact(name, names::PATCH_KEY, &encoded).await;
    summary.artifact = Some(artifact.map_err(|error| failed(&error))?);
    summary.inline = patch.text().filter(|text| inline(text)).map(str::to_owned);
    Ok(summary)
}

fn too_much_to_compare(max: u64) -> Outcome {
    let message = format!(
        "Git needed more than {} MiB of memory to compare the changed files with what they were, so there is no patch: \
         one of them is too large or has too many lines. Exclude generated files with patchExcludes in the \
         AgentEnvironment, or divide the task.",
        max >> 20
    );
    Outcome { reason: Reason::PatchTooLarge, message }
}

/// Whether the answer is a review in the form that reviews have when the task asks for no other.
fn reads_as_review(job: &Job) -> bool {
    job.mode == Mode::Review && job.output_schema_from.is_none()
}

/// The final answer as JSON, where it has a form to keep to, and a review also in words.
fn answer(thread: &Thread, reads_as_review: bool) -> (Option<Value>, Option<String>) {
    let schema = thread.opened.answer.as_ref().and_then(|format| AnswerSchema::parse(&format.schema).ok());
    let output = schema.and_then(|schema| schema.check(&thread.last_message).ok());
    let words = output.as_ref().filter(|_| reads_as_review).and_then(review::words);
    (output.map(plain_json), words)
}

/// How an attempt ends whose work is done and whose workspace can't be read any more.
fn workspace_lost(outcome: &Outcome) -> Outcome {
    let message = format!(
        "The work was done, but after a restart of the agent its workspace cannot be read, so there is no patch. The \
         agent's answer was: {}",
        outcome.message
    );
    Outcome { reason: Reason::InternalError, message }
}

/// The transcript, kept as an artifact if the environment wants one.
async fn keep_transcript<C: Cluster>(
    cluster: &C,
    assignment: &Assignment,
    state: &State,
) -> Option<ArtifactRef> {
    let name = assignment.job.transcript_artifact_name.as_ref()?;
    if assignment.job.environment.transcript == TranscriptPolicy::None {
        return None;
    }
    let thread = state.thread.as_ref()?;
    let (lines, whole) = transcript::lines(thread);
    let kept = match encode_transcript(&lines, whole) {
        Ok(transcript) => cluster.put_artifact(name, names::TRANSCRIPT_KEY, &transcript.encoded).await,
        Err(error) => {
            tracing::warn!(%error, "the transcript is not kept");
            return None;
        }
    };
    kept.inspect_err(|error| tracing::warn!(%error, "the transcript is not kept")).ok()
}

/// Says how many changes were dropped, if the task's mode leaves the repository alone and its agent did not.
fn dropped(patch: &PatchSummary, mode: Mode) -> Option<String> {
    let files = patch.flags.iter().filter(|flag| flag.kind == PatchFlagKind::Dropped).count();
    let more = if files == SHOWN_FLAGS { " or more" } else { "" };
    (files > 0).then(|| {
        format!("The agent changed {files}{more} files; mode {mode:?} leaves the repository alone, so that was dropped.")
    })
}

/// The patch of work that leaves the repository alone: nothing but the paths that are not as they were.
fn emptied(patch: Patch) -> Patch {
    let sha256 = Digest::of(b"").to_string();
    let stats = PatchStats { files: 0, insertions: 0, deletions: 0, bytes: 0, sha256 };
    Patch { body: PatchBody::Whole(Vec::new()), stats, ..patch }
}

fn summary(patch: &Patch, mode: Mode) -> PatchSummary {
    let kind = if mode.changes() { PatchFlagKind::TouchedBySetup } else { PatchFlagKind::Dropped };
    let is_flagged = |file: &&ChangedFile| match mode.changes() {
        true => file.touched_by_setup,
        false => !file.inherited,
    };
    let flagged = || patch.files.iter().filter(is_flagged);
    let skipped = patch.skipped.named.iter();
    PatchSummary {
        inline: None,
        files: signed(patch.stats.files),
        insertions: signed(patch.stats.insertions),
        deletions: signed(patch.stats.deletions),
        bytes: signed(patch.stats.bytes),
        sha256: patch.stats.sha256.clone(),
        base_commit: patch.base_commit.to_string(),
        artifact: None,
        flag_count: signed(flagged().count() as u64),
        flags: flagged()
            .take(SHOWN_FLAGS)
            .map(|file| PatchFlag { kind, path: shown(&file.path.to_string()) })
            .collect(),
        skipped: skipped
            .take(SHOWN_SKIPPED)
            .map(|skipped| SkippedPath {
                path: shown(&skipped.path.to_string()),
                reason: plain(&skipped.reason, SHOWN_REASON_BYTES),
            })
            .collect(),
        skipped_count: signed(patch.skipped.count),
        paths: Vec::new(),
    }
}

fn shown(path: &str) -> String {
    plain(path, SHOWN_PATH_BYTES)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
