//! What a platform may hold environments and tasks to.

use kube::Error;
use kube::api::{Api, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use podwright::api::{AgentEnvironment, AgentTask};
use serde_json::{Value, json};

use super::{Stage, dry, object, refused, settled};
use crate::cluster::TestNamespace;
use crate::definitions;

fn environment(name: &str, image: &str, class: Option<&str>) -> AgentEnvironment {
    let mut spec = json!({"image": image});
    if let Some(class) = class {
        spec["pod"] = json!({"runtimeClassName": class});
    }
    object(json!({"metadata": {"name": name}, "spec": spec}))
}

#[tokio::test]
async fn environments_are_held_to_images_and_runtime_classes() {
    let client = definitions::client().await;
    let stage = Stage::new(&[
        r#"admission.images=["registry.example.com/team/"]"#,
        r#"admission.runtimeClassNames=["gvisor"]"#,
    ])
    .await;
    let environments: Api<AgentEnvironment> = stage.api(&client);
    let params = PostParams::default();
    let cases = [
        ("docker.io/library/debian:12", Some("gvisor"), "spec.image must begin"),
        ("registry.example.com.evil.example/team/x", Some("gvisor"), "spec.image must begin"),
        ("registry.example.com/teams/x", Some("gvisor"), "spec.image must begin"),
        ("registry.example.com/team/x", Some("runc"), "runtimeClassName must be"),
        ("registry.example.com/team/x", None, "runtimeClassName must be"),
    ];
    for (image, class, words) in cases {
        let made = environment("refused", image, class);
        refused(&format!("{image} {class:?}"), words, || async { environments.create(&dry(), &made).await })
            .await;
    }
    let good = environment("good", "registry.example.com/team/x:1", Some("gvisor"));
    environments.create(&params, &good).await.expect("allowed");
    let other = Patch::Merge(json!({"spec": {"image": "docker.io/library/debian:12"}}));
    refused("a change", "spec.image must begin", || async {
        environments.patch("good", &PatchParams::default(), &other).await
    })
    .await;
    let unjudged = Patch::Merge(json!({"spec": {"workspace": {"size": "2Gi"}}}));
    environments.patch("good", &PatchParams::default(), &unjudged).await.expect("nothing that is judged");
    stage.finish().await;
}

#[tokio::test]
async fn what_is_stored_already_can_still_be_changed_and_deleted() {
    let client = definitions::client().await;
    let stage = Stage::new(&[r#"admission.images=["registry.example.com/team/"]"#]).await;
    // Made where the policy does not hold yet: its binding names other namespaces only.
    let environments: Api<AgentEnvironment> = stage.api(&client);
    let probe = environment("probe", "docker.io/library/debian:12", None);
    refused("the policy holds", "spec.image must begin", || async {
        environments.create(&dry(), &probe).await
    })
    .await;
    let (resource, name) = stage
        .policies
        .iter()
        .find(|(resource, name)| resource.kind.ends_with("Binding") && name.ends_with("-environments"))
        .expect("a binding");
    let bindings: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let binding = bindings.get(name).await.expect("there");
    bindings.delete(name, &DeleteParams::default()).await.expect("deleted");
    let old = environment("old", "docker.io/library/debian:12", None);
    let made = |result: &Result<AgentEnvironment, Error>| result.is_ok();
    drop(
        settled(
            "the policy's end",
            || async { environments.create(&PostParams::default(), &old).await },
            made,
        )
        .await,
    );
    let renewed = DynamicObject {
        metadata: ObjectMeta { name: binding.metadata.name.clone(), ..ObjectMeta::default() },
        ..binding
    };
    bindings.create(&PostParams::default(), &renewed).await.expect("made again");
    refused("the policy holds again", "spec.image must begin", || async {
        environments.create(&dry(), &probe).await
    })
    .await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/x"]}}));
    environments.patch("old", &PatchParams::default(), &label).await.expect("its image stays as it was");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    environments.patch("old", &PatchParams::default(), &free).await.expect("it can be deleted");
    stage.finish().await;
}

#[tokio::test]
async fn tasks_are_held_to_hosts_and_budgets() {
    let client = definitions::client().await;
    let stage = Stage::new(&[
        r#"admission.gitHosts=["git.example.com"]"#,
        "admission.budgets.steps=100",
        "admission.budgets.attempts=2",
        "admission.budgets.activeSeconds=3600",
        r#"admission.budgets.cost="5.00""#,
    ])
    .await;
    let tasks: Api<AgentTask> = stage.api(&client);
    let task = |url: &str, limits: Value, count: i32| -> AgentTask {
        object(json!({"metadata": {"name": "fix"}, "spec": {
            "prompt": "x", "repositories": [{"url": url}], "limits": limits, "attempts": {"count": count},
        }}))
    };
    let within = json!({"steps": 100, "activeSeconds": 3600, "cost": "5.00"});
    let good = "https://git.example.com/team/app.git";
    let cases = [
        ("https://git.example.com.evil.example/app.git", within.clone(), 1, "the host of repositories[].url"),
        ("https://evil.example/git.example.com/app.git", within.clone(), 1, "the host of repositories[].url"),
        (good, json!({"steps": 101, "activeSeconds": 3600, "cost": "5.00"}), 1, "limits.steps may be 100"),
        // The definition's own defaults are judged too.
        (good, json!({"activeSeconds": 3600, "cost": "5.00"}), 1, "limits.steps may be 100"),
        (good, json!({"steps": 1, "cost": "1"}), 1, "limits.activeSeconds may be 3600"),
        (good, json!({"steps": 1, "activeSeconds": 1, "cost": "5.01"}), 1, "limits.cost must be set"),
        (good, json!({"steps": 1, "activeSeconds": 1, "cost": "10"}), 1, "limits.cost must be set"),
        (good, json!({"steps": 1, "activeSeconds": 1}), 1, "limits.cost must be set"),
        (good, within.clone(), 3, "attempts.count may be 2"),
    ];
    for (url, limits, count, words) in cases {
        let case = format!("{url} {limits} {count}");
        let made = task(url, limits, count);
        refused(&case, words, || async { tasks.create(&dry(), &made).await }).await;
    }
    for url in [good, "https://GIT.example.com:8443/team/app.git"] {
        let made = task(url, within.clone(), 2);
        tasks.create(&dry(), &made).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    stage.finish().await;
}

/// The namespaces of a release that serves some are those that its policies hold in.
#[tokio::test]
async fn policies_hold_where_the_release_serves() {
    let stage = Stage::new(&[r#"admission.images=["registry.example.com/team/"]"#]).await;
    let elsewhere = TestNamespace::create(&stage.client, "api-admission-other").await;
    let environments: Api<AgentEnvironment> = stage.api(&stage.client);
    let made = environment("any", "docker.io/library/debian:12", None);
    refused("served", "spec.image must begin", || async { environments.create(&dry(), &made).await }).await;
    let others: Api<AgentEnvironment> = Api::namespaced(stage.client.clone(), &elsewhere.name);
    others.create(&dry(), &made).await.expect("not served");
    elsewhere.delete().await;
    stage.finish().await;
}
