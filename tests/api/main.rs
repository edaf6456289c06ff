//! The kinds against a real API server: what it accepts, what it refuses, and with which words.

#[path = "../support/cluster.rs"]
mod cluster;

mod attempt;
mod definitions;
mod message;
mod references;
mod task;
