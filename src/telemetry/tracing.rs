//! Where log lines go, and in which form.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter can't be read.
    #[error("the log filter (RUST_LOG) can't be read: {0}")]
    Filter(#[from] ParseError),
    /// Log lines go somewhere else already.
    #[error("cannot begin to log: {0}")]
    Begun(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Log lines from here on go to standard error. `filter` has the syntax of `RUST_LOG`.
///
/// # Errors
///
/// When the filter cannot be read, or a subscriber was set before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    // This library logs whatever an MCP server says, at any length.
    let filter = EnvFilter::try_new(filter)?.add_directive("rmcp=off".parse()?);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let outcome = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    outcome.map_err(LogError::Begun)
}
