//! The tools of a thread, and what they become when another window begins.

use std::collections::BTreeMap;

use bytes::Bytes;
use podwright_sandboxd::protocol::BootId;
use serde_json::value::RawValue;

use super::Thread;
use crate::agent::journal::record::ToolsReplaced;
use crate::agent::tools::mcp::McpTool;
use crate::agent::tools::mcp::selection::{Held, Offer, renew};
use crate::llm::ToolDefinition;

impl Thread {
    /// The tools from the next window on, where they differ from those of this one, and what is left out, in sentences
    /// for the operator. What stays keeps its bytes: our own tools do whatever is offered. `boot` is the life of the
    /// sandbox.
    pub fn renewed(&self, offers: Vec<Offer>, boot: Option<&BootId>) -> (Option<ToolsReplaced>, Vec<String>) {
        // Our own come first, then those of the servers, in the order in which the thread has them.
        let sent: Vec<&RawValue> = serde_json::from_slice(&self.tools.bytes).unwrap_or_default();
        let own = sent.len().checked_sub(self.mcp_tools.len());
        let Some((own, held)) = own.and_then(|own| sent.split_at_checked(own)) else {
            return (None, Vec::new());
        };
        let held: Vec<(&McpTool, &RawValue)> = self.mcp_tools.iter().zip(held.iter().copied()).collect();
        let sizes: Vec<Held<'_>> =
            held.iter().map(|(tool, sent)| Held { tool, size: sent.get().len() }).collect();
        let renewal = renew(&sizes, offers);

        let definitions = renewal.tools.iter().filter_map(|(_, definition)| definition.clone());
        let definitions: Vec<ToolDefinition> = definitions.collect();
        let fresh = self.opened.wire.tools(&definitions, &self.opened.capabilities).bytes;
        let mut fresh = serde_json::from_slice::<Vec<&RawValue>>(&fresh).unwrap_or_default().into_iter();
        let held: BTreeMap<&str, &RawValue> =
            held.into_iter().map(|(tool, sent)| (tool.name.as_str(), sent)).collect();
        let mut rendered: Vec<&str> = own.iter().map(|sent| sent.get()).collect();
        let mut mcp_tools = Vec::new();
        for (tool, definition) in renewal.tools {
            let sent = match definition {
                Some(_) => fresh.next(),
                None => held.get(tool.name.as_str()).copied(),
            };
            if let Some(sent) = sent {
                rendered.push(sent.get());
                mcp_tools.push(tool);
            }
        }
        if mcp_tools == self.mcp_tools {
            return (None, renewal.left_out);
        }
        let any_sandboxed = mcp_tools.iter().any(|tool| tool.sandboxed);
        let boot = self.boot.as_ref().or(boot).filter(|_| any_sandboxed).cloned();
        let tools = format!("[{}]", rendered.join(","));
        (Some(ToolsReplaced { tools, mcp_tools, boot }), renewal.left_out)
    }

    /// Takes the tools of another window.
    pub(super) fn take_tools(&mut self, replaced: &ToolsReplaced) {
        let ToolsReplaced { tools, mcp_tools, boot } = replaced;
        self.tools.bytes = Bytes::from(tools.clone());
        self.mcp_tools.clone_from(mcp_tools);
        self.boot.clone_from(boot);
    }
}
