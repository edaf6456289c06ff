//! The cluster that tests run against. A test that needs it fails when there is none.

use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// The kubeconfig of the test cluster: `PODWRIGHT_TEST_KUBECONFIG`, or what `hack/cluster kubeconfig` prints.
pub(crate) fn kubeconfig() -> PathBuf {
    if let Some(path) = std::env::var_os("PODWRIGHT_TEST_KUBECONFIG") {
        return path.into();
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("hack/cluster");
    let output = Command::new(&script).arg("kubeconfig").output().expect("hack/cluster can be run");
    assert!(output.status.success(), "there is no test cluster: run `make cluster-up`");
    String::from_utf8(output.stdout).expect("a path").trim().into()
}

/// A client with all rights on the test cluster.
pub(crate) async fn admin() -> Client {
    let file = kubeconfig();
    let kubeconfig = Kubeconfig::read_from(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make cluster-up`", file.display()));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig can be used");
    let client = podwright::apiserver::connect(&config).expect("a client can be built");
    client.apiserver_version().await.expect("the test cluster answers; run `make cluster-up`");
    client
}

/// A namespace of a test's own. It is deleted by [`TestNamespace::delete`], which a test calls at its good end: after
/// a failure it is left to be looked at, and `make cluster-down` ends it.
pub(crate) struct TestNamespace {
    client: Client,
    /// Its name.
    pub(crate) name: String,
}

impl TestNamespace {
    /// Makes a namespace whose name begins with `prefix`, at the pod security level `restricted`.
    pub(crate) async fn create(client: &Client, prefix: &str) -> Self {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                labels: Some([("pod-security.kubernetes.io/enforce".into(), "restricted".into())].into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let made =
            namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace can be made");
        Self { client: client.clone(), name: made.metadata.name.expect("a made object has a name") }
    }

    /// Deletes it, without waiting.
    pub(crate) async fn delete(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await.expect("the namespace can be deleted");
    }
}
