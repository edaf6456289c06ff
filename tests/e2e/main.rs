//! Whole tasks on the real cluster: API server, scheduler, kubelet, container runtime, git over HTTP, a model over HTTP.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/git.rs"]
mod git;
#[path = "../support/world.rs"]
mod world;

mod fence;
mod life;
mod model;
mod person;
mod references;
mod stream;
mod work;
