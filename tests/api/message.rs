//! What may be said in an AgentMessage.

use kube::api::{Api, Patch, PatchParams, PostParams};
use podwright::api::AgentMessage;
use serde_json::{Value, json};

use crate::cluster::TestNamespace;
use crate::definitions;
use crate::task::assert_refused;

fn message(name: &str, spec: &Value) -> AgentMessage {
    serde_json::from_value(json!({
        "apiVersion": "podwright.dev/v1alpha1", "kind": "AgentMessage", "metadata": {"name": name}, "spec": spec,
    }))
    .expect("a message")
}

#[tokio::test]
async fn a_message_is_said_once() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-message").await;
    let api: Api<AgentMessage> = Api::namespaced(client.clone(), &namespace.name);
    let wordless = message("wordless", &json!({"taskName": "fix", "kind": "Prompt"}));
    assert_refused(
        api.create(&PostParams::default(), &wordless).await,
        "needs text",
        "a prompt without text",
    );
    let nobody = message("nobody", &json!({"taskName": "fix", "kind": "SelectAttempt"}));
    assert_refused(api.create(&PostParams::default(), &nobody).await, "needs attempt", "a choice of nobody");
    let fifth = message("fifth", &json!({"taskName": "fix", "kind": "SelectAttempt", "attempt": 5}));
    assert_refused(
        api.create(&PostParams::default(), &fifth).await,
        "less than or equal to 4",
        "a choice of the fifth",
    );
    let choice = message("choice", &json!({"taskName": "fix", "kind": "SelectAttempt", "attempt": 2}));
    api.create(&PostParams::default(), &choice).await.expect("taken");
    let said = message("said", &json!({"taskName": "fix", "kind": "Cancel"}));
    api.create(&PostParams::default(), &said).await.expect("taken");
    for change in [
        json!({"kind": "Prompt", "text": "No, go on."}),
        json!({"text": "because"}),
        json!({"taskName": "x"}),
    ] {
        let patch = Patch::Merge(json!({"spec": change}));
        let result = api.patch("said", &PatchParams::default(), &patch).await;
        assert_refused(result, "can't be changed", "a message taken back");
    }
    namespace.delete().await;
}
