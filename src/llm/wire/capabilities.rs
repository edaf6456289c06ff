//! What a model and its server can take.

use serde::{Deserialize, Serialize};

use crate::api::provider::{self, CompactionMode, ReasoningField, Thinking};
use crate::llm::item::ContentPart;

/// What a model and its server can take, frozen when the thread opens.
///
/// The default is the cautious value of each, right for an unknown server: a parameter whose capability
/// is missing is never sent, since many servers refuse a whole request for one member they do not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Capabilities {
    /// Tools that take free text under a grammar. Without it they are declared as functions of one
    /// string `input`.
    pub custom_tools: bool,
    /// The parameter that allows several calls in one response.
    pub parallel_tool_calls: bool,
    /// The role `developer`. Without it the role is `system`.
    pub developer_role: bool,
    /// The parameter that says how hard to think.
    pub reasoning: bool,
    /// Summaries of the reasoning on request.
    pub reasoning_summary: bool,
    /// Encrypted reasoning on request, replayed in later requests.
    pub encrypted_reasoning: bool,
    /// Plain reasoning items are taken back in later requests.
    pub reasoning_replay: bool,
    /// The parameter that names the thread for the provider's cache.
    pub prompt_cache_key: bool,
    /// Images in messages. Without it a short note stands in their place.
    pub image_input: bool,
    /// Images in the outputs of tools, on Responses and Messages. Without it they follow in a message of the user.
    pub image_in_tool_result: bool,
    /// The parameter that holds the final answer to a JSON schema.
    pub structured_output: bool,
    /// The member of Chat messages in which reasoning goes back. Without it it stays away.
    pub reasoning_field: Option<ReasoningField>,
    /// The parameter that asks for the usage of a Chat stream.
    pub stream_usage: bool,
    /// Messages of user and assistant must alternate.
    pub strict_alternation: bool,
    /// The most tokens of one response of Messages.
    pub max_output_tokens: Option<i32>,
    /// How thinking is switched on with Messages.
    pub thinking: Option<Thinking>,
    /// Markers for the provider's cache with Messages.
    pub cache_markers: bool,
    /// How the provider itself compacts a thread, see [`super::Wire::compaction`].
    pub compaction: Option<CompactionMode>,
}

impl From<&provider::Capabilities> for Capabilities {
    fn from(declared: &provider::Capabilities) -> Self {
        let provider::Capabilities {
            custom_tools,
            parallel_tool_calls,
            developer_role,
            reasoning,
            reasoning_summary,
            encrypted_reasoning,
            reasoning_replay,
            prompt_cache_key,
            reasoning_field,
            stream_usage,
            strict_alternation,
            max_output_tokens,
            thinking,
            cache_markers,
            image_input,
            image_in_tool_result,
            compaction,
            structured_output,
        } = *declared;
        Self {
            custom_tools,
            parallel_tool_calls,
            developer_role,
            reasoning,
            reasoning_summary,
            encrypted_reasoning,
            reasoning_replay,
            prompt_cache_key,
            image_input,
            image_in_tool_result,
            structured_output,
            reasoning_field,
            stream_usage,
            strict_alternation,
            max_output_tokens,
            thinking,
            cache_markers,
            compaction,
        }
    }
}

impl Capabilities {
    /// Whether a part of an output goes elsewhere, on APIs whose outputs may hold images.
    pub(super) fn moves(&self, part: &ContentPart) -> bool {
        matches!(part, ContentPart::Image { .. }) && self.image_input && !self.image_in_tool_result
    }
}
