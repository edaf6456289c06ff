//! The APIs that models are reached through, each as pure rendering.

pub mod responses;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    item::{CallKind, CallOutput, Message, ThreadItem},
    request::{PreparedRequest, Request},
    tool::{RenderedTools, ToolDefinition},
};
use crate::api::provider::{self, ModelApi};

/// The API that a thread speaks. Frozen when the thread opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wire {
    /// The Responses API, stateless (`store: false`), streaming.
    Responses,
}

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
    /// Images in messages and outputs. Without it a short note stands in their place.
    pub image_input: bool,
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
            image_input,
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
        }
    }
}

impl From<ModelApi> for Wire {
    fn from(api: ModelApi) -> Self {
        match api {
            ModelApi::Responses => Self::Responses,
        }
    }
}

impl Wire {
    /// Renders a message of the harness or the user, once.
    pub fn message(self, message: Message, capabilities: &Capabilities) -> ThreadItem {
        match self {
            Self::Responses => responses::message(message, capabilities),
        }
    }

    /// Renders the answer to a call, once.
    pub fn call_output(self, kind: CallKind, output: CallOutput, capabilities: &Capabilities) -> ThreadItem {
        match self {
            Self::Responses => responses::call_output(kind, output, capabilities),
        }
    }

    /// What of an item goes into [`Request::input`]; nothing for an item that this model does not take
    /// back. The same item always gives the same bytes.
    pub fn fragment(self, item: &ThreadItem, capabilities: &Capabilities) -> Option<Bytes> {
        match self {
            Self::Responses => responses::fragment(item, capabilities),
        }
    }

    /// Renders the thread's tools, in the order given, once.
    pub fn tools(self, tools: &[ToolDefinition], capabilities: &Capabilities) -> RenderedTools {
        match self {
            Self::Responses => responses::tools(tools, capabilities),
        }
    }

    /// Assembles a request, ready to be sent and to be recorded by its digest.
    pub fn prepare(self, request: &Request, capabilities: &Capabilities) -> PreparedRequest {
        let body = match self {
            Self::Responses => responses::body(request, capabilities),
        };
        PreparedRequest {
            wire: self,
            body,
            model: request.model.clone(),
            thread_id: request.thread_id.clone(),
            custom_as_function: request.tools.custom_as_function.clone(),
        }
    }

    /// The path of the API beneath a provider's base URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::Responses => "responses",
        }
    }
}
