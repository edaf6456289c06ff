//! What the machine's effects come to that concern MCP servers.

use crate::agent::driver::commands::Done;
use crate::agent::driver::perform::tell;
use crate::agent::driver::{Cluster, Driver, Message};
use crate::agent::events::{Event, ItemDetails, ThreadEventItem};
use crate::agent::machine::Signal;
use crate::agent::tools::mcp::McpCall;
use crate::sandbox::Dial;

impl<C: Cluster, D: Dial + Clone> Driver<C, D> {
    /// The MCP servers of the process before this one are gone with its connections. The thread goes on meanwhile; a
    /// call waits for its server.
    pub(in crate::agent::driver) fn restart_servers(&mut self) {
        let (Some(sandbox), Some(thread)) = (&self.sandbox, &self.machine.state().thread) else { return };
        self.servers.reach(sandbox.clone());
        let (servers, frozen) = (self.servers.clone(), thread.mcp_tools.clone());
        self.calls.spawn(async move { servers.restart(&frozen).await });
    }

    pub(in crate::agent::driver) fn call_mcp(&mut self, ordinal: u64, call: McpCall, seq: Option<u64>) {
        let Some(thread) = &self.machine.state().thread else { return };
        let images = thread.opened.capabilities.image_input;
        let frozen = thread.mcp_tools.clone();
        let item = ThreadEventItem::new(ordinal, ItemDetails::mcp_begun(&call));
        self.tell(&Event::ItemStarted { item }, seq);
        let (servers, messages) = (self.servers.clone(), self.messages.clone());
        self.calls.spawn(async move {
            let (result, event) = servers.call(ordinal, call, &frozen, images).await;
            tell(&messages, Done::ended(result, Some(event))).await;
        });
    }

    pub(in crate::agent::driver) fn list_tools(&mut self) {
        let Some(thread) = &self.machine.state().thread else { return };
        let frozen = thread.mcp_tools.clone();
        let (servers, messages) = (self.servers.clone(), self.messages.clone());
        self.calls.spawn(async move {
            let offers = servers.offers(&frozen).await;
            // Nobody listens only when the driver has stopped.
            let _ = messages.send(Message::Signal(Signal::ToolsListed(offers))).await;
        });
    }
}
