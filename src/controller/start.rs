//! What has to hold before the controller begins, and why it ends when it should not.

use std::net::SocketAddr;

use kube::{Client, Resource};

use crate::api::{AgentAttempt, AgentEnvironment, AgentMessage, AgentTask, GROUP, ModelProvider, VERSION};
use crate::artifacts::StoreError;

/// Why the controller can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster lacks our kinds, or has another version of them.
    #[error(
        "this cluster does not serve {0}; install the CustomResourceDefinitions first: podwright crd --apply, or kubectl apply --server-side -f crds/"
    )]
    NotServed(String),
    /// The cluster can't be asked.
    #[error("cannot reach the cluster: {0}")]
    Unreachable(#[source] Box<kube::Error>),
    /// The artifact store can't be used as it is configured.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address for probes and metrics can't be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Probes and metrics can't be served any more.
    #[error("the probes can't be served any more: {0}")]
    Serve(#[source] std::io::Error),
    /// Two metrics have one name.
    #[error("cannot register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A loop that has no end has ended.
    #[error("the watch of AgentTasks ended by itself")]
    Ended,
    /// A part of the controller has panicked.
    #[error("a part of the controller failed: {0}")]
    Failed(#[from] tokio::task::JoinError),
}

/// Makes sure that the cluster serves our kinds: a watch of one that is not served would fail for ever, in the
/// log only.
pub(super) async fn check_definitions(client: &Client) -> Result<(), RunError> {
    let version = format!("{GROUP}/{VERSION}");
    let served = match client.list_api_group_resources(&version).await {
        Ok(list) => list.resources,
        Err(kube::Error::Api(status)) if status.is_not_found() => return Err(RunError::NotServed(version)),
        Err(error) => return Err(RunError::Unreachable(Box::new(error))),
    };
    let wanted = [
        AgentTask::kind(&()),
        AgentAttempt::kind(&()),
        AgentMessage::kind(&()),
        AgentEnvironment::kind(&()),
        ModelProvider::kind(&()),
    ];
    match wanted.iter().find(|kind| !served.iter().any(|resource| resource.kind == **kind)) {
        Some(kind) => Err(RunError::NotServed(format!("the kind {kind} of {version}"))),
        None => Ok(()),
    }
}
