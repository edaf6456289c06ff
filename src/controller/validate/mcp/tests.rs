use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::tests::{assert_invalid, assert_waiting, judge};
use super::super::{Validity, named};
use super::*;
use crate::controller::tests::fixtures::{environment, references, secret, task, valid};

/// An environment with a program and a server elsewhere that wants a token.
fn with_servers() -> References {
    let environment = environment(|environment| {
        environment["spec"]["mcpServers"] = json!([
            {"name": "docs", "stdio": {"command": "docs"}},
            {"name": "issues", "http": {"url": "https://issues.example.com/mcp", "credentialsSecretName": "issues"}},
        ]);
    });
    let secrets = BTreeMap::from([("issues".into(), secret(None, &["token"]))]);
    References { environment: Some(environment), secrets, ..references() }
}

fn wanting(servers: Value) -> AgentTask {
    task(|task| task["spec"]["tools"] = json!({"mcpServers": servers}))
}

#[test]
fn a_task_gets_the_servers_that_it_names_or_all_of_them() {
    let servers = |task: &AgentTask| {
        let job = valid(task, &with_servers()).job;
        job.environment.mcp_servers.into_iter().map(|server| server.name).collect::<Vec<_>>()
    };
    assert_eq!(servers(&task(|_| {})), ["docs", "issues"]);
    assert_eq!(servers(&wanting(json!(["issues", "docs"]))), ["docs", "issues"]);
    assert_eq!(servers(&wanting(json!(["docs"]))), ["docs"]);
    assert_eq!(servers(&wanting(json!([]))), [""; 0]);
}

#[test]
fn a_server_that_the_environment_does_not_offer_is_wrong() {
    assert_invalid(
        &judge(&wanting(json!(["docs", "mail"])), &with_servers()),
        "spec.tools.mcpServers names mail, and AgentEnvironment default offers docs, issues; name others",
    );
    assert_invalid(&judge(&wanting(json!(["mail"])), &references()), "AgentEnvironment default offers none");
}

#[test]
fn the_token_of_a_server_is_looked_for_only_when_the_task_uses_it() {
    let missing = References { secrets: BTreeMap::new(), ..with_servers() };
    assert_waiting(
        &judge(&task(|_| {}), &missing),
        "kubectl create secret generic issues -n team --from-literal=token=",
    );
    valid(&wanting(json!(["docs"])), &missing);
    let wrong = References {
        secrets: BTreeMap::from([("issues".into(), secret(None, &["apiKey"]))]),
        ..with_servers()
    };
    assert_invalid(&judge(&task(|_| {}), &wrong), "has no key token");
    let environment = with_servers().environment;
    assert_eq!(named(&task(|_| {}), environment.as_ref(), None, None).secrets, ["issues"]);
    assert_eq!(named(&wanting(json!(["docs"])), environment.as_ref(), None, None).secrets, [""; 0]);
}

#[test]
fn the_token_of_a_server_goes_over_plain_http_within_the_cluster_only() {
    let at = |url: &str| {
        let environment = environment(|environment| {
            environment["spec"]["mcpServers"] =
                json!([{"name": "a", "http": {"url": url, "credentialsSecretName": "issues"}}]);
        });
        judge(&task(|_| {}), &References { environment: Some(environment), ..with_servers() })
    };
    assert_invalid(&at("http://mcp.example.com/mcp"), "would go over plain http to mcp.example.com");
    assert_invalid(&at("https://"), "is no address");
    assert!(matches!(at("http://mcp.tools.svc:8080/mcp"), Validity::Ready(_)));
}
