//! What an agent's token may do, and that it can do nothing once its pod's work has ended.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::{Api, AttachParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Config, Error, ResourceExt};
use podwright::api::{AgentAttempt, AgentTask, Reason};
use serde_json::json;

use crate::world::World;

const SCRIPT: &str = "scenarios: [{name: any, replies: [{output: [{text: Done.}]}]}]";

/// A client with a token of the pod's own account, bound to the pod as the agent's is.
async fn as_agent(world: &World, pod: &Pod) -> Client {
    let accounts: Api<ServiceAccount> = world.api();
    let request = TokenRequest {
        spec: TokenRequestSpec {
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request(&pod.name_any(), &PostParams::default(), &request).await;
    let token = made.expect("a token can be made").status.expect("a status").token;
    let kubeconfig =
        kube::config::Kubeconfig::read_from(crate::cluster::kubeconfig()).expect("the kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("a configuration");
    config.auth_info = kube::config::AuthInfo { token: Some(token.into()), ..Default::default() };
    Client::try_from(config).expect("a client")
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(Error::Api(status)) => status.code,
        Err(other) => panic!("{other}"),
    }
}

/// The answer to an exec; 200 stands for a stream.
async fn attach(client: &Client, namespace: &str, pod: &str, container: &str, command: &[&str]) -> u16 {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = AttachParams::default().container(container).stdin(true).stderr(false);
    code(pods.exec(pod, command.iter().copied(), &params).await.map(drop))
}

const ATTACH: &[&str] = &["/tools/podwright-sandboxd", "attach"];

#[tokio::test]
async fn an_agents_token_reaches_its_own_attempt_and_dies_with_the_work() {
    let world = World::new("fence", SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    // An agent that has answered keeps its rights until it is told to end: no race against its work.
    let kept = json!({"idle": {"keepSeconds": 600}, "retention": {"podSeconds": 120}});
    world.create_task("patient", "app", &kept).await;
    world.reason("patient", Reason::Idle).await;
    let pod = world.pod("patient").await;
    let name = pod.name_any();
    let namespace = world.namespace.name.clone();
    let agent = as_agent(&world, &pod).await;
    let attempt = world.attempt("patient").await.name_any();

    let attempts: Api<AgentAttempt> = Api::namespaced(agent.clone(), &namespace);
    let tasks: Api<AgentTask> = Api::namespaced(agent.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(agent.clone(), &namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(agent.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(agent.clone(), &namespace);
    let params = PatchParams::default();
    let empty = Patch::Merge(json!({"status": {}}));
    assert_eq!(code(attempts.get(&attempt).await), 200);
    assert_eq!(code(attempts.patch_status(&attempt, &params, &empty).await), 200);
    assert_eq!(attach(&agent, &namespace, &name, "sandbox", ATTACH).await, 200, "its own sandbox");

    assert_eq!(
        code(attempts.patch(&attempt, &params, &Patch::Merge(json!({"spec": {"suspend": true}}))).await),
        403
    );
    assert_eq!(code(attempts.list(&ListParams::default()).await), 403);
    assert_eq!(code(tasks.get("patient").await), 403);
    assert_eq!(code(tasks.patch_status("patient", &params, &empty).await), 403);
    assert_eq!(code(secrets.list(&ListParams::default()).await), 403);
    assert_eq!(code(config_maps.list(&ListParams::default()).await), 403);
    assert_eq!(code(pods.list(&ListParams::default()).await), 403);
    assert_eq!(code(pods.delete(&name, &Default::default()).await), 403);
    let with_the_key = attach(&agent, &namespace, &name, "agent", ATTACH).await;
    assert_eq!(with_the_key, 403, "never the container with the key");
    let unconfined = attach(&agent, &namespace, &name, "sandbox", &["/bin/sh"]).await;
    assert_eq!(unconfined, 403, "never an unconfined command");

    world.say("stop", &json!({"taskName": "patient", "kind": "Cancel"})).await;
    world.ended("patient").await;
    // The API server remembers a token's verdict for 10 s.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(matches!(code(attempts.patch_status(&attempt, &params, &empty).await), 401 | 403));
    assert!(matches!(code(attempts.get(&attempt).await), 401 | 403));
    // The pod itself is kept for a while: it is the right that is gone, not what it was on.
    assert!(world.api::<Pod>().get_opt(&name).await.expect("pods can be read").is_some());
    let entered = attach(&agent, &namespace, &name, "sandbox", ATTACH).await;
    assert!(matches!(entered, 401 | 403), "the old token still enters the sandbox: {entered}");
    world.end().await;
}

/// The controller holds exec only to be able to grant it: it may enter no pod, its own included.
#[tokio::test]
async fn the_controller_may_enter_no_pod() {
    const NAMESPACE: &str = "podwright-system";
    let kubeconfig =
        kube::config::Kubeconfig::read_from(crate::cluster::kubeconfig()).expect("the kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("a configuration");
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{NAMESPACE}:podwright-controller"));
    let client = Client::try_from(config).expect("a client");
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    // Another test restarts it meanwhile: for a moment there may be none.
    let params = ListParams::default().labels("app.kubernetes.io/component=controller");
    let pod = loop {
        if let Some(pod) = pods.list(&params).await.expect("it may list pods").items.pop() {
            break pod.name_any();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let params = AttachParams::default().stderr(false);
    let refused = pods.exec(&pod, ["podwright", "--version"], &params).await.err().expect("it is refused");
    assert!(refused.to_string().contains("breakglass"), "{refused}");
}
