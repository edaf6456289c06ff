//! The job and the pod of a task that can be run: everything that it names, resolved.

use super::{ValidTask, mcp};
use crate::api::attempt::{Continuation, Job, JobEgress, JobEnvironment, JobModel, JobPod, JobVerification};
use crate::api::environment::{Network, NetworkMode};
use crate::api::provider::Model;
use crate::api::task::{Mode, Repository};
use crate::api::{AgentEnvironment, AgentEnvironmentSpec, AgentTask, ModelProvider, ModelProviderSpec};

pub(super) fn resolve(
    task: &AgentTask,
    repository: &Repository,
    continue_from: Option<Continuation>,
    environment: &AgentEnvironment,
    provider: &ModelProvider,
    model: Model,
) -> ValidTask {
    let pod = job_pod(&environment.spec);
    let commands = &task.spec.verification;
    let job = Job {
        prompt: task.spec.prompt.clone(),
        prompt_from: task.spec.prompt_from.as_ref().map(|source| source.config_map_key_ref.clone()),
        continue_from,
        inputs: task.spec.inputs.clone(),
        mode: task.spec.mode,
        review: (task.spec.mode == Mode::Review).then(|| task.spec.review.clone().unwrap_or_default()),
        output_schema_from: task
            .spec
            .output
            .as_ref()
            .map(|output| output.schema_from.config_map_key_ref.clone()),
        instructions: task.spec.instructions.clone(),
        repository: repository.clone(),
        environment: job_environment(task, &environment.spec),
        model: job_model(task, &provider.spec, model),
        limits: task.spec.limits.clone(),
        idle: task.spec.idle.clone(),
        // Each attempt has artifacts of its own: `ValidTask::job` names them.
        patch_artifact_name: String::new(),
        transcript_artifact_name: None,
        verification: (!commands.is_empty())
            .then(|| JobVerification { commands: commands.clone(), pod: pod.clone() }),
    };
    ValidTask {
        job,
        pod,
        environment_generation: environment.metadata.generation.unwrap_or_default(),
        provider_generation: provider.metadata.generation.unwrap_or_default(),
    }
}

fn job_environment(task: &AgentTask, spec: &AgentEnvironmentSpec) -> JobEnvironment {
    JobEnvironment {
        env: spec.env.clone(),
        setup: spec.setup.clone(),
        network: spec.network.mode,
        egress: job_egress(&spec.network),
        transcript: spec.transcript,
        patch_excludes: spec.patch_excludes.clone(),
        ca_bundle: spec.ca_bundle.as_ref().map(|source| source.config_map_key_ref.clone()),
        mcp_servers: mcp::chosen(task, spec).cloned().collect(),
    }
}

fn job_egress(network: &Network) -> Option<JobEgress> {
    match network.mode {
        NetworkMode::None => None,
        NetworkMode::Allowlist | NetworkMode::Full => Some(JobEgress {
            names: network.names.clone(),
            presets: network.presets.clone(),
            methods: network.methods.unwrap_or_default(),
        }),
    }
}

fn job_model(task: &AgentTask, provider: &ModelProviderSpec, model: Model) -> JobModel {
    let Model { name, context_window, capabilities, prices, surface } = model;
    JobModel {
        provider_name: task.spec.model.provider_name.clone(),
        name,
        api: provider.api,
        base_url: provider.base_url.clone(),
        credentials_secret_name: provider.credentials_secret_name.clone(),
        headers: provider.headers.clone(),
        ca_bundle: provider.ca_bundle.as_ref().map(|source| source.config_map_key_ref.clone()),
        retry: provider.retry.clone(),
        outage_seconds: task.spec.model.outage_seconds,
        reasoning_effort: task.spec.model.reasoning_effort,
        context_window,
        capabilities,
        prices,
        surface,
    }
}

fn job_pod(spec: &AgentEnvironmentSpec) -> JobPod {
    JobPod {
        image: spec.image.clone(),
        image_pull_secrets: spec.image_pull_secrets.clone(),
        resources: spec.resources.clone(),
        workspace_size: spec.workspace.size.clone(),
        settings: spec.pod.clone(),
    }
}
