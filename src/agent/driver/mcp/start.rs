//! How a server is started: a program in the sandbox, or a session with a server elsewhere.

use std::sync::Arc;
use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, OpId};
use rustix::rand::{GetRandomFlags, getrandom};
use secrecy::SecretString;

use super::{Link, Shared, Slot};
use crate::agent::driver::cluster::Cluster;
use crate::agent::driver::prepare::{begin_agent_phase, trimmed};
use crate::agent::mcp::transport::{Announced, Fault};
use crate::agent::mcp::{Connection, HttpServer, Program, StartError};
use crate::agent::tools::mcp::selection::ListedTool;
use crate::api::mcp::{McpHttp, McpServer, McpStdio};
use crate::api::task::ConfigMapKeyRef;
use crate::sandbox::Sandbox;

/// Starts of a server that may fail one after the other; then its tools answer at once that it cannot be used. Each
/// costs the model its whole start timeout.
const FAILURES_MAX: u32 = 3;

/// The key of a server's Secret.
const TOKEN: &str = "token";

impl<C: Cluster> Shared<C> {
    /// Starts a server.
    ///
    /// # Errors
    /// Why not. People are told more.
    pub(super) async fn connect(
        &self,
        slot: &Slot,
        link: &mut Link,
    ) -> Result<(Arc<Connection>, Vec<ListedTool>), String> {
        link.connection = None;
        if link.failures >= FAILURES_MAX {
            return Err(format!("it failed to start {FAILURES_MAX} times"));
        }
        let server = &slot.server;
        let opened = match (&server.stdio, &server.http) {
            (Some(stdio), _) => self.open_stdio(server, stdio).await,
            (None, Some(http)) => self.open_http(server, http).await,
            (None, None) => Err("it has neither stdio nor http".to_owned()),
        };
        match opened {
            Ok((connection, tools)) => {
                let connection = Arc::new(connection);
                link.connection = Some(connection.clone());
                link.failures = 0;
                Ok((connection, tools))
            }
            Err(why) => {
                link.failures += 1;
                Err(why)
            }
        }
    }

    async fn open_stdio(
        &self,
        server: &McpServer,
        stdio: &McpStdio,
    ) -> Result<(Connection, Vec<ListedTool>), String> {
        let sandbox = self.sandbox.get().ok_or("the sandbox is not reached yet")?;
        let boot = sandbox.ready().await.map_err(|error| error.to_string())?.id;
        // After a restart of the sandbox nobody may have opened it yet.
        let phase = begin_agent_phase(sandbox, &boot, &self.attempt_uid, &self.network).await;
        phase.map_err(|outcome| outcome.message)?;
        let id = self.replace(sandbox, &server.name, &boot).await?;
        let log = format!("/tmp/podwright-mcp-{}.log", server.name);
        let program = Program { sandbox: sandbox.clone(), boot, id, log };
        let (fault, announced) = (Fault::default(), Announced::default());
        let (cwd, mut env) = (self.cwd.clone(), self.env.clone());
        env.extend(self.network.variables());
        let transport = program.clone().start(stdio, cwd, env, fault.clone(), announced.clone()).await;
        let transport = transport.map_err(|error| error.to_string())?;
        let (start, call) = (start_timeout(server), call_timeout(server));
        let opened = Connection::open(transport, fault, announced, start, call).await;
        let error = match opened {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let complaint = program.complaint().await;
        let mut told = self.tell(server, &error);
        if !complaint.is_empty() {
            told = format!("{told} The end of its standard error: {complaint}");
        }
        self.announce.warning(told).await;
        Err(error.to_string())
    }

    async fn open_http(
        &self,
        server: &McpServer,
        http: &McpHttp,
    ) -> Result<(Connection, Vec<ListedTool>), String> {
        let token = match &http.credentials_secret_name {
            None => None,
            Some(name) => Some(self.token(name).await?),
        };
        let bundle = match &self.ca_bundle {
            None => None,
            Some(ConfigMapKeyRef { name, key }) => {
                let value = self.cluster.config_map_value(name, key).await;
                value.map_err(|error| error.to_string())?
            }
        };
        let (start, call) = (start_timeout(server), call_timeout(server));
        let (fault, announced) = (Fault::default(), Announced::unheard());
        let server_at = HttpServer::new(http, token.as_ref(), bundle.as_deref(), start.max(call))?;
        let transport = server_at.connect(fault.clone(), announced.clone());
        let opened = Connection::open(transport, fault, announced, start, call).await;
        match opened {
            Ok(opened) => Ok(opened),
            Err(error) => {
                self.announce.warning(self.tell(server, &error)).await;
                Err(error.to_string())
            }
        }
    }

    /// Read anew at each start, so that a token that was replaced is taken up.
    async fn token(&self, name: &str) -> Result<SecretString, String> {
        let mut values = self.cluster.secret(name).await.map_err(|error| error.to_string())?;
        let token = values.remove(TOKEN).and_then(|value| String::from_utf8(value).ok());
        let token = token.ok_or_else(|| format!("the Secret {name} has no key {TOKEN}"))?;
        Ok(trimmed(&token))
    }

    fn tell(&self, server: &McpServer, error: &StartError) -> String {
        let name = &server.name;
        match error {
            StartError::TimedOut(_) | StartError::Broken(_) => {
                format!("The MCP server {name} did not start: {error}.")
            }
            StartError::Refused(words) => format!("The MCP server {name} refused to start: {words}"),
        }
    }

    /// Ends the program of a server that an earlier process of the agent started in this life of the sandbox, and gives
    /// the id for the next one. No id is used twice, since the sandbox runs nothing twice.
    async fn replace(&self, sandbox: &Sandbox, name: &str, boot: &BootId) -> Result<OpId, String> {
        let failed = |error: std::io::Error| format!("its id cannot be kept: {error}");
        let file = self.state.join(format!("mcp-{name}"));
        let before = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        if let Some((earlier, id)) = before.trim().split_once(' ')
            && earlier == boot.as_str()
            && let Ok(id) = OpId::new(id)
        {
            sandbox.end(boot, &id).await.map_err(|error| error.to_string())?;
        }
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(|error| failed(error.into()))?;
        let number = u64::from_ne_bytes(random);
        let id = OpId::new(format!("{}-mcp-{number:016x}", self.attempt_uid))
            .map_err(|error| error.to_string())?;
        // Written before the start. A node that loses the file in a crash has lost the sandbox as well.
        let new = self.state.join(format!("mcp-{name}.new"));
        tokio::fs::write(&new, format!("{boot} {id}\n")).await.map_err(failed)?;
        tokio::fs::rename(&new, &file).await.map_err(failed)?;
        Ok(id)
    }
}

fn start_timeout(server: &McpServer) -> Duration {
    Duration::from_secs(server.start_timeout_seconds.max(1).unsigned_abs())
}

fn call_timeout(server: &McpServer) -> Duration {
    Duration::from_secs(server.call_timeout_seconds.max(1).unsigned_abs())
}
