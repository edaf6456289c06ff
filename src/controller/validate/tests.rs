use serde_json::{Value, json};

use super::*;
use crate::api::task::Mode;
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
        (r#"{"$ref": "https://example.com/s.json"}"#, "stands by itself"),
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

/// A task that goes on with the task "before", and what is left of that.
fn continuing(change: impl FnOnce(&mut Value)) -> (AgentTask, References) {
    let task = task(|task| task["spec"]["continueFrom"] = json!({"taskName": "before"}));
    let artifact =
        |name: &str, key: &str| json!({"configMapName": name, "key": key, "sha256": "aa", "bytes": 9});
    let stored = crate::controller::tests::fixtures::stored_attempt();
    let (patch, transcript) =
        (&stored.spec.job.patch_artifact_name, stored.spec.job.transcript_artifact_name.clone());
    let transcript = transcript.unwrap();
    let mut status = json!({
        "workspace": {"baseCommit": "0123456789012345678901234567890123456789"},
        "transcript": artifact(&transcript, "transcript.zst"),
        "patch": {"bytes": 9, "artifact": artifact("somebody-elses", "patch.zst")},
    });
    change(&mut status);
    let binary_data = [(patch.clone(), crate::names::PATCH_KEY), (transcript, crate::names::TRANSCRIPT_KEY)];
    let binary_data = binary_data.map(|(name, key)| (name, [key.to_owned()].into())).into();
    let attempt = crate::controller::tests::fixtures::reporting(status);
    let former = Some(Former { ended: true, attempt: Some(std::sync::Arc::new(attempt)) });
    (task, References { former, binary_data, ..references() })
}

#[test]
fn a_task_goes_on_with_the_commit_the_thread_and_the_patch_of_another_one() {
    let (task, references) = continuing(|_| {});
    let job = valid(&task, &references).job;
    assert_eq!(job.repository.reference, "0123456789012345678901234567890123456789");
    let from = job.continue_from.clone().unwrap();
    let former = references.former.as_ref().unwrap().attempt.as_ref().unwrap().spec.job.clone();
    assert_eq!(
        from.patch.unwrap().config_map_name,
        former.patch_artifact_name,
        "never a name that an agent reports"
    );
    assert_eq!(Some(from.transcript.config_map_name), former.transcript_artifact_name);
    let mut read = vec![former.patch_artifact_name, former.transcript_artifact_name.unwrap()];
    assert_eq!(named(&task, None, None, references.former.as_ref()).config_maps, read);
    let stored = crate::controller::build::attempt::attempt(&id(), 1, &valid(&task, &references));
    let stored = crate::api::AgentAttempt {
        metadata: kube::api::ObjectMeta { uid: Some("u".into()), ..stored.metadata.clone() },
        ..stored
    };
    let attempt =
        crate::controller::build::StoredAttempt::of(&stored, crate::controller::observed::Epoch::Work)
            .unwrap();
    let rules = crate::controller::build::role::role(&attempt).rules.unwrap();
    let readable = rules.into_iter().filter(|rule| {
        rule.verbs == ["get"] && rule.resources.as_deref() == Some(&["configmaps".to_owned()])
    });
    let mut readable: Vec<String> = readable.flat_map(|rule| rule.resource_names.unwrap()).collect();
    readable.sort();
    read.sort();
    assert_eq!(readable, read);
    let (task, references) = continuing(|status| status["patch"]["bytes"] = json!(0));
    assert_eq!(valid(&task, &references).job.continue_from.unwrap().patch, None);
}

#[test]
fn what_a_question_was_asked_about_is_gone_on_with_after_it() {
    let (task, mut references) = continuing(|status| status["patch"]["bytes"] = json!(0));
    let patch = |name: &str| json!({"configMapName": name, "key": "patch.zst", "sha256": "bb", "bytes": 9});
    let former = references.former.as_mut().unwrap().attempt.as_mut().unwrap();
    let job = &mut std::sync::Arc::make_mut(former).spec.job;
    job.mode = crate::api::task::Mode::Ask;
    job.continue_from = serde_json::from_value(json!({
        "taskName": "first", "transcript": patch("first-1-transcript"), "patch": patch("first-1-patch"),
    }))
    .unwrap();
    assert_invalid(&judge(&task, &references), "its patch is gone");
    let asked = named(&task, None, None, references.former.as_ref()).config_maps;
    assert!(asked.contains(&"first-1-patch".to_owned()), "{asked:?}");
    references.binary_data.insert("first-1-patch".into(), ["patch.zst".to_owned()].into());
    let from = valid(&task, &references).job.continue_from.unwrap();
    assert_eq!(from.patch.unwrap().config_map_name, "first-1-patch");
}

#[test]
fn a_task_waits_for_the_one_that_it_goes_on_with_and_needs_what_is_left_of_it() {
    let (task, there) = continuing(|_| {});
    assert_waiting(&judge(&task, &references()), "AgentTask before, named by continueFrom, does not exist");
    let mut running = there.clone();
    running.former.as_mut().unwrap().ended = false;
    assert_waiting(&judge(&task, &running), "has not ended yet");
    let mut nothing = there.clone();
    nothing.former.as_mut().unwrap().attempt = None;
    assert_invalid(&judge(&task, &nothing), "it has no attempt 1");
    let gone = References { binary_data: BTreeMap::new(), ..there.clone() };
    assert_invalid(&judge(&task, &gone), "its transcript is gone (retention.artifactSeconds are over");
    for (change, part) in [
        ((|status: &mut Value| drop(status["transcript"].take())) as fn(&mut Value), "it left no transcript"),
        (|status| drop(status["patch"]["artifact"].take()), "its patch was too large"),
        (|status| drop(status["patch"].take()), "no patch of its work"),
        (|status| status["workspace"]["baseCommit"] = json!("main"), "which commit it began with"),
    ] {
        let (task, references) = continuing(change);
        assert_invalid(&judge(&task, &references), part);
    }
    let elsewhere = self::task(|task| {
        task["spec"]["continueFrom"] = json!({"taskName": "before", "attempt": 1});
        task["spec"]["repositories"][0]["url"] = json!("https://git.example.com/team/other.git");
    });
    assert_invalid(
        &judge(&elsewhere, &there),
        "its repository is main at https://git.example.com/team/app.git",
    );
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
