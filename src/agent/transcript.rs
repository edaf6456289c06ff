//! The transcript of a thread as a document, and the way back: what another attempt needs to go on with it.
//!
//! One record a line: the thread with everything that stays as it is, then its items in order, and between them where
//! each request ended. An item has its bytes as well where they do not follow from what it means, which is so for most
//! of what the model said. A long document loses the middle of its longest strings (see [`crate::artifacts`]), but not
//! of the thread's own record and its first messages: what is lost elsewhere is told in its place and costs no more
//! than that.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::prompt::skills::Skill;
use super::thread::Thread;
use crate::llm::wire::COMPACTION;
use crate::llm::{Capabilities, ContentPart, Item, ThreadItem, Wire, WireJson};

/// The version of the document. One without a version has no bytes in it.
pub const VERSION: u32 = 2;

/// Stands in the place of an image that a long document has lost.
const IMAGE_LOST: &str = "[image left out]";

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Line {
    /// The thread; the first one.
    Thread(Box<Head>),
    /// An item.
    Item {
        /// What it means.
        item: Item,
        /// Its bytes, where they do not follow from that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wire: Option<String>,
    },
    /// A request was sent with everything so far.
    Request {},
    /// From here on the model had only what the thread began with and what follows.
    Compaction {
        /// Number of the window that begins; the thread's first has the number 1.
        window: usize,
        /// Whether the next item comes before the messages that the thread began with.
        leads: bool,
    },
}

/// What stays as it is for a whole thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// See [`VERSION`].
    #[serde(default)]
    pub version: u32,
    /// The thread's id.
    pub thread_id: String,
    /// What the provider's cache knows it by.
    #[serde(default)]
    pub cache_key: String,
    /// The commit that it began with.
    pub base_commit: String,
    /// Name of the provider.
    pub provider: String,
    /// Name of the model.
    pub model: String,
    /// The API.
    #[serde(default = "responses")]
    pub wire: Wire,
    /// What model and server can take.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The tools as the wire carried them last.
    #[serde(default)]
    pub tools: String,
    /// Custom tools that were declared as functions.
    #[serde(default)]
    pub custom_as_function: Vec<String>,
    /// The repository's skills.
    #[serde(default)]
    pub skills: Vec<Skill>,
    /// How many items came before the first prompt.
    #[serde(default)]
    pub layers: usize,
}

/// A thread that another attempt can go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Former {
    /// What stayed as it was.
    pub head: Head,
    /// What came before the first prompt.
    pub layers: Vec<ThreadItem>,
    /// Everything after it.
    pub items: Vec<ThreadItem>,
    /// Where requests ended: how many of `items` each held.
    pub sealed: Vec<usize>,
    /// Whether the first of `items` comes before the messages among the layers.
    pub leads: bool,
    /// Whether the payload was cut that stood for what came before `items`.
    pub lacks_payload: bool,
}

/// Why a transcript cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// It has not what is needed.
    #[error("it was written by another version of Podwright")]
    Version,
    /// The thread was too long to be kept whole.
    #[error("it was too long to be kept whole: {0} records in its middle are left out")]
    LeftOut(u64),
    /// It is no transcript.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// The lines of a thread, and how many of them are not to be cut.
pub fn lines(thread: &Thread) -> (Vec<Line>, usize) {
    let opened = &thread.opened;
    let layers = thread.history.layer_count();
    let mut lines = vec![Line::Thread(Box::new(Head {
        version: VERSION,
        thread_id: opened.thread_id.clone(),
        cache_key: opened.cache_key().to_owned(),
        base_commit: opened.base_commit.clone(),
        provider: opened.provider.clone(),
        model: opened.model.clone(),
        wire: opened.wire,
        capabilities: opened.capabilities,
        tools: String::from_utf8_lossy(&thread.tools.bytes).into_owned(),
        custom_as_function: opened.custom_as_function.clone(),
        // Their texts are the repository's to choose, and would fill what is never cut.
        skills: opened.skills.iter().map(|skill| Skill { text: String::new(), ..skill.clone() }).collect(),
        layers,
    }))];
    let mut requests = thread.history.sealed().iter().copied().peekable();
    let windows = thread.history.windows();
    for (place, item) in thread.history.items().enumerate() {
        // A request that ended where a window begins is of the window before.
        while requests.next_if(|end| *end <= place).is_some() {
            lines.push(Line::Request {});
        }
        // The first window begins with the thread; one that was inherited with what leads it begins there as well.
        if let Some(before) = windows.iter().rposition(|start| *start == place).filter(|before| *before > 0) {
            lines.push(Line::Compaction { window: before + 1, leads: thread.history.leads(place) });
        }
        let rendered = opened.wire.project(item.item.clone(), &opened.capabilities);
        let follows = rendered.is_some_and(|rendered| rendered.wire == item.wire);
        // What the provider refused is told, and not gone on with: without its bytes it is nothing.
        let wire = (!follows && !thread.history.is_left_out(place))
            .then(|| String::from_utf8_lossy(item.wire.as_bytes()).into_owned());
        lines.push(Line::Item { item: item.item.clone(), wire });
    }
    lines.extend(requests.map(|_| Line::Request {}));
    (lines, layers + 1)
}

/// Reads a transcript.
///
/// # Errors
/// [`Unusable`].
pub fn read(document: &[u8]) -> Result<Former, Unusable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LeftOut {
        left_out: Option<Records>,
    }
    #[derive(Deserialize)]
    struct Records {
        records: u64,
    }
    let damaged = |error: serde_json::Error| Unusable::Damaged(error.to_string());
    let mut lines = document.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().ok_or_else(|| Unusable::Damaged("it is empty".to_owned()))?;
    let head = match serde_json::from_slice(first).map_err(damaged)? {
        Line::Thread(head) if head.version == VERSION => *head,
        Line::Thread(_) => return Err(Unusable::Version),
        Line::Item { .. } | Line::Request {} | Line::Compaction { .. } => {
            return Err(Unusable::Damaged("it does not begin with its thread".to_owned()));
        }
    };
    let mut former = Former {
        layers: Vec::new(),
        items: Vec::new(),
        sealed: Vec::new(),
        leads: false,
        lacks_payload: false,
        head,
    };
    let mut read = 0;
    let mut bereft = false;
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(Line::Item { item, wire }) => {
                let into = if read < former.head.layers { &mut former.layers } else { &mut former.items };
                let wire = bytes(&item, wire, &mut bereft, &former.head);
                if wire.is_none() && is_payload(&item) {
                    (former.lacks_payload, former.leads) = (true, false);
                }
                into.extend(restored(item, wire, former.head.wire, &former.head.capabilities));
                read += 1;
            }
            Ok(Line::Request {}) => former.sealed.push(former.items.len()),
            Ok(Line::Compaction { leads, .. }) => {
                former.items.clear();
                former.sealed.clear();
                former.leads = leads;
                former.lacks_payload = false;
            }
            Ok(Line::Thread(_)) => return Err(Unusable::Damaged("it holds two threads".to_owned())),
            Err(error) => {
                let left_out: Option<LeftOut> = serde_json::from_slice(line).ok();
                return Err(match left_out.and_then(|line| line.left_out) {
                    Some(left_out) => Unusable::LeftOut(left_out.records),
                    None => damaged(error),
                });
            }
        }
    }
    Ok(former)
}

impl Former {
    /// Everything after the layers for another model or another API: nothing that only the former one understands.
    pub fn projected(&self, wire: Wire, capabilities: &Capabilities) -> Vec<ThreadItem> {
        let items = self.items.iter().map(|item| item.item.clone());
        items.filter_map(|item| wire.project(item, capabilities)).collect()
    }
}

/// Whether an item stands for everything before it, in a form that only its provider understands.
pub fn is_payload(item: &Item) -> bool {
    matches!(item, Item::Opaque(opaque) if opaque.kind == COMPACTION)
}

/// The bytes of an item, if it goes by them. `bereft`: whether the reasoning before it in its response was cut. A
/// provider refuses the id of an item that it made together with reasoning which the request does not hold; rendered
/// from what it means, the item has none.
fn bytes(item: &Item, wire: Option<String>, bereft: &mut bool, head: &Head) -> Option<Box<RawValue>> {
    let had_bytes = wire.is_some();
    // What was cut in the middle is no JSON any more.
    let raw = wire.and_then(|wire| RawValue::from_string(wire).ok());
    if matches!(item, Item::Reasoning(_)) {
        *bereft = had_bytes && raw.is_none();
    } else if !item.is_the_models() {
        *bereft = false;
    }
    let Capabilities { encrypted_reasoning, reasoning_replay, .. } = head.capabilities;
    let sends_ids = head.wire == Wire::Responses && (encrypted_reasoning || reasoning_replay);
    raw.filter(|_| !(*bereft && sends_ids))
}

/// An item with its bytes; nothing for one whose bytes are lost and that means nothing without them.
fn restored(
    mut item: Item,
    wire: Option<Box<RawValue>>,
    to: Wire,
    capabilities: &Capabilities,
) -> Option<ThreadItem> {
    if let Some(raw) = wire {
        return Some(ThreadItem { item, wire: WireJson::from(raw) });
    }
    if let Item::Message(message) = &mut item {
        message.content.iter_mut().for_each(mend);
    }
    if let Item::FunctionCallOutput(output) | Item::CustomCallOutput(output) = &mut item {
        output.content.iter_mut().for_each(mend);
    }
    to.project(item, capabilities)
}

/// An image that was cut is none.
fn mend(part: &mut ContentPart) {
    if let ContentPart::Image { url } = part
        && url.contains('\n')
    {
        *part = ContentPart::Text { text: IMAGE_LOST.to_owned() };
    }
}

fn responses() -> Wire {
    Wire::Responses
}

#[cfg(test)]
mod tests;
