//! Podwright runs coding agents on Kubernetes.

pub mod agent;
pub mod api;
pub mod artifacts;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod llm;
pub mod names;
pub mod sandbox;
pub mod scripted;
pub mod server;
pub mod telemetry;
pub mod workspace;
