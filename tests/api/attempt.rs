//! What of an AgentAttempt can change.

use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use podwright::api::AgentAttempt;
use podwright::controller::build::finalizer;
use podwright::names::ARTIFACTS_MANAGER;
use serde_json::json;

use crate::cluster::TestNamespace;
use crate::definitions;
use crate::task::{assert_refused, commands, inputs, reversed};

/// As small as the schema allows.
fn attempt() -> AgentAttempt {
    serde_json::from_value(json!({
        "apiVersion": "podwright.dev/v1alpha1", "kind": "AgentAttempt", "metadata": {"name": "fix-1-abcdef"},
        "spec": {
            "taskName": "fix", "taskUID": "7c9d", "index": 1,
            "job": {
                "prompt": "Mend it.", "limits": {}, "environment": {}, "patchArtifactName": "fix-1-abcdef-patch",
                "repository": {"url": "https://git.example.com/team/app.git"},
                "model": {"providerName": "default", "name": "m", "api": "Responses",
                    "baseURL": "https://api.example.com/v1"},
            },
        },
    }))
    .expect("an attempt")
}

#[tokio::test]
async fn an_attempt_is_held_until_its_artifacts_are_gone_and_never_made_by_that() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-held").await;
    let api: Api<AgentAttempt> = Api::namespaced(client.clone(), &namespace.name);
    let made = api.create(&PostParams::default(), &attempt()).await.expect("taken").metadata;
    let apply = PatchParams::apply(ARTIFACTS_MANAGER).force();
    let hold = async |metadata: &ObjectMeta| {
        api.patch_metadata("fix-1-abcdef", &apply, &Patch::Apply(finalizer::held(metadata))).await
    };
    let release = async |metadata: &ObjectMeta| {
        let patch = Patch::Merge(finalizer::released(metadata));
        api.patch_metadata("fix-1-abcdef", &PatchParams::default(), &patch).await
    };
    let held = hold(&made).await.expect("held").metadata;
    assert!(finalizer::is_held(&held), "{held:?}");
    let again = hold(&made).await.expect("held again").metadata;
    assert_eq!(again.resource_version, held.resource_version, "the same again changes nothing");
    let spec = api.get("fix-1-abcdef").await.expect("there").spec;
    assert_eq!(spec.job.prompt.as_deref(), Some("Mend it."), "the rest is left alone");

    api.delete("fix-1-abcdef", &DeleteParams::background()).await.expect("asked to go");
    let going = api.get("fix-1-abcdef").await.expect("still there").metadata;
    assert!(going.deletion_timestamp.is_some(), "{going:?}");
    let stale = release(&held).await.expect_err("an older version");
    assert!(matches!(&stale, kube::Error::Api(status) if status.code == 409), "{stale}");
    release(&going).await.expect("let go");
    assert!(api.get_opt("fix-1-abcdef").await.expect("an answer").is_none());

    let gone = hold(&made).await.expect_err("there is nothing to hold");
    assert!(matches!(&gone, kube::Error::Api(status) if status.code == 409), "{gone}");
    assert!(api.get_opt("fix-1-abcdef").await.expect("an answer").is_none(), "nothing was made");
    namespace.delete().await;
}

#[tokio::test]
async fn the_job_is_fixed_and_the_inbox_is_not() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-attempt").await;
    let api: Api<AgentAttempt> = Api::namespaced(client.clone(), &namespace.name);
    let attempt: AgentAttempt = serde_json::from_value(json!({
        "apiVersion": "podwright.dev/v1alpha1", "kind": "AgentAttempt", "metadata": {"name": "fix-1-abcdef"},
        "spec": {
            "taskName": "fix", "taskUID": "7c9d", "index": 1,
            "job": {
                "prompt": "Mend it.", "limits": {}, "environment": {}, "patchArtifactName": "fix-1-abcdef-patch",
                "repository": {"url": "https://git.example.com/team/app.git"},
                "model": {"providerName": "default", "name": "m", "api": "Responses",
                    "baseURL": "https://api.example.com/v1"},
                "inputs": inputs(2),
                "verification": {"commands": commands(2), "pod": {"image": "debian:12", "workspaceSize": "1Gi"}},
            },
        },
    }))
    .expect("an attempt");
    api.create(&PostParams::default(), &attempt).await.expect("taken");
    let entry = json!({"uid": "u1", "seq": 1, "kind": "Cancel"});
    for change in [json!({"inbox": [entry]}), json!({"inbox": []}), json!({"suspend": true})] {
        let patch = Patch::Merge(json!({"spec": change}));
        api.patch("fix-1-abcdef", &PatchParams::default(), &patch).await.expect("a change that is allowed");
    }
    for (case, change) in [
        ("another prompt", json!({"job": {"prompt": "Break it."}})),
        ("another order of inputs", json!({"job": {"inputs": reversed(inputs(2))}})),
        ("another order of commands", json!({"job": {"verification": {"commands": reversed(commands(2))}}})),
        ("another task", json!({"taskUID": "other"})),
        ("another attempt", json!({"index": 2})),
    ] {
        let patch = Patch::Merge(json!({"spec": change}));
        let result = api.patch("fix-1-abcdef", &PatchParams::default(), &patch).await;
        assert_refused(result, "only inbox and suspend", case);
    }
    namespace.delete().await;
}
