//! What the agent asks of the API server, and how it insists.
//!
//! kube's own retries are off: it would repeat a POST as well. Everything here may be repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::api::attempt::{AgentAttempt, AgentAttemptStatus, ArtifactRef};
use crate::artifacts::{Encoded, config_map};
use crate::names;

/// Several API servers learn of a new Role at different times, so for this long a 403 may be a mistake.
const ROLE_SETTLES: Duration = Duration::from_secs(5);

/// Waits between tries of one request. Together 20 s: the longest roll-out of an API server that a single
/// request has to live through; what matters more is asked again by its caller.
const BACKOFF: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(5),
    Duration::from_secs(8),
];

/// The kubelet tells the API server of a container's end up to a second late.
const STATUS_LAG: Duration = Duration::from_secs(2);

/// Why the API server did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// There is no such object, or this account has no right on it.
    #[error("{what}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// 401, 403, 404 or another code that stays.
        code: u16,
        /// What the API server said.
        message: String,
    },
    /// It cannot be reached, or fails.
    #[error("{what}: the API server does not answer: {message}")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What happened last.
        message: String,
    },
}

/// The API server, as far as an agent needs it.
pub trait Cluster: Clone + Send + Sync + 'static {
    /// The values of a Secret.
    fn secret(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, Vec<u8>>, ClusterError>> + Send;

    /// A value of a ConfigMap; nothing when it has no such key.
    fn config_map_value(
        &self,
        name: &str,
        key: &str,
    ) -> impl Future<Output = Result<Option<String>, ClusterError>> + Send;

    /// A value of a ConfigMap, from its data or its binary data; nothing when it has no such key.
    fn config_map_bytes(
        &self,
        name: &str,
        key: &str,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, ClusterError>> + Send;

    /// Writes the whole status of the attempt.
    fn write_status(
        &self,
        status: &AgentAttemptStatus,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Fills an artifact.
    fn put_artifact(
        &self,
        name: &str,
        key: &str,
        artifact: &Encoded,
    ) -> impl Future<Output = Result<ArtifactRef, ClusterError>> + Send;

    /// Whether the sandbox's container ended last because it used too much memory.
    fn sandbox_ran_out_of_memory(&self) -> impl Future<Output = bool> + Send;
}

/// The real one.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    namespace: String,
    attempt: String,
    attempt_uid: String,
    pod: String,
    born: Instant,
}

impl KubeCluster {
    /// The API server as `pod` sees it before it knows its attempt.
    pub fn new(client: Client, namespace: String, pod: String) -> Self {
        let (attempt, attempt_uid) = (String::new(), String::new());
        Self { client, namespace, attempt, attempt_uid, pod, born: Instant::now() }
    }

    /// The same for the agent of an attempt.
    #[must_use]
    pub fn of_attempt(self, attempt: String, attempt_uid: String) -> Self {
        Self { attempt, attempt_uid, ..self }
    }

    /// Asks until there is an answer that stays.
    pub(super) async fn insist<T, F: Future<Output = kube::Result<T>> + Send>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F + Send,
    ) -> Result<T, ClusterError> {
        let mut waits = BACKOFF.into_iter();
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Some((code, message)) = refusal(&error)
                && !(code == 403 && self.born.elapsed() < ROLE_SETTLES)
            {
                return Err(ClusterError::Refused { what: what.to_owned(), code, message });
            }
            match waits.next() {
                Some(wait) => sleep(wait).await,
                None => {
                    let message = error.to_string();
                    return Err(ClusterError::Unreachable { what: what.to_owned(), message });
                }
            }
        }
    }

    /// The attempt.
    pub(super) fn attempts(&self) -> Api<AgentAttempt> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pods, of which it may ask for its own.
    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

impl Cluster for KubeCluster {
    async fn secret(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>, ClusterError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = self.insist(&format!("cannot read the Secret {name}"), || api.get(name)).await?;
        Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
    }

    async fn config_map_value(&self, name: &str, key: &str) -> Result<Option<String>, ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = self.insist(&format!("cannot read the ConfigMap {name}"), || api.get(name)).await?;
        Ok(map.data.unwrap_or_default().remove(key))
    }

    async fn config_map_bytes(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = self.insist(&format!("cannot read the ConfigMap {name}"), || api.get(name)).await?;
        let binary = map.binary_data.unwrap_or_default().remove(key).map(|value| value.0);
        Ok(binary.or_else(|| map.data.unwrap_or_default().remove(key).map(String::into_bytes)))
    }

    async fn write_status(&self, status: &AgentAttemptStatus) -> Result<(), ClusterError> {
        let api = self.attempts();
        let patch = Patch::Apply(json!({
            "apiVersion": "podwright.dev/v1alpha1",
            "kind": "AgentAttempt",
            // The UID, so that an attempt that was made anew under the name keeps its own status.
            "metadata": { "name": self.attempt, "uid": self.attempt_uid },
            "status": status,
        }));
        let params = PatchParams::apply(names::AGENT_MANAGER).force();
        let what = "cannot write the attempt's status";
        self.insist(what, || api.patch_status(&self.attempt, &params, &patch)).await.map(drop)
    }

    async fn put_artifact(
        &self,
        name: &str,
        key: &str,
        artifact: &Encoded,
    ) -> Result<ArtifactRef, ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Apply(config_map::filled(name, key, artifact));
        let params = PatchParams::apply(names::AGENT_MANAGER).force();
        let what = format!("cannot fill the ConfigMap {name}");
        self.insist(&what, || api.patch(name, &params, &patch)).await?;
        Ok(config_map::reference(name, key, artifact))
    }

    async fn sandbox_ran_out_of_memory(&self) -> bool {
        sleep(STATUS_LAG).await;
        let api = self.pods();
        let Ok(pod) = self.insist("cannot read the own pod", || api.get(&self.pod)).await else {
            return false;
        };
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let sandbox = statuses.into_iter().find(|status| status.name == names::SANDBOX_CONTAINER);
        let ended = sandbox.and_then(|status| status.last_state?.terminated);
        ended.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"))
    }
}

/// The code and the words of an answer that stays the same.
fn refusal(error: &kube::Error) -> Option<(u16, String)> {
    let kube::Error::Api(status) = error else { return None };
    let stays = (400..500).contains(&status.code) && !matches!(status.code, 409 | 429);
    stays.then(|| (status.code, status.message.clone()))
}

#[cfg(test)]
mod tests;
