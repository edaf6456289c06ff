//! The controller can grant only what it holds: the chart's rules against the Role of an agent that has everything.

use k8s_openapi::api::rbac::v1::PolicyRule;
use podwright::api::attempt::Job;
use podwright::controller::build::{StoredAttempt, role};
use podwright::controller::observed::{Epoch, Try};
use serde_json::json;

fn job() -> Job {
    let key = |name: &str| json!({"name": name, "key": "k"});
    let artifact = |name: &str| json!({"configMapName": name, "key": "k", "sha256": "", "bytes": 0});
    serde_json::from_value(json!({
        "promptFrom": key("prompt"), "outputSchemaFrom": key("schema"),
        "continueFrom": {"taskName": "before", "transcript": artifact("former-transcript"), "patch": artifact("former-patch")},
        "inputs": [{"name": "a", "mediaType": "text/plain", "configMapKeyRef": key("input")}], "limits": {}, "patchArtifactName": "a-patch", "transcriptArtifactName": "a-transcript",
        "environment": {"caBundle": key("ca"), "setup": {"script": "true", "secretNames": ["setup"]},
            "mcpServers": [{"name": "m", "http": {"url": "https://m.example.com", "credentialsSecretName": "mcp"}}]},
        "verification": {"commands": [{"name": "test", "command": "true"}], "pod": {"image": "i", "workspaceSize": "1Gi"}},
        "repository": {"url": "https://git.example.com/app.git", "credentialsSecretName": "git"},
        "model": {"providerName": "default", "name": "m", "api": "Responses", "baseURL": "https://api.example.com/v1",
            "credentialsSecretName": "model", "caBundle": key("model-ca")},
    }))
    .expect("a job")
}

fn chart_rules() -> Vec<PolicyRule> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/podwright/controller-rules.yaml");
    let text = std::fs::read_to_string(file).expect("the chart's rules");
    let rules: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    serde_json::from_value(rules).expect("rules")
}

fn permissions(rule: &PolicyRule) -> Vec<[String; 3]> {
    let mut permissions = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            permissions.extend(rule.verbs.iter().map(|verb| [group.clone(), resource.clone(), verb.clone()]));
        }
    }
    permissions
}

#[test]
fn the_charts_rules_cover_what_an_agent_is_granted() {
    let job = job();
    let held: Vec<_> = chart_rules().iter().flat_map(permissions).collect();
    for (epoch, least) in [(Epoch::Work, 7), (Epoch::Verification(Try::First), 6)] {
        covers(&held, &job, epoch, least);
    }
}

fn covers(held: &[[String; 3]], job: &Job, epoch: Epoch, least: usize) {
    let attempt = StoredAttempt {
        namespace: "agents",
        name: "fix-1-abcdef",
        uid: "u1",
        task_name: "fix",
        task_uid: "u2",
        index: 1,
        epoch,
        job,
    };
    let granted = role::role(&attempt).rules.expect("rules");
    assert!(granted.len() >= least, "every rule is tried: {granted:#?}");
    for rule in &granted {
        assert!(
            rule.resource_names.as_ref().is_some_and(|names| !names.is_empty()),
            "by name only: {rule:#?}"
        );
        for permission in permissions(rule) {
            assert!(
                held.contains(&permission),
                "the chart's rules lack {permission:?}, which agents are granted"
            );
        }
    }
}

#[test]
fn the_charts_rules_never_read_secrets_by_the_heap() {
    for rule in chart_rules() {
        if rule.resources.iter().flatten().any(|resource| resource == "secrets" || resource == "*") {
            assert_eq!(rule.verbs, ["get"]);
        }
    }
}
