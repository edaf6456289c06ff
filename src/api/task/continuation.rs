//! Going on with the work of another task.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// An attempt of another task of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContinueFrom {
    /// Name of the AgentTask.
    #[schemars(length(min = 1, max = 40))]
    pub task_name: String,

    /// Number of its attempt, from 1. Unset: the one whose result is that task's, which is the only one, or the selected
    /// one of several. While none of several is selected, the task waits.
    #[schemars(range(min = 1, max = 4))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
}
