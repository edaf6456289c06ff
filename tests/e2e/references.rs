//! What a task names and does not get: the documented reason, and a sentence that says what to do.

use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota, Secret};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use podwright::api::{AgentTask, Reason};
use podwright::names;
use serde_json::{Value, json};

use crate::world::{World, succeeded};

const SCRIPT: &str = "scenarios: [{name: any, cycle: true, replies: [{output: [{text: Done.}]}]}]";

async fn world(prefix: &str) -> World {
    let world = World::new(prefix, SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    world.git.repository("empty", &[]);
    world
}

/// Runs one task for each case and compares reason and words.
async fn ends_with(world: &World, cases: &[(&str, &str, Value, Reason, &[&str])]) {
    for (name, repository, spec, _, _) in cases {
        world.create_task(name, repository, spec).await;
    }
    for (name, _, _, reason, words) in cases {
        let (_, got, message) = succeeded(&world.ended(name).await);
        assert_eq!(got, reason.as_str(), "{name}: {message}");
        for word in *words {
            assert!(message.contains(word), "{name}: {word:?} is missing in: {message}");
        }
    }
}

#[tokio::test]
async fn a_repository_that_cannot_be_fetched() {
    let world = world("clone").await;
    let at = |url: &str| json!({"repositories": [{"url": url}]});
    let reference =
        |reference: &str| json!({"repositories": [{"url": world.git.url("app"), "ref": reference}]});
    ends_with(
        &world,
        &[
            (
                "closed",
                "app",
                at("http://10.244.0.1:9/app.git"),
                Reason::CloneFailed,
                &["10.244.0.1:9", "check the repository's url"],
            ),
            (
                "no-such-host",
                "app",
                at("http://git.nowhere.invalid/app.git"),
                Reason::CloneFailed,
                &["git.nowhere.invalid", "check the repository's url"],
            ),
            (
                "no-such-repository",
                "nothing",
                json!({}),
                Reason::CloneFailed,
                &["check the url", "check the url"],
            ),
            ("wrong-ref", "app", reference("mian"), Reason::CloneFailed, &["\"mian\"", "\"main\""]),
            ("empty", "empty", json!({}), Reason::CloneFailed, &["push a first commit"]),
            (
                "stalled",
                "stall/app",
                json!({}),
                Reason::CloneFailed,
                &["sent nothing for 30 s", "try again later"],
            ),
            (
                "needs-password",
                "private/app",
                json!({}),
                Reason::CloneFailed,
                &["kubectl create secret", "annotate", "-n "],
            ),
        ],
    )
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_credential_that_cannot_be_used() {
    let world = world("credential").await;
    let secrets: Api<Secret> = world.api();
    let secret = |name: &str, hosts: Option<&str>, data: Value| -> Secret {
        let annotations = hosts.map_or(json!({}), |hosts| json!({"podwright.dev/hosts": hosts}));
        serde_json::from_value(
            json!({"metadata": {"name": name, "annotations": annotations}, "stringData": data}),
        )
        .expect("a secret")
    };
    // A credential over plain http goes to services of the cluster only, so the server gets one.
    let host = service_for_git(&world).await;
    let good = json!({"username": "ada", "password": "s3cret"});
    let wrong = json!({"username": "ada", "password": "guess"});
    for secret in [
        secret("good", Some(&host), good.clone()),
        secret("unannotated", None, good.clone()),
        secret("elsewhere", Some("git.example.com"), good.clone()),
        secret("malformed", Some(&host), json!({"user": "ada"})),
        secret("wrong", Some(&host), wrong),
        secret("plain", Some("10.244.0.1"), good),
    ] {
        secrets.create(&PostParams::default(), &secret).await.expect("it is taken");
    }
    let url = format!("http://{host}:8080/private/app.git");
    let with = |secret: &str| json!({"repositories": [{"url": url, "credentialsSecretName": secret}]});
    let plain =
        json!({"repositories": [{"url": world.git.url("private/app"), "credentialsSecretName": "plain"}]});
    ends_with(
        &world,
        &[
            ("good", "", with("good"), Reason::Completed, &[]),
            (
                "unannotated",
                "",
                with("unannotated"),
                Reason::InvalidSpec,
                &["kubectl", "annotate", "podwright.dev/hosts"],
            ),
            (
                "elsewhere",
                "",
                with("elsewhere"),
                Reason::InvalidSpec,
                &["kubectl", "annotate", "podwright.dev/hosts"],
            ),
            (
                "malformed",
                "",
                with("malformed"),
                Reason::InvalidSpec,
                &["kubectl", "create secret", "username", "password"],
            ),
            (
                "wrong",
                "",
                with("wrong"),
                Reason::CloneFailed,
                &["kubectl create secret generic wrong", "--dry-run=client"],
            ),
            ("plain", "", plain, Reason::InvalidSpec, &["use https"]),
        ],
    )
    .await;
    world.end().await;
}

/// A service of the cluster that leads to the git server; its DNS name.
async fn service_for_git(world: &World) -> String {
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    let port = url::Url::parse(&world.git.url("app")).expect("a URL").port();
    let ports = json!([{"name": "http", "port": 8080, "targetPort": port}]);
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "git"}, "spec": {"ports": ports}}))
            .expect("a service");
    world.api::<Service>().create(&PostParams::default(), &service).await.expect("it is taken");
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "git", "labels": {"kubernetes.io/service-name": "git"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}], "endpoints": [{"addresses": ["10.244.0.1"]}],
    }))
    .expect("a slice");
    world.api::<EndpointSlice>().create(&PostParams::default(), &slice).await.expect("it is taken");
    format!("git.{}.svc", world.namespace.name)
}

#[tokio::test]
async fn what_does_not_exist_yet_is_waited_for() {
    let world = world("wait").await;
    let secret = json!({"repositories": [{"url": "https://git.example.com/app.git", "credentialsSecretName": "later"}]});
    let prompt = json!({"prompt": null, "promptFrom": {"configMapKeyRef": {"name": "later", "key": "text"}}});
    let cases = [
        ("environment", json!({"environmentName": "later"}), "AgentEnvironment"),
        ("provider", json!({"model": {"providerName": "later"}}), "ModelProvider"),
        ("prompt", prompt, "ConfigMap"),
        ("secret", secret, "Secret"),
    ];
    for (name, spec, _) in &cases {
        world.create_task(name, "app", spec).await;
    }
    for (name, _, kind) in &cases {
        let task = world.reason(name, Reason::WaitingForReference).await;
        let (status, _, message) = succeeded(&task);
        assert_eq!(status, "Unknown");
        assert!(message.contains(kind) && message.contains("later"), "{name}: {message}");
    }
    world.apply_environment("later", &json!({})).await;
    world.apply_provider("later", &json!({})).await;
    let config_map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "later"}, "data": {"text": "Do it."}}))
            .expect("it");
    world.api::<ConfigMap>().create(&PostParams::default(), &config_map).await.expect("it is taken");
    for name in ["environment", "provider", "prompt"] {
        let (_, reason, message) = succeeded(&world.ended(name).await);
        assert_eq!(reason, "Completed", "{name}: {message}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_object_of_somebody_else_is_waited_out() {
    let world = world("foreign").await;
    world.create_task("held", "app", &json!({"suspend": true})).await;
    let task = world.reason("held", Reason::Suspended).await;
    let attempt = names::attempt("held", &task.uid().expect("a UID"), 1);
    let name = names::patch_artifact(&attempt);
    let config_maps: Api<ConfigMap> = world.api();
    let foreign: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).expect("it");
    config_maps.create(&PostParams::default(), &foreign).await.expect("it is taken");
    let go_on = Patch::Merge(json!({"spec": {"suspend": false}}));
    let tasks: Api<AgentTask> = world.api();
    tasks.patch("held", &PatchParams::default(), &go_on).await.expect("it can change");
    let (_, _, message) = succeeded(&world.reason("held", Reason::WaitingForReference).await);
    assert!(message.contains(&format!("kubectl delete ConfigMap {name}")), "{message}");
    config_maps.delete(&name, &Default::default()).await.expect("it can be deleted");
    let (_, reason, message) = succeeded(&world.ended("held").await);
    assert_eq!(reason, "Completed", "{message}");
    world.end().await;
}

#[tokio::test]
async fn a_pod_that_cannot_run() {
    let world = world("pod").await;
    world.apply_environment("no-image", &json!({"image": "localhost/nothing:1"})).await;
    world.apply_environment("no-name", &json!({"image": "Not/Valid:1"})).await;
    world.apply_environment("no-node", &json!({"pod": {"nodeSelector": {"disk": "golden"}}})).await;
    world.apply_environment("no-class", &json!({"pod": {"runtimeClassName": "none"}})).await;
    world.create_task("no-node", "app", &json!({"environmentName": "no-node"})).await;
    world.create_task("no-image", "app", &json!({"environmentName": "no-image"})).await;
    let (_, _, message) = succeeded(&world.reason("no-node", Reason::Unschedulable).await);
    assert!(message.contains("add a node") && message.contains("pod.nodeSelector"), "{message}");
    // What can never be pulled ends the task at once. What may come yet is waited for, and the task says so.
    let no_name: &[&str] = &["Not/Valid:1", "check image and imagePullSecrets of the AgentEnvironment"];
    let no_class: &[&str] = &["\"none\"", "change the AgentEnvironment"];
    ends_with(
        &world,
        &[
            ("no-name", "app", json!({"environmentName": "no-name"}), Reason::ImagePullFailed, no_name),
            ("no-class", "app", json!({"environmentName": "no-class"}), Reason::Refused, no_class),
        ],
    )
    .await;
    let seen = world
        .task_when("no-image", "told of its image", |task| succeeded(task).2.contains("localhost/nothing:1"))
        .await;
    let (_, reason, message) = succeeded(&seen);
    assert!(["Preparing", "ImagePullFailed"].contains(&reason.as_str()), "{reason}");
    assert!(message.contains("check image and imagePullSecrets"), "{message}");
    world.end().await;
}

#[tokio::test]
async fn a_full_quota_is_waited_for() {
    let world = world("quota").await;
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}))
            .expect("it");
    world.api::<ResourceQuota>().create(&PostParams::default(), &quota).await.expect("it is taken");
    world.create_task("queued", "app", &json!({})).await;
    let (status, _, message) = succeeded(&world.reason("queued", Reason::Queued).await);
    assert_eq!(status, "Unknown");
    assert!(message.contains("exceeded quota") && message.contains("raise the ResourceQuota"), "{message}");
    let patch = Patch::Merge(json!({"spec": {"hard": {"pods": "5"}}}));
    world.api::<ResourceQuota>().patch("none", &PatchParams::default(), &patch).await.expect("it can change");
    let (_, reason, message) = succeeded(&world.ended("queued").await);
    assert_eq!(reason, "Completed", "{message}");
    world.end().await;
}

#[tokio::test]
async fn tasks_over_the_providers_bound_wait_for_their_turn() {
    let world = World::new(
        "turns",
        r#"
scenarios:
  - name: any
    cycle: true
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: sleep 3}}}]
      - output: [{text: Done.}]
"#,
    )
    .await;
    world.git.repository("app", &[("a", "a\n")]);
    world.apply_provider("default", &json!({"limits": {"concurrentTasks": 1}})).await;
    for name in ["first", "second", "third"] {
        world.create_task(name, "app", &json!({})).await;
        // The API keeps times of creation in whole seconds, and the order is theirs.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    let (status, _, message) = succeeded(&world.reason("third", Reason::Queued).await);
    assert_eq!(status, "Unknown");
    assert!(message.contains("limits.concurrentTasks"), "{message}");
    let attempts = world.api::<podwright::api::AgentAttempt>();
    let list = attempts.list(&kube::api::ListParams::default()).await.expect("attempts can be listed");
    assert!(list.items.len() < 3, "a task that waits has no AgentAttempt");
    let mut ends = Vec::new();
    for name in ["first", "second", "third"] {
        let task = world.ended(name).await;
        assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
        ends.push(task.status.expect("a status").completion_time.expect("an end").0);
    }
    assert!(ends.is_sorted(), "each began after the one before it had ended: {ends:?}");
    world.end().await;
}

#[tokio::test]
async fn a_setup_script_prepares_or_fails() {
    let world = World::new(
        "setup",
        r#"
scenarios:
  - name: look
    cycle: true
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "cat /home/agent/made; cat built.txt; echo [$TOKEN]"}}}]
      - expect: {lastOutput: "made by setup"}
        output: [{text: Done.}]
"#,
    )
    .await;
    world.git.repository("app", &[("a", "a\n")]);
    let secret: Secret = serde_json::from_value(
        json!({"metadata": {"name": "build"}, "stringData": {"TOKEN": "tok-4711-canary"}}),
    )
    .expect("it");
    world.api::<Secret>().create(&PostParams::default(), &secret).await.expect("it is taken");
    let script = "echo made by setup > /home/agent/made\ntest -n \"$TOKEN\"\necho generated > built.txt\n(sleep 1000 &)\n";
    world.apply_environment("good", &json!({"setup": {"script": script, "secretNames": ["build"]}})).await;
    let script = "echo no such package at https://u:$TOKEN@idx.example/simple >&2\nexit 3";
    let bad = json!({"setup": {"script": script, "secretNames": ["build"]}});
    world.apply_environment("bad", &bad).await;
    world.create_task("good", "app", &json!({"environmentName": "good"})).await;
    world.create_task("bad", "app", &json!({"environmentName": "bad"})).await;
    let task = world.ended("good").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let patch = task.status.expect("a status").result.expect("a result").patch.expect("a patch");
    assert_eq!(patch.files, 0, "what setup made is not the agent's change");
    let outputs = crate::work::outputs(&world, "good").await;
    assert!(outputs.contains("[]") && !outputs.contains("canary"), "{outputs}");
    let task = world.ended("bad").await;
    let (_, reason, message) = succeeded(&task);
    assert_eq!(reason, "SetupFailed");
    assert!(message.contains("no such package") && message.contains("code 3"), "{message}");
    assert!(message.contains("https://u:[secret TOKEN]@idx.example"), "{message}");
    let shown = json!([task.status, world.attempt("bad").await.status]).to_string();
    assert!(!shown.contains("canary"), "{shown}");
    world.end().await;
}
