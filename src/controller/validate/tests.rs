use serde_json::{Value, json};

use super::*;
use crate::controller::tests::fixtures::{environment, id, provider, references, secret, task, valid};

fn judge(task: &AgentTask, references: &References) -> Validity {
    validate(task, &id(), references)
}

fn with_repository(change: impl FnOnce(&mut Value)) -> AgentTask {
    task(|task| change(&mut task["spec"]["repositories"][0]))
}

fn with_secret(facts: SecretFacts) -> References {
    References { secrets: BTreeMap::from([("git".into(), facts)]), ..references() }
}

fn named_secret() -> AgentTask {
    with_repository(|repository| repository["credentialsSecretName"] = json!("git"))
}

#[track_caller]
fn assert_invalid(validity: &Validity, part: &str) {
    let Validity::Invalid(sentence) = validity else { panic!("{validity:?}") };
    assert!(sentence.contains(part), "{sentence}");
}

#[track_caller]
fn assert_waiting(validity: &Validity, part: &str) {
    let Validity::Waiting(sentence) = validity else { panic!("{validity:?}") };
    assert!(sentence.contains(part), "{sentence}");
}

#[test]
fn a_job_has_everything_resolved() {
    let valid = valid(&task(|_| {}), &references());
    assert_eq!(valid.job.model.name, "first");
    assert_eq!(valid.job.model.base_url, "https://api.example.com/v1");
    assert_eq!(valid.job.repository.reference, "main");
    assert_eq!(valid.job(&id(), 1).patch_artifact_name, format!("{}-patch", id().attempt_name(1)));
    assert_eq!((valid.environment_generation, valid.provider_generation), (3, 5));
    assert_eq!(valid.pod.image, "sandbox:1");
}

#[test]
fn money_is_limited_only_where_there_are_prices() {
    let task = |model: &str| {
        task(|task| {
            task["spec"]["limits"] = json!({"cost": "5"});
            task["spec"]["model"] = json!({"name": model});
        })
    };
    let provider = provider(|provider| {
        provider["spec"]["models"][1]["prices"] = json!({"input": "2.00", "output": "8.00"});
    });
    let references = References { provider: Some(provider), ..references() };
    assert_invalid(&judge(&task("first"), &references), "no prices for the model first");
    let job = valid(&task("second"), &references).job;
    assert_eq!(serde_json::to_value(&job.limits).unwrap()["cost"], "5.00");
    assert_eq!(serde_json::to_value(job.model.prices).unwrap(), json!({"input": "2.00", "output": "8.00"}));
}

#[test]
fn no_transcript_is_kept_where_none_is_wanted() {
    let environment = environment(|environment| environment["spec"]["transcript"] = json!("None"));
    let references = References { environment: Some(environment), ..references() };
    assert_eq!(valid(&task(|_| {}), &references).job(&id(), 1).transcript_artifact_name, None);
}

#[test]
fn what_does_not_exist_yet_is_waited_for() {
    let nothing = References::default();
    assert_waiting(
        &judge(&task(|_| {}), &nothing),
        "AgentEnvironment default does not exist in namespace team",
    );
    let no_provider = References { provider: None, ..references() };
    assert_waiting(&judge(&task(|_| {}), &no_provider), "ModelProvider default does not exist");
    let from = task(|task| {
        task["spec"]["prompt"].take();
        task["spec"]["promptFrom"] = json!({"configMapKeyRef": {"name": "words", "key": "prompt"}});
    });
    assert_waiting(&judge(&from, &references()), "ConfigMap words, named by spec.promptFrom, does not exist");
    let key = References { config_maps: BTreeMap::from([("words".into(), BTreeMap::new())]), ..references() };
    assert_waiting(&judge(&from, &key), "has no key prompt");
    let empty = References {
        config_maps: BTreeMap::from([("words".into(), BTreeMap::from([("prompt".into(), 0)]))]),
        ..references()
    };
    assert_invalid(&judge(&from, &empty), "key prompt of ConfigMap words is empty");
}

#[test]
fn a_missing_credential_is_waited_for_with_the_command_that_makes_it() {
    let validity = judge(&named_secret(), &references());
    assert_waiting(
        &validity,
        "kubectl create secret generic git -n team --from-literal=username=USER --from-literal=password=TOKEN && kubectl annotate secret git -n team podwright.dev/hosts=git.example.com",
    );
}

#[test]
fn a_credential_goes_only_where_its_secret_says() {
    let both = ["username", "password"];
    let task = named_secret();
    assert!(matches!(
        judge(&task, &with_secret(secret(Some("other.example.com, GIT.example.com"), &both))),
        Validity::Ready(_)
    ));
    assert!(matches!(
        judge(&task, &with_secret(secret(Some("git.example.com:443"), &["token"]))),
        Validity::Ready(_)
    ));
    assert_invalid(
        &judge(&task, &with_secret(secret(None, &both))),
        "kubectl annotate secret git -n team podwright.dev/hosts=git.example.com",
    );
    assert_invalid(
        &judge(&task, &with_secret(secret(Some("other.example.com"), &both))),
        "kubectl annotate secret git -n team podwright.dev/hosts=other.example.com,git.example.com --overwrite",
    );
    // No suffix, no prefix, no other port counts.
    for host in ["example.com", "git.example.com.evil.org", "*.example.com", "git.example.com:8443", ""] {
        let judged = judge(&task, &with_secret(secret(Some(host), &both)));
        assert!(matches!(judged, Validity::Invalid(_)), "{host}");
    }
}

#[test]
fn a_malformed_credential_ends_the_task() {
    for keys in [&["username"][..], &["password"], &["apiKey"], &[]] {
        let judged = judge(&named_secret(), &with_secret(secret(Some("git.example.com"), keys)));
        assert_invalid(&judged, "has neither the keys username and password nor the key token");
    }
}

#[test]
fn a_credential_goes_over_http_to_services_of_the_cluster_only() {
    let to = |url: &str| {
        let task = with_repository(|repository| {
            repository["credentialsSecretName"] = json!("git");
            repository["url"] = json!(url);
        });
        let host = url::Url::parse(url).unwrap().host_str().unwrap().to_owned();
        judge(&task, &with_secret(secret(Some(&host), &["token"])))
    };
    assert!(matches!(to("http://git.team.svc/app.git"), Validity::Ready(_)));
    assert!(matches!(to("http://git.team.svc.cluster.local:8080/app.git"), Validity::Ready(_)));
    for url in ["http://git.example.com/a.git", "http://svc/a.git", "http://10.0.0.1/a.git"] {
        assert_invalid(&to(url), "plain http");
    }
    let open = with_repository(|repository| repository["url"] = json!("http://git.example.com/a.git"));
    assert!(matches!(judge(&open, &references()), Validity::Ready(_)), "nothing secret is sent");
}

#[test]
fn a_model_is_one_of_the_providers() {
    let asking = |name: &str| task(|task| task["spec"]["model"] = json!({"name": name}));
    assert!(valid(&asking("second"), &references()).job.model.capabilities.reasoning);
    assert_invalid(
        &judge(&asking("third"), &references()),
        "model third is not among those of ModelProvider default (first, second)",
    );
    let any = provider(|provider| provider["spec"]["models"] = json!([]));
    let any = References { provider: Some(any), ..references() };
    assert_eq!(valid(&asking("third"), &any).job.model.capabilities, Capabilities::default());
    assert_invalid(&judge(&task(|_| {}), &any), "names no model");
}

#[test]
fn a_providers_secret_has_its_key() {
    let provider = provider(|provider| provider["spec"]["credentialsSecretName"] = json!("model"));
    let with = |secrets| References { provider: Some(provider.clone()), secrets, ..references() };
    let create = "kubectl create secret generic model -n team --from-literal=apiKey=KEY";
    assert_waiting(&judge(&task(|_| {}), &with(BTreeMap::new())), create);
    let wrong = BTreeMap::from([("model".into(), secret(None, &["key"]))]);
    assert_invalid(&judge(&task(|_| {}), &with(wrong)), create);
    let right = BTreeMap::from([("model".into(), secret(None, &["apiKey"]))]);
    assert!(
        matches!(judge(&task(|_| {}), &with(right)), Validity::Ready(_)),
        "platform people need no annotation"
    );
}

#[test]
fn an_environment_does_not_take_our_labels() {
    for key in ["podwright.dev/task", "app.kubernetes.io/managed-by", "x.podwright.dev/y"] {
        let environment =
            environment(|environment| environment["spec"]["pod"] = json!({"labels": {key: "x"}}));
        let references = References { environment: Some(environment), ..references() };
        assert_invalid(&judge(&task(|_| {}), &references), key);
    }
    let own = environment(|environment| {
        environment["spec"]["pod"] = json!({"labels": {"team": "x", "notpodwright.dev/y": "z"}});
    });
    let references = References { environment: Some(own), ..references() };
    assert!(matches!(judge(&task(|_| {}), &references), Validity::Ready(_)));
}

#[test]
fn what_is_wrong_for_good_is_not_hidden_by_what_is_missing() {
    let references = References {
        environment: None,
        secrets: BTreeMap::from([("git".into(), secret(None, &["token"]))]),
        ..references()
    };
    assert_invalid(&judge(&named_secret(), &references), "kubectl annotate");
}

#[test]
fn everything_named_is_read_once() {
    let task = task(|task| {
        task["spec"]["prompt"].take();
        task["spec"]["promptFrom"] = json!({"configMapKeyRef": {"name": "shared", "key": "prompt"}});
        task["spec"]["repositories"][0]["credentialsSecretName"] = json!("one");
    });
    let environment = environment(|environment| {
        environment["spec"]["caBundle"] = json!({"configMapKeyRef": {"name": "shared", "key": "ca"}});
        environment["spec"]["setup"] = json!({"script": "true", "secretNames": ["one", "two"]});
    });
    let provider = provider(|provider| provider["spec"]["credentialsSecretName"] = json!("three"));
    let named = named(&task, Some(&environment), Some(&provider));
    assert_eq!(named.config_maps, ["shared"]);
    assert_eq!(named.secrets, ["one", "three", "two"]);
    assert_eq!(super::named(&task, None, None).secrets, ["one"]);
}

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
    assert_eq!(named(&task(|_| {}), environment.as_ref(), None).secrets, ["issues"]);
    assert_eq!(named(&wanting(json!(["docs"])), environment.as_ref(), None).secrets, [""; 0]);
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
