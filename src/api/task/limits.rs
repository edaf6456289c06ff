//! Bounds on the work of an AgentTask.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::money::Money;

/// Bounds on one attempt. Verification counts towards none of them. Waiting (for a quota, a reference, a suspended task) is not active time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Model requests with the tool calls they lead to.
    #[schemars(range(min = 1, max = 100000))]
    #[serde(default = "default_steps")]
    pub steps: i64,

    /// Input tokens that the provider did not serve from its cache. Before a request, what is new in it counts as well.
    #[schemars(range(min = 1, max = 1000000000))]
    #[serde(default = "default_uncached_input_tokens")]
    pub uncached_input_tokens: i64,

    /// Output tokens, reasoning included.
    #[schemars(range(min = 1, max = 1000000000))]
    #[serde(default = "default_output_tokens")]
    pub output_tokens: i64,

    /// Money for the tokens, as a decimal string in the currency of the ModelProvider's prices, for example "5.00". The
    /// model needs prices for it. Unset: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,

    /// Commands run in the sandbox.
    #[schemars(range(min = 1, max = 1000000))]
    #[serde(default = "default_commands")]
    pub commands: i64,

    /// Calls of the agent that fail one after the other: a command that ends with another code than 0 or by a signal,
    /// a patch that does not fit, a call that can't be made. One that succeeds begins the count anew.
    #[schemars(range(min = 1, max = 100000))]
    #[serde(default = "default_consecutive_failures")]
    pub consecutive_failures: i64,

    /// Seconds of active time, from when the sandbox can be used on: the pull of its image is left out.
    #[schemars(range(min = 1, max = 604800))]
    #[serde(default = "default_active_seconds")]
    pub active_seconds: i64,

    /// Seconds that a single command may run before it is killed. The agent is told, and goes on.
    #[schemars(range(min = 1, max = 86400))]
    #[serde(default = "default_command_seconds")]
    pub command_seconds: i64,

    /// Bytes of the patch.
    #[schemars(range(min = 0, max = 104857600))]
    #[serde(default = "default_patch_bytes")]
    pub patch_bytes: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: default_steps(),
            uncached_input_tokens: default_uncached_input_tokens(),
            output_tokens: default_output_tokens(),
            cost: None,
            commands: default_commands(),
            consecutive_failures: default_consecutive_failures(),
            active_seconds: default_active_seconds(),
            command_seconds: default_command_seconds(),
            patch_bytes: default_patch_bytes(),
        }
    }
}

fn default_steps() -> i64 {
    200
}

fn default_uncached_input_tokens() -> i64 {
    5_000_000
}

fn default_output_tokens() -> i64 {
    500_000
}

fn default_commands() -> i64 {
    2_000
}

/// No work fails that often in a row and then succeeds.
fn default_consecutive_failures() -> i64 {
    50
}

fn default_active_seconds() -> i64 {
    7_200
}

fn default_command_seconds() -> i64 {
    1_800
}

fn default_patch_bytes() -> i64 {
    10 * 1024 * 1024
}
