//! What a pod's own status says, when its agent says nothing.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition, PodStatus};

use crate::api::reasons::Reason;
use crate::names::{AGENT_CONTAINER, SANDBOX_CONTAINER};

/// How long trouble with an image or a container may last before it ends the task, from the moment in which a
/// kubelet took the pod. A registry that restarts is back within this time, a misspelt name is not.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// How long a pod that is being deleted may stay past its grace period: its node may be gone.
const DELETION_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Restarts of a container after which it is given up. The kubelet waits longer before each one; this many take
/// about ten minutes.
const MAX_RESTARTS: i32 = 6;

/// What is said of a pod that went without a word.
pub const GONE: &str = "the pod was lost: it was deleted; create the task again to start over";

/// The waiting reasons that are about an image, with whether they can pass.
const IMAGE_REASONS: [(&str, bool); 7] = [
    ("ErrImagePull", true),
    ("ImagePullBackOff", true),
    ("ImageInspectError", true),
    ("RegistryUnavailable", true),
    ("SignatureValidationFailed", false),
    ("ErrImageNeverPull", false),
    ("InvalidImageName", false),
];

/// The waiting reasons of a container that could not be made or started.
const START_REASONS: [&str; 4] =
    ["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError"];

/// What a pod's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Nothing is wrong with it. Whether the agent works already, its report says.
    Well {
        /// When to look again, for a pod that is being deleted.
        until: Option<Timestamp>,
    },
    /// It is held up. The task waits, and says so.
    HeldUp {
        /// Why.
        reason: Reason,
        /// A sentence for people.
        message: String,
        /// When patience ends.
        until: Option<Timestamp>,
    },
    /// It was lost by no fault of its own: somebody deleted it, or its node is gone or had no room for it any more.
    Lost {
        /// A sentence for people.
        message: String,
    },
    /// It never will, or never will again.
    Broken {
        /// Why.
        reason: Reason,
        /// A sentence for people.
        message: String,
    },
}

/// Reads a pod.
#[must_use]
pub fn assess(pod: &Pod, now: Timestamp) -> PodState {
    let Some(status) = &pod.status else { return PodState::Well { until: None } };
    let checks = [
        lost(pod, status, now),
        ended_agent(status),
        crashing(status),
        image_trouble(status, now),
        start_trouble(status, now),
        unschedulable(status),
    ];
    checks.into_iter().flatten().next().unwrap_or(PodState::Well { until: None })
}

/// When the kubelet took the pod.
#[must_use]
pub fn taken_at(pod: &Pod) -> Option<Timestamp> {
    Some(pod.status.as_ref()?.start_time.as_ref()?.0)
}

/// The digest of the sandbox image that runs.
#[must_use]
pub fn sandbox_image(pod: &Pod) -> Option<String> {
    let status = container(pod.status.as_ref()?, SANDBOX_CONTAINER)?;
    Some(status.image_id.clone()).filter(|id| !id.is_empty())
}

/// Whether the agent's container is done: it will not be started again.
#[must_use]
pub fn agent_is_done(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let phase = status.phase.as_deref();
    phase == Some("Failed") || phase == Some("Succeeded") || exit_code(status, AGENT_CONTAINER) == Some(0)
}

/// Whether the agent's container runs.
#[must_use]
pub fn agent_runs(pod: &Pod) -> bool {
    let agent = pod.status.as_ref().and_then(|status| container(status, AGENT_CONTAINER));
    agent.and_then(|agent| agent.state.as_ref()).is_some_and(|state| state.running.is_some())
}

fn lost(pod: &Pod, status: &PodStatus, now: Timestamp) -> Option<PodState> {
    if let Some(deletion) = &pod.metadata.deletion_timestamp {
        // The time in it is that of the end of the grace period.
        let until = deletion.0 + DELETION_PATIENCE;
        return Some(if now < until {
            PodState::Well { until: Some(until) }
        } else {
            PodState::Lost { message: why_lost(status) }
        });
    }
    if status.phase.as_deref() != Some("Failed") {
        return None;
    }
    if let Some(message) = out_of_memory(status) {
        return Some(PodState::Broken { reason: Reason::OutOfMemory, message });
    }
    let message = why_lost(status);
    // A pod that was evicted for what it used itself has no such condition, and would be evicted again.
    Some(match disruption(status) {
        Some(_) => PodState::Lost { message },
        None => PodState::Broken { reason: Reason::SandboxLost, message },
    })
}

/// What Kubernetes itself did to a pod, whatever it may have done.
fn disruption(status: &PodStatus) -> Option<&PodCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
}

/// What is known about the loss of a pod.
#[must_use]
pub fn why_lost(status: &PodStatus) -> String {
    let cause = disruption(status)
        .and_then(|condition| condition.message.clone())
        .or_else(|| status.message.clone())
        .or_else(|| status.reason.clone())
        .filter(|text| !text.is_empty());
    match cause {
        Some(cause) => format!("the pod was lost: {cause}; create the task again to start over"),
        None => GONE.into(),
    }
}

fn ended_agent(status: &PodStatus) -> Option<PodState> {
    (exit_code(status, AGENT_CONTAINER) == Some(0)).then(|| {
        out_of_memory(status).map_or_else(
            || PodState::Broken {
                reason: Reason::InternalError,
                message: "the agent ended without saying how; please report it".into(),
            },
            |message| PodState::Broken { reason: Reason::OutOfMemory, message },
        )
    })
}

fn crashing(status: &PodStatus) -> Option<PodState> {
    [AGENT_CONTAINER, SANDBOX_CONTAINER].into_iter().find_map(|name| {
        let container = container(status, name)?;
        let waits = waiting(container)?.0 == "CrashLoopBackOff";
        if !waits || container.restart_count < MAX_RESTARTS {
            return None;
        }
        if let Some(message) = out_of_memory(status) {
            return Some(PodState::Broken { reason: Reason::OutOfMemory, message });
        }
        let reason = if name == AGENT_CONTAINER { Reason::InternalError } else { Reason::SandboxLost };
        let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let code = last.map_or_else(String::new, |last| format!(" (exit code {})", last.exit_code));
        let text = last.and_then(|last| last.message.as_deref()).unwrap_or_default();
        Some(PodState::Broken {
            reason,
            message: format!(
                "CrashLoop: container {name} ended {} times{code} {text}",
                container.restart_count
            )
            .trim_end()
            .to_owned(),
        })
    })
}

fn image_trouble(status: &PodStatus, now: Timestamp) -> Option<PodState> {
    let states: Vec<_> = [AGENT_CONTAINER, SANDBOX_CONTAINER]
        .into_iter()
        .filter_map(|name| image_trouble_of(container(status, name)?, status, now))
        .collect();
    // Trouble that does not pass comes before trouble that may.
    let broken = states.iter().find(|state| matches!(state, PodState::Broken { .. }));
    broken.or(states.first()).cloned()
}

fn image_trouble_of(container: &ContainerStatus, status: &PodStatus, now: Timestamp) -> Option<PodState> {
    let (reason, message) = waiting(container)?;
    let (_, may_pass) = IMAGE_REASONS.into_iter().find(|(known, _)| *known == reason)?;
    let advice = if container.name == SANDBOX_CONTAINER {
        "check image and imagePullSecrets of the AgentEnvironment"
    } else {
        "check the controller's --agent-image"
    };
    let cause = pull_error(message);
    let sentence =
        format!("image {} of the {} can't be pulled ({cause}); {advice}", container.image, container.name);
    Some(patience(may_pass, Reason::ImagePullFailed, sentence, status, now))
}

/// The cause inside a kubelet's message, which changes its frame with each try.
fn pull_error(message: &str) -> &str {
    let mut text = message;
    if let Some(rest) = text.strip_prefix("Back-off pulling image ") {
        text = rest.split_once("\": ").map_or("the kubelet tries again", |(_, cause)| cause);
    }
    text.strip_prefix("ErrImagePull: ").unwrap_or(text)
}

fn start_trouble(status: &PodStatus, now: Timestamp) -> Option<PodState> {
    [AGENT_CONTAINER, SANDBOX_CONTAINER].into_iter().find_map(|name| {
        let (reason, message) = waiting(container(status, name)?)?;
        START_REASONS.contains(&reason).then(|| {
            let sentence = format!("the container {name} can't be started ({reason}: {message})");
            patience(true, Reason::SandboxLost, sentence, status, now)
        })
    })
}

fn patience(
    may_pass: bool,
    reason: Reason,
    sentence: String,
    status: &PodStatus,
    now: Timestamp,
) -> PodState {
    let until = status.start_time.as_ref().map_or(now, |start| start.0) + PATIENCE;
    if !may_pass || now >= until {
        return PodState::Broken { reason, message: sentence };
    }
    PodState::HeldUp {
        reason: Reason::Preparing,
        message: format!("{sentence}; the task ends with {} at {}", reason.as_str(), whole_seconds(until)),
        until: Some(until),
    }
}

fn unschedulable(status: &PodStatus) -> Option<PodState> {
    let scheduled = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False").then(|| {
        let cause = scheduled.message.as_deref().unwrap_or("no node can take the pod");
        PodState::HeldUp {
            reason: Reason::Unschedulable,
            message: format!(
                "no node can take the pod ({cause}); the task goes on as soon as one can: add a node or free one, or \
                 change resources, pod.nodeSelector or pod.tolerations of the AgentEnvironment and create the task again"
            ),
            until: None,
        }
    })
}

/// The sentence for a container that was killed for its memory, when one was.
fn out_of_memory(status: &PodStatus) -> Option<String> {
    [SANDBOX_CONTAINER, AGENT_CONTAINER].into_iter().find_map(|name| {
        let container = container(status, name)?;
        let states = [container.state.as_ref(), container.last_state.as_ref()];
        let killed = states
            .into_iter()
            .flatten()
            .filter_map(|state| state.terminated.as_ref())
            .any(|terminated| terminated.reason.as_deref() == Some("OOMKilled"));
        killed.then(|| {
            if name == SANDBOX_CONTAINER {
                "the sandbox used more memory than its limit; raise resources.limits.memory of the AgentEnvironment and create the task again".to_owned()
            } else {
                "the agent used more memory than its limit; please report it".to_owned()
            }
        })
    })
}

fn container<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    status.container_statuses.iter().flatten().find(|container| container.name == name)
}

fn waiting(container: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}

fn exit_code(status: &PodStatus, name: &str) -> Option<i32> {
    let state: &ContainerState = container(status, name)?.state.as_ref()?;
    Some(state.terminated.as_ref()?.exit_code)
}

fn whole_seconds(time: Timestamp) -> String {
    time.strftime("%H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests;
