//! Items as the Responses API sends them, read into neutral ones.

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::llm::{
    event::ItemKind,
    item::{ContentPart, CustomCall, FunctionCall, Item, Message, Opaque, Reasoning, Role},
    wire::custom,
};

/// A call that cannot be answered, because the server left out what an answer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a {kind} without `{member}`")]
pub struct MissingMember {
    kind: &'static str,
    member: &'static str,
}

/// An item as sent. Only the members that matter are read; all others stay in the raw bytes.
#[derive(Debug, Deserialize)]
pub struct ReceivedItem<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    status: Option<String>,
    role: Option<String>,
    #[serde(default)]
    content: Option<Vec<ReceivedPart>>,
    #[serde(default)]
    summary: Option<Vec<ReceivedPart>>,
    encrypted_content: Option<String>,
    call_id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    input: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ReceivedPart {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    refusal: Option<String>,
}

/// What an item of the type `kind` is.
pub fn item_kind(kind: &str) -> ItemKind {
    match kind {
        "message" => ItemKind::Message,
        "reasoning" => ItemKind::Reasoning,
        "function_call" => ItemKind::FunctionCall,
        "custom_tool_call" => ItemKind::CustomCall,
        _ => ItemKind::Opaque,
    }
}

impl ReceivedItem<'_> {
    /// Whether the server says that it did not finish the item.
    pub fn is_incomplete(&self) -> bool {
        self.status.as_deref() == Some("incomplete")
    }

    /// The neutral item. A call of a function in `custom_as_function` is the custom call that it stands
    /// for, as long as its arguments are what was asked for.
    ///
    /// # Errors
    /// [`MissingMember`] for a call that names no tool, or that no output could refer to.
    pub fn into_item(self, custom_as_function: &[String]) -> Result<Item, MissingMember> {
        match item_kind(&self.kind) {
            ItemKind::Message => Ok(Item::Message(Message {
                role: match self.role.as_deref() {
                    Some("user") => Role::User,
                    Some("developer" | "system") => Role::Developer,
                    Some(_) | None => Role::Assistant,
                },
                content: self.content.into_iter().flatten().filter_map(ReceivedPart::into_part).collect(),
            })),
            ItemKind::Reasoning => {
                let parts = self.summary.into_iter().flatten().chain(self.content.into_iter().flatten());
                Ok(Item::Reasoning(Reasoning {
                    text: parts.filter_map(|part| part.text).collect(),
                    encrypted: self.encrypted_content.is_some(),
                }))
            }
            ItemKind::FunctionCall => {
                let (call_id, name) = identity("function_call", self.call_id, self.id, self.name)?;
                let arguments = self.arguments.map(text_of).unwrap_or_default();
                Ok(custom::call(FunctionCall { call_id, name, arguments }, custom_as_function))
            }
            ItemKind::CustomCall => {
                let (call_id, name) = identity("custom_tool_call", self.call_id, self.id, self.name)?;
                Ok(Item::CustomCall(CustomCall { call_id, name, input: self.input.unwrap_or_default() }))
            }
            ItemKind::Opaque => Ok(Item::Opaque(Opaque { kind: self.kind })),
        }
    }
}

impl ReceivedPart {
    fn into_part(self) -> Option<ContentPart> {
        match self.kind.as_deref() {
            Some("refusal") => self.refusal.map(|text| ContentPart::Refusal { text }),
            Some(_) | None => self.text.map(|text| ContentPart::Text { text }),
        }
    }
}

fn identity(
    kind: &'static str,
    call_id: Option<String>,
    id: Option<String>,
    name: Option<String>,
) -> Result<(String, String), MissingMember> {
    let call_id = call_id.or(id).ok_or(MissingMember { kind, member: "call_id" })?;
    let name = name.ok_or(MissingMember { kind, member: "name" })?;
    Ok((call_id, name))
}

/// Arguments are a string that holds JSON; some servers send the JSON itself.
fn text_of(arguments: &RawValue) -> String {
    serde_json::from_str(arguments.get()).unwrap_or_else(|_| arguments.get().to_owned())
}
