//! Whole tasks on the real cluster: API server, scheduler, kubelet, container runtime, git over HTTP, a model over HTTP.

#[path = "../support/cluster.rs"]
mod cluster;
mod git;
mod world;

mod fence;
mod life;
mod model;
mod references;
mod stream;
mod work;
