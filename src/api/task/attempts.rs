//! How many attempts a task makes, and which one counts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many independent attempts are made at a task.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempts {
    /// Attempts that run side by side, each with a pod, a user and limits of its own. The task ends when all of
    /// them have ended, and has succeeded when one has.
    #[schemars(range(min = 1, max = 4))]
    #[serde(default = "default_count")]
    pub count: i32,

    /// Which attempt's result becomes the task's. With one attempt it is that one's in any case.
    #[serde(default)]
    pub selection: Selection,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { count: default_count(), selection: Selection::default() }
    }
}

/// Which attempt's result becomes the task's.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// Manual leaves status.result empty until an AgentMessage of kind SelectAttempt names one; FirstVerified takes
    /// the lowest attempt whose verification passed, and where none did it is left to a SelectAttempt as well.
    #[serde(default)]
    pub policy: SelectionPolicy,
}

/// Who selects an attempt.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum SelectionPolicy {
    /// A person, with an AgentMessage of kind SelectAttempt.
    #[default]
    Manual,
    /// The verification: the lowest attempt that passed it.
    FirstVerified,
}

fn default_count() -> i32 {
    1
}
