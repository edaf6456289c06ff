//! Replies as events of the Messages API.

use serde_json::{Value, json};

use super::{Answer, Frames, Stream, extend, pieces, said::Said};
use crate::scripted::{
    script::{End, UsageNumbers},
    seen::signature_of,
};

pub(super) fn stream(answer: &Answer<'_>) -> Stream {
    let mut writer = Writer { answer, frames: Frames::new(answer.pace), blocks: 0 };
    let said = answer.said();
    let usage = answer.usage_of(&said);
    let mut message = json!({
        "id": format!("msg_{}", answer.number), "type": "message", "role": "assistant",
        "model": answer.seen.model, "content": [], "stop_reason": null, "stop_sequence": null,
    });
    if let Some(usage) = usage {
        message["usage"] = input_usage(usage);
    }
    writer.event("message_start", json!({"message": message}));
    for said in &said {
        writer.block(said);
    }
    let unfinished = writer.frames.len();
    let reason = match &answer.turn.reply.end {
        End::Failed { code, message } => {
            writer.event("error", json!({"error": {"type": code, "message": message}}));
            return writer.frames.finish(answer.turn, unfinished);
        }
        End::Incomplete { reason } => match reason.as_str() {
            "max_output_tokens" => "max_tokens",
            "content_filter" => "refusal",
            other => other,
        },
        End::Completed | End::Cut { .. } | End::Close { .. } | End::Stall { .. } => {
            stop_reason(&said, answer.turn.reply.end_turn)
        }
    };
    let mut last = json!({"delta": {"stop_reason": reason, "stop_sequence": null}});
    if let Some(usage) = usage {
        last["usage"] = json!({"output_tokens": usage.output_tokens});
    }
    writer.event("message_delta", last);
    writer.event("message_stop", json!({}));
    writer.frames.finish(answer.turn, unfinished)
}

fn stop_reason(said: &[Said], end_turn: Option<bool>) -> &'static str {
    if said.iter().any(|said| matches!(said, Said::Call(_))) {
        "tool_use"
    } else if said.iter().any(|said| matches!(said, Said::Refusal(_))) {
        "refusal"
    } else if end_turn == Some(false) {
        "pause_turn"
    } else {
        "end_turn"
    }
}

/// This API's input count leaves out what the cache gave and took.
fn input_usage(usage: UsageNumbers) -> Value {
    let from_cache = usage.cached_input_tokens + usage.cache_write_input_tokens;
    json!({
        "input_tokens": usage.input_tokens.saturating_sub(from_cache),
        "cache_creation_input_tokens": usage.cache_write_input_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": 1,
    })
}

struct Writer<'a> {
    answer: &'a Answer<'a>,
    frames: Frames,
    /// How many blocks there were: the index of the next one.
    blocks: usize,
}

impl Writer<'_> {
    fn block(&mut self, said: &Said) {
        let begins = match said {
            Said::Text(_) | Said::Refusal(_) => json!({"type": "text", "text": ""}),
            Said::Reasoning(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Said::Call(call) => json!({"type": "tool_use", "id": call.id, "name": call.tool, "input": {}}),
            Said::Item(item) => item.clone(),
        };
        self.event("content_block_start", json!({"index": self.blocks, "content_block": begins}));
        let characters = self.answer.pace.delta_characters;
        match said {
            Said::Text(text) | Said::Refusal(text) => self.grow("text_delta", "text", text, characters),
            Said::Reasoning(text) => {
                self.grow("thinking_delta", "thinking", text, characters);
                self.delta(json!({"type": "signature_delta", "signature": signature_of(text)}));
            }
            Said::Call(call) => {
                let characters = self.answer.call_characters();
                self.grow("input_json_delta", "partial_json", &call.input, characters);
            }
            Said::Item(_) => {}
        }
        self.event("content_block_stop", json!({"index": self.blocks}));
        self.blocks += 1;
    }

    fn grow(&mut self, kind: &str, member: &str, text: &str, characters: usize) {
        for piece in pieces(text, characters) {
            self.delta(json!({"type": kind, member: piece}));
        }
    }

    fn delta(&mut self, delta: Value) {
        self.event("content_block_delta", json!({"index": self.blocks, "delta": delta}));
    }

    fn event(&mut self, kind: &str, members: Value) {
        let mut event = json!({"type": kind});
        extend(&mut event, members);
        self.frames.push(format!("event: {kind}\ndata: {event}\n\n"));
    }
}

#[cfg(test)]
mod tests;
