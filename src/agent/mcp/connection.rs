//! A server that was started: its tools and their calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientRequest, ContentBlock,
    Implementation, InitializeRequestParams, ListToolsRequest, PaginatedRequestParams, ProtocolVersion,
    ResourceContents, ServerResult, Tool,
};
use rmcp::service::{ClientInitializeError, PeerRequestOptions, RunningService, ServiceError};
use rmcp::transport::Transport;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::transport::{Announced, BROKEN_OFF, Fault, TransportError};
use crate::agent::tools::mcp::result::{Content, ToolResult};
use crate::agent::tools::mcp::selection::ListedTool;

/// Most tools that are read of one server: far more than a thread can have.
const LISTED_MAX: usize = 1024;

/// Most pages of a list; one that goes on for ever ends here.
const PAGES_MAX: usize = 64;

/// Most bytes of all tools that are read of one server, with their descriptions and schemas: sixteen times what a thread
/// can have.
const LIST_MAX: usize = 2 * 1024 * 1024;

/// Longest text of a server's that is passed on to people, in characters.
const WORDS_MAX: usize = 500;

/// A server that was started. Dropping it ends the connection, and with it a program in the sandbox.
pub struct Connection {
    service: RunningService<RoleClient, InitializeRequestParams>,
    fault: Fault,
    announced: Announced,
    /// How often it had announced other tools when they were listed.
    listed: AtomicU64,
    call_timeout: Duration,
}

/// Why a server did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It did not list its tools in time.
    #[error("it did not start within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// It ended, or cannot be reached.
    #[error("{0}")]
    Broken(String),
    /// It refused, in its own words.
    #[error("it refused to start")]
    Refused(String),
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// It was certainly never taken in.
    NotSent(String),
    /// The server refused it, in its own words.
    Refused(String),
    /// No answer in time.
    TimedOut(Duration),
    /// The connection ended in the middle.
    BrokenOff(String),
}

impl Connection {
    /// Shakes hands and lists the tools, within `start_timeout` from now.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open<T>(
        transport: T,
        fault: Fault,
        announced: Announced,
        start_timeout: Duration,
        call_timeout: Duration,
    ) -> Result<(Self, Vec<ListedTool>), StartError>
    where
        T: Transport<RoleClient, Error = TransportError> + 'static,
    {
        let until = Instant::now() + start_timeout;
        let late = |_| StartError::TimedOut(start_timeout);
        let client = Implementation::new("podwright", env!("CARGO_PKG_VERSION"));
        let client = InitializeRequestParams::new(ClientCapabilities::default(), client)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
        let service = timeout_at(until, client.serve(transport)).await.map_err(late)?;
        let service = service.map_err(|error| start_error(&error, &fault))?;
        let connection = Self { service, fault, announced, listed: AtomicU64::new(0), call_timeout };
        let listed = timeout_at(until, connection.list(start_timeout)).await.map_err(late)?;
        let tools = listed.map_err(|error| match error {
            CallError::NotSent(why) | CallError::BrokenOff(why) => StartError::Broken(why),
            CallError::Refused(words) => StartError::Refused(words),
            CallError::TimedOut(_) => StartError::TimedOut(start_timeout),
        })?;
        Ok((connection, tools))
    }

    /// Whether it can be used no more.
    pub fn is_closed(&self) -> bool {
        self.fault.get().is_some() || self.service.is_closed() || self.service.is_transport_closed()
    }

    /// Whether its tools may be others than when they were listed: it declares that it says so, and perhaps has.
    pub fn may_have_changed(&self) -> bool {
        let declares = self.service.peer_info().is_some_and(|server| {
            server.capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true))
        });
        declares && self.announced.since(self.listed.load(Ordering::Relaxed))
    }

    /// Calls a tool by its name at the server.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, tool: String, arguments: Map<String, Value>) -> Result<ToolResult, CallError> {
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let answer = self.ask(request, self.call_timeout).await?;
        if let ServerResult::CallToolResult(result) = answer {
            return Ok(read(result));
        }
        // Nothing of this was offered to the server.
        let wants_a_person = matches!(answer, ServerResult::InputRequiredResult(_));
        Err(CallError::Refused(if wants_a_person {
            "it wants to ask a person, and there is nobody to ask".to_owned()
        } else {
            "its answer is no result of a tool".to_owned()
        }))
    }

    /// Lists its tools. Each page may take `limit`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list(&self, limit: Duration) -> Result<Vec<ListedTool>, CallError> {
        // What it announces from here on may be in the list or not.
        let announced = self.announced.times();
        let (mut tools, mut bytes) = (Vec::new(), 0);
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
            let ServerResult::ListToolsResult(page) = self.ask(request, limit).await? else {
                return Err(CallError::Refused("its answer is no list of tools".to_owned()));
            };
            for tool in page.tools.into_iter().map(listed).take(LISTED_MAX - tools.len()) {
                let schema = serde_json::to_vec(&tool.schema).map_or(0, |schema| schema.len());
                bytes += tool.name.len() + tool.description.len() + schema;
                if bytes > LIST_MAX {
                    return Err(CallError::Refused(format!("its tools take more than {LIST_MAX} bytes")));
                }
                tools.push(tool);
            }
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() == LISTED_MAX {
                break;
            }
        }
        self.listed.store(announced, Ordering::Relaxed);
        Ok(tools)
    }

    /// Sends a request. One that takes too long is cancelled at the server.
    async fn ask(&self, request: ClientRequest, limit: Duration) -> Result<ServerResult, CallError> {
        let options = PeerRequestOptions::with_timeout(limit);
        let sent = self.service.send_cancellable_request(request, options).await;
        let gone = || self.fault.get().unwrap_or_else(|| "it is not there any more".to_owned());
        let handle = sent.map_err(|_| CallError::NotSent(gone()))?;
        handle.await_response().await.map_err(|error| match error {
            ServiceError::McpError(error) if error.code.0 == BROKEN_OFF => {
                CallError::BrokenOff(words(&error.message))
            }
            ServiceError::McpError(error) => CallError::Refused(words(&error.message)),
            ServiceError::TransportSend(error) => match error.error.downcast_ref() {
                Some(TransportError::NotSent(why)) => CallError::NotSent(why.clone()),
                Some(TransportError::Refused(why)) => CallError::Refused(why.clone()),
                Some(TransportError::Unknown(why)) => CallError::BrokenOff(why.clone()),
                None => CallError::BrokenOff(gone()),
            },
            ServiceError::Timeout { .. } => CallError::TimedOut(limit),
            ServiceError::UnexpectedResponse => {
                CallError::Refused("its answer is not what was asked for".to_owned())
            }
            ServiceError::TransportClosed
            | ServiceError::SubscriptionLagged { .. }
            | ServiceError::Cancelled { .. }
            | ServiceError::InputRequiredRoundsExceeded { .. } => CallError::BrokenOff(gone()),
            _ => CallError::BrokenOff(gone()),
        })
    }
}

fn start_error(error: &ClientInitializeError, fault: &Fault) -> StartError {
    match (fault.get(), error) {
        (Some(why), _) => StartError::Broken(why),
        (None, ClientInitializeError::JsonRpcError(error)) => StartError::Refused(words(&error.message)),
        (None, ClientInitializeError::TransportError { error, .. }) => {
            StartError::Broken(words(&error.error.to_string()))
        }
        (None, ClientInitializeError::ConnectionClosed(_)) => {
            StartError::Broken("it closed the connection".to_owned())
        }
        (None, _) => StartError::Broken("its answer to initialize is none".to_owned()),
    }
}

fn listed(tool: Tool) -> ListedTool {
    let description = tool.description.map(String::from).or(tool.title).unwrap_or_default();
    let schema = std::sync::Arc::unwrap_or_clone(tool.input_schema);
    ListedTool { name: tool.name.into_owned(), description, schema }
}

fn read(result: CallToolResult) -> ToolResult {
    ToolResult {
        structured: result.structured_content.filter(|value| !value.is_null()),
        content: result.content.into_iter().map(content).collect(),
        is_error: result.is_error == Some(true),
    }
}

fn content(block: ContentBlock) -> Content {
    match block {
        ContentBlock::Text(text) => Content::Text(text.text),
        ContentBlock::Image(image) => Content::Image(image.data),
        ContentBlock::Audio(_) => Content::Other("audio".to_owned()),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { text, .. } => Content::Text(text),
            ResourceContents::BlobResourceContents { uri, .. } => {
                Content::Other(format!("binary resource {}", words(&uri)))
            }
            _ => Content::Other("resource".to_owned()),
        },
        ContentBlock::ResourceLink(link) => Content::Text(format!("{}: {}", link.name, link.uri)),
        _ => Content::Other("content of another kind".to_owned()),
    }
}

/// A server's words for people: on one line, and not many.
fn words(text: &str) -> String {
    let text: Vec<&str> = text.split_whitespace().collect();
    text.join(" ").chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect()
}
