//! `podwright-parent PROGRAM [ARGUMENTS]`: PID 1 of an agent container. Runs the program, and again when it dies.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use podwright::agent::parent;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("podwright-parent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<u8> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("usage: podwright-parent PROGRAM [ARGUMENTS]")?;
    let arguments: Vec<OsString> = arguments.collect();
    // The lines of the agent's own log have this form too. Filters, which this program does not need, take memory.
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    // One thread, since it only waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(parent::run(&program, &arguments));
    outcome.with_context(|| format!("cannot run {}", program.display()))
}
