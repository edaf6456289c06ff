//! What agents and the senders of messages are held to.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{Api, AttachParams, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use podwright::api::{AgentAttempt, AgentMessage};
use serde_json::json;

use super::{Stage, dry, object, refused, says, taken};

fn artifact(name: &str) -> ConfigMap {
    object(
        json!({"metadata": {"name": name, "labels": {"podwright.dev/task": "fix"}}, "data": {"about": "fix"}}),
    )
}

#[tokio::test]
async fn an_agent_fills_its_artifacts_and_changes_nothing_else_of_them() {
    let stage = Stage::new(&[]).await;
    let admin: Api<ConfigMap> = stage.api(&stage.client);
    let made = admin.create(&PostParams::default(), &artifact("fix-1-patch")).await.expect("made");
    let account = format!("system:serviceaccount:{}:pw-fix-1-1-abcdef", stage.namespace.name);
    let rights =
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch", "create"]}]);
    let agent = stage.user(&account, rights).await;
    let artifacts: Api<ConfigMap> = stage.api(&agent);
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "fix-1-patch", "uid": made.uid()});
    let cases = [
        ("a label", json!({"metadata": {"labels": {"app": "forged"}}}), "labels"),
        ("a label taken away", json!({"metadata": {"labels": {"podwright.dev/task": null}}}), "labels"),
        ("an annotation", json!({"metadata": {"annotations": {"a": "b"}}}), "labels"),
        ("a finalizer", json!({"metadata": {"finalizers": ["example.com/forever"]}}), "labels"),
        ("an owner", json!({"metadata": {"ownerReferences": [owner]}}), "labels"),
        ("other data", json!({"data": {"about": "other"}}), "fills the key"),
        ("more data", json!({"data": {"more": "x"}}), "fills the key"),
        ("another key", json!({"binaryData": {"x.zst": "eA=="}}), "fills the key"),
        ("for ever", json!({"immutable": true}), "fills the key"),
    ];
    // Tried out only: before the policy is known it would be done, and then be no change any more.
    let tried = PatchParams { dry_run: true, ..PatchParams::default() };
    for (case, change, words) in &cases {
        let change = Patch::Merge(change);
        refused(case, words, || artifacts.patch("fix-1-patch", &tried, &change)).await;
    }
    let other = artifact("other");
    refused("a ConfigMap of its own", "makes no ConfigMaps", || async {
        artifacts.create(&dry(), &other).await
    })
    .await;
    // As the agent does it, twice.
    let apply = PatchParams::apply("podwright-agent").force();
    for content in ["eA==", "eXk="] {
        let filled = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fix-1-patch"},
            "binaryData": {"patch.zst": content}});
        let filled = Patch::Apply(&filled);
        taken("an artifact is filled", || artifacts.patch("fix-1-patch", &apply, &filled)).await;
    }
    // Other accounts are not meant.
    let label = Patch::Merge(json!({"metadata": {"labels": {"app": "mine"}}}));
    admin.patch("fix-1-patch", &PatchParams::default(), &label).await.expect("a person may");
    stage.finish().await;
}

/// The API server itself keeps metadata out of a status; that is why no policy does.
#[tokio::test]
async fn who_writes_an_attempts_status_writes_none_of_its_metadata() {
    let stage = Stage::new(&[]).await;
    let attempt: AgentAttempt = object(json!({
        "metadata": {"name": "fix-1-abcdef"},
        "spec": {"taskName": "fix", "taskUID": "u", "index": 1, "job": {
            "prompt": "x", "limits": {}, "patchArtifactName": "p", "environment": {},
            "repository": {"url": "https://git.example.com/app.git"},
            "model": {"providerName": "default", "name": "m", "api": "Responses", "baseURL": "https://api.example.com/v1"},
        }},
    }));
    let admin: Api<AgentAttempt> = stage.api(&stage.client);
    admin.create(&PostParams::default(), &attempt).await.expect("made");
    let account = format!("system:serviceaccount:{}:pw-fix-1-1-abcdef", stage.namespace.name);
    let rights =
        json!([{"apiGroups": ["podwright.dev"], "resources": ["agentattempts/status"], "verbs": ["patch"]}]);
    let agent = stage.user(&account, rights).await;
    let attempts: Api<AgentAttempt> = stage.api(&agent);
    let forged = Patch::Merge(json!({
        "metadata": {"labels": {"app": "forged"}, "annotations": {"a": "b"}, "finalizers": ["example.com/forever"]},
        "spec": {"suspend": true},
        "status": {"step": 7},
    }));
    taken("its status", || async {
        attempts.patch_status("fix-1-abcdef", &PatchParams::default(), &forged).await
    })
    .await;
    let stored = admin.get("fix-1-abcdef").await.expect("there");
    assert_eq!(stored.status.as_ref().map(|status| status.step), Some(7));
    assert_eq!(
        (stored.metadata.labels, stored.metadata.annotations, stored.metadata.finalizers),
        (None, None, None)
    );
    assert!(!stored.spec.suspend);
    stage.finish().await;
}

fn message(name: &str, sender: Option<&str>) -> AgentMessage {
    let mut spec = json!({"taskName": "fix", "kind": "Cancel"});
    if let Some(sender) = sender {
        spec["sender"] = json!(sender);
    }
    object(json!({"metadata": {"name": name}, "spec": spec}))
}

#[tokio::test]
async fn a_message_names_nobody_but_its_sender() {
    let stage = Stage::new(&[]).await;
    let rights =
        json!([{"apiGroups": ["podwright.dev"], "resources": ["agentmessages"], "verbs": ["create"]}]);
    let ada = stage.user("ada", rights).await;
    let messages: Api<AgentMessage> = stage.api(&ada);
    let params = PostParams::default();
    let tried = dry();
    let forged = message("forged", Some("grace"));
    refused("another's name", "must be who creates the message: ada", || messages.create(&tried, &forged))
        .await;
    let own = message("own", Some("ada"));
    taken("her own", || messages.create(&params, &own)).await;
    let unsigned = message("unsigned", None);
    taken("no name", || messages.create(&params, &unsigned)).await;
    stage.finish().await;
    let strict = Stage::new(&["admission.requireSender=true"]).await;
    let messages: Api<AgentMessage> = strict.api(&strict.client);
    refused("no name where one is wanted", "spec.sender is missing", || messages.create(&tried, &unsigned))
        .await;
    strict.finish().await;
}

/// Policies alone, without a kubelet: what they let through fails later, with other words.
#[tokio::test]
async fn only_its_own_agent_enters_a_pod_and_only_to_attach() {
    let stage = Stage::new(&[]).await;
    let name = "pw-fix-1-1-abcdef";
    let admin: Api<Pod> = stage.api(&stage.client);
    let accounts: Api<ServiceAccount> = stage.api(&stage.client);
    let account: ServiceAccount = object(json!({"metadata": {"name": name}}));
    accounts.create(&PostParams::default(), &account).await.expect("an account");
    let confined = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let container = |name: &str| json!({"name": name, "image": "registry.example.com/none:1", "securityContext": confined});
    let pod: Pod = object(json!({"metadata": {"name": name}, "spec": {
        "serviceAccountName": name, "automountServiceAccountToken": false, "nodeName": "no-such-node",
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1_234_567, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container("agent"), container("sandbox")],
    }}));
    admin.create(&PostParams::default(), &pod).await.expect("a pod");
    let rights =
        json!([{"apiGroups": [""], "resources": ["pods/exec", "pods/attach"], "verbs": ["get", "create"]}]);
    let own =
        stage.user(&format!("system:serviceaccount:{}:{name}", stage.namespace.name), rights.clone()).await;
    let sibling = stage
        .user(&format!("system:serviceaccount:{}:pw-fix-2-1-abcdef", stage.namespace.name), rights.clone())
        .await;
    let person = stage.user("ada", rights).await;
    let denied = "can be entered only by its own agent";
    const ATTACH: &[&str] = &["/tools/podwright-sandboxd", "attach"];
    let cases: [(&Client, &str, &[&str]); 7] = [
        (&own, "agent", ATTACH),
        (&own, "agent", &["/bin/sh"]),
        (&own, "sandbox", &["/bin/sh"]),
        (&own, "sandbox", &["/tools/podwright-sandboxd", "attach", "--more"]),
        (&sibling, "sandbox", ATTACH),
        (&person, "sandbox", ATTACH),
        (&person, "agent", &["env"]),
    ];
    for (client, container, command) in cases {
        let pods: Api<Pod> = stage.api(client);
        let params = AttachParams::default().container(container).stderr(false);
        refused(&format!("{container} {command:?}"), denied, || async {
            pods.exec(name, command.iter().copied(), &params).await.map(drop)
        })
        .await;
    }
    // The agent's own way is not the policy's to refuse. There is no such node, so it ends there.
    let pods: Api<Pod> = stage.api(&own);
    let params = AttachParams::default().container("sandbox").stderr(false);
    let result = pods.exec(name, ATTACH.iter().copied(), &params).await.map(drop);
    assert!(!says(&result, denied) && !says(&result, "cannot"), "{result:?}");
    let now = DeleteParams::default().grace_period(0);
    admin.delete(name, &now).await.expect("the pod can be deleted");
    stage.finish().await;
}
