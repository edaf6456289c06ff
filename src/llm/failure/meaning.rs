//! What the codes and the words of an error mean, for each API and the servers that speak it.

use super::super::wire::Wire;

/// What an error means, whatever server words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The thread is too long.
    ContextWindow,
    /// No credit, or no right to the model by the plan.
    Quota,
    /// No capacity now.
    Overloaded,
    /// Too many requests or tokens now.
    RateLimited,
    /// The prompt is refused.
    InvalidPrompt,
    /// A policy forbids it.
    Refused,
    /// The request is malformed.
    InvalidRequest,
    /// The credential is refused, with this status.
    Unauthorized(u16),
    /// There is no such model.
    UnknownModel,
    /// A setting of the server or of the ModelProvider has to be changed: what to do.
    Setting(&'static str),
    /// A fault of the server that may pass.
    Passing,
}

/// What a code means. Codes that are not in the table are for the status to judge.
pub(super) fn of_code(wire: Wire, code: &str) -> Option<Meaning> {
    let meaning = match (wire, code) {
        (Wire::Responses | Wire::Chat, "context_length_exceeded")
        | (Wire::Chat, "exceed_context_size_error") => Meaning::ContextWindow,
        (Wire::Responses | Wire::Chat, "insufficient_quota" | "usage_not_included")
        | (Wire::Chat, "billing_not_active")
        | (Wire::Messages, "billing_error") => Meaning::Quota,
        (Wire::Responses | Wire::Chat, "server_is_overloaded" | "slow_down")
        | (Wire::Chat, "engine_overloaded" | "engine_overloaded_error")
        | (Wire::Messages, "overloaded_error") => Meaning::Overloaded,
        (Wire::Responses | Wire::Chat, "rate_limit_exceeded")
        | (Wire::Chat | Wire::Messages, "rate_limit_error")
        | (Wire::Chat, "rate_limit_reached_error") => Meaning::RateLimited,
        (Wire::Responses | Wire::Chat, "invalid_prompt") => Meaning::InvalidPrompt,
        (Wire::Responses | Wire::Chat, "cyber_policy")
        | (Wire::Chat, "content_filter" | "content_policy_violation") => Meaning::Refused,
        (Wire::Responses | Wire::Chat, "model_not_found") => Meaning::UnknownModel,
        // Gateways send the status of whom they asked as a number.
        (Wire::Chat, "402") => Meaning::Quota,
        (Wire::Chat, "429") => Meaning::RateLimited,
        (Wire::Chat, "529") => Meaning::Overloaded,
        (Wire::Chat, "400") => Meaning::InvalidRequest,
        (Wire::Chat, "invalid_api_key" | "401") | (Wire::Messages, "authentication_error") => {
            Meaning::Unauthorized(401)
        }
        (Wire::Messages, "permission_error") => Meaning::Unauthorized(403),
        (Wire::Messages, "invalid_request_error" | "request_too_large") => Meaning::InvalidRequest,
        (Wire::Messages, "api_error" | "timeout_error") => Meaning::Passing,
        (Wire::Responses | Wire::Chat | Wire::Messages, _) => return None,
    };
    Some(meaning)
}

/// What the words of a refused request mean: many servers give every error one code.
pub(super) fn of_words(wire: Wire, words: &str) -> Option<Meaning> {
    let words = words.to_ascii_lowercase();
    let has = |needle: &str| words.contains(needle);
    match wire {
        Wire::Responses | Wire::Chat | Wire::Messages if is_context_window(&has) => {
            Some(Meaning::ContextWindow)
        }
        Wire::Responses => None,
        Wire::Messages if has("credit balance is too low") => Some(Meaning::Quota),
        Wire::Messages if has("max_tokens") && has("maximum allowed number of output tokens") => {
            Some(Meaning::Setting("Lower maxOutputTokens of the model in the ModelProvider"))
        }
        Wire::Messages if has("thinking") && (has("not supported") || has("adaptive")) => Some(
            Meaning::Setting("Change or remove the capability thinking of the model in the ModelProvider"),
        ),
        Wire::Chat if has("insufficient balance") || has("insufficient credits") => Some(Meaning::Quota),
        Wire::Chat if has("--enable-auto-tool-choice") => {
            Some(Meaning::Setting("Start vLLM with --enable-auto-tool-choice --tool-call-parser <parser>"))
        }
        Wire::Chat if has("--jinja") => Some(Meaning::Setting("Start llama.cpp's server with --jinja")),
        Wire::Chat if has("does not support tools") || has("support tool use") => {
            Some(Meaning::Setting("Choose a model that can call tools"))
        }
        Wire::Chat if has("roles must alternate") || has("role 'user' after role 'tool'") => {
            Some(Meaning::Setting("Set the capability strictAlternation of the model in the ModelProvider"))
        }
        Wire::Chat if has("reasoning_content") && (has("must be passed back") || has("missing")) => {
            Some(Meaning::Setting(
                "Set the capability reasoningField: reasoning_content of the model in the ModelProvider",
            ))
        }
        Wire::Chat | Wire::Messages => None,
    }
}

fn is_context_window(has: &impl Fn(&str) -> bool) -> bool {
    // OpenAI and vLLM, newer vLLM, llama.cpp, Ollama, Anthropic, and what several gateways say.
    has("maximum context length")
        || has("longer than the maximum model length")
        || has("exceeds the available context size")
        || has("exceeds the context length")
        || has("exceeds the context window")
        || has("prompt is too long")
        || has("prompt too long")
        || has("exceed context limit")
}
