//! What a whole task runs in: a namespace of its own on the real cluster, a git server and a scripted model
//! of its own on this machine, which pods reach at the node's address. The controller is the one that the chart
//! installed, under the chart's account.

use std::future::pending;
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, Resource, ResourceExt};
use podwright::api::conditions::{self, SUCCEEDED};
use podwright::api::{AgentAttempt, AgentEnvironment, AgentMessage, AgentTask, ModelProvider};
use podwright::scripted::{self, Script};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cluster::{self, TestNamespace};
use crate::git::GitServer;

/// The node's address on the pods' bridge (hack/cluster).
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

/// How long a task may take: the slowest case here waits 30 s for a network, and the machine is shared.
const PATIENCE: Duration = Duration::from_secs(240);

/// The release that `make test` installs.
const RELEASE_NAMESPACE: &str = "podwright-system";

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: TestNamespace,
    pub(crate) git: GitServer,
    /// Base URL of its model.
    pub(crate) model_url: String,
}

impl World {
    /// A world whose model answers from `script`.
    pub(crate) async fn new(prefix: &str, script: &str) -> Self {
        let client = cluster::admin().await;
        let namespace = TestNamespace::create(&client, &format!("e2e-{prefix}")).await;
        let world = Self { git: GitServer::start(NODE), model_url: serve(script).await, client, namespace };
        let model_url = world.model_url.clone();
        world.apply_provider("default", &json!({"baseURL": model_url})).await;
        world.apply_environment("default", &json!({})).await;
        world
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace.name)
    }

    /// Applies a ModelProvider that points to the script, with some fields replaced.
    pub(crate) async fn apply_provider(&self, name: &str, more: &Value) {
        let capabilities = json!({"customTools": true, "developerRole": true, "parallelToolCalls": true,
            "promptCacheKey": true});
        let mut spec = json!({"api": "Responses", "baseURL": self.model_url,
            "models": [{"name": "scripted", "capabilities": capabilities}],
            "retry": {"requestMax": 1, "streamMax": 1, "idleSeconds": 20}});
        merge(&mut spec, more);
        self.apply::<ModelProvider>(name, &spec).await;
    }

    /// Applies an AgentEnvironment with the default sandbox image, with some fields replaced.
    pub(crate) async fn apply_environment(&self, name: &str, more: &Value) {
        let (_, image) = installed_images(&self.client).await;
        let mut spec = json!({"image": image,
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}});
        merge(&mut spec, more);
        self.apply::<AgentEnvironment>(name, &spec).await;
    }

    /// Applies an object of one of our kinds.
    pub(crate) async fn apply<K: Resource<DynamicType = ()>>(&self, name: &str, spec: &Value) {
        let resource = kube::api::ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace.name, &resource);
        let object = json!({"apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": name}, "spec": spec});
        let params = PatchParams::apply("e2e").force();
        api.patch(name, &params, &Patch::Apply(&object)).await.expect("the object is taken");
    }

    /// Creates a task on a repository of the git server, with some fields of the spec replaced.
    pub(crate) async fn create_task(&self, name: &str, repository: &str, more: &Value) {
        let mut spec = json!({"prompt": "Do it.", "repositories": [{"url": self.git.url(repository)}]});
        merge(&mut spec, more);
        self.apply::<AgentTask>(name, &spec).await;
    }

    /// Says something to a task.
    pub(crate) async fn say(&self, name: &str, spec: &Value) {
        let message: AgentMessage = serde_json::from_value(json!({"apiVersion": "podwright.dev/v1alpha1",
            "kind": "AgentMessage", "metadata": {"name": name}, "spec": spec}))
        .expect("a message");
        self.api::<AgentMessage>().create(&PostParams::default(), &message).await.expect("it is taken");
    }

    /// The task, as soon as `condition` holds.
    pub(crate) async fn task_when(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&AgentTask) -> bool,
    ) -> AgentTask {
        let check = |task: Option<&AgentTask>| task.is_some_and(&condition);
        let waiting = await_condition(self.api::<AgentTask>(), name, check);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found.expect("the task can be watched").expect("the task is there"),
            Err(_) => panic!("{name} is not {what} after {PATIENCE:?}:\n{}", self.description(name).await),
        }
    }

    /// The task, as soon as it has ended.
    pub(crate) async fn ended(&self, name: &str) -> AgentTask {
        self.task_when(name, "ended", |task| matches!(succeeded(task).0.as_str(), "True" | "False")).await
    }

    /// The pod of a task, as soon as there is one.
    pub(crate) async fn pod(&self, task: &str) -> Pod {
        let params = ListParams::default().labels(&format!("podwright.dev/task={task}"));
        for _ in 0..600 {
            let mut pods = self.api::<Pod>().list(&params).await.expect("pods can be listed").items;
            if let Some(pod) = pods.pop() {
                return pod;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{task} has no pod:\n{}", self.description(task).await);
    }

    /// What is known about a task that did not do what a test expects.
    pub(crate) async fn description(&self, task: &str) -> String {
        let tasks = self.api::<AgentTask>().get_opt(task).await.ok().flatten();
        let attempts = self.api::<AgentAttempt>().list(&ListParams::default()).await.map(|list| list.items);
        let status = tasks.map(|task| json!(task.status));
        let attempts: Vec<Value> = attempts.unwrap_or_default().iter().map(|a| json!(a.status)).collect();
        let mut text = format!("namespace {}\n{status:#?}\n{attempts:#?}\n", self.namespace.name);
        for pod in
            self.api::<Pod>().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default()
        {
            text.push_str(&format!("pod {}: {}\n", pod.name_any(), json!(pod.status)));
        }
        text
    }

    /// Ends the world of a test that went well.
    pub(crate) async fn end(self) {
        self.namespace.delete().await;
    }
}

/// The images that the chart installed: Podwright's own, and the default sandbox's.
pub(crate) async fn installed_images(client: &Client) -> (String, String) {
    let controllers: Api<Deployment> = Api::namespaced(client.clone(), RELEASE_NAMESPACE);
    let controller =
        controllers.get("podwright-controller").await.expect("the chart is installed: run `make test`");
    let pod = controller.spec.and_then(|spec| spec.template.spec).expect("a pod");
    let environments: Api<AgentEnvironment> = Api::namespaced(client.clone(), RELEASE_NAMESPACE);
    let environment = environments.get("default").await.expect("the chart is installed: run `make test`");
    (pod.containers[0].image.clone().expect("an image"), environment.spec.image)
}

/// Status, reason and message of a task's condition Succeeded.
pub(crate) fn succeeded(task: &AgentTask) -> (String, String, String) {
    let conditions = task.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, SUCCEEDED)
        .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
        .unwrap_or_default()
}

/// Replaces members of an object; null removes one.
pub(crate) fn merge(into: &mut Value, more: &Value) {
    let into = into.as_object_mut().expect("an object");
    for (key, value) in more.as_object().expect("an object") {
        match value {
            Value::Null => into.remove(key),
            other => into.insert(key.clone(), other.clone()),
        };
    }
}

/// Serves a script for as long as the test's process lives, and gives its base URL.
pub(crate) async fn serve(script: &str) -> String {
    let script = Script::from_yaml(script).expect("the script can be played");
    let listener =
        TcpListener::bind((NODE, 0)).await.expect("the cluster's bridge is there: run `make cluster-up`");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(
        async move { scripted::serve(listener, script, pending()).await.expect("the script is served") },
    );
    format!("http://{NODE}:{port}/v1")
}
