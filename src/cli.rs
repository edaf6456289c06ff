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
    /// Print the CustomResourceDefinitions, or write them into a directory, one file each
    Crd {
        /// Directory for the files; without it everything goes to standard output
        #[arg(long)]
        out: Option<PathBuf>,
    },
}
