//! The agent: the thread of one attempt, driven from the sidecar.

pub mod agents_md;
pub mod prompt;
pub mod tools;
