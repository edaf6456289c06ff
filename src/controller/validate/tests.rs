use serde_json::{Value, json};

use super::*;
use crate::api::task::Mode;
use crate::controller::observed::SecretFacts;
use crate::controller::tests::fixtures::{environment, id, provider, references, secret, task, valid};

pub(super) fn judge(task: &AgentTask, references: &References) -> Validity {
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
pub(super) fn assert_invalid(validity: &Validity, part: &str) {
    let Validity::Invalid(sentence) = validity else { panic!("{validity:?}") };
    assert!(sentence.contains(part), "{sentence}");
}

#[track_caller]
pub(super) fn assert_waiting(validity: &Validity, part: &str) {
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
fn a_review_has_two_ends() {
    let review = |base: Option<&str>| {
        task(|task| {
            task["spec"]["mode"] = json!("Review");
            task["spec"]["repositories"][0]["ref"] = json!("feature");
            if let Some(base) = base {
                task["spec"]["review"] = json!({"base": base});
            }
        })
    };
    let job = valid(&review(None), &references()).job;
    assert_eq!((job.mode, job.review.unwrap().base.as_str()), (Mode::Review, "main"));
    assert_eq!(valid(&review(Some("next")), &references()).job.review.unwrap().base, "next");
    assert_invalid(&judge(&review(Some("feature")), &references()), "compares feature with itself");
    let ask = task(|task| task["spec"]["mode"] = json!("Ask"));
    let job = valid(&ask, &references()).job;
    assert_eq!((job.mode, job.review), (Mode::Ask, None));
    assert_eq!(valid(&task(|_| {}), &references()).job.mode, Mode::Change);
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
fn an_environment_that_was_stored_before_a_bound_is_told_of_it() {
    for (map, max) in [("labels", 63), ("annotations", 4096), ("nodeSelector", 63)] {
        let verdict = |length: usize| {
            let environment = environment(|environment| {
                environment["spec"]["pod"] = json!({map: {"team": "x".repeat(length)}});
            });
            judge(&task(|_| {}), &References { environment: Some(environment), ..references() })
        };
        assert_invalid(&verdict(max + 1), &format!("sets team on the pod to more than {max} characters"));
        assert!(matches!(verdict(max), Validity::Ready(_)), "{map}");
    }
}

#[test]
fn a_list_of_names_is_passed_on_or_named_when_it_is_none() {
    let with = |network: serde_json::Value| {
        let environment = environment(|environment| environment["spec"]["network"] = network);
        References { environment: Some(environment), ..references() }
    };
    assert_invalid(
        &judge(&task(|_| {}), &with(json!({"mode": "Allowlist", "names": ["a.example:70000"]}))),
        "\"a.example:70000\" is no name of a host",
    );
    let network =
        json!({"mode": "Allowlist", "names": ["a.example"], "presets": ["Go"], "methods": "ReadOnly"});
    let job = valid(&task(|_| {}), &with(network)).job;
    let egress = serde_json::to_value(&job.environment.egress).unwrap();
    assert_eq!(egress, json!({"names": ["a.example"], "presets": ["Go"], "methods": "ReadOnly"}));
    assert_eq!(valid(&task(|_| {}), &references()).job.environment.egress, None);
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
    let named = named(&task, Some(&environment), Some(&provider), None);
    assert_eq!(named.config_maps, ["shared"]);
    assert_eq!(named.secrets, ["one", "three", "two"]);
    assert_eq!(super::named(&task, None, None, None).secrets, ["one"]);
}

#[test]
fn a_schema_for_answers_is_waited_for_and_then_judged() {
    let task = task(|task| {
        task["spec"]["output"] =
            json!({"schemaFrom": {"configMapKeyRef": {"name": "schemas", "key": "answer"}}});
    });
    assert_eq!(named(&task, None, None, None).config_maps, ["schemas"]);
    assert_waiting(&judge(&task, &references()), "ConfigMap schemas, named by spec.output, does not exist");
    let with = |text: &str| References {
        config_maps: BTreeMap::from([("schemas".into(), BTreeMap::from([("answer".into(), text.len())]))]),
        output_schema: Some(text.into()),
        ..references()
    };
    let job = valid(&task, &with(r#"{"type": "string"}"#)).job;
    assert_eq!(job.output_schema_from.unwrap().key, "answer");
    for (text, part) in [
        ("type: string", "it is not JSON"),
        (r#"{"type": "sting"}"#, "is no schema for answers"),
        (r#"{"$ref": "https://example.com/s.json"}"#, "is no place in it"),
    ] {
        assert_invalid(&judge(&task, &with(text)), part);
    }
}

#[test]
fn inputs_are_waited_for_and_images_need_a_model_that_takes_them() {
    let bring = |media_type: &str, model: &str| {
        task(|task| {
            task["spec"]["model"] = json!({"name": model});
            task["spec"]["inputs"] = json!([
                {"name": "a", "mediaType": "text/plain", "configMapKeyRef": {"name": "texts", "key": "a"}},
                {"name": "b", "mediaType": media_type, "configMapKeyRef": {"name": "shots", "key": "b"}},
            ]);
        })
    };
    let provider =
        provider(|provider| provider["spec"]["models"][1]["capabilities"] = json!({"imageInput": true}));
    let there = References {
        provider: Some(provider),
        config_maps: BTreeMap::from([
            ("texts".into(), BTreeMap::from([("a".into(), 3)])),
            ("shots".into(), BTreeMap::new()),
        ]),
        binary_data: BTreeMap::from([("shots".into(), ["b".to_owned()].into())]),
        ..references()
    };
    let picture = bring("image/png", "second");
    assert_eq!(named(&picture, None, None, None).config_maps, ["shots", "texts"]);
    assert_eq!(valid(&picture, &there).job.inputs.len(), 2);
    assert_invalid(&judge(&bring("image/png", "first"), &there), "imageInput: true");
    assert_eq!(valid(&bring("application/octet-stream", "first"), &there).job.inputs[1].name, "b");
    let away = References { binary_data: BTreeMap::new(), ..there.clone() };
    assert_waiting(&judge(&picture, &away), "ConfigMap shots, named by input b, has no key b");
    let nothing = References { config_maps: BTreeMap::new(), ..away };
    assert_waiting(&judge(&picture, &nothing), "ConfigMap texts, named by input a, does not exist");
}
