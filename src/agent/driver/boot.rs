//! From the pod's environment to an attempt.

use std::env;
use std::io;
use std::net::IpAddr;

use kube::Config;
use tokio::sync::watch;

use super::cluster::{ClusterError, KubeCluster};
use super::network::Outside;
use super::orders::{self, Orders};
use super::{Assignment, Directories, Drive, DriveError, Stopped, drive, verify};
use crate::api::attempt::{AgentAttempt, AgentAttemptStatus, Phase};
use crate::egress::address::{Cidr, InvalidCidr};
use crate::sandbox::PodDial;
use crate::workspace::{Git, GitError};
use crate::{apiserver, names};

/// Why an agent did not bring its attempt to an end.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The pod's downward API is not there.
    #[error("the environment variable {0} is missing: the agent runs in a pod that the controller made")]
    Environment(&'static str),
    /// What the controller says of networks is none.
    #[error("{}: {source}", names::CLOSED_NETWORKS_VARIABLE)]
    Networks {
        /// What is wrong with it.
        #[from]
        source: InvalidCidr,
    },
    /// The API server's address or the account's token is missing.
    #[error("cannot find out how to reach the API server: {0}")]
    Config(#[from] kube::config::InClusterError),
    /// The client cannot be built.
    #[error("cannot make a client of the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The API server does not answer, or refuses.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The agent's image has no usable git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The pod is not assigned, or to an attempt of another UID.
    #[error("the pod is not assigned to an attempt that exists: {0}")]
    Assignment(String),
    /// The attempt could not be driven to its end.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

/// What the pod is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The agent's own work.
    Agent,
    /// The verification of its patch.
    Verification,
}

/// Works on the attempt that the own pod is assigned to.
///
/// # Errors
/// [`BootError`]; another try may help.
pub async fn run(directories: Directories, work: Work) -> Result<Stopped, BootError> {
    let pod = variable("PODWRIGHT_POD_NAME")?;
    let namespace = variable("PODWRIGHT_POD_NAMESPACE")?;
    let pod_uid = variable("PODWRIGHT_POD_UID")?;
    let client =
        apiserver::connect(&Config::incluster()?).map_err(|error| BootError::Client(Box::new(error)))?;
    let finder = KubeCluster::new(client, namespace.clone(), pod.clone());
    let Claim { attempt, attempt_uid, epoch } = claim(&finder, &pod, &pod_uid).await?;
    let object = claimed(&finder, &attempt, &attempt_uid).await?;
    if object.status.as_ref().is_some_and(|status| is_over(work, status)) {
        return Ok(Stopped::Published);
    }
    let cluster = finder.of_attempt(attempt.clone(), attempt_uid.clone());
    let (sender, orders) = watch::channel(Orders::of(&object));
    tokio::spawn(orders::follow(cluster.clone(), attempt.clone(), attempt_uid.clone(), sender));
    let dial = PodDial::new(cluster.pods(), pod);
    let AgentAttempt { spec, status, .. } = object;
    let status = status.unwrap_or_default();
    let assignment = Assignment {
        namespace,
        attempt,
        attempt_uid,
        task_uid: spec.task_uid,
        epoch,
        pod_uid,
        job: spec.job,
    };
    let git = Git::new()?;
    let outside = Outside { closed: closed_networks()?, ..Outside::default() };
    let log = Box::new(io::stdout());
    let parts = Drive { assignment, cluster, dial, git, directories, outside, status, orders, log };
    Ok(match work {
        Work::Agent => drive(parts).await?,
        Work::Verification => verify(parts).await?,
    })
}

/// Whether nothing is left to do. The agent's own work is over as well when it has asked for the verification.
fn is_over(work: Work, status: &AgentAttemptStatus) -> bool {
    status.outcome.is_some() || (work == Work::Agent && status.phase == Some(Phase::Verifying))
}

/// What the own pod says about its attempt.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    attempt: String,
    attempt_uid: String,
    epoch: u32,
}

async fn claim(cluster: &KubeCluster, name: &str, uid: &str) -> Result<Claim, BootError> {
    let api = cluster.pods();
    let pod = cluster.insist("cannot read the own pod", || api.get(name)).await?;
    if pod.metadata.uid.as_deref() != Some(uid) {
        return Err(BootError::Assignment(format!("the pod {name} was replaced")));
    }
    let mut annotations = pod.metadata.annotations.unwrap_or_default();
    let mut take = |key: &str| {
        annotations
            .remove(key)
            .ok_or_else(|| BootError::Assignment(format!("the annotation {key} is missing")))
    };
    let attempt = take(names::ATTEMPT_ANNOTATION)?;
    let attempt_uid = take(names::ATTEMPT_UID_ANNOTATION)?;
    let epoch = take(names::EPOCH_ANNOTATION)?;
    let epoch = epoch.parse().map_err(|_| BootError::Assignment(format!("{epoch:?} is no epoch")))?;
    Ok(Claim { attempt, attempt_uid, epoch })
}

async fn claimed(cluster: &KubeCluster, name: &str, uid: &str) -> Result<AgentAttempt, BootError> {
    let api = cluster.attempts();
    let attempt = cluster.insist("cannot read the attempt", || api.get(name)).await?;
    if attempt.metadata.uid.as_deref() != Some(uid) {
        return Err(BootError::Assignment(format!("{name} has another UID than the pod names")));
    }
    Ok(attempt)
}

/// Where the API server is, for programs in pods; Kubernetes sets it.
const API_SERVER_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

/// What is closed to commands although it may be public: the own node, the API server, and what the controller says.
fn closed_networks() -> Result<Vec<Cidr>, InvalidCidr> {
    let list = |name: &str| env::var(name).unwrap_or_default();
    let addresses = [names::HOST_ADDRESSES_VARIABLE, API_SERVER_VARIABLE].map(list).join(",");
    // The API server may be named instead.
    let own = addresses.split(',').filter_map(|address| address.parse::<IpAddr>().ok()).map(Cidr::from);
    let blocks = list(names::CLOSED_NETWORKS_VARIABLE);
    let blocks = blocks.split(',').filter(|block| !block.is_empty()).map(str::parse);
    own.map(Ok).chain(blocks).collect()
}

fn variable(name: &'static str) -> Result<String, BootError> {
    env::var(name).map_err(|_| BootError::Environment(name))
}

#[cfg(test)]
mod tests;
