//! From a task and what it names to a job that can be run, or to the sentence that says why not.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use url::{Host, Url};

use super::observed::{References, SecretFacts, TaskId};
use crate::api::attempt::{Job, JobEnvironment, JobModel};
use crate::api::environment::{LocalReference, PodSettings, ResourceRequirements, TranscriptPolicy};
use crate::api::provider::{Capabilities, Model};
use crate::api::task::{ConfigMapKeyRef, Repository};
use crate::api::{
    AgentEnvironment, AgentEnvironmentSpec, AgentTask, HOSTS_ANNOTATION, ModelProvider, ModelProviderSpec,
};
use crate::names;

/// A task that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidTask {
    /// The work, every reference resolved.
    pub job: Job,
    /// What the pod is made of besides.
    pub pod: PodParts,
    /// metadata.generation of the AgentEnvironment.
    pub environment_generation: i64,
    /// metadata.generation of the ModelProvider.
    pub provider_generation: i64,
}

/// What an AgentEnvironment says about the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodParts {
    /// Image of the sandbox.
    pub image: String,
    /// Secrets for pulling it.
    pub image_pull_secrets: Vec<LocalReference>,
    /// Resources of the sandbox.
    pub resources: ResourceRequirements,
    /// Size of the workspace volume.
    pub workspace_size: Quantity,
    /// Labels, placement and the like.
    pub settings: PodSettings,
}

/// Whether a task can be run.
#[derive(Clone, Debug, PartialEq)]
pub enum Validity {
    /// It can.
    Ready(Box<ValidTask>),
    /// Not yet: something it names does not exist. The sentence says what.
    Waiting(String),
    /// It never can, as it is. The sentence says why and what to do.
    Invalid(String),
}

/// ConfigMaps and Secrets that have to be read before [`validate`] can judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// ConfigMaps, each once.
    pub config_maps: Vec<String>,
    /// Secrets, each once.
    pub secrets: Vec<String>,
}

enum Problem {
    Missing(String),
    Wrong(String),
}

/// The ConfigMaps and Secrets that a task, its environment and its provider name.
#[must_use]
pub fn named(
    task: &AgentTask,
    environment: Option<&AgentEnvironment>,
    provider: Option<&ModelProvider>,
) -> Named {
    let mut named = Named::default();
    let prompt = task.spec.prompt_from.as_ref().map(|source| &source.config_map_key_ref);
    let environment = environment.map(|environment| &environment.spec);
    let provider = provider.map(|provider| &provider.spec);
    let bundles = [
        environment.and_then(|spec| spec.ca_bundle.as_ref()),
        provider.and_then(|spec| spec.ca_bundle.as_ref()),
    ];
    let bundles = bundles.into_iter().flatten().map(|source| &source.config_map_key_ref);
    named.config_maps.extend(prompt.into_iter().chain(bundles).map(|key| key.name.clone()));
    let git =
        task.spec.repositories.iter().filter_map(|repository| repository.credentials_secret_name.clone());
    let model = provider.and_then(|spec| spec.credentials_secret_name.clone());
    let setup = environment.and_then(|spec| spec.setup.as_ref()).map(|setup| setup.secret_names.clone());
    named.secrets.extend(git.chain(model).chain(setup.into_iter().flatten()));
    for list in [&mut named.config_maps, &mut named.secrets] {
        list.sort();
        list.dedup();
    }
    named
}

/// Judges a task. What is wrong for good comes before what is only missing, so that nobody waits for nothing.
#[must_use]
pub fn validate(task: &AgentTask, id: &TaskId, references: &References) -> Validity {
    let mut problems = Vec::new();
    check_prompt(task, id, references, &mut problems);
    let Some(repository) = task.spec.repositories.first() else {
        return Validity::Invalid("spec.repositories has no entry; name the repository to work on".into());
    };
    check_repository(repository, id, references, &mut problems);
    let environment = references.environment.as_ref();
    match environment {
        Some(environment) => check_environment(environment, id, references, &mut problems),
        None => problems.push(Problem::Missing(format!(
            "AgentEnvironment {} does not exist in namespace {}; create it, or name another one in spec.environmentName of a new task",
            task.spec.environment_name, id.namespace
        ))),
    }
    let provider = references.provider.as_ref();
    let model = match provider {
        Some(provider) => {
            check_provider(&task.spec.model.provider_name, &provider.spec, id, references, &mut problems);
            choose_model(task, &provider.spec, &mut problems)
        }
        None => {
            problems.push(Problem::Missing(format!(
                "ModelProvider {} does not exist in namespace {}; create it, or name another one in spec.model.providerName of a new task",
                task.spec.model.provider_name, id.namespace
            )));
            None
        }
    };
    if let Some(verdict) = verdict(problems) {
        return verdict;
    }
    match (environment, provider, model) {
        (Some(environment), Some(provider), Some(model)) => {
            Validity::Ready(Box::new(resolve(task, id, repository, environment, provider, model)))
        }
        // Each of them missing has put a problem on the list.
        _ => Validity::Waiting("something that the task names does not exist yet".into()),
    }
}

fn verdict(problems: Vec<Problem>) -> Option<Validity> {
    let mut missing = None;
    for problem in problems {
        match problem {
            Problem::Wrong(sentence) => return Some(Validity::Invalid(sentence)),
            Problem::Missing(sentence) => missing = missing.or(Some(sentence)),
        }
    }
    missing.map(Validity::Waiting)
}

fn check_prompt(task: &AgentTask, id: &TaskId, references: &References, problems: &mut Vec<Problem>) {
    if let Some(source) = &task.spec.prompt_from {
        let key = &source.config_map_key_ref;
        check_config_map(key, "spec.promptFrom", id, references, problems);
        let text = references.config_maps.get(&key.name).and_then(|keys| keys.get(&key.key));
        if text == Some(&0) {
            problems.push(Problem::Wrong(format!(
                "key {} of ConfigMap {} is empty; the prompt is taken from it",
                key.key, key.name
            )));
        }
    }
}

fn check_config_map(
    key: &ConfigMapKeyRef,
    field: &str,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    let ConfigMapKeyRef { name, key } = key;
    match references.config_maps.get(name) {
        None => problems.push(Problem::Missing(format!(
            "ConfigMap {name}, named by {field}, does not exist in namespace {}",
            id.namespace
        ))),
        Some(keys) if !keys.contains_key(key) => problems.push(Problem::Missing(format!(
            "ConfigMap {name}, named by {field}, has no key {key} in its data"
        ))),
        Some(_) => {}
    }
}

fn check_repository(
    repository: &Repository,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    let url = match Url::parse(&repository.url) {
        Ok(url) => url,
        Err(error) => {
            problems.push(Problem::Wrong(format!(
                "the url of repository {} is no address: {error}; create a new task with a url such as https://git.example.com/team/app.git",
                repository.name
            )));
            return;
        }
    };
    let Some(host) = url.host() else {
        problems.push(Problem::Wrong(format!("the url of repository {} has no host", repository.name)));
        return;
    };
    let Some(name) = &repository.credentials_secret_name else { return };
    if url.scheme() == "http" && !is_of_cluster(&host) {
        problems.push(Problem::Wrong(format!(
            "the credential of repository {} would go over plain http to {host}; use https, http is for services of this cluster (*.svc) only",
            repository.name
        )));
    }
    let namespace = &id.namespace;
    let create = format!(
        "kubectl create secret generic {name} -n {namespace} --from-literal=username=USER --from-literal=password=TOKEN"
    );
    let annotate = format!("kubectl annotate secret {name} -n {namespace} {HOSTS_ANNOTATION}={host}");
    let Some(secret) = references.secrets.get(name) else {
        problems.push(Problem::Missing(format!(
            "Secret {name}, named by repository {}, does not exist; create it with: {create} && {annotate}",
            repository.name
        )));
        return;
    };
    if !(has(secret, "token") || has(secret, "username") && has(secret, "password")) {
        problems.push(Problem::Wrong(format!(
            "Secret {name}, named by repository {}, has neither the keys username and password nor the key token; after kubectl delete secret {name} -n {namespace} it is created right with: {create} && {annotate}. Then create the task again",
            repository.name
        )));
    }
    check_hosts(name, secret, &url, &annotate, problems);
}

/// A Secret that a task names goes only where the Secret itself says: otherwise whoever may create a task could
/// send any Secret of the namespace to a host of his own.
fn check_hosts(name: &str, secret: &SecretFacts, url: &Url, annotate: &str, problems: &mut Vec<Problem>) {
    let host = url.host_str().unwrap_or_default();
    let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let Some(hosts) = &secret.hosts else {
        problems.push(Problem::Wrong(format!(
            "Secret {name} does not say that it may be sent to {host}; allow it with: {annotate}. Then create the task again"
        )));
        return;
    };
    let mut allowed = hosts.split(',').map(str::trim);
    if !allowed.any(|entry| entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(&with_port)) {
        let both = format!("{HOSTS_ANNOTATION}={},{host}", hosts.replace(' ', ""));
        let annotate = annotate.replace(&format!("{HOSTS_ANNOTATION}={host}"), &both);
        problems.push(Problem::Wrong(format!(
            "Secret {name} may be sent to {hosts} but not to {host}; allow it with: {annotate} --overwrite. Then create the task again"
        )));
    }
}

fn check_environment(
    environment: &AgentEnvironment,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    let spec = &environment.spec;
    if let Some(source) = &spec.ca_bundle {
        check_config_map(
            &source.config_map_key_ref,
            "caBundle of the AgentEnvironment",
            id,
            references,
            problems,
        );
    }
    for name in spec.setup.iter().flat_map(|setup| &setup.secret_names) {
        if !references.secrets.contains_key(name) {
            problems.push(Problem::Missing(format!(
                "Secret {name}, named by setup.secretNames of the AgentEnvironment, does not exist; create it with: kubectl create secret generic {name} -n {} --from-literal=VARIABLE=VALUE",
                id.namespace
            )));
        }
    }
    let keys = spec.pod.labels.keys().chain(spec.pod.annotations.keys());
    for key in keys.filter(|key| is_reserved(key)) {
        problems.push(Problem::Wrong(format!(
            "the AgentEnvironment sets {key} on the pod; labels and annotations under podwright.dev/ and app.kubernetes.io/ are Podwright's own, take it out"
        )));
    }
}

fn check_provider(
    provider: &str,
    spec: &ModelProviderSpec,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    if let Some(source) = &spec.ca_bundle {
        check_config_map(
            &source.config_map_key_ref,
            "caBundle of the ModelProvider",
            id,
            references,
            problems,
        );
    }
    let Some(name) = &spec.credentials_secret_name else { return };
    let namespace = &id.namespace;
    let create = format!("kubectl create secret generic {name} -n {namespace} --from-literal=apiKey=KEY");
    match references.secrets.get(name) {
        None => problems.push(Problem::Missing(format!(
            "Secret {name}, named by ModelProvider {provider}, does not exist; create it with: {create}"
        ))),
        Some(secret) if !has(secret, "apiKey") => problems.push(Problem::Wrong(format!(
            "Secret {name}, named by ModelProvider {provider}, has no key apiKey; after kubectl delete secret {name} -n {namespace} it is created right with: {create}. Then create the task again"
        ))),
        Some(_) => {}
    }
}

fn choose_model(
    task: &AgentTask,
    provider: &ModelProviderSpec,
    problems: &mut Vec<Problem>,
) -> Option<Model> {
    let provider_name = &task.spec.model.provider_name;
    match (&task.spec.model.name, provider.models.first()) {
        (None, Some(first)) => Some(first.clone()),
        (None, None) => {
            problems.push(Problem::Wrong(format!(
                "the task names no model and ModelProvider {provider_name} lists none; set spec.model.name in a new task, or list models in the provider"
            )));
            None
        }
        (Some(name), None) => Some(Model { name: name.clone(), capabilities: Capabilities::default() }),
        (Some(name), Some(_)) => {
            let found = provider.models.iter().find(|model| model.name == *name).cloned();
            if found.is_none() {
                let known: Vec<&str> = provider.models.iter().map(|model| model.name.as_str()).collect();
                problems.push(Problem::Wrong(format!(
                    "model {name} is not among those of ModelProvider {provider_name} ({}); name one of them in a new task, or add it to the provider",
                    known.join(", ")
                )));
            }
            found
        }
    }
}

fn resolve(
    task: &AgentTask,
    id: &TaskId,
    repository: &Repository,
    environment: &AgentEnvironment,
    provider: &ModelProvider,
    model: Model,
) -> ValidTask {
    let attempt = id.attempt_name();
    let keep_transcript = environment.spec.transcript == TranscriptPolicy::Keep;
    let job = Job {
        prompt: task.spec.prompt.clone(),
        prompt_from: task.spec.prompt_from.as_ref().map(|source| source.config_map_key_ref.clone()),
        instructions: task.spec.instructions.clone(),
        repository: repository.clone(),
        environment: job_environment(&environment.spec),
        model: job_model(task, &provider.spec, model),
        limits: task.spec.limits.clone(),
        idle: task.spec.idle.clone(),
        patch_artifact_name: names::patch_artifact(&attempt),
        transcript_artifact_name: keep_transcript.then(|| names::transcript_artifact(&attempt)),
    };
    ValidTask {
        job,
        pod: pod_parts(&environment.spec),
        environment_generation: environment.metadata.generation.unwrap_or_default(),
        provider_generation: provider.metadata.generation.unwrap_or_default(),
    }
}

fn job_environment(spec: &AgentEnvironmentSpec) -> JobEnvironment {
    JobEnvironment {
        env: spec.env.clone(),
        setup: spec.setup.clone(),
        network: spec.network.mode,
        transcript: spec.transcript,
        patch_excludes: spec.patch_excludes.clone(),
        ca_bundle: spec.ca_bundle.as_ref().map(|source| source.config_map_key_ref.clone()),
    }
}

fn job_model(task: &AgentTask, provider: &ModelProviderSpec, model: Model) -> JobModel {
    let Model { name, capabilities } = model;
    JobModel {
        provider_name: task.spec.model.provider_name.clone(),
        name,
        api: provider.api,
        base_url: provider.base_url.clone(),
        credentials_secret_name: provider.credentials_secret_name.clone(),
        headers: provider.headers.clone(),
        ca_bundle: provider.ca_bundle.as_ref().map(|source| source.config_map_key_ref.clone()),
        retry: provider.retry.clone(),
        reasoning_effort: task.spec.model.reasoning_effort,
        capabilities,
    }
}

fn pod_parts(spec: &AgentEnvironmentSpec) -> PodParts {
    PodParts {
        image: spec.image.clone(),
        image_pull_secrets: spec.image_pull_secrets.clone(),
        resources: spec.resources.clone(),
        workspace_size: spec.workspace.size.to_quantity(),
        settings: spec.pod.clone(),
    }
}

/// Whether a host is a service of this cluster, to which the network path is the cluster's own.
fn is_of_cluster(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.ends_with(".svc") || name.ends_with(".svc.cluster.local"),
        Host::Ipv4(_) | Host::Ipv6(_) => false,
    }
}

fn is_reserved(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    [crate::api::GROUP, "app.kubernetes.io"]
        .iter()
        .any(|own| prefix == *own || prefix.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')))
}

fn has(secret: &SecretFacts, key: &str) -> bool {
    secret.keys.contains(key)
}

/// Quantities of a container, as the API types have them.
#[must_use]
pub fn quantities(
    map: &BTreeMap<String, crate::api::quantity::ResourceQuantity>,
) -> Option<BTreeMap<String, Quantity>> {
    (!map.is_empty()).then(|| map.iter().map(|(name, value)| (name.clone(), value.to_quantity())).collect())
}

#[cfg(test)]
mod tests;
