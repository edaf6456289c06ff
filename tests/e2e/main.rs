//! Whole tasks on the real cluster: API server, scheduler, kubelet, container runtime, git over HTTP, a model over HTTP.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/git.rs"]
mod git;
#[path = "../support/world.rs"]
mod world;

mod brought;
mod fence;
mod life;
mod long_task;
mod messages;
mod model;
mod network;
mod person;
mod references;
mod retention;
mod roles;
mod selection;
mod stream;
mod verification;
mod work;
