//! The agent from its first process to the outcome, without Kubernetes: a real supervisor in namespaces of
//! its own, a real git server, the scripted model over HTTP, and a stand-in for the API server.
//!
//! Needs root, for the namespaces.

mod stage;
mod tasks;
