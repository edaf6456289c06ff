use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::controller::observed::Try;
use crate::controller::tests::fixtures::{
    environment, id, image, provider, references, secret, stored_attempt, task, valid,
};

fn built() -> Children {
    let parts = valid(&task(|_| {}), &references()).pod;
    children(&StoredAttempt::of(&stored_attempt(), Epoch::Work).unwrap(), &parts, &image())
}

/// Everything an environment and a task can ask for.
fn built_in_full() -> Children {
    built_in_full_for(Epoch::Work)
}

fn built_in_full_for(epoch: Epoch) -> Children {
    let task = task(|task| task["spec"]["repositories"][0]["credentialsSecretName"] = json!("git"));
    let mut references = references();
    references.environment = Some(environment(|environment| {
        environment["spec"] = json!({
            "image": "sandbox:1",
            "imagePullSecrets": [{"name": "pull"}],
            "resources": {"requests": {"cpu": 2, "memory": "1Gi"}, "limits": {"memory": "8Gi"}},
            "workspace": {"size": "20Gi"},
            "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
            "setup": {"script": "true", "secretNames": ["npm"]},
            "transcript": "None",
            "mcpServers": [
                {"name": "docs", "stdio": {"command": "docs"}},
                {"name": "issues", "http": {"url": "https://mcp.example.com", "credentialsSecretName": "mcp"}},
            ],
            "pod": {
                "labels": {"team": "a"},
                "annotations": {"mesh.example.com/inject": "false"},
                "nodeSelector": {"pool": "agents"},
                "tolerations": [{"key": "agents", "operator": "Exists"}],
                "priorityClassName": "low",
                "runtimeClassName": "gvisor",
            },
        });
    }));
    references.provider =
        Some(provider(|provider| provider["spec"]["credentialsSecretName"] = json!("model")));
    references.config_maps = BTreeMap::from([("ca".into(), BTreeMap::from([("ca.crt".into(), 9)]))]);
    references.secrets = BTreeMap::from([
        ("git".into(), secret(Some("git.example.com"), &["token"])),
        ("model".into(), secret(None, &["apiKey"])),
        ("npm".into(), secret(None, &["NPM_TOKEN"])),
        ("mcp".into(), secret(None, &["token"])),
    ]);
    let valid = valid(&task, &references);
    let mut stored = attempt::attempt(&id(), 1, &valid);
    stored.metadata.uid = Some("5d1f7a52-5e8b-4f0a-8a35-3f1f0f6d9c11".into());
    children(&StoredAttempt::of(&stored, epoch).unwrap(), &valid.pod, &image())
}

fn yaml(object: &impl serde::Serialize) -> String {
    serde_saphyr::to_string(&serde_json::to_value(object).unwrap()).unwrap()
}

#[test]
fn the_pod() {
    insta::assert_snapshot!("pod", yaml(&built().pod));
    insta::assert_snapshot!("pod_in_full", yaml(&built_in_full().pod));
}

#[test]
fn the_rights() {
    insta::assert_snapshot!("role", yaml(&built().rights.role));
    insta::assert_snapshot!("role_in_full", yaml(&built_in_full().rights.role));
    insta::assert_snapshot!("role_binding", yaml(&built().rights.role_binding));
}

/// It reaches neither the model nor the prompt, and can't change the patch that it verifies.
#[test]
fn the_rights_of_a_pod_that_verifies() {
    insta::assert_snapshot!(
        "role_of_verification",
        yaml(&built_in_full_for(Epoch::Verification(Try::First)).rights.role)
    );
}

#[test]
fn a_pod_that_verifies_differs_in_its_name_and_its_program_alone() {
    let of = |epoch| serde_json::to_value(built_in_full_for(epoch).pod).unwrap();
    let (work, mut verification) = (of(Epoch::Work), of(Epoch::Verification(Try::First)));
    assert_eq!(
        verification["spec"]["containers"][0]["command"],
        json!(["podwright-parent", "podwright", "verify"])
    );
    assert_eq!(verification["metadata"]["annotations"][names::EPOCH_ANNOTATION], "2");
    assert_ne!(verification["metadata"]["name"], work["metadata"]["name"]);
    assert_eq!(verification["spec"]["serviceAccountName"], verification["metadata"]["name"]);
    for field in ["/metadata/name", "/spec/serviceAccountName", "/spec/containers/0/command"] {
        *verification.pointer_mut(field).unwrap() = work.pointer(field).unwrap().clone();
    }
    verification["metadata"]["annotations"] = work["metadata"]["annotations"].clone();
    assert_eq!(verification, work);
}

#[test]
fn every_rule_names_its_objects() {
    for rule in built_in_full().rights.role.rules.unwrap() {
        assert!(!rule.resource_names.unwrap().is_empty(), "{:?}", rule.resources);
    }
}

#[test]
fn what_an_environment_says_never_takes_the_place_of_ours() {
    let stored = stored_attempt();
    let mut parts = valid(&task(|_| {}), &references()).pod;
    parts.settings.labels.insert(names::TASK_LABEL.into(), "another".into());
    parts.settings.annotations.insert(names::ATTEMPT_UID_ANNOTATION.into(), "another".into());
    let pod = children(&StoredAttempt::of(&stored, Epoch::Work).unwrap(), &parts, &image()).pod;
    assert_eq!(pod.metadata.labels.unwrap()[names::TASK_LABEL], "fix");
    assert_eq!(
        pod.metadata.annotations.unwrap()[names::ATTEMPT_UID_ANNOTATION],
        stored.metadata.uid.unwrap()
    );
}

#[test]
fn all_children_belong_to_the_attempt() {
    let Children { patch, transcript, brought, service_account, rights: Rights { role, role_binding }, pod } =
        built();
    assert_eq!(brought, [], "what the store has is not built but read");
    let all = [
        patch.metadata,
        transcript.unwrap().metadata,
        service_account.metadata,
        role.metadata,
        role_binding.metadata,
        pod.metadata.clone(),
    ];
    for metadata in all {
        let owner = &metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.controller), ("AgentAttempt", Some(true)));
        assert_eq!(
            owner.block_owner_deletion.is_some(),
            metadata.name == pod.metadata.name && metadata.annotations.is_some()
        );
    }
}

#[test]
fn the_sandbox_gets_no_token_and_the_agent_no_variable_but_its_name() {
    let pod: Value = serde_json::to_value(built().pod).unwrap();
    let [agent, sandbox] = &pod["spec"]["containers"].as_array().unwrap()[..] else { panic!("{pod}") };
    assert_eq!(agent["name"], "agent");
    let mounts = sandbox["volumeMounts"].as_array().unwrap();
    assert!(
        mounts
            .iter()
            .all(|mount| mount["name"] != "account" && mount["name"] != "state" && mount["name"] != "repo")
    );
    assert!(sandbox["env"].is_null());
    let variables = agent["env"].as_array().unwrap();
    assert!(variables.iter().all(|variable| variable["value"].is_null()), "{variables:?}");
}

#[test]
fn the_agent_is_told_which_networks_are_closed() {
    let stored = stored_attempt();
    let parts = valid(&task(|_| {}), &references()).pod;
    let closed_networks = ["203.0.112.0/22", "2a00:1::/32"].map(|block| block.parse().unwrap()).into();
    let agent = AgentImage { closed_networks, ..image() };
    let pod = children(&StoredAttempt::of(&stored, Epoch::Work).unwrap(), &parts, &agent).pod;
    let containers = pod.spec.unwrap().containers;
    let of = |name: &str| containers.iter().find(|container| container.name == name).unwrap().env.clone();
    let told = of("agent").unwrap().pop().unwrap();
    assert_eq!(told.name, names::CLOSED_NETWORKS_VARIABLE);
    assert_eq!(told.value.as_deref(), Some("203.0.112.0/22,2a00:1::/32"));
    assert_eq!(of("sandbox"), None);
}

#[test]
fn an_attempt_is_amended_only_where_it_differs() {
    let stored = stored_attempt();
    assert_eq!(attempt::amended(&stored, false, Vec::new()), None);
    let amended = attempt::amended(&stored, true, Vec::new()).unwrap();
    assert!(amended.spec.suspend);
    assert_eq!(amended.spec.job, stored.spec.job);
    assert_eq!(amended.metadata.uid, stored.metadata.uid);
    assert_eq!(amended.metadata.resource_version, stored.metadata.resource_version);
    assert_eq!(attempt::generations(&stored), (Some(3), Some(5)));
}
