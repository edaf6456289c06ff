//! The commands that verify a patch.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A command that decides whether the work is good.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationCommand {
    /// Name of the command in status and messages.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// What is run, by /bin/sh -e, confined like any command of the agent: the network of the AgentEnvironment, no secret. Exit code 0 is
    /// success. At most 8 KiB.
    #[schemars(length(min = 1, max = 8192))]
    pub command: String,

    /// Seconds after which the command is killed and counts as failed.
    #[schemars(range(min = 1, max = 86400))]
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: i64,
}

/// Ten minutes: most suites are done by then.
fn default_timeout_seconds() -> i64 {
    600
}
