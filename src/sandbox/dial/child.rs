//! A supervisor on this machine, through a child process.

use std::process::Stdio;

use tokio::process::Command;

use super::{Dial, DialError, Transport};

/// Dials by starting a process whose standard streams are the stream, such as `nsenter ... podwright-sandboxd attach`.
#[derive(Debug, Clone)]
pub struct ChildDial {
    argv: Vec<String>,
}

impl ChildDial {
    /// Dials by running `argv`.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect() }
    }
}

impl Dial for ChildDial {
    async fn dial(&self) -> Result<Transport, DialError> {
        let (program, arguments) = self.argv.split_first().ok_or_else(|| DialError("no command".into()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.map_err(|error| DialError(format!("{program}: {error}")))?;
        let missing = || DialError("the child has no input or output".to_owned());
        let writer = child.stdin.take().ok_or_else(missing)?;
        let reader = child.stdout.take().ok_or_else(missing)?;
        let ended = async move {
            match child.wait().await {
                Ok(status) => format!("attach ended: {status}"),
                Err(error) => error.to_string(),
            }
        };
        Ok(Transport { reader: Box::new(reader), writer: Box::new(writer), ended: Box::pin(ended) })
    }
}
