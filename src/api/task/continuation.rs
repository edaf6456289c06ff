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

    /// Number of its attempt, from 1.
    #[schemars(range(min = 1, max = 4))]
    #[serde(default = "first")]
    pub attempt: i32,
}

fn first() -> i32 {
    1
}
