//! What of an AgentAttempt can change.

use kube::api::{Api, Patch, PatchParams, PostParams};
use podwright::api::AgentAttempt;
use serde_json::json;

use crate::cluster::TestNamespace;
use crate::definitions;
use crate::task::{assert_refused, commands, inputs, reversed};

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
