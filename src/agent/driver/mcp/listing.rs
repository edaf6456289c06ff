//! What the servers of a thread offer by now, asked once a compaction.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::{Servers, Shared, Slot};
use crate::agent::driver::cluster::Cluster;
use crate::agent::mcp::CallError;
use crate::agent::tools::mcp::McpTool;
use crate::agent::tools::mcp::selection::{Changes, Listing, Offer, compare, offer};

/// How long the thread waits for a server's list: as long as a server may take to start unless its operator says
/// otherwise. One that takes longer is asked again at the next compaction.
const LISTED_WITHIN: Duration = Duration::from_secs(30);

const SILENT: &str = "it does not answer";

impl<C: Cluster> Servers<C> {
    /// What those servers offer whose tools are others than the thread's. Asked are only those that announced it, or
    /// that were started again with other tools. One that failed to start is left alone.
    pub(super) async fn offers(&self, frozen: &[McpTool]) -> Vec<Offer> {
        let offers = self.0.slots.iter().map(|slot| async {
            match timeout(LISTED_WITHIN, self.0.offer(slot, frozen)).await {
                Ok(offer) => offer,
                Err(_) => {
                    self.0.keeps(slot, SILENT).await;
                    None
                }
            }
        });
        join_all(offers).await.into_iter().flatten().collect()
    }
}

impl<C: Cluster> Shared<C> {
    async fn offer(&self, slot: &Slot, frozen: &[McpTool]) -> Option<Offer> {
        // One that is being started is waited for.
        let mut link = slot.link.lock().await;
        let live = link.connection.clone().filter(|connection| !connection.is_closed());
        let connection = match live {
            Some(connection) => connection,
            // It ran in the process before this one, or was lost, and no call came yet.
            None if link.failures == 0 => match self.reconnect(slot, &mut link, frozen).await {
                Ok(connection) => connection,
                Err(why) => {
                    self.keeps(slot, &why).await;
                    return None;
                }
            },
            None => return None,
        };
        if !link.differs && !connection.may_have_changed() {
            return None;
        }
        let tools = match connection.list(LISTED_WITHIN).await {
            Ok(tools) => tools,
            Err(error) => {
                let why = match &error {
                    CallError::NotSent(why) | CallError::BrokenOff(why) | CallError::Refused(why) => {
                        why.as_str()
                    }
                    CallError::TimedOut(_) => SILENT,
                };
                self.keeps(slot, why).await;
                return None;
            }
        };
        let changes = compare(frozen, &slot.server, tools.clone());
        // Until the thread has taken them, which a crash may prevent.
        link.differs = changes != Changes::default();
        link.missing.clone_from(&changes.missing);
        if !link.differs {
            return None;
        }
        let Changes { missing, changed, new } = changes;
        self.announce
            .warning(format!(
                "The MCP server {} has other tools now: {new} new, {} described otherwise, {} gone. The thread goes on with \
                 them after this compaction.",
                slot.server.name,
                changed.len(),
                missing.len()
            ))
            .await;
        Some(offer(Listing { server: &slot.server, tools }))
    }

    async fn keeps(&self, slot: &Slot, why: &str) {
        let (server, why) = (&slot.server.name, why.trim_end_matches('.'));
        self.announce
            .warning(format!(
                "The MCP server {server} did not list its tools again: {why}. The thread keeps those that it has."
            ))
            .await;
    }
}
