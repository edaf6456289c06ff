//! How a thread begins that goes on with another one.
//!
//! With the same model behind the same API it begins byte for byte as the former one went, so that what the provider
//! has in its cache is found again; what differs is appended. With another one it begins anew, and what was said and
//! done comes as that API has it, without what only the former model understands.

use super::message;
use crate::agent::journal::record::Inherited;
use crate::agent::transcript::{Former, is_payload};
use crate::llm::{Capabilities, Item, Message, RenderedTools, Role, ThreadItem, Wire};

/// How a note begins.
const NOTE: &str = "<continued>";

/// Who the thread speaks with, and by which tools.
#[derive(Clone, Copy, Debug)]
pub struct Speaks<'a> {
    /// Name of the provider.
    pub provider: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// The API.
    pub wire: Wire,
    /// What model and server can take.
    pub capabilities: &'a Capabilities,
    /// The tools.
    pub tools: &'a RenderedTools,
}

/// The beginning of a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// What comes before everything else.
    pub prefix: Vec<ThreadItem>,
    /// What came in the former thread.
    pub inherited: Inherited,
    /// What the provider's cache knows the thread by, where that is not its own id.
    pub cache_key: Option<String>,
}

/// The beginning of a thread whose own first messages would be `layers`.
pub fn begin(former: Option<&Former>, layers: Vec<Message>, speaks: Speaks<'_>) -> Beginning {
    let render = |message| speaks.wire.message(message, speaks.capabilities);
    let Some(former) = former else {
        let prefix = layers.into_iter().map(render).collect();
        return Beginning { prefix, inherited: Inherited::default(), cache_key: None };
    };
    if is_same(former, speaks) {
        // Where a former continuation has said some of it anew, the first words do not hold any more.
        let is_restated = former.items.iter().any(|item| is_note(&item.item));
        let holds = |layer: &Message| {
            let same = |item: &ThreadItem| matches!(&item.item, Item::Message(message) if message == layer);
            !is_restated && former.layers.iter().any(same)
        };
        // The first are the base instructions, which are frozen with the thread.
        let changed = layers.into_iter().skip(1).filter(|layer| !holds(layer));
        let items = former.items.iter().cloned();
        let note = note(true, former.lacks_payload);
        let items = items.chain(changed.chain([note]).map(render)).collect();
        return Beginning {
            prefix: former.layers.clone(),
            inherited: Inherited { items, sealed: former.sealed.clone(), leads: former.leads },
            cache_key: Some(former.head.cache_key.clone()),
        };
    }
    let items = former.projected(speaks.wire, speaks.capabilities).into_iter();
    let lacks_payload = former.lacks_payload || former.items.iter().any(|item| is_payload(&item.item));
    let items = items.chain([render(note(false, lacks_payload))]).collect();
    let prefix = layers.into_iter().map(render).collect();
    Beginning { prefix, inherited: Inherited { items, sealed: Vec::new(), leads: false }, cache_key: None }
}

fn is_same(former: &Former, speaks: Speaks<'_>) -> bool {
    let head = &former.head;
    head.provider == speaks.provider
        && head.model == speaks.model
        && head.wire == speaks.wire
        && head.capabilities == *speaks.capabilities
        && head.tools.as_bytes() == speaks.tools.bytes
        && head.custom_as_function == speaks.tools.custom_as_function
}

fn is_note(item: &Item) -> bool {
    matches!(item, Item::Message(message) if message.role == Role::User && message.text().starts_with(NOTE))
}

/// What the model has to know of the change. `lacks_payload`: whether what stood for the older part is lost.
fn note(same: bool, lacks_payload: bool) -> Message {
    let model =
        if same { "" } else { " What another model said and did before is told without its reasoning." };
    let older = if lacks_payload {
        " The conversation was summed up once, in a form that cannot be read any more: of what came before that only the \
         latest words of the user are left. Look at the workspace and at `git diff` to see what was done."
    } else {
        ""
    };
    message(
        Role::User,
        [format!(
            "{NOTE}\nThe conversation goes on with a new task, in a new sandbox. The repository has the commit and the \
             changes that it had at the end, and they are part of the result as before. Processes, sessions, ignored files \
             and everything outside of the repository are gone, and the environment was set up anew. Where \
             instructions above came twice, the newer ones hold.{model}{older}\n</continued>"
        )],
    )
}

#[cfg(test)]
mod tests;
