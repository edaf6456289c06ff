//! The APIs that models are reached through, each as pure rendering.

mod assembly;
mod body;
mod call;
mod capabilities;
pub mod chat;
pub mod custom;
mod members;
pub mod messages;
pub mod responses;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::assembly::Assembly;
pub use self::capabilities::Capabilities;
use super::{
    item::{CallKind, CallOutput, Item, Message, Opaque, ThreadItem, WireJson},
    request::{PreparedRequest, Request},
    tool::{RenderedTools, ToolDefinition},
};
use crate::api::provider::{CompactionMode, ModelApi};

/// Stands in the place of an image for a model that takes none.
const IMAGE_NOTE: &str = "[image left out: this model takes no images]";

/// Stands before the images of outputs that hold none.
const IMAGES_OF_OUTPUTS: &str = "Images from the tool outputs above:";

/// Stands in the place of an output that was nothing but such an image: servers refuse an empty one.
const IMAGE_BELOW: &str = "[image below]";

/// The API that a thread speaks. Frozen when the thread opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wire {
    /// The Responses API, stateless (`store: false`), streaming.
    Responses,
    /// The Chat Completions API, streaming.
    Chat,
    /// The Messages API, streaming.
    Messages,
}

/// How a provider is asked to compact a thread by itself. Its answer is one opaque item of the kind [`COMPACTION`], which
/// is sent back as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NativeCompaction {
    /// By an item at the end of the request. The payload comes after the words of people that are kept.
    Item(ThreadItem),
    /// By [`Request::compacts`], which is a parameter. The payload is the first message of all.
    Parameter,
    /// By [`Request::compacts`], which sends the request to another address. The payload comes as for an item.
    Endpoint,
}

/// The kind of the item that a provider's own compaction gives.
pub const COMPACTION: &str = "compaction";

/// The member of an output in which images are kept that go elsewhere.
const IMAGES: &str = "images";

/// Where an item stands in its thread, as far as its rendering depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Only instructions of the harness came before it, and no request yet.
    pub leading: bool,
    /// The id by which a call and its output go, where the provider's own cannot be used.
    pub call_id: Option<&'a str>,
}

/// What of an item goes into requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Which part of a message it is.
    pub part: Part,
    /// JSON, in the shape that the wire gives to this part.
    pub bytes: Bytes,
    /// JSON that goes elsewhere: the images of an output, what belongs to a reasoning.
    pub beside: Option<Bytes>,
}

/// Which part of a message something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// None, but an element of the input by itself.
    Element,
    /// Instructions from before the first request.
    System,
    /// What the user says, or the harness later.
    User,
    /// The answer to a call.
    Output,
    /// Words of the model.
    Text,
    /// Reasoning of the model.
    Reasoning,
    /// A call.
    Call,
    /// Something of the model's message that only the provider understands.
    Opaque,
}

impl Place<'_> {
    /// The item with the id by which its call goes, in the member `name`.
    fn rename(self, item: &Bytes, name: &str) -> Bytes {
        match self.call_id {
            Some(id) => members::with_text(item, name, id),
            None => item.clone(),
        }
    }
}

impl Fragment {
    fn new(part: Part, bytes: Bytes) -> Self {
        Self { part, bytes, beside: None }
    }

    /// The answer to a call, without the images that were kept with it to go elsewhere.
    fn output(wire: Bytes) -> Self {
        let images = members::get(&wire, IMAGES).map(|images| Bytes::copy_from_slice(images.as_bytes()));
        Self {
            part: Part::Output,
            bytes: if images.is_some() { members::without(&wire, IMAGES) } else { wire },
            beside: images.map(|images| members::interior(&images)),
        }
    }

    /// Its size.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.beside.as_ref().map_or(0, Bytes::len)
    }
}

impl From<ModelApi> for Wire {
    fn from(api: ModelApi) -> Self {
        match api {
            ModelApi::Responses => Self::Responses,
            ModelApi::ChatCompletions => Self::Chat,
            ModelApi::Messages => Self::Messages,
        }
    }
}

impl Wire {
    /// Renders a message of the harness or the user, once.
    pub fn message(self, message: Message, capabilities: &Capabilities) -> ThreadItem {
        match self {
            Self::Responses => responses::message(message, capabilities),
            Self::Chat => chat::message(message, capabilities),
            Self::Messages => messages::message(message, capabilities),
        }
    }

    /// Renders the answer to a call, once.
    pub fn call_output(self, kind: CallKind, output: CallOutput, capabilities: &Capabilities) -> ThreadItem {
        match self {
            Self::Responses => responses::call_output(kind, output, capabilities),
            Self::Chat => chat::call_output(kind, output, capabilities),
            Self::Messages => messages::call_output(kind, output, capabilities),
        }
    }

    /// What of an item goes into requests; nothing for an item that this model does not take back. The same
    /// item in the same place always gives the same bytes.
    pub fn fragment(
        self,
        item: &ThreadItem,
        place: Place<'_>,
        capabilities: &Capabilities,
    ) -> Option<Fragment> {
        match self {
            Self::Responses => responses::fragment(item, place, capabilities),
            Self::Chat => chat::fragment(item, place, capabilities),
            Self::Messages => messages::fragment(item, place),
        }
    }

    /// Whether calls can go by this id.
    pub fn takes_call_id(self, id: &str) -> bool {
        match self {
            Self::Responses | Self::Chat => !id.is_empty(),
            Self::Messages => {
                (1..=64).contains(&id.len())
                    && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            }
        }
    }

    /// Renders the thread's tools, in the order given, once.
    pub fn tools(self, tools: &[ToolDefinition], capabilities: &Capabilities) -> RenderedTools {
        match self {
            Self::Responses => responses::tools(tools, capabilities),
            Self::Chat => chat::tools(tools, capabilities),
            Self::Messages => messages::tools(tools),
        }
    }

    /// Assembles a request, ready to be sent and to be recorded by its digest.
    pub fn prepare(self, request: &Request, capabilities: &Capabilities) -> PreparedRequest {
        let whole = self == Self::Responses && request.compacts;
        let body = match self {
            Self::Responses if whole => responses::compact_body(request, capabilities),
            Self::Responses => responses::body(request, capabilities),
            Self::Chat => chat::body(request, capabilities),
            Self::Messages => messages::body(request, capabilities),
        };
        PreparedRequest {
            wire: self,
            counted_bytes: request.input.images.counted(body.len() as u64),
            body,
            model: request.model.clone(),
            thread_id: request.thread_id.clone(),
            custom_as_function: request.tools.custom_as_function.clone(),
            has_calls: request.input.has_calls,
            path: if whole { responses::COMPACT_PATH } else { self.path() },
            whole,
            feature: match self.compaction(capabilities) {
                Some(NativeCompaction::Parameter) => Some(messages::COMPACTION_FEATURE),
                Some(NativeCompaction::Item(_) | NativeCompaction::Endpoint) | None => None,
            },
        }
    }

    /// How the provider compacts a thread by itself, if it does.
    pub fn compaction(self, capabilities: &Capabilities) -> Option<NativeCompaction> {
        match (self, capabilities.compaction?) {
            (Self::Responses, CompactionMode::TriggerItem) => {
                let kind = "compaction_trigger";
                let item = Item::Opaque(Opaque { kind: kind.to_owned() });
                let wire = WireJson::render(&serde_json::json!({"type": kind}));
                Some(NativeCompaction::Item(ThreadItem { item, wire }))
            }
            (Self::Responses, CompactionMode::Endpoint) => Some(NativeCompaction::Endpoint),
            (Self::Messages, CompactionMode::OnDemand) => Some(NativeCompaction::Parameter),
            (
                Self::Responses | Self::Chat | Self::Messages,
                CompactionMode::TriggerItem | CompactionMode::Endpoint | CompactionMode::OnDemand,
            ) => None,
        }
    }

    /// The path of the API beneath a provider's base URL.
    pub fn path(self) -> &'static [&'static str] {
        match self {
            Self::Responses => &["responses"],
            Self::Chat => &["chat", "completions"],
            Self::Messages => &["messages"],
        }
    }

    /// The API's name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Responses => "Responses",
            Self::Chat => "Chat Completions",
            Self::Messages => "Messages",
        }
    }
}

/// What the harness says in the middle of a thread to a model that takes instructions at the beginning only.
fn developer_note(text: &str) -> String {
    format!("<developer_note>\n{text}\n</developer_note>")
}

/// The same of an array of parts or blocks.
fn developer_note_of(parts: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Words {
        #[serde(default)]
        text: String,
    }
    let parts: Vec<Words> = serde_json::from_slice(parts).unwrap_or_default();
    let texts: Vec<String> = parts.into_iter().map(|part| part.text).collect();
    developer_note(&texts.join("\n\n"))
}
