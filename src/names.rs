//! Names of objects, labels, annotations and field managers, and the numbers made from UIDs.

use sha2::{Digest, Sha256};

/// Name of the task, on everything that belongs to it.
pub const TASK_LABEL: &str = "podwright.dev/task";

/// UID of the task, on everything that belongs to it: a label is no proof of ownership, only a way to find.
pub const TASK_UID_LABEL: &str = "podwright.dev/task-uid";

/// Name of the AgentAttempt that a pod works on. The agent reads it from its own pod.
pub const ATTEMPT_ANNOTATION: &str = "podwright.dev/attempt";

/// UID of that AgentAttempt. The agent compares it, so that nobody can point it at another job.
pub const ATTEMPT_UID_ANNOTATION: &str = "podwright.dev/attempt-uid";

/// Number of the pod among the attempt's pods, from 1.
pub const EPOCH_ANNOTATION: &str = "podwright.dev/epoch";

/// metadata.generation of the AgentEnvironment that an AgentAttempt was made from.
pub const ENVIRONMENT_GENERATION_ANNOTATION: &str = "podwright.dev/environment-generation";

/// metadata.generation of the ModelProvider that an AgentAttempt was made from.
pub const PROVIDER_GENERATION_ANNOTATION: &str = "podwright.dev/provider-generation";

/// The label with which everything that the controller makes can be found.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of `app.kubernetes.io/managed-by` on everything the controller makes.
pub const MANAGED_BY: &str = "podwright";

/// Field manager of the objects that the controller applies.
pub const CONTROLLER_MANAGER: &str = "podwright-controller";

/// Field manager of the status that the controller writes.
pub const CONTROLLER_STATUS_MANAGER: &str = "podwright-controller-status";

/// Field manager of the status and the artifacts that an agent writes.
pub const AGENT_MANAGER: &str = "podwright-agent";

/// Field manager of the finalizer on an AgentAttempt.
pub const ARTIFACTS_MANAGER: &str = "podwright-controller-artifacts";

/// Finalizer on an AgentAttempt that has something in the object store.
pub const ARTIFACTS_FINALIZER: &str = "podwright.dev/artifacts";

/// Container of the agent.
pub const AGENT_CONTAINER: &str = "agent";

/// Container in which commands run.
pub const SANDBOX_CONTAINER: &str = "sandbox";

/// Path of the supervisor in both containers of the pod.
pub const SUPERVISOR_PATH: &str = "/tools/podwright-sandboxd";

/// Variable of the agent's container: the addresses of its node, with commas.
pub const HOST_ADDRESSES_VARIABLE: &str = "PODWRIGHT_HOST_IPS";

/// Variable of the agent's container: networks that are closed to commands although they are public, with commas.
pub const CLOSED_NETWORKS_VARIABLE: &str = "PODWRIGHT_CLOSED_NETWORKS";

/// The sandbox's /etc/passwd and /etc/group: files in the volume that both containers have at /tools. The hook
/// of the agent container writes them before the sandbox starts.
pub const PASSWD_FILE: &str = "passwd";

/// See [`PASSWD_FILE`].
pub const GROUP_FILE: &str = "group";

/// Audience of the token with which an agent speaks to the gateway.
pub const GATEWAY_AUDIENCE: &str = "podwright-gateway";

/// Key of the patch in its artifact.
pub const PATCH_KEY: &str = "patch.zst";

/// Key of the transcript in its artifact.
pub const TRANSCRIPT_KEY: &str = "transcript.jsonl.zst";

/// Every attempt's own UID lies in `FIRST_USER_ID .. FIRST_USER_ID + 2^30`. Kernel counters (processes,
/// inotify, pipes) are kept per UID and node, so a shared UID would let one sandbox starve all others.
/// The API server refuses more than 2,147,483,647.
const FIRST_USER_ID: i64 = 1_000_000;

/// What an artifact is. In an object store it is named by its digest too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// The patch.
    Patch,
    /// The transcript.
    Transcript,
}

impl ArtifactKind {
    /// Which of these URLs is that of an attempt's artifact with this digest.
    #[must_use]
    pub fn find<'a>(self, urls: &'a [String], sha256: &str) -> Option<&'a str> {
        let file = self.file(sha256);
        urls.iter().map(String::as_str).find(|url| url.rsplit('/').next() == Some(file.as_str()))
    }

    /// The name of its object within its attempt.
    #[must_use]
    pub fn file(self, sha256: &str) -> String {
        match self {
            Self::Patch => format!("patch-{sha256}.zst"),
            Self::Transcript => format!("transcript-{sha256}.jsonl.zst"),
        }
    }
}

/// Name of a task's AgentAttempt. `task` is at most 40 bytes (a rule of the CRD), so the name is at most 50.
#[must_use]
pub fn attempt(task: &str, task_uid: &str, index: i32) -> String {
    format!("{task}-{index}-{}", hash(task_uid))
}

/// Name of an attempt's pod, and of its ServiceAccount, Role and RoleBinding: at most 63 bytes.
#[must_use]
pub fn pod(task: &str, task_uid: &str, index: i32, epoch: i32) -> String {
    format!("pw-{task}-{index}-{epoch}-{}", hash(task_uid))
}

/// Name of the ConfigMap that takes an attempt's patch.
#[must_use]
pub fn patch_artifact(attempt: &str) -> String {
    format!("{attempt}-patch")
}

/// Name of the ConfigMap that takes an attempt's transcript.
#[must_use]
pub fn transcript_artifact(attempt: &str) -> String {
    format!("{attempt}-transcript")
}

/// Name of the ConfigMap in which an attempt finds the patch that it goes on with, if the object store has it.
#[must_use]
pub fn former_patch(attempt: &str) -> String {
    format!("{attempt}-former-patch")
}

/// The same for the transcript.
#[must_use]
pub fn former_transcript(attempt: &str) -> String {
    format!("{attempt}-former-transcript")
}

/// Name of the event with a reason about a task: one for each task and reason.
#[must_use]
pub fn event(task: &str, task_uid: &str, reason: &str) -> String {
    format!("{task}.{}.{}", hash(task_uid), reason.to_ascii_lowercase())
}

/// The UID, GID and fsGroup of an attempt's pods: the same at every replay and in every epoch.
#[must_use]
pub fn user_id(attempt_uid: &str) -> i64 {
    let digest = Sha256::digest(attempt_uid.as_bytes());
    let word = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    FIRST_USER_ID + i64::from(word >> 2)
}

/// Six hex digits of a task's UID: a task that is created again never meets its predecessor's children.
fn hash(task_uid: &str) -> String {
    let digest = Sha256::digest(task_uid.as_bytes());
    format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b3c7f0e-2c5e-4b8e-9a53-0a4f1c6d2e77";

    #[test]
    fn the_longest_names_fit() {
        let task = "t".repeat(40);
        assert!(pod(&task, UID, 4, 9999).len() <= 63);
        assert!(transcript_artifact(&attempt(&task, UID, 4)).len() <= 63);
    }

    #[test]
    fn another_task_of_the_same_name_gets_other_names() {
        assert_ne!(attempt("fix", UID, 1), attempt("fix", "another", 1));
        assert_ne!(pod("fix", UID, 1, 1), pod("fix", UID, 1, 2));
    }

    #[test]
    fn user_ids_lie_where_the_api_server_takes_them() {
        for n in 0..1000 {
            let id = user_id(&n.to_string());
            assert!((FIRST_USER_ID..FIRST_USER_ID + (1 << 30)).contains(&id));
        }
        assert_eq!(user_id(UID), user_id(UID));
    }
}
