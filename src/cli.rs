//! What was typed: the subcommands and their flags, as they stand on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
}
