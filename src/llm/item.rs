//! What a thread is made of, whatever API carries it.
//!
//! An [`Item`] says what was said; its [`WireJson`] is the exact JSON that the provider sent or that was
//! rendered for it, once. History is replayed from the bytes, never from the neutral form, so members
//! that this program does not know survive, and a request begins with its predecessor byte for byte.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::{Value, value::RawValue};

/// One entry of a thread together with its rendering for the thread's wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadItem {
    /// What the item means.
    pub item: Item,
    /// The item as the wire carries it: as received for the model's items, rendered once for ours.
    pub wire: WireJson,
}

/// One entry of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Item {
    /// Something said by the user, by the harness (developer) or by the model.
    Message(Message),
    /// The model's reasoning, as far as the provider shows it.
    Reasoning(Reasoning),
    /// A call of a tool that takes JSON.
    FunctionCall(FunctionCall),
    /// A call of a tool that takes free text.
    CustomCall(CustomCall),
    /// The answer to a function call.
    FunctionCallOutput(CallOutput),
    /// The answer to a custom call.
    CustomCallOutput(CallOutput),
    /// An item that only the provider understands (a hosted search, a compaction payload): replayed as
    /// it came, never interpreted.
    Opaque(Opaque),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The parts, in order.
    pub content: Vec<ContentPart>,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The person, or the pipeline, that the agent works for.
    User,
    /// The model.
    Assistant,
    /// The harness: instructions that rank above the user's.
    Developer,
}

/// One part of a message or of a call's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ContentPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// An image.
    Image {
        /// A `data:` URL.
        url: String,
    },
    /// The model's own words for why it will not do something. Only models write it.
    Refusal {
        /// The words.
        text: String,
    },
}

/// The visible side of a model's reasoning. What the provider encrypted is in the item's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reasoning {
    /// The summary or the text, one entry a part; often empty.
    pub text: Vec<String>,
    /// Whether the item carries an encrypted payload that makes it worth replaying.
    pub encrypted: bool,
}

/// A call of a tool that takes JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionCall {
    /// The provider's id. Several providers repeat ids, so it identifies nothing of ours.
    pub call_id: String,
    /// The tool's name as the model wrote it.
    pub name: String,
    /// The arguments exactly as the model wrote them; possibly not JSON at all.
    pub arguments: String,
}

/// A call of a tool that takes free text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomCall {
    /// The provider's id, with the same warning as for [`FunctionCall::call_id`].
    pub call_id: String,
    /// The tool's name as the model wrote it.
    pub name: String,
    /// The text.
    pub input: String,
}

/// The way in which a model calls a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// With JSON.
    Function,
    /// With free text.
    Custom,
}

/// A call of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Of which.
    pub kind: CallKind,
    /// Its id as the provider gave it.
    pub call_id: &'a str,
    /// The tool.
    pub name: &'a str,
    /// What it was given: JSON, or free text.
    pub arguments: &'a str,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallOutput {
    /// The id of the call that this answers.
    pub call_id: String,
    /// What the model reads. A single text part is sent as a plain string.
    pub content: Vec<ContentPart>,
    /// Whether the call could not be done, for APIs that say so beside the text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// An item that is only replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opaque {
    /// The wire's own word for the type, for logs.
    pub kind: String,
}

impl CallKind {
    /// The answer to a call of this kind.
    pub fn output(self, output: CallOutput) -> Item {
        match self {
            Self::Function => Item::FunctionCallOutput(output),
            Self::Custom => Item::CustomCallOutput(output),
        }
    }
}

impl Item {
    /// A message of one text part.
    pub fn message(role: Role, text: impl Into<String>) -> Self {
        Self::Message(Message { role, content: vec![ContentPart::Text { text: text.into() }] })
    }

    /// The call, when the item is one.
    pub fn call(&self) -> Option<Call<'_>> {
        match self {
            Self::FunctionCall(FunctionCall { call_id, name, arguments }) => {
                Some(Call { kind: CallKind::Function, call_id, name, arguments })
            }
            Self::CustomCall(CustomCall { call_id, name, input }) => {
                Some(Call { kind: CallKind::Custom, call_id, name, arguments: input })
            }
            Self::Message(_)
            | Self::Reasoning(_)
            | Self::FunctionCallOutput(_)
            | Self::CustomCallOutput(_)
            | Self::Opaque(_) => None,
        }
    }

    /// The id of the call, when the item is one.
    pub fn call_id(&self) -> Option<&str> {
        self.call().map(|call| call.call_id)
    }

    /// Whether the harness must answer the item with an output.
    pub fn is_call(&self) -> bool {
        self.call().is_some()
    }

    /// Whether the item answers a call.
    pub fn is_output(&self) -> bool {
        matches!(self, Self::FunctionCallOutput(_) | Self::CustomCallOutput(_))
    }

    /// What the model says, when the item is a message of its.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Message(message) if message.role == Role::Assistant => Some(message.text()),
            Self::Message(_)
            | Self::Reasoning(_)
            | Self::FunctionCall(_)
            | Self::CustomCall(_)
            | Self::FunctionCallOutput(_)
            | Self::CustomCallOutput(_)
            | Self::Opaque(_) => None,
        }
    }

    /// Whether it is of a kind that only models make.
    pub fn is_the_models(&self) -> bool {
        match self {
            Self::Message(message) => message.role == Role::Assistant,
            Self::Reasoning(_) | Self::FunctionCall(_) | Self::CustomCall(_) | Self::Opaque(_) => true,
            Self::FunctionCallOutput(_) | Self::CustomCallOutput(_) => false,
        }
    }
}

impl Message {
    /// All text parts joined, without images and refusals.
    pub fn text(&self) -> String {
        self.content
            .iter()
            .filter_map(|part| match part {
                ContentPart::Text { text } => Some(text.as_str()),
                ContentPart::Image { .. } | ContentPart::Refusal { .. } => None,
            })
            .collect()
    }
}

impl CallOutput {
    /// An output of one text part.
    pub fn text(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            call_id: call_id.into(),
            content: vec![ContentPart::Text { text: text.into() }],
            failed: false,
        }
    }
}

/// One JSON value, kept byte for byte. Cloning is cheap.
///
/// Serialised as a JSON *string*, not embedded: an embedded raw value is lost beneath a flattened or
/// internally tagged container, which is how records are usually written.
#[derive(Clone, PartialEq, Eq)]
pub struct WireJson(Bytes);

impl WireJson {
    /// Renders a value. Members keep the order in which the value holds them.
    pub fn render(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// The bytes, always one whole JSON value.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<&RawValue> for WireJson {
    fn from(raw: &RawValue) -> Self {
        Self(Bytes::copy_from_slice(raw.get().as_bytes()))
    }
}

impl From<Box<RawValue>> for WireJson {
    fn from(raw: Box<RawValue>) -> Self {
        Self(String::from(Box::<str>::from(raw)).into())
    }
}

impl fmt::Debug for WireJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for WireJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.0).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for WireJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        RawValue::from_string(text).map(Self::from).map_err(de::Error::custom)
    }
}
