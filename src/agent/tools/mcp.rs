//! Tools of MCP servers: their names, their definitions and their results, as the model sees them.
//!
//! Whatever a server says is hostile: a server in the sandbox runs what the repository brings along, and one elsewhere is
//! somebody else's. It decides about no name, class or bound here; those are the operator's and ours.
//!
//! | Module | Holds |
//! |---|---|
//! | [`names`] | names that every API takes, the same at every start |
//! | [`schema`] | the form in which a schema is sent |
//! | [`selection`] | which tools a thread has |
//! | [`result`] | what a call came to, in words |

pub mod names;
pub mod result;
pub mod schema;
pub mod selection;

#[cfg(test)]
mod tests;

use podwright_sandboxd::protocol::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CallClass;

/// A tool of an MCP server as a thread has it, from its beginning or a compaction on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct McpTool {
    /// The name by which the model calls it.
    pub name: String,
    /// The server.
    pub server: String,
    /// Its name at the server.
    pub tool: String,
    /// Whether the server runs in the sandbox, and so dies with it.
    pub sandboxed: bool,
    /// Whether the operator lets its calls run beside others.
    pub parallel: bool,
    /// Whether the operator lets a call whose outcome is unknown be sent again.
    pub retryable: bool,
    /// Digest of its definition, to know it again.
    pub definition: Digest,
}

/// A call of such a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpCall {
    /// The tool.
    pub tool: McpTool,
    /// The arguments as the model wrote them, an object.
    pub arguments: Map<String, Value>,
}

impl McpCall {
    /// Parses a call of `tool`. No arguments at all are an empty object, which some models leave out.
    ///
    /// # Errors
    /// The call's whole output: the text that the model reads instead of a result.
    pub fn parse(tool: &McpTool, arguments: &str) -> Result<Self, String> {
        let arguments = if arguments.trim().is_empty() {
            Map::new()
        } else {
            super::parse_arguments::<Option<Map<String, Value>>>(arguments)?.unwrap_or_default()
        };
        Ok(Self { tool: tool.clone(), arguments })
    }

    /// Which calls may run beside this one: the operator says.
    pub fn class(&self) -> CallClass {
        if self.tool.parallel { CallClass::Shared } else { CallClass::Exclusive }
    }
}

/// What the model is told after a restart of the sandbox, which ended the servers in it.
pub fn restarted_note(tools: &[McpTool]) -> Option<String> {
    let mut servers: Vec<&str> =
        tools.iter().filter(|tool| tool.sandboxed).map(|tool| tool.server.as_str()).collect();
    servers.sort_unstable();
    servers.dedup();
    if servers.is_empty() {
        return None;
    }
    let servers = servers.join(", ");
    Some(format!(
        "The sandbox was restarted. Whatever ran in it is gone, and so is what its MCP servers ({servers}) had kept in \
         memory; they are started again when they are called."
    ))
}

/// What the model is told, when a thread begins, of servers that did not start.
pub fn missing_note(servers: &[String]) -> Option<String> {
    let names = servers.join(", ");
    (!servers.is_empty()).then(|| {
        format!("These MCP servers could not be started, so that their tools are missing: {names}. Work without them.")
    })
}
