//! What was typed: the subcommands and their flags, as they stand on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::doctor::DoctorArgs;
use crate::egress::address::Cidr;
use crate::scripted::ScriptedModelArgs;
use crate::telemetry::tracing::LogFormat;

/// Podwright runs coding agents on Kubernetes.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinitions, write them into a directory, or apply them
    Crd {
        /// Directory for the files; without it everything goes to standard output
        #[arg(long, conflicts_with = "apply")]
        out: Option<PathBuf>,
        /// Apply them to the cluster instead, server-side (kubeconfig or the pod's own account)
        #[arg(long)]
        apply: bool,
    },
    /// Run the agent of the pod's attempt (what the controller's pods do)
    Agent(AgentArgs),
    /// Verify the patch of the pod's attempt (what the controller's pods do after the agent's own)
    Verify(AgentArgs),
    /// Put the supervisor where the sandbox finds it (what the hook of the controller's pods does)
    #[command(hide = true)]
    Install,
    /// Run the controller, which makes pods for AgentTasks (kubeconfig or the pod's own account)
    Controller(Box<ControllerArgs>),
    /// Answer as a model from a script, without a key
    ScriptedModel(ScriptedModelArgs),
    /// Find out what a model's endpoint can do
    Doctor(DoctorArgs),
}

/// Flags of the agent's process.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Directory of the journal
    #[arg(long, default_value = "/state")]
    pub state: PathBuf,
    /// Directory of the bare repository
    #[arg(long, default_value = "/repo")]
    pub repo: PathBuf,
    /// Directory of the work tree
    #[arg(long, default_value = "/workspace")]
    pub workspace: PathBuf,
    /// Which diagnostic lines there are on standard error
    #[arg(long, env = "RUST_LOG", default_value = "warn")]
    pub log_filter: String,
}

/// Flags of the controller.
#[derive(Args, Debug)]
pub struct ControllerArgs {
    /// Namespaces to serve, separated by commas; all of them when left out
    #[arg(long, value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// How many tasks are looked at at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Address for /livez, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Image of the agents: the one that has this program in it
    #[arg(long, env = "PODWRIGHT_AGENT_IMAGE")]
    pub agent_image: String,
    /// When a kubelet pulls that image: Always, IfNotPresent or Never
    #[arg(long, default_value = "IfNotPresent")]
    pub agent_image_pull_policy: String,
    /// Object store for artifacts: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory,
    /// with endpoint, region and credentials in the variables AWS_…, GOOGLE_… or AZURE_…; ConfigMaps when left out
    #[arg(long)]
    pub artifact_store: Option<String>,
    /// Networks that commands never reach although their addresses are public (the cluster's own, for example), separated
    /// by commas; private ones are closed anyway
    #[arg(long, value_delimiter = ',')]
    pub closed_networks: Vec<Cidr>,
    /// Name of this process in events; the host name when left out
    #[arg(long, env = "HOSTNAME", hide_env_values = true)]
    pub instance: Option<String>,
    /// Form of the log lines
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Which log lines there are
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log_filter: String,
}
