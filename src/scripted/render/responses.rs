//! Replies as events of the Responses API.

use serde_json::{Map, Value, json};

use super::{
    Answer, Frames, Stream, extend, pieces,
    said::{Said, ToolCall},
};
use crate::scripted::script::End;

pub(super) fn stream(answer: &Answer<'_>) -> Stream {
    let mut writer = Writer { frames: Frames::new(answer.pace) };
    let response = |status: &str, more: Value| {
        let mut response = json!({
            "id": format!("resp_{}", answer.number), "object": "response", "created_at": answer.created_at,
            "status": status, "model": answer.seen.model, "output": [],
        });
        extend(&mut response, more);
        response
    };
    writer.event("response.created", json!({"response": response("in_progress", json!({}))}));
    let items: Vec<Value> = answer
        .said()
        .into_iter()
        .enumerate()
        .map(|(index, said)| writer.item(index, Item::new(said, index, answer)))
        .collect();
    let usage = usage(answer, &items);
    let (kind, last) = match &answer.turn.reply.end {
        End::Failed { code, message } => (
            "response.failed",
            response(
                "failed",
                json!({"output": items, "error": {"code": code, "message": message}, "usage": usage}),
            ),
        ),
        End::Incomplete { reason } => (
            "response.incomplete",
            response(
                "incomplete",
                json!({"output": items, "incomplete_details": {"reason": reason}, "usage": usage}),
            ),
        ),
        End::Completed | End::Cut { .. } | End::Close { .. } | End::Stall { .. } => {
            let mut more = Map::new();
            more.insert("output".into(), items.into());
            more.insert("usage".into(), usage);
            if let Some(end_turn) = answer.turn.reply.end_turn {
                more.insert("end_turn".into(), end_turn.into());
            }
            ("response.completed", response("completed", more.into()))
        }
    };
    let unfinished = writer.frames.len();
    writer.event(kind, json!({"response": last}));
    writer.frames.finish(answer.turn, unfinished)
}

/// The answer of the compaction endpoint.
pub(super) fn compacted(answer: &Answer<'_>) -> Value {
    let said = answer.said().into_iter().enumerate();
    let items: Vec<Value> = said.map(|(index, said)| Item::new(said, index, answer).done).collect();
    json!({
        "id": format!("resp_{}", answer.number), "object": "response.compaction", "created_at": answer.created_at,
        "usage": usage(answer, &items), "output": items,
    })
}

fn usage(answer: &Answer<'_>, items: &[Value]) -> Value {
    let size = |item: &Value| item.to_string().len() as u64;
    let reasoning = |item: &&Value| item.get("type").is_some_and(|kind| kind == "reasoning");
    let output_bytes = items.iter().map(size).sum();
    let Some(usage) = answer.usage(output_bytes, items.iter().filter(reasoning).map(size).sum()) else {
        return Value::Null;
    };
    let mut input = json!({"cached_tokens": usage.cached_input_tokens});
    if usage.cache_write_input_tokens > 0 {
        input["cache_write_tokens"] = usage.cache_write_input_tokens.into();
    }
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": input,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    })
}

/// An item and how it grows while it is streamed.
struct Item {
    done: Value,
    /// The item as it begins, the type of its deltas with what they carry beside the text, and the text.
    growth: Option<Growth>,
}

struct Growth {
    begins: Value,
    delta: &'static str,
    place: Value,
    text: String,
    /// How many characters a piece has.
    characters: usize,
}

impl Item {
    fn new(said: Said, index: usize, answer: &Answer<'_>) -> Self {
        let id = |prefix: &str| format!("{prefix}_{}_{index}", answer.number);
        let (of_text, of_call) = (answer.pace.delta_characters, answer.call_characters());
        match said {
            Said::Text(text) => {
                let part = json!({"type": "output_text", "text": text, "annotations": []});
                Self::message(&id("msg"), &part, "response.output_text.delta", text, of_text)
            }
            Said::Refusal(text) => {
                let part = json!({"type": "refusal", "refusal": text});
                Self::message(&id("msg"), &part, "response.refusal.delta", text, of_text)
            }
            Said::Reasoning(text) => {
                let mut done = json!({
                    "id": id("rs"), "type": "reasoning", "summary": [{"type": "summary_text", "text": text}],
                });
                if answer.seen.wants_encrypted_reasoning {
                    done["encrypted_content"] = format!("scripted:{}", id("rs")).into();
                }
                let growth = Growth {
                    begins: json!({"id": id("rs"), "type": "reasoning", "summary": []}),
                    delta: "response.reasoning_summary_text.delta",
                    place: json!({"summary_index": 0}),
                    text,
                    characters: of_text,
                };
                Self { done, growth: Some(growth) }
            }
            Said::Call(call) if call.custom => {
                let form = ("custom_tool_call", "input", "response.custom_tool_call_input.delta");
                Self::call(&id("ctc"), form, call, of_call)
            }
            Said::Call(call) => {
                let form = ("function_call", "arguments", "response.function_call_arguments.delta");
                Self::call(&id("fc"), form, call, of_call)
            }
            Said::Item(item) => Self { done: item, growth: None },
        }
    }

    fn message(id: &str, part: &Value, delta: &'static str, text: String, characters: usize) -> Self {
        let item = |status: &str, content: &[&Value]| json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content});
        Self {
            done: item("completed", &[part]),
            growth: Some(Growth {
                begins: item("in_progress", &[]),
                delta,
                place: json!({"content_index": 0}),
                text,
                characters,
            }),
        }
    }

    /// The form is the item's type, the member for the input and the type of its deltas.
    fn call(id: &str, form: (&str, &str, &'static str), call: ToolCall, characters: usize) -> Self {
        let (kind, member, delta) = form;
        let item = |input: &str, status: &str| {
            json!({"id": id, "type": kind, "status": status, "call_id": call.id, "name": call.tool,
                member: input})
        };
        Self {
            done: item(&call.input, "completed"),
            growth: Some(Growth {
                begins: item("", "in_progress"),
                delta,
                place: json!({}),
                text: call.input,
                characters,
            }),
        }
    }
}

struct Writer {
    frames: Frames,
}

impl Writer {
    fn event(&mut self, kind: &str, members: Value) {
        let mut event = json!({"type": kind, "sequence_number": self.frames.len()});
        extend(&mut event, members);
        self.frames.push(format!("event: {kind}\ndata: {event}\n\n"));
    }

    /// Streams an item; gives it whole, as the last event repeats it.
    fn item(&mut self, index: usize, item: Item) -> Value {
        if let Some(growth) = &item.growth {
            self.event("response.output_item.added", json!({"output_index": index, "item": growth.begins}));
            for piece in pieces(&growth.text, growth.characters) {
                let mut members = growth.place.clone();
                members["item_id"] = growth.begins["id"].clone();
                members["output_index"] = index.into();
                members["delta"] = piece.into();
                self.event(growth.delta, members);
            }
        }
        self.event("response.output_item.done", json!({"output_index": index, "item": item.done}));
        item.done
    }
}

#[cfg(test)]
mod tests;
