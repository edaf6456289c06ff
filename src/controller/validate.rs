//! From a task and what it names to a job that can be run, or to the sentence that says why not.

mod former;
mod inputs;
mod job;
mod mcp;
mod repository;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use self::former::{artifacts, check_former};
use self::inputs::{check_inputs, check_output};
use self::job::resolve;
use self::repository::{check_repository, check_review};
use super::observed::{Former, References, TaskId};
use crate::api::attempt::{Job, JobPod};
use crate::api::environment::{ANNOTATION_VALUE_MAX, LABEL_VALUE_MAX, TranscriptPolicy};
use crate::api::mcp::McpServer;
use crate::api::provider::{Capabilities, Model, Surface};
use crate::api::task::ConfigMapKeyRef;
use crate::api::{AgentEnvironment, AgentTask, ModelProvider, ModelProviderSpec};
use crate::egress::name::Pattern;
use crate::names;

/// A task that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidTask {
    /// The work, every reference resolved, but for the names of the attempt's own objects.
    job: Job,
    /// What the pod is made of besides.
    pub pod: JobPod,
    /// metadata.generation of the AgentEnvironment.
    pub environment_generation: i64,
    /// metadata.generation of the ModelProvider.
    pub provider_generation: i64,
}

impl ValidTask {
    /// The work of one attempt.
    #[must_use]
    pub fn job(&self, id: &TaskId, index: i32) -> Job {
        let attempt = id.attempt_name(index);
        let keeps_transcript = self.job.environment.transcript == TranscriptPolicy::Keep;
        let continue_from = self.job.continue_from.clone().map(|mut former| {
            // What the object store has is brought into ConfigMaps of the attempt's own.
            if !former.transcript.url.is_empty() {
                former.transcript.config_map_name = names::former_transcript(&attempt);
            }
            if let Some(patch) = former.patch.as_mut().filter(|patch| !patch.url.is_empty()) {
                patch.config_map_name = names::former_patch(&attempt);
            }
            former
        });
        Job {
            continue_from,
            patch_artifact_name: names::patch_artifact(&attempt),
            transcript_artifact_name: keeps_transcript.then(|| names::transcript_artifact(&attempt)),
            ..self.job.clone()
        }
    }
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
    former: Option<&Former>,
) -> Named {
    let mut named = Named::default();
    let prompt = task.spec.prompt_from.as_ref().map(|source| &source.config_map_key_ref);
    let output = task.spec.output.as_ref().map(|output| &output.schema_from.config_map_key_ref);
    let environment = environment.map(|environment| &environment.spec);
    let provider = provider.map(|provider| &provider.spec);
    let bundles = [
        environment.and_then(|spec| spec.ca_bundle.as_ref()),
        provider.and_then(|spec| spec.ca_bundle.as_ref()),
    ];
    let bundles = bundles.into_iter().flatten().map(|source| &source.config_map_key_ref);
    let inputs = task.spec.inputs.iter().map(|input| &input.config_map_key_ref);
    let keys = prompt.into_iter().chain(output).chain(inputs).chain(bundles);
    named.config_maps.extend(keys.map(|key| key.name.clone()));
    named.config_maps.extend(former.into_iter().flat_map(artifacts));
    let git =
        task.spec.repositories.iter().filter_map(|repository| repository.credentials_secret_name.clone());
    let model = provider.and_then(|spec| spec.credentials_secret_name.clone());
    let setup = environment.and_then(|spec| spec.setup.as_ref()).map(|setup| setup.secret_names.clone());
    let servers = environment.into_iter().flat_map(|spec| mcp::chosen(task, spec));
    let servers = servers.filter_map(McpServer::secret_name).map(str::to_owned);
    named.secrets.extend(git.chain(model).chain(setup.into_iter().flatten()).chain(servers));
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
    check_output(task, id, references, &mut problems);
    let Some(repository) = task.spec.repositories.first() else {
        return Validity::Invalid("spec.repositories has no entry; name the repository to work on".into());
    };
    check_repository(repository, id, references, &mut problems);
    check_review(task, repository, &mut problems);
    let former = check_former(task, repository, id, references, &mut problems);
    let environment = references.environment.as_ref();
    match environment {
        Some(environment) => {
            check_environment(environment, id, references, &mut problems);
            mcp::check(task, &environment.spec, id, references, &mut problems);
        }
        None => problems.push(Problem::Missing(format!(
            "AgentEnvironment {} does not exist in namespace {}; create it, or name another one in spec.environmentName of a new task",
            task.spec.environment_name, id.namespace
        ))),
    }
    let provider = references.provider.as_ref();
    let model = match provider {
        Some(provider) => {
            check_provider(&task.spec.model.provider_name, &provider.spec, id, references, &mut problems);
            let model = choose_model(task, &provider.spec, &mut problems);
            check_cost(task, model.as_ref(), &mut problems);
            check_inputs(task, model.as_ref(), id, references, &mut problems);
            model
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
            let (former, before) = former.unzip();
            let repository = before.as_ref().unwrap_or(repository);
            Validity::Ready(Box::new(resolve(task, repository, former, environment, provider, model)))
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
    // What the schema's pattern can't say: a port above 65535.
    for error in spec.network.names.iter().filter_map(|name| name.parse::<Pattern>().err()) {
        problems.push(Problem::Wrong(format!("in spec.network.names of the AgentEnvironment, {error}")));
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
    // The schema has these bounds too; an AgentEnvironment may have been stored before it had.
    let maps = [
        (&spec.pod.labels, LABEL_VALUE_MAX),
        (&spec.pod.annotations, ANNOTATION_VALUE_MAX),
        (&spec.pod.node_selector, LABEL_VALUE_MAX),
    ];
    for (map, max) in maps {
        for (key, _) in map.iter().filter(|(_, value)| value.chars().count() > max) {
            problems.push(Problem::Wrong(format!(
                "the AgentEnvironment sets {key} on the pod to more than {max} characters; shorten it and create the task again"
            )));
        }
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
    if let Some(secret) = &spec.credentials_secret_name {
        let by = format!("ModelProvider {provider}");
        check_secret(secret, &by, ("apiKey", "KEY"), id, references, problems);
    }
}

/// A Secret that holds one value is there and has its key. `by` is what names it; the text beside the key stands for
/// the value in the command that makes the Secret.
fn check_secret(
    secret: &str,
    by: &str,
    (key, value): (&str, &str),
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    let namespace = &id.namespace;
    let create =
        format!("kubectl create secret generic {secret} -n {namespace} --from-literal={key}={value}");
    match references.secrets.get(secret) {
        None => problems.push(Problem::Missing(format!(
            "Secret {secret}, named by {by}, does not exist; create it with: {create}"
        ))),
        Some(facts) if !facts.has(key) => problems.push(Problem::Wrong(format!(
            "Secret {secret}, named by {by}, has no key {key}; after kubectl delete secret {secret} -n {namespace} it is created right with: {create}. Then create the task again"
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
        (Some(name), None) => Some(Model {
            name: name.clone(),
            context_window: None,
            capabilities: Capabilities::default(),
            prices: None,
            surface: Surface::default(),
        }),
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

/// A limit that nobody can count would never be reached.
fn check_cost(task: &AgentTask, model: Option<&Model>, problems: &mut Vec<Problem>) {
    let Some(model) = model.filter(|model| task.spec.limits.cost.is_some() && model.prices.is_none()) else {
        return;
    };
    problems.push(Problem::Wrong(format!(
        "the task sets limits.cost, and ModelProvider {} has no prices for the model {}; add them to its entry in spec.models, or leave limits.cost out of a new task",
        task.spec.model.provider_name, model.name
    )));
}

fn is_reserved(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    [crate::api::GROUP, "app.kubernetes.io"]
        .iter()
        .any(|own| prefix == *own || prefix.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')))
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
