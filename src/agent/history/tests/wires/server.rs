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
    let mut facts = Facts::new();
    let mut ids = Ids::default();
    for item in body["input"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "message" => {
                let who = match item["role"].as_str().unwrap() {
                    "user" => "user",
                    "assistant" => "assistant",
                    _ => "developer",
                };
                facts.extend(read_content(who, &item["content"]));
            }
            "reasoning" => facts.push(("reasoning", string(&item["encrypted_content"]))),
            "web_search_call" => facts.push(("opaque", string(&item["id"]))),
            kind @ ("function_call" | "custom_tool_call") => {
                ids.call(&item["call_id"]);
                let arguments = &item[if kind == "function_call" { "arguments" } else { "input" }];
                facts.push(("call", format!("{} {}", string(&item["name"]), string(arguments))));
            }
            _ => {
                ids.output(&item["call_id"]);
                facts.extend(read_output(&item["output"]));
            }
        }
    }
    facts
}

pub(super) fn read_chat(body: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut ids = Ids::default();
    for message in body["messages"].as_array().unwrap() {
        match message["role"].as_str().unwrap() {
            "system" | "developer" => {
                assert!(facts.is_empty(), "the system message is the first");
                facts.push(("developer", string(&message["content"])));
            }
            "user" => facts.extend(read_content("user", &message["content"])),
            "assistant" => {
                assert!(ids.open.is_empty(), "outputs come before anything else");
                facts.extend(message["reasoning"].as_str().map(|text| ("reasoning", text.to_owned())));
                let opaque = message["extra_content"]["id"].as_str();
                facts.extend(opaque.map(|id| ("opaque", id.to_owned())));
                facts.extend(message["content"].as_str().map(|text| ("assistant", text.to_owned())));
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    ids.call(&call["id"]);
                    let (written, arguments) = match call["type"].as_str().unwrap() {
                        "custom" => (&call["custom"], "input"),
                        _ => (&call["function"], "arguments"),
                    };
                    let (name, arguments) = (string(&written["name"]), string(&written[arguments]));
                    facts.push(("call", format!("{name} {arguments}")));
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
                "thinking" => {
                    assert_eq!(block["signature"], "s");
                    facts.push(("reasoning", string(&block["thinking"])));
                }
                "server_tool_use" => facts.push(("opaque", string(&block["id"]))),
                "tool_use" => {
                    ids.call(&block["id"]);
                    facts.push(("call", format!("{} {}", string(&block["name"]), block["input"])));
                }
                "tool_result" => {
                    ids.output(&block["tool_use_id"]);
                    facts.extend(read_output(&block["content"]));
                }
                _ => facts.push(read_part(speaker, block)),
            }
        }
        assert!(speaker == "assistant" || ids.open.is_empty(), "all outputs are in the next message");
    }
    facts
}

/// What a part of a content says, whatever the API calls it.
fn read_part(speaker: &'static str, part: &Value) -> (&'static str, String) {
    match part["type"].as_str().unwrap() {
        "input_image" => ("image", string(&part["image_url"])),
        "image_url" => ("image", string(&part["image_url"]["url"])),
        "image" => {
            let source = &part["source"];
            ("image", format!("data:{};base64,{}", string(&source["media_type"]), string(&source["data"])))
        }
        _ => (speaker, string(&part["text"])),
    }
}

/// What a content says: a text, or parts.
fn read_content(speaker: &'static str, content: &Value) -> Facts {
    match content {
        Value::String(text) => vec![(speaker, text.clone())],
        parts => parts.as_array().unwrap().iter().map(|part| read_part(speaker, part)).collect(),
    }
}

/// The same of an output, which has its text first, if only an empty one.
fn read_output(content: &Value) -> Facts {
    let mut facts = read_content("output", content);
    if facts.first().is_none_or(|(who, _)| *who != "output") {
        facts.insert(0, ("output", String::new()));
    }
    facts
}
