//! Podwright runs coding agents on Kubernetes. `docs/architecture.md` says what is where.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects"))]

pub mod agent;
pub mod answer;
pub mod api;
pub mod apiserver;
pub mod artifacts;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod doctor;
pub mod egress;
mod files;
pub mod llm;
pub mod names;
pub mod patch;
pub mod sandbox;
pub mod scripted;
#[cfg(test)]
mod search;
pub mod server;
pub mod telemetry;
pub mod workspace;
