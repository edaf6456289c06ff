//! `AgentEnvironment`: where agents work. Written by platform people.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mcp::McpServer;
use super::network::{Methods, Preset};
use super::quantity::ResourceQuantity;
use super::task::ConfigMapKeyRef;

/// AgentEnvironment says where agents work: the image their commands run in, what is set up before, and what
/// resources and network they get. It is written by those who run the cluster; a task only names one.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "podwright.dev",
    version = "v1alpha1",
    kind = "AgentEnvironment",
    plural = "agentenvironments",
    shortname = "aenv",
    category = "podwright",
    namespaced,
    derive = "PartialEq",
    doc = "AgentEnvironment says where agents work: the image their commands run in, what is set up before, and what resources and network they get.",
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network.mode"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AgentEnvironmentSpec {
    /// Image in which commands run. Any Linux image with a shell; it runs as an ordinary user with a UID of
    /// the attempt's own, and neither its entry point nor its working directory is used.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,

    /// Secrets of the same namespace for pulling the image.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalReference>,

    /// Environment variables of every command. Not for secrets: whatever a command can read, a hostile
    /// repository can read.
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,

    /// CPU and memory of the sandbox.
    #[serde(default)]
    pub resources: ResourceRequirements,

    /// Certificates (PEM) that the agent trusts besides the image's own when its git fetches the repository and when
    /// it calls MCP servers. Commands in the sandbox do not get them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ConfigMapSource>,

    /// What runs in the sandbox before the agent: for example the installation of dependencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,

    /// The volume that holds the workspace and the home directory.
    #[serde(default)]
    pub workspace: Workspace,

    /// What commands may connect to.
    #[serde(default)]
    pub network: Network,

    /// Whether the conversation is kept as an artifact.
    #[serde(default)]
    pub transcript: TranscriptPolicy,

    /// Untracked paths that never enter the patch, in the syntax of .gitignore.
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patch_excludes: Vec<String>,

    /// MCP servers whose tools tasks may use. The addresses listed here are the only ones that the agent calls for a
    /// tool.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServer>,

    /// Settings of the pod.
    #[serde(default)]
    pub pod: PodSettings,
}

/// The name of an object of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LocalReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An environment variable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct EnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 4096))]
    #[serde(default)]
    pub value: String,
}

/// Resources of the sandbox container.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ResourceRequirements {
    /// What the sandbox is given at least.
    #[schemars(extend("maxProperties" = 16))]
    #[serde(default = "default_requests")]
    pub requests: BTreeMap<String, ResourceQuantity>,
    /// What the sandbox can use at most.
    #[schemars(extend("maxProperties" = 16))]
    #[serde(default = "default_limits")]
    pub limits: BTreeMap<String, ResourceQuantity>,
}

impl Default for ResourceRequirements {
    fn default() -> Self {
        Self { requests: default_requests(), limits: default_limits() }
    }
}

/// Where a text is taken from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// A key of a ConfigMap.
    pub config_map_key_ref: ConfigMapKeyRef,
}

/// What runs in the sandbox before the agent.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setup {
    /// A shell script, run with `sh -e` in the repository, with the pod's network. Whatever it leaves in the
    /// workspace or in the home directory is there for the agent; its processes are all killed at its end.
    #[schemars(length(min = 1, max = 32768))]
    pub script: String,
    /// Secrets whose keys become environment variables of the script, and of nothing else. The setup code
    /// itself can of course pass them on.
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_names: Vec<String>,
    /// Seconds that the script may take.
    #[schemars(range(min = 1, max = 7200))]
    #[serde(default = "default_setup_seconds")]
    pub timeout_seconds: i64,
}

/// The volume that holds the workspace and the home directory.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// How much it can hold before the kubelet evicts the pod.
    #[serde(default = "default_workspace_size")]
    pub size: ResourceQuantity,
}

impl Default for Workspace {
    fn default() -> Self {
        Self { size: default_workspace_size() }
    }
}

/// What commands may connect to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[x_kube(
    validation = Rule::new("self.mode == 'Allowlist' || (!has(self.names) && !has(self.presets))").message("names and presets go with mode Allowlist"),
    validation = Rule::new("self.mode != 'Allowlist' || (has(self.names) && size(self.names) > 0) || (has(self.presets) && size(self.presets) > 0)").message("mode Allowlist needs names or presets"),
    validation = Rule::new("self.mode != 'None' || !has(self.methods)").message("methods go with the modes Allowlist and Full"),
)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// None: to nothing but listeners that the sandbox's own commands opened on its loopback address. Allowlist: also to
    /// the hosts of names and presets. Full: also to every public address. Both by http and https through a proxy, which
    /// the environment variables of commands name. No command connects to a private, link-local or other special
    /// address, whatever name leads there.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Hosts that commands may reach, for mode Allowlist: example.com, *.example.com for every name below it but not
    /// itself, each on the ports 80 and 443, or example.com:8443 on that port alone. International names in their xn--
    /// form.
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 260),
            regex(
                pattern = r"^(\*\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z]([-a-z0-9]{0,61}[a-z0-9])?(:[0-9]{1,5})?$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Hosts of package registries that commands may reach, for mode Allowlist. docs/network.md has their names.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<Preset>,
    /// Which requests commands may make, for the modes Allowlist and Full: All when left out. ReadOnly: GET, HEAD and
    /// OPTIONS without a body, as far as requests can be seen, which is plain http; https is not looked into, and tunnels
    /// must be encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Methods>,
}

/// What commands may connect to.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum NetworkMode {
    /// To nothing but listeners that the sandbox's own commands opened on its loopback address.
    #[default]
    None,
    /// Also to listed hosts, through a proxy.
    Allowlist,
    /// Also to every public address, through a proxy.
    Full,
}

/// Whether the conversation is kept as an artifact.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TranscriptPolicy {
    /// It is kept.
    #[default]
    Keep,
    /// It is gone with the pod.
    None,
}

/// Characters of a label's value, which Kubernetes allows (a qualified name without its prefix).
pub const LABEL_VALUE_MAX: usize = 63;

/// Characters of an annotation's value. Kubernetes allows 256 KiB for all; here 32 of them have to fit into an AgentAttempt.
pub const ANNOTATION_VALUE_MAX: usize = 4096;

/// Settings of the pod.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Labels of the pod. Those under podwright.dev/ and app.kubernetes.io/ are Podwright's own.
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": LABEL_VALUE_MAX}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod, at most 4 KiB each. Those under podwright.dev/ are Podwright's own.
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": ANNOTATION_VALUE_MAX}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": LABEL_VALUE_MAX}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pod.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// RuntimeClass of the pod, for example one of gVisor or Kata.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
}

fn default_requests() -> BTreeMap<String, ResourceQuantity> {
    BTreeMap::from([("cpu".into(), "250m".into()), ("memory".into(), "512Mi".into())])
}

fn default_limits() -> BTreeMap<String, ResourceQuantity> {
    BTreeMap::from([("memory".into(), "4Gi".into())])
}

fn default_setup_seconds() -> i64 {
    1_200
}

fn default_workspace_size() -> ResourceQuantity {
    "10Gi".into()
}
