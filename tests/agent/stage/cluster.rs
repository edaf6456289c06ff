//! The API server's stand-in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podwright::agent::driver::Cluster;
use podwright::agent::driver::cluster::ClusterError;
use podwright::api::AgentAttemptStatus;
use podwright::api::attempt::ArtifactRef;
use podwright::artifacts::Encoded;

/// It keeps what the agent writes.
#[derive(Clone, Default)]
pub(crate) struct FakeCluster {
    pub(crate) statuses: Arc<Mutex<Vec<AgentAttemptStatus>>>,
    pub(crate) artifacts: Arc<Mutex<BTreeMap<String, Encoded>>>,
    pub(crate) secrets: Arc<Mutex<BTreeMap<String, Secret>>>,
    pub(crate) config_maps: Arc<Mutex<Values>>,
    /// While true, no artifact is taken.
    pub(crate) holds_artifacts: Arc<AtomicBool>,
    /// Whether the sandbox's container ended last because it used too much memory.
    pub(crate) ran_out_of_memory: Arc<AtomicBool>,
}

/// The values of ConfigMaps, by name and key.
type Values = BTreeMap<(String, String), Vec<u8>>;

/// The values of a Secret.
type Secret = BTreeMap<String, Vec<u8>>;

impl FakeCluster {
    /// Puts a value into a ConfigMap.
    pub(crate) fn config_map(&self, name: &str, key: &str, value: impl Into<Vec<u8>>) {
        self.config_maps.lock().unwrap().insert((name.to_owned(), key.to_owned()), value.into());
    }
}

impl Cluster for FakeCluster {
    async fn secret(&self, name: &str) -> Result<Secret, ClusterError> {
        let secrets = self.secrets.lock().unwrap();
        secrets.get(name).cloned().ok_or_else(|| ClusterError::Refused {
            what: format!("cannot read the Secret {name}"),
            code: 404,
            message: "not found".into(),
        })
    }

    async fn config_map_value(&self, name: &str, key: &str) -> Result<Option<String>, ClusterError> {
        let value = self.config_maps.lock().unwrap().get(&(name.to_owned(), key.to_owned())).cloned();
        Ok(value.map(|value| String::from_utf8(value).unwrap()))
    }

    async fn config_map_bytes(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        let artifact = self.artifacts.lock().unwrap().get(name).map(|encoded| encoded.data.clone());
        let given = self.config_maps.lock().unwrap().get(&(name.to_owned(), key.to_owned())).cloned();
        Ok(artifact.or(given))
    }

    async fn write_status(&self, status: &AgentAttemptStatus) -> Result<(), ClusterError> {
        self.statuses.lock().unwrap().push(status.clone());
        Ok(())
    }

    async fn put_artifact(
        &self,
        name: &str,
        key: &str,
        artifact: &Encoded,
    ) -> Result<ArtifactRef, ClusterError> {
        while self.holds_artifacts.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.artifacts.lock().unwrap().insert(name.to_owned(), artifact.clone());
        self.config_map(name, key, artifact.data.clone());
        Ok(ArtifactRef {
            config_map_name: name.to_owned(),
            key: key.to_owned(),
            sha256: artifact.sha256.clone(),
            bytes: i64::try_from(artifact.bytes).unwrap(),
            ..ArtifactRef::default()
        })
    }

    async fn sandbox_ran_out_of_memory(&self) -> bool {
        self.ran_out_of_memory.load(Ordering::Relaxed)
    }
}
