//! The Role of a pod's agent: everything by name, nothing of another attempt's.
//!
//! The controller can grant only what it holds, so each rule here stands in the chart's rules too.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

use super::super::observed::Epoch;
use super::{StoredAttempt, metadata};
use crate::api::GROUP;
use crate::api::attempt::Job;
use crate::api::mcp::McpServer;

/// What the agent may do. One that verifies has no way to the model, and can't change the patch that it verifies.
#[must_use]
pub fn role(attempt: &StoredAttempt<'_>) -> Role {
    let pod = vec![attempt.pod_name()];
    let own = vec![attempt.name.to_owned()];
    let mut rules = vec![
        // Its way into the sandbox. Websockets are opened with GET, which newer servers check as create as well.
        rule("", "pods/exec", &["get", "create"], pod.clone()),
        // list and watch are granted for one name too: they need the field selector metadata.name=….
        rule("", "pods", &["get", "list", "watch"], pod),
        rule(GROUP, "agentattempts", &["get", "list", "watch"], own.clone()),
        rule(GROUP, "agentattempts/status", &["patch"], own),
    ];
    let (artifacts, inputs, secrets) = match attempt.epoch {
        Epoch::Work => (artifacts(attempt.job), inputs(attempt.job), secrets(attempt.job)),
        Epoch::Verification(_) => {
            (Vec::new(), inputs_of_verification(attempt.job), secrets_of_setup(attempt.job))
        }
    };
    for (resource, verb, names) in
        [("configmaps", "patch", artifacts), ("configmaps", "get", inputs), ("secrets", "get", secrets)]
    {
        if !names.is_empty() {
            rules.push(rule("", resource, &[verb], names));
        }
    }
    Role { metadata: metadata(attempt, attempt.pod_name()), rules: Some(rules) }
}

fn artifacts(job: &Job) -> Vec<String> {
    std::iter::once(&job.patch_artifact_name).chain(&job.transcript_artifact_name).cloned().collect()
}

fn inputs(job: &Job) -> Vec<String> {
    let sources =
        [&job.prompt_from, &job.output_schema_from, &job.environment.ca_bundle, &job.model.ca_bundle];
    let inputs = job.inputs.iter().map(|input| &input.config_map_key_ref);
    let former =
        job.continue_from.iter().flat_map(|former| [Some(&former.transcript), former.patch.as_ref()]);
    let former = former.flatten().map(|artifact| artifact.config_map_name.clone());
    each_once(sources.into_iter().flatten().chain(inputs).map(|source| source.name.clone()).chain(former))
}

fn inputs_of_verification(job: &Job) -> Vec<String> {
    let bundle = job.environment.ca_bundle.iter().map(|source| source.name.clone());
    each_once(bundle.chain([job.patch_artifact_name.clone()]))
}

fn secrets(job: &Job) -> Vec<String> {
    let model = job.model.credentials_secret_name.clone();
    let servers = job.environment.mcp_servers.iter().filter_map(McpServer::secret_name).map(str::to_owned);
    each_once(secrets_of_setup(job).into_iter().chain(model).chain(servers))
}

/// What the repository and the setup script need.
fn secrets_of_setup(job: &Job) -> Vec<String> {
    let setup = job.environment.setup.iter().flat_map(|setup| setup.secret_names.clone());
    each_once(job.repository.credentials_secret_name.clone().into_iter().chain(setup))
}

fn each_once(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

fn rule(group: &str, resource: &str, verbs: &[&str], names: Vec<String>) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        resource_names: Some(names),
        non_resource_urls: None,
    }
}
