//! Replies as chunks of the Chat Completions API.

use serde_json::{Value, json};

use super::{
    Answer, Frames, Stream, extend, pieces,
    said::{Said, ToolCall},
};
use crate::scripted::script::{End, Quirk, UsageNumbers};

pub(super) fn stream(answer: &Answer<'_>) -> Stream {
    let mut writer = Writer { answer, frames: Frames::new(answer.pace), calls: 0 };
    writer.delta(json!({"role": "assistant", "content": ""}));
    let said = answer.said();
    for said in &said {
        writer.said(said);
    }
    let unfinished = writer.frames.len();
    let reason = match &answer.turn.reply.end {
        End::Failed { code, message } => {
            let error = json!({"error": {"message": message, "type": code, "param": null, "code": code}});
            writer.frames.push(format!("data: {error}\n\n"));
            return writer.frames.finish(answer.turn, unfinished);
        }
        End::Incomplete { reason } if reason == "max_output_tokens" => "length",
        End::Incomplete { reason } => reason.as_str(),
        End::Completed | End::Cut { .. } | End::Close { .. } | End::Stall { .. } => {
            if writer.calls > 0 {
                "tool_calls"
            } else {
                "stop"
            }
        }
    };
    let last = json!([{"index": 0, "delta": {}, "finish_reason": reason}]);
    let usage = answer.usage_of(&said).map(usage_object);
    if answer.has(Quirk::UsageWithFinish) {
        writer.chunk(last, usage);
    } else {
        writer.chunk(last, None);
        if usage.is_some() && (answer.seen.wants_usage || answer.has(Quirk::UsageInLastChunk)) {
            writer.chunk(json!([]), usage);
        }
    }
    writer.frames.push("data: [DONE]\n\n".to_owned());
    writer.frames.finish(answer.turn, unfinished)
}

fn usage_object(usage: UsageNumbers) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    })
}

struct Writer<'a> {
    answer: &'a Answer<'a>,
    frames: Frames,
    /// How many calls there were: the index of the next one.
    calls: usize,
}

impl Writer<'_> {
    fn said(&mut self, said: &Said) {
        match said {
            Said::Text(text) => self.text("content", text),
            Said::Reasoning(text) if self.answer.has(Quirk::ShortReasoning) => self.text("reasoning", text),
            Said::Reasoning(text) => self.text("reasoning_content", text),
            Said::Refusal(text) => self.text("refusal", text),
            Said::Call(call) => self.call(call),
            Said::Item(item) => {
                // A delta, whose type only says that it is one.
                let mut delta = item.clone();
                if let Some(delta) = delta.as_object_mut() {
                    delta.shift_remove("type");
                }
                self.delta(delta);
            }
        }
    }

    fn text(&mut self, member: &str, text: &str) {
        for piece in pieces(text, self.answer.pace.delta_characters) {
            self.delta(json!({member: piece}));
        }
    }

    fn call(&mut self, call: &ToolCall) {
        let (kind, member) = if call.custom { ("custom", "input") } else { ("function", "arguments") };
        let whole = self.answer.has(Quirk::WholeArguments);
        let begun = if whole { call.input.as_str() } else { "" };
        self.piece(json!({"id": call.id, "type": kind, kind: {"name": call.tool, member: begun}}));
        let rest = if whole { "" } else { call.input.as_str() };
        for piece in pieces(rest, self.answer.pace.delta_characters) {
            let mut named = json!({});
            if self.answer.has(Quirk::RepeatedName) {
                named["name"] = call.tool.clone().into();
            }
            named[member] = piece.into();
            self.piece(json!({kind: named}));
        }
        self.calls += 1;
    }

    /// Writes a piece of the call that is under way.
    fn piece(&mut self, members: Value) {
        let mut piece = json!({});
        if !self.answer.has(Quirk::MissingIndex) {
            piece["index"] = self.calls.into();
        }
        extend(&mut piece, members);
        self.delta(json!({"tool_calls": [piece]}));
    }

    fn delta(&mut self, delta: Value) {
        self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]), None);
    }

    /// Writes a chunk. Who asked for the usage is told in every other chunk that it comes later.
    fn chunk(&mut self, choices: Value, usage: Option<Value>) {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", self.answer.number), "object": "chat.completion.chunk",
            "created": self.answer.created_at, "model": self.answer.seen.model, "choices": choices,
        });
        if self.answer.seen.wants_usage || usage.is_some() {
            chunk["usage"] = usage.unwrap_or_default();
        }
        self.frames.push(format!("data: {chunk}\n\n"));
    }
}

#[cfg(test)]
mod tests;
