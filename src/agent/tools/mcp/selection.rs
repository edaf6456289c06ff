//! Which tools of which servers a thread has, and how they are declared.

use std::collections::{BTreeMap, BTreeSet};

use podwright_sandboxd::protocol::Digest;
use serde_json::{Map, Value, json};

use super::McpTool;
use super::names::{Place, names};
use super::schema::{SchemaRefused, canonical};
use crate::api::mcp::McpServer;
use crate::llm::ToolDefinition;

/// Most tools of MCP servers in a thread: the APIs take 128 functions in all, our own among them.
pub const TOOLS_MAX: usize = 112;

/// Most bytes of their definitions together: 32,000 tokens, which are sent with every request.
const DEFINITIONS_MAX: usize = 128 * 1024;

/// Longest description of one tool, in bytes; what is beyond is cut off.
const DESCRIPTION_MAX: usize = 4 * 1024;

/// Longest name of a tool at its server.
const TOOL_NAME_MAX: usize = 128;

/// A tool as its server lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedTool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The schema of its arguments.
    pub schema: Map<String, Value>,
}

/// A server's tools.
#[derive(Clone, Debug)]
pub struct Listing<'a> {
    /// The server as the operator describes it.
    pub server: &'a McpServer,
    /// What it lists.
    pub tools: Vec<ListedTool>,
}

/// The MCP tools of a thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// As they are declared, sorted by name.
    pub definitions: Vec<ToolDefinition>,
    /// What their names stand for, in the same order.
    pub tools: Vec<McpTool>,
    /// What is left out, in sentences for the operator.
    pub left_out: Vec<String>,
}

/// What a server offers of what it lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The server.
    pub server: String,
    /// Its tools as they would be declared, each once; their names for the model come later.
    pub tools: Vec<(McpTool, ToolDefinition)>,
    /// What is left out, in a sentence for the operator.
    pub left_out: Option<String>,
}

/// A tool that a thread has.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The tool.
    pub tool: &'a McpTool,
    /// Bytes of it as it is sent.
    pub size: usize,
}

/// The MCP tools of a thread from a compaction on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Renewal {
    /// The tools, sorted by name. One without a definition stays as it is sent now.
    pub tools: Vec<(McpTool, Option<ToolDefinition>)>,
    /// What is left out, in sentences for the operator.
    pub left_out: Vec<String>,
}

/// What became of a thread's tools at a server that was started or asked again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names, at the server, of tools that the thread has and the server has no more.
    pub missing: Vec<String>,
    /// Those that it describes otherwise now. They are called all the same.
    pub changed: Vec<String>,
    /// How many it has that the thread does not.
    pub new: usize,
}

/// Chooses among all that servers list: what the operator offers, sorted by name, within the bounds.
pub fn select(listings: Vec<Listing<'_>>) -> Selection {
    let Renewal { tools, left_out } = renew(&[], listings.into_iter().map(offer).collect());
    let declared = tools.into_iter().filter_map(|(tool, definition)| Some((tool, definition?)));
    let (tools, definitions) = declared.unzip();
    Selection { definitions, tools, left_out }
}

/// What a server offers of what it lists.
pub fn offer(listing: Listing<'_>) -> Offer {
    let Listing { server, tools } = listing;
    let mut offered: BTreeMap<String, (McpTool, ToolDefinition)> = BTreeMap::new();
    let mut refused = Vec::new();
    for tool in tools.into_iter().filter(|tool| server.offers(&tool.name)) {
        let name = tool.name.clone();
        match declare(server, tool) {
            // A name that is listed twice is that of the first.
            Ok(declared) => drop(offered.entry(name).or_insert(declared)),
            Err((name, why)) => refused.push(format!("{name} ({why})")),
        }
    }
    let left_out = refused.first().map(|first| {
        let more = match refused.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("MCP server {}: left out are {first}{more}.", server.name)
    });
    Offer { server: server.name.clone(), tools: offered.into_values().collect(), left_out }
}

/// Chooses anew for a thread that has tools. What servers without an offer have stays as it is, and so does what others
/// offer as before. What is described otherwise keeps its name, what is not offered any more goes, and what is new comes
/// beside it, as far as there is room: nobody's new tools take the place of those that the thread has.
pub fn renew(held: &[Held<'_>], offers: Vec<Offer>) -> Renewal {
    let asked: BTreeSet<String> = offers.iter().map(|offer| offer.server.clone()).collect();
    let mut renewal = Renewal::default();
    let mut offered: BTreeMap<Place, (McpTool, ToolDefinition)> = BTreeMap::new();
    for Offer { tools, left_out, .. } in offers {
        renewal.left_out.extend(left_out);
        offered.extend(tools.into_iter().map(|(tool, definition)| (place(&tool), (tool, definition))));
    }
    let mut chosen: BTreeMap<String, (McpTool, Option<ToolDefinition>)> = BTreeMap::new();
    let mut known: BTreeMap<Place, String> = BTreeMap::new();
    let mut bytes = 0;
    for Held { tool, size } in held {
        let place = place(tool);
        let now = offered.get(&place).map(|(now, _)| now.definition);
        if now.is_none() && asked.contains(&tool.server) {
            continue;
        }
        if now.is_none_or(|now| now == tool.definition) {
            offered.remove(&place);
            chosen.insert(tool.name.clone(), ((*tool).clone(), None));
            bytes += size;
        }
        known.insert(place, tool.name.clone());
    }
    let names = names(&offered.keys().cloned().collect(), &known);
    let named = offered.into_iter().filter_map(|(place, declared)| {
        let is_new = !known.contains_key(&place);
        Some(((is_new, names.get(&place)?.clone()), declared))
    });
    let mut beyond = 0;
    // By their names, and what the thread had before what it had not.
    for ((_, name), (mut tool, mut definition)) in named.collect::<BTreeMap<_, _>>() {
        let size = size(&definition);
        if chosen.len() == TOOLS_MAX || bytes + size > DEFINITIONS_MAX {
            beyond += 1;
            continue;
        }
        bytes += size;
        tool.name.clone_from(&name);
        if let ToolDefinition::Function { name: own, .. } = &mut definition {
            own.clone_from(&name);
        }
        chosen.insert(name, (tool, Some(definition)));
    }
    if beyond > 0 {
        renewal.left_out.push(format!(
            "{beyond} tools of MCP servers are left out: a thread has at most {TOOLS_MAX}, and {DEFINITIONS_MAX} bytes of \
             definitions. Choose with enabledTools in the AgentEnvironment."
        ));
    }
    renewal.tools = chosen.into_values().collect();
    renewal
}

/// Compares a thread's tools of a server with what it lists now.
pub fn compare(frozen: &[McpTool], server: &McpServer, listed: Vec<ListedTool>) -> Changes {
    let now: BTreeMap<String, Digest> = listed
        .into_iter()
        .filter(|tool| server.offers(&tool.name))
        .filter_map(|tool| declare(server, tool).ok())
        .map(|(tool, _)| (tool.tool, tool.definition))
        .collect();
    let mut changes = Changes::default();
    let own = frozen.iter().filter(|tool| tool.server == server.name);
    let mut known = 0;
    for tool in own {
        match now.get(&tool.tool) {
            None => changes.missing.push(tool.tool.clone()),
            Some(definition) => {
                known += 1;
                if *definition != tool.definition {
                    changes.changed.push(tool.tool.clone());
                }
            }
        }
    }
    changes.new = now.len() - known;
    changes
}

/// A tool in our words; its name for the model comes later.
fn declare(server: &McpServer, listed: ListedTool) -> Result<(McpTool, ToolDefinition), (String, String)> {
    let ListedTool { name, mut description, schema } = listed;
    if name.is_empty() || name.len() > TOOL_NAME_MAX || name.chars().any(char::is_control) {
        let shown = name.chars().filter(|letter| !letter.is_control()).take(32).collect();
        return Err((shown, format!("its name is empty, longer than {TOOL_NAME_MAX} bytes or no text")));
    }
    if description.len() > DESCRIPTION_MAX {
        description.truncate(description.floor_char_boundary(DESCRIPTION_MAX));
        description.push('…');
    }
    let parameters = canonical(schema).map_err(|why: SchemaRefused| (name.clone(), why.to_string()))?;
    let digest = Digest::of(json!([description, parameters]).to_string().as_bytes());
    let among = |list: &[String]| list.contains(&name);
    let tool = McpTool {
        name: String::new(),
        server: server.name.clone(),
        sandboxed: server.stdio.is_some(),
        parallel: among(&server.parallel_tools),
        retryable: among(&server.retryable_tools),
        definition: digest,
        tool: name,
    };
    Ok((tool, ToolDefinition::Function { name: String::new(), description, parameters }))
}

fn place(tool: &McpTool) -> Place {
    (tool.server.clone(), tool.tool.clone())
}

fn size(definition: &ToolDefinition) -> usize {
    match definition {
        ToolDefinition::Function { name, description, parameters } => {
            name.len() + description.len() + parameters.to_string().len()
        }
        ToolDefinition::Custom { name, description, grammar } => {
            name.len() + description.len() + grammar.len()
        }
    }
}
