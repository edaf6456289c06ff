//! Servers of the Model Context Protocol (MCP) that an AgentEnvironment offers.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::environment::EnvVar;
use super::provider::Header;

/// A server of the Model Context Protocol. Its tools are offered to the model beside Podwright's own, as
/// mcp__<name>__<tool>.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[x_kube(
    validation = Rule::new("has(self.stdio) != has(self.http)").message("exactly one of stdio and http must be set: stdio for a program in the sandbox, http for a server that the agent calls"),
)]
#[serde(rename_all = "camelCase")]
pub struct McpServer {
    /// Name of the server, a part of the names of its tools.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// A program that runs in the sandbox, confined like every command: it has the network of commands and no
    /// secret. Exactly one of stdio and http must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdio: Option<McpStdio>,

    /// A server that the agent calls itself, from outside the sandbox. Exactly one of stdio and http must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<McpHttp>,

    /// Seconds that the server may take until it has started and listed its tools.
    #[schemars(range(min = 1, max = 600))]
    #[serde(default = "default_start_seconds")]
    pub start_timeout_seconds: i64,

    /// Seconds that a call of one of its tools may take. The model is told of one that takes longer.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(default = "default_call_seconds")]
    pub call_timeout_seconds: i64,

    /// The only tools of the server that are offered. Empty: all of them.
    #[schemars(length(max = 128), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enabled_tools: Vec<String>,

    /// Tools of the server that are not offered, also when enabledTools names them.
    #[schemars(length(max = 128), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disabled_tools: Vec<String>,

    /// Tools whose calls may run beside commands and beside each other. All others run alone. What the server itself
    /// says about its tools is not relied on.
    #[schemars(length(max = 128), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parallel_tools: Vec<String>,

    /// Tools that do no harm when a call is repeated: it is sent again when nobody knows what became of it, as after a
    /// restart of the agent. With all others the model is told that the outcome is unknown.
    #[schemars(length(max = 128), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retryable_tools: Vec<String>,

    /// Ends the task with SetupFailed when the server doesn't start. Otherwise the agent works without its tools.
    #[serde(default)]
    pub required: bool,
}

/// A program that speaks MCP on its standard input and output.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct McpStdio {
    /// The program: a path, or a name that is looked up in PATH. It must be in the image, or come with the setup
    /// script. It is run in the repository.
    #[schemars(length(min = 1, max = 1024))]
    pub command: String,

    /// Its arguments.
    #[schemars(length(max = 64), inner(length(max = 2048)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,

    /// Environment variables of the program, beside those of the AgentEnvironment. Not for secrets: whatever runs in
    /// the sandbox, a hostile repository can read.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
}

/// A server that speaks MCP over HTTP (the transport "streamable HTTP").
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct McpHttp {
    /// Address of the server. Requests go to it alone: redirects are refused.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@?# ]+(/[^# ]*)?$')").message("url must be https:// or http:// without user info or fragment, for example https://mcp.example.com/mcp; put a token into a Secret and name it in credentialsSecretName"))]
    pub url: String,

    /// A Secret of the same namespace with the key token, which is sent as a bearer token. It is read by the agent and
    /// never enters the sandbox. Unset: requests carry no token.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_name: Option<String>,

    /// Headers sent with every request. Not for secrets.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
}

/// Which tools besides Podwright's own a task's model is offered.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tools {
    /// Names of the AgentEnvironment's mcpServers whose tools the model is offered. Unset: all that the environment
    /// offers. Empty: none.
    #[schemars(length(max = 16), inner(length(min = 1, max = 32)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<Vec<String>>,
}

impl McpServer {
    /// The Secret with its token.
    pub fn secret_name(&self) -> Option<&str> {
        self.http.as_ref()?.credentials_secret_name.as_deref()
    }

    /// Whether a tool of the server is offered.
    pub fn offers(&self, tool: &str) -> bool {
        let among = |list: &[String]| list.iter().any(|name| name == tool);
        (self.enabled_tools.is_empty() || among(&self.enabled_tools)) && !among(&self.disabled_tools)
    }
}

/// Servers written in interpreted languages need several seconds on a busy node.
fn default_start_seconds() -> i64 {
    30
}

/// What the reference agent gives a call.
fn default_call_seconds() -> i64 {
    60
}
