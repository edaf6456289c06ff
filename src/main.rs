//! `podwright`: one binary for the controller, the agent and the tools around them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use podwright::api::crd;
use podwright::cli::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Crd { out } => print_crds(out.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwright: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crds(out: Option<&Path>) -> anyhow::Result<()> {
    for definition in crd::all() {
        let text = serde_saphyr::to_string(&definition)
            .context("cannot write a CustomResourceDefinition as YAML")?;
        match out {
            Some(directory) => {
                let file = directory.join(format!("{}.yaml", crd::name(&definition)));
                fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            }
            None => write!(std::io::stdout(), "---\n{text}")?,
        }
    }
    Ok(())
}
