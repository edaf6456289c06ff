//! Requests read back as a server would.

use super::*;

/// What a server reads: who, and what.
pub(super) type Facts = Vec<(&'static str, String)>;

/// Words of one speaker in a row are one text, whatever they are cut into.
pub(super) fn joined(facts: Facts) -> Facts {
    let mut joined: Facts = Vec::new();
    for (who, what) in facts {
        match joined.last_mut() {
            Some((last, text)) if *last == who && matches!(who, "developer" | "user" | "assistant") => {
                text.push_str("\n\n");
                text.push_str(&what);
            }
            _ => joined.push((who, what)),
        }
    }
    joined
}

pub(super) fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Checks that every output answers its call: the calls of a step have different ids, and the outputs come in
/// their order.
#[derive(Default)]
struct Ids {
    seen: Vec<String>,
    open: VecDeque<String>,
}

impl Ids {
    fn call(&mut self, id: &Value) {
        let id = string(id);
        assert!(!id.is_empty() && !self.seen.contains(&id), "{id} of {:?}", self.seen);
        self.seen.push(id.clone());
        self.open.push_back(id);
    }

    fn output(&mut self, id: &Value) {
        assert_eq!(self.open.pop_front(), Some(string(id)));
    }
}

pub(super) fn read_responses(body: &Value) -> Facts {
    let mut ids = Ids::default();
    let items = body["input"].as_array().unwrap().iter().map(|item| match item["type"].as_str().unwrap() {
        "message" => {
            let who = match item["role"].as_str().unwrap() {
                "user" => "user",
                "assistant" => "assistant",
                _ => "developer",
            };
            (who, string(&item["content"][0]["text"]))
        }
        "reasoning" => ("reasoning", string(&item["encrypted_content"])),
        "function_call" => {
            ids.call(&item["call_id"]);
            ("call", format!("{} {}", string(&item["name"]), string(&item["arguments"])))
        }
        _ => {
            ids.output(&item["call_id"]);
            ("output", string(&item["output"]))
        }
    });
    items.collect()
}

pub(super) fn read_chat(body: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut ids = Ids::default();
    for message in body["messages"].as_array().unwrap() {
        match message["role"].as_str().unwrap() {
            "system" => {
                assert!(facts.is_empty(), "the system message is the first");
                facts.push(("developer", string(&message["content"])));
            }
            "user" => facts.push(("user", string(&message["content"]))),
            "assistant" => {
                assert!(ids.open.is_empty(), "outputs come before anything else");
                facts.extend(message["reasoning"].as_str().map(|text| ("reasoning", text.to_owned())));
                facts.extend(message["content"].as_str().map(|text| ("assistant", text.to_owned())));
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    ids.call(&call["id"]);
                    let call = &call["function"];
                    facts.push(("call", format!("{} {}", string(&call["name"]), string(&call["arguments"]))));
                }
            }
            _ => {
                ids.output(&message["tool_call_id"]);
                facts.push(("output", string(&message["content"])));
            }
        }
    }
    facts
}

pub(super) fn read_messages(body: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut ids = Ids::default();
    for block in body["system"].as_array().into_iter().flatten() {
        facts.push(("developer", string(&block["text"])));
    }
    for message in body["messages"].as_array().unwrap() {
        let speaker = if message["role"] == "user" { "user" } else { "assistant" };
        for block in message["content"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "text" => facts.push((speaker, string(&block["text"]))),
                "thinking" => {
                    assert_eq!(block["signature"], "s");
                    facts.push(("reasoning", string(&block["thinking"])));
                }
                "tool_use" => {
                    ids.call(&block["id"]);
                    facts.push(("call", format!("{} {}", string(&block["name"]), block["input"])));
                }
                _ => {
                    ids.output(&block["tool_use_id"]);
                    facts.push(("output", string(&block["content"])));
                }
            }
        }
        assert!(speaker == "assistant" || ids.open.is_empty(), "all outputs are in the next message");
    }
    facts
}
