//! The MCP servers of a thread: started with it, started again when they are lost, called for the model.

mod listing;
mod perform;
mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Assignment;
use super::cluster::Cluster;
use super::commands::base_environment;
use super::network::CommandNetwork;
use super::prepare::{Announce, variables};
use crate::agent::events::{Event, ItemDetails, ThreadEventItem};
use crate::agent::journal::record::CallOutcome;
use crate::agent::machine::CallResult;
use crate::agent::mcp::{CallError, Connection};
use crate::agent::tools::image;
use crate::agent::tools::mcp::result::{CallFailed, ToolResult, output};
use crate::agent::tools::mcp::selection::{Changes, ListedTool, compare};
use crate::agent::tools::mcp::{McpCall, McpTool};
use crate::api::mcp::McpServer;
use crate::api::task::ConfigMapKeyRef;
use crate::sandbox::Sandbox;

/// The servers of a thread. Cheap to clone.
pub(super) struct Servers<C>(Arc<Shared<C>>);

struct Shared<C> {
    cluster: C,
    /// Once it is reached.
    sandbox: OnceLock<Sandbox>,
    announce: Announce,
    attempt_uid: String,
    cwd: String,
    env: BTreeMap<String, String>,
    network: CommandNetwork,
    ca_bundle: Option<ConfigMapKeyRef>,
    /// Where the ids of running programs are kept, for the next process of the agent to end them.
    state: PathBuf,
    slots: Vec<Slot>,
    /// Pictures are decoded one at a time: each may take a good part of the agent's memory.
    images: std::sync::Mutex<()>,
}

struct Slot {
    server: McpServer,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    /// Starts that failed since the last one that did not.
    failures: u32,
    /// Tools of the thread that the server has no more.
    missing: Vec<String>,
    /// Whether its tools were others than the thread's when they were listed last.
    differs: bool,
}

/// A server that was started, or why not.
pub(super) struct Started<'a> {
    pub(super) server: &'a McpServer,
    pub(super) tools: Result<Vec<ListedTool>, String>,
}

impl<C> Clone for Servers<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Cluster> Servers<C> {
    /// The servers of an attempt; none runs yet.
    pub(super) fn new(
        cluster: C,
        assignment: &Assignment,
        announce: Announce,
        cwd: String,
        state: PathBuf,
        network: CommandNetwork,
    ) -> Self {
        let job = &assignment.job;
        let servers = job.environment.mcp_servers.iter().cloned();
        Self(Arc::new(Shared {
            cluster,
            sandbox: OnceLock::new(),
            announce,
            attempt_uid: assignment.attempt_uid.clone(),
            cwd,
            env: base_environment(&variables(job)),
            network,
            ca_bundle: job.environment.ca_bundle.clone(),
            state,
            slots: servers.map(|server| Slot { server, link: Mutex::default() }).collect(),
            images: std::sync::Mutex::default(),
        }))
    }

    /// The sandbox is reached: programs can be started in it.
    pub(super) fn reach(&self, sandbox: Sandbox) {
        // It is the same one each time.
        let _ = self.0.sandbox.set(sandbox);
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.slots.is_empty()
    }

    /// Starts all of them, beside each other.
    pub(super) async fn start(&self) -> Vec<Started<'_>> {
        let starts = self.0.slots.iter().map(|slot| async {
            let tools = self.0.connect(slot, &mut *slot.link.lock().await).await.map(|(_, tools)| tools);
            Started { server: &slot.server, tools }
        });
        join_all(starts).await
    }

    /// Starts them again for a thread that another process began, and says what is otherwise now.
    pub(super) async fn restart(&self, frozen: &[McpTool]) {
        let starts = self.0.slots.iter().map(|slot| async {
            let mut link = slot.link.lock().await;
            // A call that came first has done it.
            if link.connection.is_none()
                && let Err(why) = self.0.reconnect(slot, &mut link, frozen).await
            {
                self.0
                    .announce
                    .warning(format!("The MCP server {} cannot be used: {why}.", slot.server.name))
                    .await;
            }
        });
        join_all(starts).await;
    }

    /// Calls a tool for the model. `images`: whether it takes pictures.
    pub(super) async fn call(
        &self,
        ordinal: u64,
        call: McpCall,
        frozen: &[McpTool],
        images: bool,
    ) -> (CallResult, Event) {
        let begun = Instant::now();
        let (outcome, text, pictures) = match self.0.call(&call, frozen).await {
            Ok(result) => {
                let (pictures, notes) = self.pictures(&result, images).await;
                let outcome = if result.is_error { CallOutcome::Error } else { CallOutcome::Ok };
                (outcome, result.text(&notes), pictures)
            }
            Err(failed) => {
                let outcome = if failed.is_unknown() { CallOutcome::Unknown } else { CallOutcome::Error };
                (outcome, failed.to_string(), Vec::new())
            }
        };
        let event = Event::ItemCompleted {
            item: ThreadEventItem::new(ordinal, ItemDetails::mcp_ended(&call, &text, outcome)),
        };
        let output = output(&text, begun.elapsed());
        (CallResult { ordinal, outcome, output, images: pictures, exit: None, session: None }, event)
    }

    /// The pictures of a result that can be shown, as `data:` URLs, and notes on the others.
    async fn pictures(&self, result: &ToolResult, wanted: bool) -> (Vec<String>, Vec<String>) {
        let encoded: Vec<String> = result.images().map(str::to_owned).collect();
        if encoded.is_empty() {
            return (Vec::new(), Vec::new());
        }
        if !wanted {
            return (
                Vec::new(),
                vec![format!("[{} images left out: this model takes no images]", encoded.len())],
            );
        }
        let servers = self.clone();
        let decoded = tokio::task::spawn_blocking(move || {
            // A panic in a decoder leaves nothing behind that the next one would meet.
            let _turn = servers.0.images.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (mut urls, mut notes) = (Vec::new(), Vec::new());
            for base64 in encoded.iter().take(image::IMAGES_MAX) {
                let bytes = STANDARD.decode(base64).map_err(|error| error.to_string());
                match bytes.and_then(|bytes| image::show(&bytes).map_err(|error| error.to_string())) {
                    Ok(shown) => urls.push(shown.url),
                    Err(why) => notes.push(format!("[image left out: {why}]")),
                }
            }
            (urls, notes)
        });
        decoded
            .await
            .unwrap_or_else(|_| (Vec::new(), vec!["[image left out: it cannot be decoded]".to_owned()]))
    }
}

impl<C: Cluster> Shared<C> {
    async fn call(&self, call: &McpCall, frozen: &[McpTool]) -> Result<ToolResult, CallFailed> {
        let McpTool { server, tool, retryable, .. } = &call.tool;
        let unavailable = |why: String| CallFailed::Unavailable {
            server: server.clone(),
            why: why.trim_end_matches('.').to_owned(),
        };
        let slot = self.slots.iter().find(|slot| slot.server.name == *server);
        let slot = slot.ok_or_else(|| unavailable("this task does not have it".to_owned()))?;
        let mut again = true;
        loop {
            let connection = self.connected(slot, frozen, tool).await?;
            let error = match connection.call(tool.clone(), call.arguments.clone()).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let name = || server.clone();
            let (harmless, failed) = match error {
                CallError::Refused(message) => (false, CallFailed::Refused { server: name(), message }),
                CallError::TimedOut(after) => (false, CallFailed::TimedOut { server: name(), after }),
                CallError::NotSent(why) => (true, unavailable(why)),
                CallError::BrokenOff(why) => (*retryable, CallFailed::BrokenOff { server: name(), why }),
            };
            if failed.is_unknown() || harmless {
                self.drop_lost(slot, &connection, harmless).await;
            }
            if !(harmless && again) {
                return Err(failed);
            }
            again = false;
        }
    }

    /// Lets go of a connection that is lost, so that the next call makes another.
    async fn drop_lost(&self, slot: &Slot, lost: &Arc<Connection>, surely: bool) {
        let mut link = slot.link.lock().await;
        let is_it = link.connection.as_ref().is_some_and(|now| Arc::ptr_eq(now, lost));
        if is_it && (surely || lost.is_closed()) {
            link.connection = None;
        }
    }

    /// A server that can be called, which has the tool.
    async fn connected(
        &self,
        slot: &Slot,
        frozen: &[McpTool],
        tool: &String,
    ) -> Result<Arc<Connection>, CallFailed> {
        let mut link = slot.link.lock().await;
        let server = || slot.server.name.clone();
        let live = link.connection.clone().filter(|connection| !connection.is_closed());
        let connection = match live {
            Some(connection) => connection,
            None => {
                let connection = self.reconnect(slot, &mut link, frozen).await;
                connection.map_err(|why| CallFailed::Unavailable { server: server(), why })?
            }
        };
        if link.missing.contains(tool) {
            return Err(CallFailed::Missing { server: server(), tool: tool.clone() });
        }
        Ok(connection)
    }

    /// Starts a server again, and compares what it has with what the thread has.
    async fn reconnect(
        &self,
        slot: &Slot,
        link: &mut Link,
        frozen: &[McpTool],
    ) -> Result<Arc<Connection>, String> {
        let (connection, tools) = self.connect(slot, link).await?;
        let changes = compare(frozen, &slot.server, tools);
        link.differs = changes != Changes::default();
        let Changes { missing, changed, new } = changes;
        let name = &slot.server.name;
        if !missing.is_empty() {
            let tools = missing.join(", ");
            self.announce
                .warning(format!("The MCP server {name} was started again and lacks {tools} now."))
                .await;
        }
        if !changed.is_empty() {
            let tools = changed.join(", ");
            self.announce
                .warning(format!(
                    "The MCP server {name} was started again and describes {tools} otherwise now."
                ))
                .await;
        }
        if new > 0 {
            self.announce
                .warning(format!("The MCP server {name} has {new} tools that the thread does not know of."))
                .await;
        }
        link.missing = missing;
        Ok(connection)
    }
}
