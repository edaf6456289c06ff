//! The task that another one goes on with.

use super::Problem;
use crate::api::AgentTask;
use crate::api::attempt::{ArtifactRef, Continuation, Job};
use crate::api::task::Repository;
use crate::controller::observed::{Former, References, TaskId};
use crate::names::{ArtifactKind, PATCH_KEY, TRANSCRIPT_KEY};

/// What is needed to go on, and the repository as the former attempt had it; nothing for a task that begins anew, or
/// with a problem on the list.
pub(super) fn check_former(
    task: &AgentTask,
    repository: &Repository,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) -> Option<(Continuation, Repository)> {
    let from = task.spec.continue_from.as_ref()?;
    let name = &from.task_name;
    let former = match &references.former {
        // The definition of AgentTask that is installed may be older than its rule against this.
        _ if *name == id.name => Err(Problem::Wrong(
            "spec.continueFrom names the task itself, which would wait for its own end; create the task again and name another one"
                .into(),
        )),
        None => Err(Problem::Missing(format!(
            "AgentTask {name}, named by continueFrom, does not exist in namespace {}",
            id.namespace
        ))),
        Some(Former { ended: false, .. }) => {
            Err(Problem::Missing(format!("AgentTask {name}, named by continueFrom, has not ended yet")))
        }
        Some(Former { index: None, .. }) => Err(Problem::Missing(format!(
            "AgentTask {name}, named by continueFrom, made several attempts and none is selected; select one with an AgentMessage of kind SelectAttempt, or create the task again with continueFrom.attempt"
        ))),
        Some(former @ Former { index: Some(index), .. }) => {
            gone_on_with(*index, repository, former, references).map_err(|why| {
                Problem::Wrong(format!("it is not possible to continue from AgentTask {name}: {why}"))
            })
        }
    };
    former.map_err(|problem| problems.push(problem)).ok()
}

/// The ConfigMaps that a former attempt has left. Their names are those that its job has and not those that its agent
/// reports: who has taken over an agent must not choose what the next one reads.
pub(super) fn artifacts(former: &Former) -> Vec<String> {
    let job = former.attempt.as_ref().map(|attempt| &attempt.spec.job);
    let names = job.map(|job| {
        let own = [Some(job.patch_artifact_name.clone()), job.transcript_artifact_name.clone()];
        own.into_iter().chain([brought(job).map(|artifact| artifact.config_map_name)])
    });
    names.into_iter().flatten().flatten().collect()
}

/// The patch with which a job began that leaves the repository alone: at its end the work tree has that and nothing else,
/// and its own patch is empty.
fn brought(job: &Job) -> Option<ArtifactRef> {
    job.continue_from.as_ref().filter(|_| !job.mode.changes())?.patch.clone()
}

fn gone_on_with(
    attempt: i32,
    repository: &Repository,
    former: &Former,
    references: &References,
) -> Result<(Continuation, Repository), String> {
    let Some(stored) = &former.attempt else {
        return Err(format!("it has no attempt {attempt}, or had none that began"));
    };
    let job = &stored.spec.job;
    if job.repository.url != repository.url || job.repository.name != repository.name {
        return Err(format!(
            "its repository is {} at {}; name the same one in a new task",
            job.repository.name, job.repository.url
        ));
    }
    let status = stored.status.clone().unwrap_or_default();
    let none =
        "it left no transcript: its environment keeps none (transcript: None), or its agent had not begun";
    let (Some(transcript), Some(kept)) = (status.transcript, &job.transcript_artifact_name) else {
        return Err(none.to_owned());
    };
    let base_commit = status.workspace.map(|workspace| workspace.base_commit).unwrap_or_default();
    let is_commit =
        matches!(base_commit.len(), 40 | 64) && base_commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_commit {
        return Err("it does not say which commit it began with".to_owned());
    }
    let transcript = match in_store(&transcript, TRANSCRIPT_KEY, ArtifactKind::Transcript, former) {
        Some(stored) => stored,
        None => there(transcript, kept, TRANSCRIPT_KEY, "transcript", references)?,
    };
    let patch = match (brought(job), status.patch) {
        (Some(artifact), _) => {
            let name = artifact.config_map_name.clone();
            Some(there(artifact, &name, PATCH_KEY, "patch", references)?)
        }
        (None, None) => return Err("its agent could make no patch of its work".to_owned()),
        (None, Some(patch)) if patch.bytes == 0 => None,
        (None, Some(patch)) => {
            let artifact = patch.artifact.ok_or("its patch was too large to be kept")?;
            match in_store(&artifact, PATCH_KEY, ArtifactKind::Patch, former) {
                Some(stored) => Some(stored),
                None => Some(there(artifact, &job.patch_artifact_name, PATCH_KEY, "patch", references)?),
            }
        }
    };
    let task_name = stored.spec.task_name.clone();
    // The ref may have moved on; the patch is one to this commit.
    let repository = Repository { reference: base_commit, ..repository.clone() };
    Ok((Continuation { task_name, transcript, patch }, repository))
}

/// The artifact in the object store, when the controller has carried it there. It gets its ConfigMap with the attempt.
fn in_store(artifact: &ArtifactRef, key: &str, kind: ArtifactKind, former: &Former) -> Option<ArtifactRef> {
    let url = kind.find(&former.stored, &artifact.sha256)?;
    let (config_map_name, key, url) = (String::new(), key.to_owned(), url.to_owned());
    Some(ArtifactRef { config_map_name, key, url, ..artifact.clone() })
}

fn there(
    artifact: ArtifactRef,
    name: &str,
    key: &str,
    what: &str,
    references: &References,
) -> Result<ArtifactRef, String> {
    if !references.has_binary(name, key) {
        return Err(format!(
            "its {what} is gone (retention.artifactSeconds are over, or ConfigMap {name} was deleted)"
        ));
    }
    let (config_map_name, key, url) = (name.to_owned(), key.to_owned(), String::new());
    Ok(ArtifactRef { config_map_name, key, url, ..artifact })
}

#[cfg(test)]
mod tests;
