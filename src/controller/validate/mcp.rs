//! The MCP servers of a task: those of its environment that it wants.

use url::Url;

use super::repository::is_of_cluster;
use super::{Problem, check_secret};
use crate::api::mcp::McpServer;
use crate::api::{AgentEnvironmentSpec, AgentTask};
use crate::controller::observed::{References, TaskId};

/// The servers that a task gets, in the order of the environment: all of them when it says nothing.
pub(super) fn chosen<'a>(
    task: &'a AgentTask,
    environment: &'a AgentEnvironmentSpec,
) -> impl Iterator<Item = &'a McpServer> {
    let wanted = task.spec.tools.mcp_servers.as_deref();
    let is_wanted = move |server: &&McpServer| wanted.is_none_or(|names| names.contains(&server.name));
    environment.mcp_servers.iter().filter(is_wanted)
}

pub(super) fn check(
    task: &AgentTask,
    environment: &AgentEnvironmentSpec,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    check_names(task, environment, problems);
    for server in chosen(task, environment) {
        check_url(server, problems);
        if let Some(secret) = server.secret_name() {
            let by = format!("MCP server {} of the AgentEnvironment", server.name);
            check_secret(secret, &by, ("token", "TOKEN"), id, references, problems);
        }
    }
}

fn check_names(task: &AgentTask, environment: &AgentEnvironmentSpec, problems: &mut Vec<Problem>) {
    let offered: Vec<&str> = environment.mcp_servers.iter().map(|server| server.name.as_str()).collect();
    let wanted = task.spec.tools.mcp_servers.iter().flatten();
    for name in wanted.filter(|name| !offered.contains(&name.as_str())) {
        let environment = &task.spec.environment_name;
        let offers = match offered.as_slice() {
            [] => "offers none".to_owned(),
            names => format!("offers {}", names.join(", ")),
        };
        problems.push(Problem::Wrong(format!(
            "spec.tools.mcpServers names {name}, and AgentEnvironment {environment} {offers}; name others in a new task, or add {name} to spec.mcpServers of the environment"
        )));
    }
}

fn check_url(server: &McpServer, problems: &mut Vec<Problem>) {
    let Some(http) = &server.http else { return };
    let name = &server.name;
    match Url::parse(&http.url) {
        Ok(url) => {
            let leaks = url.scheme() == "http"
                && http.credentials_secret_name.is_some()
                && !url.host().is_some_and(|host| is_of_cluster(&host));
            if leaks {
                problems.push(Problem::Wrong(format!(
                    "the token of MCP server {name} would go over plain http to {}; use https in the AgentEnvironment, http is for services of this cluster (*.svc) only",
                    url.host_str().unwrap_or_default()
                )));
            }
        }
        Err(error) => problems.push(Problem::Wrong(format!(
            "the url of MCP server {name} in the AgentEnvironment is no address: {error}; write one such as https://mcp.example.com/mcp"
        ))),
    }
}

#[cfg(test)]
mod tests;
