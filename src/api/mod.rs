//! The kinds of the group `podwright.dev`, version `v1alpha1`: the contract with users and between
//! the controller and the agent. Depends on nothing of ours.
//!
//! Doc comments in here are what `kubectl explain` prints, so they are written for users. A field is in
//! the schema only when some code honours it.

#![allow(unreachable_pub, reason = "the KubeSchema derive repeats each struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "columns of the same type are no duplicates")]

pub mod attempt;
pub mod conditions;
pub mod crd;
pub mod environment;
pub mod mcp;
pub mod message;
pub mod money;
pub mod network;
pub mod provider;
pub mod quantity;
pub mod reasons;
pub mod task;

pub use attempt::{AgentAttempt, AgentAttemptSpec, AgentAttemptStatus};
pub use environment::{AgentEnvironment, AgentEnvironmentSpec};
pub use message::{AgentMessage, AgentMessageSpec, AgentMessageStatus};
pub use provider::{ModelProvider, ModelProviderSpec};
pub use reasons::Reason;
pub use task::{AgentTask, AgentTaskSpec, AgentTaskStatus};

/// The API group of every kind.
pub const GROUP: &str = "podwright.dev";

/// The served version of every kind.
pub const VERSION: &str = "v1alpha1";

/// Comma-separated hosts that a Secret named by a *task* may be sent to. Without it such a Secret is
/// refused: otherwise whoever may create a task could send any Secret of the namespace to a host of his own.
pub const HOSTS_ANNOTATION: &str = "podwright.dev/hosts";
