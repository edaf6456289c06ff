//! The chart's admission policies: rendered by helm as an installation renders them, for a namespace of the test's own.

mod agents;
mod limits;

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Error, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{TestNamespace, kubeconfig};
use crate::definitions;

const GROUP: &str = "admissionregistration.k8s.io";

/// How long the API server may take to learn of a policy, a binding or a right; it reads policies anew every second.
const LEARNING: Duration = Duration::from_secs(60);

/// A namespace and the policies that hold there.
struct Stage {
    client: Client,
    namespace: TestNamespace,
    policies: Vec<(ApiResource, String)>,
}

impl Stage {
    /// Installs the policies of the chart with these values. They are named by the namespace, so those of an installation
    /// and of other tests stay as they are.
    async fn new(values: &[&str]) -> Self {
        let client = definitions::client().await;
        let namespace = TestNamespace::create(&client, "api-admission").await;
        let mut policies = Vec::new();
        for manifest in rendered(&namespace.name, values) {
            let kind = manifest["kind"].as_str().expect("a kind");
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let object: DynamicObject = serde_json::from_value(manifest).expect("an object");
            let made = api.create(&PostParams::default(), &object).await;
            made.unwrap_or_else(|error| panic!("{}: {error}", object.name_any()));
            policies.push((resource, object.name_any()));
        }
        Self { client, namespace, policies }
    }

    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(client.clone(), &self.namespace.name)
    }

    /// A client that acts as this user, who has these rights in the namespace.
    async fn user(&self, user: &str, rules: Value) -> Client {
        let name = user.replace(':', ".");
        let role: Role = object(json!({"metadata": {"name": name}, "rules": rules}));
        let binding: RoleBinding = object(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }));
        let params = PostParams::default();
        self.api::<Role>(&self.client).create(&params, &role).await.expect("a role");
        self.api::<RoleBinding>(&self.client).create(&params, &binding).await.expect("a binding");
        acting_as(user).await
    }

    async fn finish(self) {
        for (resource, name) in &self.policies {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
            api.delete(name, &DeleteParams::default()).await.expect("a policy can be deleted");
        }
        self.namespace.delete().await;
    }
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

async fn acting_as(user: &str) -> Client {
    let mut kubeconfig = Kubeconfig::read_from(kubeconfig()).expect("the kubeconfig");
    for named in &mut kubeconfig.auth_infos {
        named.auth_info.get_or_insert_default().impersonate = Some(user.to_owned());
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    podwright::apiserver::connect(&config.expect("a configuration")).expect("a client")
}

/// Policies and bindings of the chart, as for a release that serves this namespace alone.
fn rendered(namespace: &str, values: &[&str]) -> Vec<Value> {
    let root = env!("CARGO_MANIFEST_DIR");
    let helm = Command::new(format!("{root}/hack/tool")).arg("helm").output().expect("hack/tool can be run");
    assert!(helm.status.success(), "there is no helm: {}", String::from_utf8_lossy(&helm.stderr));
    let served = format!("taskNamespaces={{{namespace}}}");
    let image =
        ["image.repository=registry.example.com/p", "image.tag=t", "sandboxImage=registry.example.com/s"];
    let output = Command::new(String::from_utf8(helm.stdout).expect("a path").trim())
        .args(["template", "r", &format!("{root}/charts/podwright"), "--namespace", namespace])
        .args(image.into_iter().chain([served.as_str()]).flat_map(|value| ["--set", value]))
        .args(values.iter().flat_map(|value| ["--set-json", value]))
        .output()
        .expect("helm can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let documents: Vec<Value> = text
        .split("\n---\n")
        .filter(|document| document.contains("\nkind: ValidatingAdmissionPolicy"))
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}:\n{document}"))
        })
        .collect();
    assert!(!documents.is_empty(), "the chart has no policies:\n{text}");
    documents
}

/// Tries until the answer is no more that of an API server that has not learnt of a right or a policy yet.
async fn settled<T, F>(
    what: &str,
    mut act: impl FnMut() -> F,
    is_settled: impl Fn(&Result<T, Error>) -> bool,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let end = tokio::time::Instant::now() + LEARNING;
    loop {
        let result = act().await;
        if is_settled(&result) {
            return result;
        }
        assert!(tokio::time::Instant::now() < end, "{what} never came to be");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Only tried out, so that what is taken before a policy is known leaves nothing behind.
fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn says<T>(result: &Result<T, Error>, words: &str) -> bool {
    matches!(result, Err(Error::Api(status)) if status.code >= 400 && status.message.contains(words))
}

/// Refused, and by the policy with these words: a missing right has others.
async fn refused<T, F>(case: &str, words: &str, act: impl FnMut() -> F)
where
    F: Future<Output = Result<T, Error>>,
{
    let what = format!("{case}: a refusal with {words:?}");
    drop(settled(&what, act, |result| says(result, words)).await);
}

/// Taken, once the right is known.
async fn taken<T, F>(case: &str, act: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let unknown = |result: &Result<T, Error>| !says(result, "cannot");
    let result = settled(case, act, unknown).await;
    result.unwrap_or_else(|error| panic!("{case}: {error}"))
}
