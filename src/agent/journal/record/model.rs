//! Records of model requests.

use podwright_sandboxd::protocol::Digest;
use serde::{Deserialize, Serialize};

use crate::api::attempt::Outcome;
use crate::llm::Usage;

/// A model request is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelIntent {
    /// Its number, from 1, repetitions counted.
    pub request: u64,
    /// What it is for.
    pub kind: RequestKind,
    /// How many items of history it holds.
    pub items: u64,
    /// Digest of the body.
    pub body: Digest,
    /// The body's bytes over four.
    pub estimated_input_tokens: u64,
    /// How often was asked again already in this step.
    pub retries: Retries,
    /// How many units of history a compaction leaves out, since its own request did not fit with them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// What a model request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestKind {
    /// The next step of a turn.
    Turn,
    /// A summary, which takes the place of history.
    Compaction,
}

/// Retries of one step, in the two budgets of [`crate::llm::retry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// Without an answer.
    pub request: u32,
    /// Of the stream.
    pub stream: u32,
    /// Of an outage.
    #[serde(default)]
    pub outage: u32,
}

/// A model request is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelEnded {
    /// Its number.
    pub request: u64,
    /// How.
    pub end: ModelEnd,
    /// What it cost.
    pub usage: Usage,
}

/// How a model request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ModelEnd {
    /// The response is whole.
    Completed {
        /// The provider's id for it.
        response_id: Option<String>,
        /// `false`: the model wants another request although it called nothing.
        end_turn: Option<bool>,
    },
    /// It failed and is asked again.
    Retry {
        /// What happened.
        message: String,
        /// How long is waited first, in milliseconds.
        after_ms: u64,
        /// The counters from now on.
        retries: Retries,
        /// Whether the key is read again first.
        reread_credential: bool,
    },
    /// The provider cannot be used now; the turn waits until it can.
    Unavailable {
        /// What happened.
        message: String,
        /// How long is waited before the next request, in milliseconds.
        after_ms: u64,
        /// The counters from now on.
        retries: Retries,
    },
    /// It does not fit the model's context window.
    TooLong {
        /// What the provider said.
        message: String,
    },
    /// There is a response, and nothing in it that a compaction could use.
    Unusable {
        /// What is wrong with it.
        message: String,
    },
    /// It failed for good.
    Failed {
        /// What becomes of the attempt.
        outcome: Outcome,
    },
    /// The harness broke it off.
    Broken {
        /// Why.
        cause: BrokenBy,
    },
}

/// Why the harness broke off a model request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BrokenBy {
    /// The agent's process ended in the middle.
    AgentRestart,
    /// The turn was ended.
    TurnEnd,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
