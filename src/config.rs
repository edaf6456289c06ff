//! Settings as the program uses them: what was typed and what the environment says, checked once.

use std::net::SocketAddr;

use crate::cli::ControllerArgs;
use crate::controller::Scope;
use crate::controller::build::AgentImage;
use crate::telemetry::tracing::LogFormat;

/// Settings of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Which namespaces are served.
    pub scopes: Vec<Scope>,
    /// How many tasks are looked at at a time, in each scope.
    pub concurrency: u16,
    /// Where probes and metrics are served.
    pub listen: SocketAddr,
    /// The image of the agents.
    pub agent: AgentImage,
    /// URL of the object store to which artifacts are carried.
    pub artifact_store: Option<String>,
    /// Name of this process in events.
    pub instance: Option<String>,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// Which log lines there are, in the syntax of `RUST_LOG`.
    pub log_filter: String,
}

/// A flag whose value can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No image for the agents.
    #[error("--agent-image is empty: name the image that has this program in it")]
    AgentImage,
    /// No pull policy of Kubernetes.
    #[error("--agent-image-pull-policy is {0:?}: it must be Always, IfNotPresent or Never")]
    PullPolicy(String),
    /// A comma too many.
    #[error("--namespaces has an empty name in it")]
    Namespaces,
}

impl ControllerConfig {
    /// Checks what was typed.
    ///
    /// # Errors
    ///
    /// When a value can't be used; the message names the flag.
    pub fn new(typed: ControllerArgs) -> Result<Self, ConfigError> {
        let ControllerArgs {
            namespaces,
            concurrency,
            listen,
            agent_image,
            agent_image_pull_policy,
            artifact_store,
            closed_networks,
            instance,
            log_format,
            log_filter,
        } = typed;
        if agent_image.trim().is_empty() {
            return Err(ConfigError::AgentImage);
        }
        if !["Always", "IfNotPresent", "Never"].contains(&agent_image_pull_policy.as_str()) {
            return Err(ConfigError::PullPolicy(agent_image_pull_policy));
        }
        Ok(Self {
            scopes: scopes(namespaces)?,
            concurrency,
            listen,
            agent: AgentImage {
                reference: agent_image,
                pull_policy: agent_image_pull_policy,
                closed_networks,
            },
            // Empty is how a chart says that there is none.
            artifact_store: artifact_store.filter(|url| !url.is_empty()),
            instance,
            log_format,
            log_filter,
        })
    }
}

fn scopes(mut namespaces: Vec<String>) -> Result<Vec<Scope>, ConfigError> {
    if namespaces.is_empty() {
        return Ok(vec![Scope::All]);
    }
    // Two sets of watches over one namespace would make two passes over one task run at once.
    namespaces.sort();
    namespaces.dedup();
    if namespaces.iter().any(String::is_empty) {
        return Err(ConfigError::Namespaces);
    }
    Ok(namespaces.into_iter().map(Scope::Namespace).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config(flags: &[&str]) -> Result<ControllerConfig, ConfigError> {
        let start = ["podwright", "controller", "--agent-image", "podwright:1"];
        let Command::Controller(args) = Cli::parse_from(start.iter().chain(flags)).command else {
            panic!("not the controller")
        };
        ControllerConfig::new(*args)
    }

    #[test]
    fn without_namespaces_all_are_served() {
        assert_eq!(config(&[]).unwrap().scopes, [Scope::All]);
    }

    #[test]
    fn a_namespace_is_served_once() {
        let scopes = config(&["--namespaces=b,a,b"]).unwrap().scopes;
        assert_eq!(scopes, [Scope::Namespace("a".into()), Scope::Namespace("b".into())]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = config(&["--agent-image-pull-policy=Sometimes"]).unwrap_err().to_string();
        assert!(error.contains("--agent-image-pull-policy"), "{error}");
        let error = config(&["--namespaces=a,,b"]).unwrap_err().to_string();
        assert!(error.contains("--namespaces"), "{error}");
    }
}
