//! The network of an attempt's commands: nothing, or a proxy that lets through what the environment allows.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use podwright_sandboxd::protocol::{Network, OpId, PhaseBeginResult};
use tokio_util::task::AbortOnDropHandle;

use super::prepare::internal;
use crate::api::attempt::{Job, NetworkStatus, Outcome};
use crate::api::conditions::plain;
use crate::api::environment::NetworkMode;
use crate::api::reasons::Reason;
use crate::egress::address::Cidr;
use crate::egress::proxy::Proxy;
use crate::egress::refusals::{Refusals, Total};
use crate::egress::route::{PodNetwork, Route};
use crate::egress::rules::Rules;
use crate::sandbox::Sandbox;

/// Bound of the schema.
const LAST_MAX: usize = 512;

/// What commands reach directly: each other.
const DIRECT: &str = "localhost,127.0.0.1,[::1]";

/// The way from an agent to other hosts, for the proxy.
#[derive(Clone)]
pub struct Outside {
    /// How they are reached.
    pub route: Arc<dyn Route>,
    /// Addresses that are public and yet the cluster's own, to which no command is let.
    pub closed: Vec<Cidr>,
}

/// The network of an attempt's commands. Cheap to clone.
#[derive(Clone)]
pub(super) struct CommandNetwork(Arc<Shared>);

struct Shared {
    /// None without a proxy.
    proxy: Option<Result<Arc<Proxy>, String>>,
    refusals: Refusals,
    /// The proxy's port in this life of the sandbox; 0 before it is known.
    port: AtomicU16,
    server: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Default for Outside {
    /// The pod's own network.
    fn default() -> Self {
        Self { route: Arc::new(PodNetwork), closed: Vec::new() }
    }
}

impl CommandNetwork {
    /// The network that a job asks for. `before` is what was refused by then.
    pub(super) fn new(job: &Job, outside: Outside, before: Option<&NetworkStatus>) -> Self {
        let environment = &job.environment;
        let egress = environment.egress.clone().unwrap_or_default();
        let rules = match environment.network {
            NetworkMode::None => None,
            NetworkMode::Allowlist => {
                let listed = Rules::listed(&egress.presets, &egress.names, egress.methods);
                Some(listed.map_err(|error| error.to_string()))
            }
            NetworkMode::Full => Some(Ok(Rules::public(egress.methods))),
        };
        let before = before.cloned().unwrap_or_default();
        let count = u64::try_from(before.refused).unwrap_or(0);
        let refusals = Refusals::after(Total { count, last: before.last_refused });
        let Outside { route, closed } = outside;
        let proxy = |rules: Rules| Arc::new(Proxy::new(rules.without(closed), route, refusals.clone()));
        Self(Arc::new(Shared {
            proxy: rules.map(|rules| rules.map(proxy)),
            refusals: refusals.clone(),
            port: AtomicU16::new(0),
            server: Mutex::default(),
        }))
    }

    /// What a phase of such commands is begun with.
    ///
    /// # Errors
    /// How the attempt ends whose list is none.
    pub(super) fn mode(&self) -> Result<Network, Outcome> {
        match &self.0.proxy {
            None => Ok(Network::Loopback),
            Some(Ok(_)) => Ok(Network::Proxied),
            Some(Err(why)) => Err(Outcome {
                reason: Reason::InvalidSpec,
                message: format!("In spec.network.names of the AgentEnvironment, {why}."),
            }),
        }
    }

    /// A phase has begun.
    ///
    /// # Errors
    /// How the attempt ends when there is no proxy where there has to be one.
    pub(super) fn begun(&self, result: PhaseBeginResult) -> Result<(), Outcome> {
        match (&self.0.proxy, result.proxy) {
            (Some(_), None) => Err(internal(&"The sandbox has no port for the network proxy")),
            (_, port) => {
                self.0.port.store(port.unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Serves the connections of a sandbox's commands as long as this value, or another for the same attempt, is there.
    pub(super) fn serve(&self, sandbox: &Sandbox) {
        if let Some(Ok(proxy)) = &self.0.proxy {
            let serving = tokio::spawn(proxy.clone().serve(sandbox.clone()));
            let mut server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
            *server = Some(AbortOnDropHandle::new(serving));
        }
    }

    /// Whether commands have a way out.
    pub(super) fn is_open(&self) -> bool {
        self.0.proxy.is_some()
    }

    /// The variables by which programs find the proxy: upper and lower case, since curl reads the one and others the
    /// other. They stand above the environment's own, which can lead nowhere.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let port = self.0.port.load(Ordering::Relaxed);
        if port == 0 {
            return Vec::new();
        }
        let proxy = format!("http://127.0.0.1:{port}");
        let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
        let mut variables: Vec<(String, String)> =
            names.into_iter().map(|name| (name.to_owned(), proxy.clone())).collect();
        // Node reads these variables only when told to.
        let fixed = [("NO_PROXY", DIRECT), ("no_proxy", DIRECT), ("NODE_USE_ENV_PROXY", "1")];
        variables.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        variables
    }

    /// A command begins: what it is refused is told beside its output.
    pub(super) fn watch(&self, process: &OpId) {
        if self.is_open() {
            self.0.refusals.watch(process);
        }
    }

    /// A command has ended.
    pub(super) fn leave(&self, process: &OpId) {
        self.0.refusals.leave(process);
    }

    /// What was refused since the last look at a command.
    pub(super) fn note(&self, process: &OpId) -> Option<String> {
        self.0.refusals.take(process)
    }

    /// For the attempt's status; none without a proxy.
    pub(super) fn status(&self) -> Option<NetworkStatus> {
        let Total { count, last } = self.0.refusals.total();
        self.is_open().then(|| NetworkStatus {
            refused: i64::try_from(count).unwrap_or(i64::MAX),
            last_refused: plain(&last, LAST_MAX),
        })
    }
}
