//! Renders a reply as the events of the Responses API.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    script::{Call, Custom, End, Output, Pace},
    seen::Seen,
    template::{expand, expand_value},
    threads::Turn,
};

/// A response, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What is written, in order.
    pub frames: Vec<Frame>,
    /// What happens to the connection after that.
    pub finish: Finish,
}

/// Bytes to be written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The pause before.
    pub pause: Duration,
    /// The bytes.
    pub bytes: Bytes,
}

/// What happens to a connection after the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It ends in good order.
    Close,
    /// It breaks.
    Break,
    /// Only comments come for that long, and then it breaks.
    Stall(Duration),
}

/// Renders a streamed reply. `response_id` is unique among all responses, `created_at` is the time in
/// seconds since 1970.
pub fn stream(turn: &Turn<'_>, seen: &Seen, pace: Pace, response_id: &str, created_at: i64) -> Stream {
    let mut writer = Writer { events: Vec::new(), pace };
    let response = |status: &str, more: Value| {
        let mut response = json!({
            "id": response_id, "object": "response", "created_at": created_at, "status": status,
            "model": seen.model, "output": [],
        });
        if let (Some(response), Value::Object(more)) = (response.as_object_mut(), more) {
            response.extend(more);
        }
        response
    };
    writer.event("response.created", json!({"response": response("in_progress", json!({}))}));
    let items: Vec<Value> = turn
        .reply
        .output
        .iter()
        .enumerate()
        .map(|(index, output)| writer.item(index, &Item::new(output, index, turn, seen, response_id)))
        .collect();
    let usage = usage(turn, seen, &items);
    let (kind, last) = match &turn.reply.end {
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
            if let Some(end_turn) = turn.reply.end_turn {
                more.insert("end_turn".into(), end_turn.into());
            }
            ("response.completed", response("completed", more.into()))
        }
    };
    writer.event(kind, json!({"response": last}));
    writer.finish(turn)
}

fn usage(turn: &Turn<'_>, seen: &Seen, items: &[Value]) -> Value {
    if turn.reply.omit_usage {
        return Value::Null;
    }
    let tokens = |bytes: u64| bytes.div_ceil(4);
    let size = |item: &Value| item.to_string().len() as u64;
    let reasoning = |item: &&Value| item.get("type").is_some_and(|kind| kind == "reasoning");
    let (input, cached, output, reasoned) = match turn.reply.usage {
        Some(said) => {
            (said.input_tokens, said.cached_input_tokens, said.output_tokens, said.reasoning_tokens)
        }
        None => (
            tokens(seen.body_bytes),
            tokens(turn.previous_body_bytes.min(seen.body_bytes)),
            tokens(items.iter().map(size).sum()),
            tokens(items.iter().filter(reasoning).map(size).sum()),
        ),
    };
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": input + output,
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
}

impl Item {
    fn new(output: &Output, index: usize, turn: &Turn<'_>, seen: &Seen, response_id: &str) -> Self {
        let id = |prefix: &str| format!("{prefix}_{}_{index}", response_id.trim_start_matches("resp_"));
        match output {
            Output::Text(text) => {
                let text = expand(text, &turn.values);
                let part = json!({"type": "output_text", "text": text, "annotations": []});
                Self::message(&id("msg"), &part, "response.output_text.delta", text)
            }
            Output::Refusal(text) => {
                let text = expand(text, &turn.values);
                let part = json!({"type": "refusal", "refusal": text});
                Self::message(&id("msg"), &part, "response.refusal.delta", text)
            }
            Output::Reasoning(text) => {
                let text = expand(text, &turn.values);
                let mut done = json!({
                    "id": id("rs"), "type": "reasoning", "summary": [{"type": "summary_text", "text": text}],
                });
                if seen.wants_encrypted_reasoning {
                    done["encrypted_content"] = format!("scripted:{}", id("rs")).into();
                }
                let growth = Growth {
                    begins: json!({"id": id("rs"), "type": "reasoning", "summary": []}),
                    delta: "response.reasoning_summary_text.delta",
                    place: json!({"summary_index": 0}),
                    text,
                };
                Self { done, growth: Some(growth) }
            }
            Output::Call(Call { tool, arguments, call_id }) => {
                let arguments = match expand_value(arguments, &turn.values) {
                    Value::String(raw) => raw,
                    Value::Null => "{}".to_owned(),
                    value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                        value.to_string()
                    }
                };
                Self::function(tool, arguments, call_id.clone().unwrap_or_else(|| id("call")), &id("fc"))
            }
            Output::Plan(steps) => {
                let steps: Vec<Value> = steps
                    .iter()
                    .map(|step| json!({"step": expand(&step.step, &turn.values), "status": step.status}))
                    .collect();
                Self::function("update_plan", json!({"plan": steps}).to_string(), id("call"), &id("fc"))
            }
            Output::Custom(Custom { tool, input, call_id }) => {
                let input = expand(input, &turn.values);
                let call_id = call_id.clone().unwrap_or_else(|| id("call"));
                // A tool that was declared as a function is called as one.
                if seen.tools.contains(tool) && !seen.custom_tools.contains(tool) {
                    return Self::function(tool, json!({"input": input}).to_string(), call_id, &id("fc"));
                }
                let item = |input: &str, status: &str| {
                    json!({"id": id("ctc"), "type": "custom_tool_call", "status": status, "call_id": call_id,
                        "name": tool, "input": input})
                };
                Self {
                    done: item(&input, "completed"),
                    growth: Some(Growth {
                        begins: item("", "in_progress"),
                        delta: "response.custom_tool_call_input.delta",
                        place: json!({}),
                        text: input,
                    }),
                }
            }
            Output::Item(item) => Self { done: expand_value(item, &turn.values), growth: None },
        }
    }

    fn message(id: &str, part: &Value, delta: &'static str, text: String) -> Self {
        let item = |status: &str, content: &[&Value]| json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content});
        Self {
            done: item("completed", &[part]),
            growth: Some(Growth {
                begins: item("in_progress", &[]),
                delta,
                place: json!({"content_index": 0}),
                text,
            }),
        }
    }

    fn function(tool: &str, arguments: String, call_id: String, id: &str) -> Self {
        let item = |arguments: &str, status: &str| {
            json!({"id": id, "type": "function_call", "status": status, "call_id": call_id, "name": tool,
                "arguments": arguments})
        };
        Self {
            done: item(&arguments, "completed"),
            growth: Some(Growth {
                begins: item("", "in_progress"),
                delta: "response.function_call_arguments.delta",
                place: json!({}),
                text: arguments,
            }),
        }
    }
}

struct Writer {
    events: Vec<Frame>,
    pace: Pace,
}

impl Writer {
    fn event(&mut self, kind: &str, members: Value) {
        let mut event = json!({"type": kind, "sequence_number": self.events.len()});
        if let (Some(event), Value::Object(members)) = (event.as_object_mut(), members) {
            event.extend(members);
        }
        let millis =
            if self.events.is_empty() { self.pace.first_event_millis } else { self.pace.event_millis };
        self.events.push(Frame {
            pause: Duration::from_millis(millis),
            bytes: format!("event: {kind}\ndata: {event}\n\n").into(),
        });
    }

    /// Streams an item; gives it whole, as the last event repeats it.
    fn item(&mut self, index: usize, item: &Item) -> Value {
        if let Some(growth) = &item.growth {
            self.event("response.output_item.added", json!({"output_index": index, "item": growth.begins}));
            let characters: Vec<char> = growth.text.chars().collect();
            for piece in characters.chunks(self.pace.delta_characters) {
                let mut members = growth.place.clone();
                members["item_id"] = growth.begins["id"].clone();
                members["output_index"] = index.into();
                members["delta"] = piece.iter().collect::<String>().into();
                self.event(growth.delta, members);
            }
        }
        self.event("response.output_item.done", json!({"output_index": index, "item": item.done}));
        item.done.clone()
    }

    fn finish(self, turn: &Turn<'_>) -> Stream {
        let mut frames = self.events;
        let before_last = frames.len() - 1;
        let (kept, finish) = match turn.reply.end {
            End::Completed | End::Failed { .. } | End::Incomplete { .. } => (frames.len(), Finish::Close),
            End::Cut { after_events } => (after_events.min(before_last), Finish::Break),
            End::Close { after_events } => (after_events.min(before_last), Finish::Close),
            End::Stall { after_events, seconds } => {
                (after_events.min(before_last), Finish::Stall(Duration::from_secs(seconds)))
            }
        };
        frames.truncate(kept);
        // From the back, so that the positions of the others stay true.
        let mut injections: Vec<_> = turn.reply.inject.iter().collect();
        injections.sort_by_key(|injection| injection.after_events);
        for injection in injections.into_iter().rev() {
            let raw = Frame { pause: Duration::ZERO, bytes: injection.raw.clone().into() };
            frames.insert(injection.after_events.min(kept), raw);
        }
        Stream { frames, finish }
    }
}

#[cfg(test)]
mod tests;
