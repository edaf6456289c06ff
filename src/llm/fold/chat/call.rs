//! Calls put together from their deltas, however a server numbers and repeats them.

use serde_json::{Map, Value, json};

use crate::llm::{
    event::{ItemKind, StreamEvent},
    fold::unescape::Unescape,
    item::{CustomCall, FunctionCall, Item, ThreadItem, WireJson},
    wire::custom,
};

/// The calls of one response, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Call>);

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    is_custom: bool,
    name: String,
    /// The arguments, or the input of a custom tool.
    arguments: String,
    /// Members that only the provider understands.
    others: Map<String, Value>,
    unescape: Option<Unescape>,
}

/// What one delta brings.
#[derive(Default)]
struct Delta {
    index: Option<u64>,
    id: String,
    is_custom: bool,
    name: String,
    arguments: String,
    others: Map<String, Value>,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one element of `tool_calls`.
    pub(super) fn take(
        &mut self,
        delta: Value,
        custom_as_function: &[String],
        events: &mut Vec<StreamEvent>,
    ) {
        let Some(delta) = Delta::read(delta) else { return };
        let place = self.place(&delta);
        let is_new = place == self.0.len();
        if is_new {
            self.0.push(Call { index: delta.index, ..Call::default() });
        }
        let Some(call) = self.0.get_mut(place) else { return };
        if call.id.is_empty() {
            call.id = delta.id;
        }
        if call.name.is_empty() {
            call.name = delta.name;
        }
        call.is_custom |= delta.is_custom;
        for (name, value) in delta.others {
            merge(&mut call.others, name, value);
        }
        call.arguments.push_str(&delta.arguments);
        let item_id = format!("call-{place}");
        if is_new {
            let unescaped = custom_as_function.contains(&call.name);
            call.unescape = unescaped.then(Unescape::default);
            let kind =
                if call.is_custom || unescaped { ItemKind::CustomCall } else { ItemKind::FunctionCall };
            events.push(StreamEvent::ItemStarted { item_id: item_id.clone(), kind });
        }
        let told = match &mut call.unescape {
            Some(unescape) => unescape.push(&delta.arguments),
            None => delta.arguments,
        };
        if !told.is_empty() {
            events.push(StreamEvent::CallInputDelta { item_id, delta: told });
        }
    }

    /// The output limit cut off the last one, even where its arguments look whole.
    pub(super) fn drop_last(&mut self) {
        self.0.pop();
    }

    /// The calls, whole. One without a name is none: nothing could answer it.
    pub(super) fn finish(&mut self, custom_as_function: &[String]) -> Vec<ThreadItem> {
        let calls = std::mem::take(&mut self.0).into_iter().filter(|call| !call.name.is_empty());
        calls.map(|call| call.into_item(custom_as_function)).collect()
    }

    /// Which call a delta goes on with; one past the last for a new one. Some servers number all calls 0,
    /// some number none, some repeat name and id with every delta.
    fn place(&self, delta: &Delta) -> usize {
        let new = self.0.len();
        let same_index = self.0.iter().rposition(|call| delta.index.is_none() || call.index == delta.index);
        let Some(place) = same_index else { return new };
        let Some(call) = self.0.get(place) else { return new };
        let is_another = !delta.id.is_empty() && !call.id.is_empty() && delta.id != call.id;
        // Without numbers a name after whole arguments begins the next call, even under the same id.
        let begins_again = delta.index.is_none()
            && !delta.name.is_empty()
            && serde_json::from_str::<serde::de::IgnoredAny>(&call.arguments).is_ok();
        if is_another || begins_again { new } else { place }
    }
}

impl Delta {
    fn read(value: Value) -> Option<Self> {
        let Value::Object(members) = value else { return None };
        let mut delta = Self::default();
        for (name, value) in members {
            match (name.as_str(), value) {
                (_, Value::Null) => {}
                ("index", value) => delta.index = value.as_u64(),
                ("id", Value::String(id)) => delta.id = id,
                ("type", value) => delta.is_custom |= value == "custom",
                ("function" | "custom", Value::Object(tool)) => {
                    delta.is_custom |= name == "custom";
                    for (name, value) in tool {
                        match (name.as_str(), value) {
                            ("name", Value::String(name)) => delta.name = name,
                            ("arguments" | "input", Value::String(text)) => delta.arguments = text,
                            // Some servers send the arguments themselves instead of their text.
                            ("arguments", value @ Value::Object(_)) => delta.arguments = value.to_string(),
                            _ => {}
                        }
                    }
                }
                (_, value) => {
                    delta.others.insert(name, value);
                }
            }
        }
        Some(delta)
    }
}

impl Call {
    fn into_item(self, custom_as_function: &[String]) -> ThreadItem {
        let Self { id, is_custom, name, mut arguments, others, .. } = self;
        let mut wire = Map::new();
        if !id.is_empty() {
            wire.insert("id".into(), id.as_str().into());
        }
        let item = if is_custom {
            wire.insert("type".into(), "custom".into());
            wire.insert("custom".into(), json!({"name": name, "input": arguments}));
            Item::CustomCall(CustomCall { call_id: id, name, input: arguments })
        } else {
            // A call without arguments; servers that read them again refuse an empty text.
            if arguments.trim().is_empty() {
                arguments = "{}".to_owned();
            }
            wire.insert("type".into(), "function".into());
            wire.insert("function".into(), json!({"name": name, "arguments": arguments}));
            custom::call(FunctionCall { call_id: id, name, arguments }, custom_as_function)
        };
        wire.extend(others);
        ThreadItem { item, wire: WireJson::render(&Value::Object(wire)) }
    }
}

/// Adds a delta to a member: texts and arrays grow, objects member by member, all else is replaced.
pub(super) fn merge(members: &mut Map<String, Value>, name: String, value: Value) {
    match (members.get_mut(&name), value) {
        (_, Value::Null) => {}
        (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
        (Some(Value::Object(object)), Value::Object(more)) => {
            for (name, value) in more {
                merge(object, name, value);
            }
        }
        (_, value) => {
            members.insert(name, value);
        }
    }
}
