//! The kinds against a real API server: what it accepts, what it refuses, and with which words.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects")]

#[path = "../support/cluster.rs"]
mod cluster;

mod admission;
mod attempt;
mod definitions;
mod message;
mod references;
mod rights;
mod task;
