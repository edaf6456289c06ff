//! The closed list of reasons of the condition `Succeeded`. Part of the API: a reason, once published,
//! keeps its name and its meaning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why the condition Succeeded has its status.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Reason {
    /// Waiting: the namespace's quota has no room for the pod and what belongs to it, or as many tasks run as the ModelProvider lets run.
    Queued,
    /// Waiting: an object that the task needs does not exist yet, or can't be used for now.
    WaitingForReference,
    /// Waiting: no node can take the pod.
    Unschedulable,
    /// The pod starts, the repository is fetched, the setup script runs.
    Preparing,
    /// The agent works.
    Running,
    /// The agent has answered; its pod waits for a further message.
    Idle,
    /// The agent is done; the commands of spec.verification run on its patch, in a pod of their own.
    Verifying,
    /// The model can't be used for now; the agent waits for it.
    ModelUnavailable,
    /// Held back by spec.suspend.
    Suspended,
    /// The work is done.
    Completed,
    /// Something in the spec, or in an object it names, can't be used as it is.
    InvalidSpec,
    /// The API server refused the pod (admission, pod security).
    Refused,
    /// The repository could not be fetched.
    CloneFailed,
    /// The environment's setup script failed.
    SetupFailed,
    /// The sandbox image could not be pulled.
    ImagePullFailed,
    /// The pod was lost, or its sandbox died too often.
    SandboxLost,
    /// The sandbox used more memory than its limit.
    OutOfMemory,
    /// The model's endpoint kept failing for longer than model.outageSeconds, or failed for good, or the model's answer
    /// never had the form that spec.output asks for.
    ModelFailed,
    /// The model or its provider refused the request by policy.
    ModelRefused,
    /// The provider's configuration is wrong: key, model name, address or API.
    ModelMisconfigured,
    /// A bound in spec.limits was reached.
    BudgetExceeded,
    /// limits.activeSeconds was reached.
    DeadlineExceeded,
    /// The patch is larger than limits.patchBytes or than what an artifact can hold.
    PatchTooLarge,
    /// A command of spec.verification failed, or ran out of its time. The patch is kept.
    VerificationFailed,
    /// A person cancelled the task.
    Cancelled,
    /// A fault of Podwright's own; please report it.
    InternalError,
}

impl Reason {
    /// Every reason, in the order in which the documentation lists them.
    pub const ALL: [Self; 26] = [
        Self::Queued,
        Self::WaitingForReference,
        Self::Unschedulable,
        Self::Preparing,
        Self::Running,
        Self::Idle,
        Self::Verifying,
        Self::ModelUnavailable,
        Self::Suspended,
        Self::Completed,
        Self::InvalidSpec,
        Self::Refused,
        Self::CloneFailed,
        Self::SetupFailed,
        Self::ImagePullFailed,
        Self::SandboxLost,
        Self::OutOfMemory,
        Self::ModelFailed,
        Self::ModelRefused,
        Self::ModelMisconfigured,
        Self::BudgetExceeded,
        Self::DeadlineExceeded,
        Self::PatchTooLarge,
        Self::VerificationFailed,
        Self::Cancelled,
        Self::InternalError,
    ];

    /// The reason as it stands in a condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::WaitingForReference => "WaitingForReference",
            Self::Unschedulable => "Unschedulable",
            Self::Preparing => "Preparing",
            Self::Running => "Running",
            Self::Idle => "Idle",
            Self::Verifying => "Verifying",
            Self::ModelUnavailable => "ModelUnavailable",
            Self::Suspended => "Suspended",
            Self::Completed => "Completed",
            Self::InvalidSpec => "InvalidSpec",
            Self::Refused => "Refused",
            Self::CloneFailed => "CloneFailed",
            Self::SetupFailed => "SetupFailed",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::SandboxLost => "SandboxLost",
            Self::OutOfMemory => "OutOfMemory",
            Self::ModelFailed => "ModelFailed",
            Self::ModelRefused => "ModelRefused",
            Self::ModelMisconfigured => "ModelMisconfigured",
            Self::BudgetExceeded => "BudgetExceeded",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::PatchTooLarge => "PatchTooLarge",
            Self::VerificationFailed => "VerificationFailed",
            Self::Cancelled => "Cancelled",
            Self::InternalError => "InternalError",
        }
    }

    /// What the reason says about the end of the work.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Queued
            | Self::WaitingForReference
            | Self::Unschedulable
            | Self::Preparing
            | Self::Running
            | Self::Idle
            | Self::Verifying
            | Self::ModelUnavailable
            | Self::Suspended => Verdict::Working,
            Self::Completed => Verdict::Succeeded,
            Self::InvalidSpec
            | Self::Refused
            | Self::CloneFailed
            | Self::SetupFailed
            | Self::ImagePullFailed
            | Self::SandboxLost
            | Self::OutOfMemory
            | Self::ModelFailed
            | Self::ModelRefused
            | Self::ModelMisconfigured
            | Self::BudgetExceeded
            | Self::DeadlineExceeded
            | Self::PatchTooLarge
            | Self::VerificationFailed
            | Self::Cancelled
            | Self::InternalError => Verdict::Failed,
        }
    }
}

/// What a reason says about the end of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ended: Succeeded is Unknown.
    Working,
    /// Ended well: Succeeded is True for good.
    Succeeded,
    /// Ended badly: Succeeded is False for good.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_written_as_it_is_spelt() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
