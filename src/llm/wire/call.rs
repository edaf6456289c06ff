//! Calls of a model, rendered for an API that they did not come over, or whose bytes are lost.

use serde_json::{Value, json};

use super::{Capabilities, Wire};
use crate::llm::item::{CustomCall, FunctionCall, Item, ThreadItem, WireJson};

impl Wire {
    /// An item as this API would have it, from what it means alone. Nothing for what only its provider understands:
    /// reasoning and payloads.
    pub fn project(self, item: Item, capabilities: &Capabilities) -> Option<ThreadItem> {
        use crate::llm::item::CallKind;
        match item {
            Item::Message(message) => Some(self.message(message, capabilities)),
            Item::FunctionCallOutput(output) => {
                Some(self.call_output(CallKind::Function, output, capabilities))
            }
            Item::CustomCallOutput(output) => Some(self.call_output(CallKind::Custom, output, capabilities)),
            Item::FunctionCall(call) => {
                let wire = self.function_call(&call);
                Some(ThreadItem { item: Item::FunctionCall(call), wire })
            }
            Item::CustomCall(call) => {
                let wire = self.custom_call(&call, capabilities);
                Some(ThreadItem { item: Item::CustomCall(call), wire })
            }
            Item::Reasoning(_) | Item::Opaque(_) => None,
        }
    }

    fn function_call(self, call: &FunctionCall) -> WireJson {
        let FunctionCall { call_id, name, arguments } = call;
        WireJson::render(&match self {
            Self::Responses => {
                json!({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments})
            }
            Self::Chat => {
                json!({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
            }
            Self::Messages => {
                json!({"type": "tool_use", "id": call_id, "name": name, "input": object(arguments)})
            }
        })
    }

    /// In the shape in which its tool is declared.
    fn custom_call(self, call: &CustomCall, capabilities: &Capabilities) -> WireJson {
        let CustomCall { call_id, name, input } = call;
        match self {
            Self::Responses if capabilities.custom_tools => WireJson::render(
                &json!({"type": "custom_tool_call", "call_id": call_id, "name": name, "input": input}),
            ),
            Self::Chat if capabilities.custom_tools => WireJson::render(
                &json!({"id": call_id, "type": "custom", "custom": {"name": name, "input": input}}),
            ),
            Self::Responses | Self::Chat | Self::Messages => self.function_call(&FunctionCall {
                call_id: call_id.clone(),
                name: name.clone(),
                arguments: json!({"input": input}).to_string(),
            }),
        }
    }
}

/// Arguments where only an object will do, whatever the model wrote.
fn object(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(members)) => Value::Object(members),
        Ok(_) | Err(_) => json!({"arguments": arguments}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::item::{Opaque, Reasoning, Role};

    fn text(wire: Wire, item: Item, capabilities: &Capabilities) -> String {
        let item = wire.project(item, capabilities).unwrap();
        String::from_utf8(item.wire.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn w3_calls_have_the_shape_of_the_api_that_they_go_to() {
        let plain = Capabilities::default();
        let able = Capabilities { custom_tools: true, ..plain };
        let function = || {
            Item::FunctionCall(FunctionCall {
                call_id: "c".into(),
                name: "f".into(),
                arguments: r#"{"a": 1}"#.into(),
            })
        };
        let custom =
            || Item::CustomCall(CustomCall { call_id: "c".into(), name: "p".into(), input: "x\"\n".into() });
        assert_eq!(
            text(Wire::Responses, function(), &plain),
            r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{\"a\": 1}"}"#
        );
        assert_eq!(
            text(Wire::Chat, function(), &plain),
            r#"{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}"#
        );
        assert_eq!(
            text(Wire::Messages, function(), &plain),
            r#"{"type":"tool_use","id":"c","name":"f","input":{"a":1}}"#
        );
        assert_eq!(
            text(Wire::Responses, custom(), &able),
            r#"{"type":"custom_tool_call","call_id":"c","name":"p","input":"x\"\n"}"#
        );
        assert_eq!(
            text(Wire::Chat, custom(), &able),
            r#"{"id":"c","type":"custom","custom":{"name":"p","input":"x\"\n"}}"#
        );
        assert_eq!(
            text(Wire::Messages, custom(), &able),
            r#"{"type":"tool_use","id":"c","name":"p","input":{"input":"x\"\n"}}"#
        );
        assert!(text(Wire::Responses, custom(), &plain).contains("function_call"));
        let odd = Item::FunctionCall(FunctionCall {
            call_id: "c".into(),
            name: "f".into(),
            arguments: "no JSON".into(),
        });
        assert!(text(Wire::Messages, odd, &plain).ends_with(r#""input":{"arguments":"no JSON"}}"#));
    }

    #[test]
    fn w3_what_only_its_provider_understands_is_left_out() {
        for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
            let project = |item| wire.project(item, &Capabilities::default());
            assert!(project(Item::Reasoning(Reasoning::default())).is_none());
            assert!(project(Item::Opaque(Opaque { kind: "compaction".into() })).is_none());
            assert!(project(Item::message(Role::Assistant, "words")).is_some());
        }
    }
}
