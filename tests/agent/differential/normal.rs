//! A request's body in a form in which two agents' can be compared: without what is different in each run, and with
//! names in the place of positions where the order says nothing.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

/// What is made up anew in each run, by its form. The form itself is compared: how many decimals a time has, and how
/// many digits an id.
static MADE_UP: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
    let form = |pattern: &str| Regex::new(pattern).unwrap();
    [
        (form(r"Chunk ID: [0-9a-f]{6}\b"), "Chunk ID: <6 hexadecimal digits>"),
        (form(r"Wall time: \d+\.\d{4} seconds"), "Wall time: <4 decimals> seconds"),
        (form(r"Wall time: \d+(\.\d)? seconds"), "Wall time: <tenths> seconds"),
        (form(r"aborted by user after \d+\.\ds"), "aborted by user after <tenths>s"),
        (form(r"<current_date>\d{4}-\d\d-\d\d</current_date>"), "<current_date><date></current_date>"),
    ]
});

static SESSION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"session ID (\d{4,5})\b").unwrap());

static ELEMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)^\s*<([a-z_]+)>(.*)$").unwrap());

/// The bodies of a thread. `prompt` is what its first turn began with.
pub(crate) fn normal(bodies: &[Value], prompt: &str) -> Vec<Value> {
    let mut sessions = Vec::new();
    let mut known = Vec::new();
    let thread = bodies.first().map(|body| body["prompt_cache_key"].clone()).unwrap_or_default();
    let mut all = Vec::new();
    for body in bodies {
        let Value::Object(members) = body else {
            all.push(body.clone());
            continue;
        };
        let mut members = members.clone();
        let order: Vec<String> = members.keys().cloned().collect();
        if let Some(key) = members.get_mut("prompt_cache_key")
            && *key == thread
        {
            *key = json!("<thread>");
        }
        let tools = members.insert("tools".to_owned(), Value::Null).map(tools_by_name);
        let mut input = Input::of(members.remove("input").unwrap_or_default(), prompt);
        if known.is_empty() {
            known.extend(input.layers.keys().filter(|name| !name.ends_with(" text")).cloned());
        }
        input.gather_layers(&known);
        let carried_over = input.take_carried_over();
        members.insert("order of the members".to_owned(), order.into());
        members.insert("tools".to_owned(), tools.unwrap_or_default());
        members.insert("layers".to_owned(), by_name(input.layers));
        if let Some(carried_over) = carried_over {
            members.insert("carried over".to_owned(), in_form(carried_over, &mut sessions));
        }
        let items = input.items.into_iter().map(|item| in_form(without_id(item), &mut sessions)).collect();
        members.insert("items".to_owned(), items);
        all.push(members.into());
    }
    all
}

/// Tools by name.
fn tools_by_name(tools: Value) -> Value {
    let named = tools.as_array().into_iter().flatten().map(|tool| {
        let name = tool["name"].as_str().or_else(|| tool["type"].as_str()).unwrap_or_default();
        (name.to_owned(), tool.clone())
    });
    by_name(named.collect())
}

/// `{order, named: {NAME: value}}`.
fn by_name(named: Map<String, Value>) -> Value {
    json!({"order": named.keys().collect::<Vec<_>>(), "named": named})
}

/// What a request tells the model.
struct Input {
    /// What stands before the first prompt, by the names of its parts.
    layers: Map<String, Value>,
    /// The items from the prompt on.
    items: Vec<Value>,
}

impl Input {
    fn of(input: Value, prompt: &str) -> Self {
        let Value::Array(mut items) = input else { return Self { layers: Map::new(), items: vec![input] } };
        let is_prompt = |item: &Value| item["role"] == "user" && item["content"][0]["text"] == prompt;
        let begins = items.iter().position(is_prompt).unwrap_or(items.len());
        let rest = items.split_off(begins);
        let layers = items.iter().enumerate().flat_map(|(number, message)| parts(message, number.into()));
        Self { layers: layers.collect(), items: rest }
    }

    /// Where a compaction puts the layers of the first request behind the prompt, they are layers all the same.
    fn gather_layers(&mut self, known: &[String]) {
        let items = std::mem::take(&mut self.items);
        for item in items {
            let found = parts(&item, format!("behind {} items", self.items.len()).into());
            if !found.is_empty() && found.iter().all(|(name, _)| known.contains(name)) {
                self.layers.extend(found);
            } else {
                self.items.push(item);
            }
        }
    }

    /// What our agent alone says after a compaction, so that the items behind it keep their numbers.
    fn take_carried_over(&mut self) -> Option<Value> {
        let is_it = |item: &Value| {
            item["content"][0]["text"].as_str().is_some_and(|text| text.starts_with("<carried_over>"))
        };
        let place = self.items.iter().position(is_it)?;
        Some(self.items.remove(place)["content"][0]["text"].take())
    }
}

/// The parts of a message by name, and where it stands.
fn parts(message: &Value, place: Value) -> Vec<(String, Value)> {
    let role = message["role"].as_str().unwrap_or_default();
    let content = message["content"].as_array().into_iter().flatten();
    let part = |part: &Value| {
        let (name, said) = layer(place == 0, part["text"].as_str().unwrap_or_default());
        (format!("{role} {name}"), json!({"message": place, "said": said}))
    };
    content.map(part).collect()
}

/// The name of a part of the messages before the prompt, and what it says. The base instructions are each agent's own.
fn layer(is_first: bool, text: &str) -> (String, Value) {
    if is_first {
        return ("base instructions".to_owned(), Value::Null);
    }
    if text.starts_with("# AGENTS.md instructions") {
        return ("AGENTS.md".to_owned(), text.into());
    }
    let Some((name, rest)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return ("text".to_owned(), text.into());
    };
    let inside = rest.strip_suffix(&format!("</{name}>")).unwrap_or(rest);
    let said = match name {
        "environment_context" => elements(inside),
        _ => Value::from(inside),
    };
    (name.to_owned(), said)
}

/// The elements of a text that stand beside each other, by name.
fn elements(mut text: &str) -> Value {
    let mut found = Map::new();
    while let Some(element) = ELEMENT.captures(text) {
        let (_, [name, behind]) = element.extract();
        let closing = format!("</{name}>");
        let Some((inside, rest)) = behind.split_once(closing.as_str()) else { break };
        let whole = made_up_form(&format!("<{name}>{inside}{closing}"));
        found.insert(name.to_owned(), whole.into());
        text = rest;
    }
    found.into()
}

/// Ids of items are made up by whoever makes the item; a provider needs none.
fn without_id(mut item: Value) -> Value {
    if let Some(members) = item.as_object_mut() {
        members.remove("id");
    }
    item
}

fn in_form(value: Value, sessions: &mut Vec<String>) -> Value {
    match value {
        Value::String(text) => text_in_form(&text, sessions).into(),
        Value::Array(list) => list.into_iter().map(|value| in_form(value, sessions)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, in_form(value, sessions))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn text_in_form(text: &str, sessions: &mut Vec<String>) -> String {
    for found in SESSION.captures_iter(text) {
        let (_, [number]) = found.extract();
        if !sessions.iter().any(|known| known == number) {
            sessions.push(number.to_owned());
        }
    }
    let mut text = made_up_form(text);
    for (index, number) in sessions.iter().enumerate() {
        let whole = Regex::new(&format!(r"\b{number}\b")).unwrap();
        text = whole.replace_all(&text, |_: &Captures<'_>| format!("<session {index}>")).into_owned();
    }
    text
}

fn made_up_form(text: &str) -> String {
    MADE_UP.iter().fold(text.to_owned(), |text, (form, name)| form.replace_all(&text, *name).into_owned())
}
