//! The agent from its first process to the outcome, without Kubernetes: a real supervisor in namespaces of
//! its own, a real git server, the scripted model over HTTP, and a stand-in for the API server.
//!
//! Needs root, for the namespaces.

// In an integration test Clippy takes everything outside the test functions for shipped code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects")]

mod answers;
mod compaction;
mod continuations;
mod differential;
#[path = "../support/hosts.rs"]
mod hosts;
mod inputs;
mod limits;
mod live;
mod mcp;
mod modes;
mod network;
mod outages;
mod prompts;
mod setup;
mod stage;
mod steering;
#[path = "../support/supervisor.rs"]
mod supervisor;
mod surfaces;
mod tasks;
mod tools;
mod verification;
mod wires;
