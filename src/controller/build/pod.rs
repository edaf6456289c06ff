//! The pod of an attempt: the agent, and the sandbox in which commands run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile,
    EmptyDirVolumeSource, EnvVar, EnvVarSource, ExecAction, KeyToPath, Lifecycle, LifecycleHandler,
    LocalObjectReference, ObjectFieldSelector, Pod, PodSecurityContext, PodSpec, ProjectedVolumeSource,
    ResourceRequirements, SeccompProfile, SecurityContext, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::observed::Epoch;
use super::super::validate::quantities;
use super::{AgentImage, StoredAttempt, metadata};
use crate::api::attempt::JobPod;
use crate::names;

/// How long the pod has to end when it is deleted. Nothing of a deleted task is saved, and the supervisor ends
/// at once; the agent needs this only to close its connections.
const GRACE_SECONDS: i64 = 10;

/// Lifetime of the agent's API token. The kubelet renews it long before.
const TOKEN_SECONDS: i64 = 3600;

/// Directory of the agent's token, where Kubernetes clients look for it.
const ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The pod.
#[must_use]
pub fn pod(attempt: &StoredAttempt<'_>, parts: &JobPod, agent: &AgentImage) -> Pod {
    let mut metadata = metadata(attempt, attempt.pod_name());
    // Ours come last: what an environment says can't take their place.
    let mut labels = parts.settings.labels.clone();
    labels.extend(metadata.labels.take().unwrap_or_default());
    metadata.labels = Some(labels);
    let mut annotations = parts.settings.annotations.clone();
    annotations.extend(own_annotations(attempt));
    metadata.annotations = Some(annotations);
    // The one child whose end its owner waits for when it is deleted in the foreground.
    metadata.owner_references.iter_mut().flatten().for_each(|owner| owner.block_owner_deletion = Some(true));
    Pod { metadata, spec: Some(spec(attempt, parts, agent)), status: None }
}

fn own_annotations(attempt: &StoredAttempt<'_>) -> BTreeMap<String, String> {
    let epoch = attempt.epoch.number().to_string();
    [
        (names::ATTEMPT_ANNOTATION, attempt.name),
        (names::ATTEMPT_UID_ANNOTATION, attempt.uid),
        (names::EPOCH_ANNOTATION, &epoch),
        // A task that moves to another node starts over.
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ("karpenter.sh/do-not-disrupt", "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn spec(attempt: &StoredAttempt<'_>, parts: &JobPod, agent: &AgentImage) -> PodSpec {
    let user = names::user_id(attempt.uid);
    let settings = &parts.settings;
    PodSpec {
        service_account_name: Some(attempt.pod_name()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("OnFailure".into()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(user),
            run_as_non_root: Some(true),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        // The order matters: the kubelet starts the sandbox when the agent's hook has put the supervisor in place.
        containers: vec![agent_container(attempt.epoch, agent), sandbox_container(parts)],
        volumes: Some(volumes(parts)),
        image_pull_secrets: pull_secrets(parts),
        node_selector: (!settings.node_selector.is_empty()).then(|| settings.node_selector.clone()),
        tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
        priority_class_name: settings.priority_class_name.clone(),
        runtime_class_name: settings.runtime_class_name.clone(),
        ..PodSpec::default()
    }
}

fn agent_environment(agent: &AgentImage) -> Vec<EnvVar> {
    let mut variables = vec![
        from_field("PODWRIGHT_POD_NAME", "metadata.name"),
        from_field("PODWRIGHT_POD_NAMESPACE", "metadata.namespace"),
        from_field("PODWRIGHT_POD_UID", "metadata.uid"),
        from_field(names::HOST_ADDRESSES_VARIABLE, "status.hostIPs"),
    ];
    if !agent.closed_networks.is_empty() {
        let blocks: Vec<String> = agent.closed_networks.iter().map(ToString::to_string).collect();
        variables.push(EnvVar {
            name: names::CLOSED_NETWORKS_VARIABLE.into(),
            value: Some(blocks.join(",")),
            ..EnvVar::default()
        });
    }
    variables
}

fn agent_container(epoch: Epoch, agent: &AgentImage) -> Container {
    let work = match epoch {
        Epoch::Work => "agent",
        Epoch::Verification(_) => "verify",
    };
    let install = ["podwright", "install"].map(str::to_owned).to_vec();
    Container {
        name: names::AGENT_CONTAINER.into(),
        image: Some(agent.reference.clone()),
        image_pull_policy: Some(agent.pull_policy.clone()),
        command: Some(["podwright-parent", "podwright", work].map(str::to_owned).to_vec()),
        working_dir: Some("/".into()),
        env: Some(agent_environment(agent)),
        lifecycle: Some(Lifecycle {
            post_start: Some(LifecycleHandler {
                exec: Some(ExecAction { command: Some(install) }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(ResourceRequirements {
            requests: Some(quantity_map([("cpu", "50m"), ("memory", "64Mi")])),
            limits: Some(quantity_map([("memory", "512Mi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext { read_only_root_filesystem: Some(true), ..confined() }),
        // So that the end of the log stands in the status of a container that crashed.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![
            VolumeMount { sub_path: Some("workspace".into()), ..mount("workspace", "/workspace") },
            mount("repo", "/repo"),
            mount("state", "/state"),
            mount("tools", "/tools"),
            mount("agent-tmp", "/tmp"),
            mount("agent-shm", "/dev/shm"),
            VolumeMount { read_only: Some(true), ..mount("account", ACCOUNT_DIRECTORY) },
        ]),
        ..Container::default()
    }
}

fn sandbox_container(parts: &JobPod) -> Container {
    let file = |name: &str, path: &str| VolumeMount {
        sub_path: Some(name.to_owned()),
        read_only: Some(true),
        ..mount("tools", path)
    };
    Container {
        name: names::SANDBOX_CONTAINER.into(),
        image: Some(parts.image.clone()),
        command: Some(vec![names::SUPERVISOR_PATH.into()]),
        working_dir: Some("/".into()),
        resources: Some(ResourceRequirements {
            requests: quantities(&parts.resources.requests),
            limits: quantities(&parts.resources.limits),
            ..ResourceRequirements::default()
        }),
        security_context: Some(confined()),
        volume_mounts: Some(vec![
            VolumeMount { sub_path: Some("workspace".into()), ..mount("workspace", "/workspace") },
            VolumeMount { sub_path: Some("home".into()), ..mount("workspace", "/home/agent") },
            VolumeMount { read_only: Some(true), ..mount("tools", "/tools") },
            file(names::PASSWD_FILE, "/etc/passwd"),
            file(names::GROUP_FILE, "/etc/group"),
            mount("sandbox-shm", "/dev/shm"),
        ]),
        ..Container::default()
    }
}

fn volumes(parts: &JobPod) -> Vec<Volume> {
    let size = |text: &str| Quantity(text.to_owned());
    vec![
        directory("workspace", parts.workspace_size.to_quantity()),
        // The bare repository is no larger than what is checked out of it, but for its history.
        directory("repo", parts.workspace_size.to_quantity()),
        // The journal: bounded by the agent itself, far below.
        directory("state", size("2Gi")),
        directory("tools", size("64Mi")),
        directory("agent-tmp", size("1Gi")),
        // Of each container its own: in a shared one, commands could reach into the agent's memory. It counts
        // against the container's memory limit.
        memory("agent-shm", size("16Mi")),
        memory("sandbox-shm", size("256Mi")),
        Volume {
            name: "account".into(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(account_sources()),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

/// What a Kubernetes client looks for, and the token for the gateway.
fn account_sources() -> Vec<VolumeProjection> {
    let token = |path: &str, audience: Option<&str>| VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: audience.map(str::to_owned),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: path.to_owned(),
        }),
        ..VolumeProjection::default()
    };
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".into(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".into(),
                path: "ca.crt".into(),
                ..KeyToPath::default()
            }]),
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".into(),
                field_ref: Some(field("metadata.namespace")),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    vec![token("token", None), authority, namespace, token("gateway", Some(names::GATEWAY_AUDIENCE))]
}

fn pull_secrets(parts: &JobPod) -> Option<Vec<LocalObjectReference>> {
    let secrets: Vec<_> = parts
        .image_pull_secrets
        .iter()
        .map(|secret| LocalObjectReference { name: secret.name.clone() })
        .collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// What the pod security level "restricted" asks for.
fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        run_as_non_root: Some(true),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn directory(name: &str, size: Quantity) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(size), medium: None }),
        ..Volume::default()
    }
}

fn memory(name: &str, size: Quantity) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(size), medium: Some("Memory".into()) }),
        ..Volume::default()
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field(path)), ..EnvVarSource::default() }),
    }
}

fn field(path: &str) -> ObjectFieldSelector {
    ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.to_owned() }
}

fn quantity_map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    pairs.map(|(name, value)| (name.to_owned(), Quantity(value.to_owned()))).into()
}
