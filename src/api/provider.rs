//! `ModelProvider`: an endpoint that serves models. Written by platform people.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::environment::ConfigMapSource;
use super::money::Prices;

/// ModelProvider is an endpoint that serves language models, with the key for it. It is written by those who
/// run the cluster; a task only names one.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "podwright.dev",
    version = "v1alpha1",
    kind = "ModelProvider",
    plural = "modelproviders",
    shortname = "mprov",
    category = "podwright",
    namespaced,
    derive = "PartialEq",
    doc = "ModelProvider is an endpoint that serves language models, with the key for it.",
    printcolumn(name = "API", type_ = "string", json_path = ".spec.api"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.baseURL"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.models[0].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelProviderSpec {
    /// Which API the endpoint speaks.
    pub api: ModelApi,

    /// Address of the API up to, and without, its last part: https://api.example.com/v1 when requests go to
    /// https://api.example.com/v1/responses, /v1/chat/completions or /v1/messages.
    #[schemars(length(max = 2048))]
    #[serde(rename = "baseURL")]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@?# ]+(/[^? #]*)?$')").message("baseURL must be https:// or http:// without user info, query or fragment, for example https://api.example.com/v1"))]
    pub base_url: String,

    /// A Secret of the same namespace with the key apiKey. Unset: requests carry no key.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_name: Option<String>,

    /// Headers sent with every request. Not for secrets. What stands in anthropic-beta is joined with the features that the agent uses.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,

    /// Certificates (PEM) that the endpoint's are checked against besides the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ConfigMapSource>,

    /// How often and how long a failing request is repeated.
    #[serde(default)]
    pub retry: ProviderRetry,

    /// Bounds on the tasks that use this provider.
    #[serde(default, skip_serializing_if = "ProviderLimits::is_none")]
    pub limits: ProviderLimits,

    /// The models that tasks may name. Empty: any name, with the cautious value of every capability.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Model>,
}

/// Which API an endpoint speaks.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ModelApi {
    /// The Responses API: POST <baseURL>/responses.
    Responses,
    /// The Chat Completions API: POST <baseURL>/chat/completions.
    ChatCompletions,
    /// The Messages API: POST <baseURL>/messages, the key in the header x-api-key.
    Messages,
}

/// A header.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Header {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// How often and how long a failing request is repeated.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderRetry {
    /// Repetitions of a request that failed before its answer began (no connection, 5xx).
    #[schemars(range(min = 0, max = 20))]
    #[serde(default = "default_request_max")]
    pub request_max: i32,
    /// Repetitions of a request whose answer broke off, or that was refused for its rate.
    #[schemars(range(min = 0, max = 20))]
    #[serde(default = "default_stream_max")]
    pub stream_max: i32,
    /// Seconds without an event after which an answer counts as broken off.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(default = "default_idle_seconds")]
    pub idle_seconds: i64,
}

impl Default for ProviderRetry {
    fn default() -> Self {
        Self {
            request_max: default_request_max(),
            stream_max: default_stream_max(),
            idle_seconds: default_idle_seconds(),
        }
    }
}

/// Bounds on the tasks that use a provider.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderLimits {
    /// How many tasks of the namespace may have their pod beside each other with this provider. Further ones wait with the
    /// reason Queued, without a pod, and begin in the order of their creation. An agent has one request under way at
    /// most, so this bounds the requests too, times attempts.count. A lower bound ends nothing that runs. Unset: no bound.
    #[schemars(range(min = 1, max = 100_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_tasks: Option<i32>,
}

impl ProviderLimits {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.concurrent_tasks.is_none()
    }
}

/// A model that the endpoint serves.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Its name at the provider.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Tokens that its context window holds, input and output together. At nine tenths of it the thread goes on from a
    /// summary of itself, which the same model writes. Unset: only when the provider finds a request too long.
    #[schemars(range(min = 4096, max = 100_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<i64>,
    /// What the endpoint can do with it.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What a million tokens cost. Tasks on a model without prices can have no limits.cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// Which tools the model is offered. Codex: exec_command, write_stdin, apply_patch and update_plan, in the
    /// formats of Codex. Generic: shell, shell_input, str_replace, write_file and plan, for models that were not
    /// trained on those.
    #[serde(default)]
    pub surface: Surface,
}

/// Which tools a model is offered, and the instructions that go with them.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Surface {
    /// exec_command, write_stdin, apply_patch and update_plan, in the formats of Codex.
    #[default]
    Codex,
    /// shell, shell_input, str_replace, write_file and plan, for models that were not trained on those.
    Generic,
}

/// What an endpoint can do. A parameter whose capability is not set is never sent, because servers refuse
/// parameters they do not know. A capability that names an API is only looked at under that one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Tools with free-form input (Responses, ChatCompletions). Unset: apply_patch is offered as a function.
    #[serde(default)]
    pub custom_tools: bool,
    /// Several tool calls in one answer (the parameter parallel_tool_calls of Responses and ChatCompletions; Messages
    /// needs none).
    #[serde(default)]
    pub parallel_tool_calls: bool,
    /// Messages of the role developer (Responses, ChatCompletions). Unset: those of the beginning are sent as one of the
    /// role system, later ones as the user's.
    #[serde(default)]
    pub developer_role: bool,
    /// The parameter that says how hard to think: reasoning (Responses), reasoning_effort (ChatCompletions). For Messages
    /// see thinking.
    #[serde(default)]
    pub reasoning: bool,
    /// Summaries of the reasoning on request (Responses: reasoning.summary).
    #[serde(default)]
    pub reasoning_summary: bool,
    /// Reasoning that comes back encrypted and is sent again with the next request (Responses).
    #[serde(default)]
    pub encrypted_reasoning: bool,
    /// Reasoning that is not encrypted is taken back with the next request (Responses).
    #[serde(default)]
    pub reasoning_replay: bool,
    /// The parameter prompt_cache_key (Responses, ChatCompletions).
    #[serde(default)]
    pub prompt_cache_key: bool,
    /// Images in messages. Unset: the tool view_image is not offered.
    #[serde(default)]
    pub image_input: bool,
    /// Images in the outputs of tools (Responses, Messages), with imageInput. Unset: they follow the outputs in a message
    /// of the user, as always with ChatCompletions.
    #[serde(default)]
    pub image_in_tool_result: bool,
    /// The parameter that holds the final answer to a JSON schema (Responses: text.format, ChatCompletions:
    /// response_format, Messages: output_config.format). Unset: the model is told the schema in words. Either way the
    /// answer is checked.
    #[serde(default)]
    pub structured_output: bool,
    /// ChatCompletions: the member of the model's messages in which its reasoning is sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_field: Option<ReasoningField>,
    /// ChatCompletions: the parameter stream_options.include_usage. Unset: tokens are estimated when the server does not
    /// count them unasked.
    #[serde(default)]
    pub stream_usage: bool,
    /// ChatCompletions, Messages: user and assistant messages must alternate, as some chat templates demand ("roles must
    /// alternate"). Neighbours are merged before they are sent; between messages that were sent, a fixed one
    /// of the other role is put.
    #[serde(default)]
    pub strict_alternation: bool,
    /// Messages: the most tokens of one answer, reasoning among them (max_tokens). Unset: 8192, which every
    /// current model takes.
    #[schemars(range(min = 1024, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<i32>,
    /// Messages: how thinking is switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// Messages: prompt caching (cache_control, with ttl 1h after a step of more than five minutes). Without it every
    /// request is paid in full.
    #[serde(default)]
    pub cache_markers: bool,
    /// Responses, Messages: how the provider itself sums up a thread that nears the end of the context window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<CompactionMode>,
}

/// Responses, Messages: how the provider itself sums up a thread that nears the end of the context window. Unset: the
/// model is asked for a summary in words. TriggerItem (Responses): a request that ends with the item compaction_trigger
/// is answered with an item compaction. Endpoint (Responses): POST <baseURL>/responses/compact. OnDemand (Messages): a request with the parameter compaction is answered with
/// a block compaction (the beta compact-2026-09-04). A provider that gives none is asked in words after all.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum CompactionMode {
    /// Responses: an item at the end of an ordinary request.
    TriggerItem,
    /// Responses: an address of its own.
    Endpoint,
    /// Messages: a parameter of an ordinary request.
    OnDemand,
}

/// ChatCompletions: the member of the model's messages in which its reasoning is sent again. Unset: it is left out, as most
/// servers ignore it and some refuse it; the member reasoning_details goes back to whoever sends it. Some need it: with
/// reasoning_content every message of the model carries it, empty when there was none.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReasoningField {
    /// The member reasoning_content.
    #[serde(rename = "reasoning_content")]
    ReasoningContent,
    /// The member reasoning.
    #[serde(rename = "reasoning")]
    Reasoning,
}

/// Messages: how thinking is switched on. Unset: it is not. Adaptive: the model decides when, and the task's
/// model.reasoningEffort is sent as output_config.effort. Budget: with a budget of tokens by the task's
/// model.reasoningEffort (1024, 4096, 16384, 32768), less where maxOutputTokens leaves less; without an effort
/// there is no thinking.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Thinking {
    /// The model decides when.
    Adaptive,
    /// With a budget of tokens.
    Budget,
}

fn default_request_max() -> i32 {
    4
}

fn default_stream_max() -> i32 {
    5
}

fn default_idle_seconds() -> i64 {
    300
}
