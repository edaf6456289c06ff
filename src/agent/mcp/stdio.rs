//! The way to a program in the sandbox: its standard input and output carry a message a line.
//!
//! Standard error has no pipe of its own in the sandbox's protocol and would fall into the middle of lines, so a shell
//! sends it to a file there, whose end is shown when the program does not start.

use std::collections::BTreeMap;
use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, OpId, Start};
use rmcp::RoleClient;
use rmcp::transport::Transport;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::MESSAGE_MAX;
use super::lines::Lines;
use super::transport::{
    Announced, Asked, Fault, Inbox, Incoming, Outgoing, TransportError, Unreadable, message,
};
use crate::api::mcp::McpStdio;
use crate::sandbox::{Outcome, Sandbox, SandboxError};

/// Messages that wait to be written; their senders wait when there are more.
const OUTGOING: usize = 16;

/// Lines that are no messages, before the program is given up: some write a greeting.
const NOISE_MAX: usize = 200;

/// How much of the end of standard error people are shown, in bytes.
const COMPLAINT_MAX: usize = 1000;

/// How long the end of standard error is waited for.
const COMPLAINT_WITHIN: Duration = Duration::from_secs(5);

/// Starts what follows, with standard error in the file named first.
const LAUNCH: &str = r#"log=$1; shift; exec "$@" 2>"$log""#;

/// A program as it is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Its life in which the program runs.
    pub boot: BootId,
    /// The operation: a new one at each start.
    pub id: OpId,
    /// Absolute path, in the sandbox, of the file that takes standard error.
    pub log: String,
}

/// The way to a running program. Dropping it ends the program.
pub struct StdioTransport {
    program: Program,
    asked: Asked,
    incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<Line>,
    _reader: AbortOnDropHandle<()>,
    _writer: AbortOnDropHandle<()>,
}

/// A message on its way, and where its fate is told.
struct Line {
    bytes: Vec<u8>,
    done: oneshot::Sender<Result<(), TransportError>>,
}

impl Program {
    /// Starts it, in the directory `cwd` and with the environment `env` and what `stdio` adds.
    ///
    /// # Errors
    /// See [`Sandbox::start`].
    pub async fn start(
        self,
        stdio: &McpStdio,
        cwd: String,
        mut env: BTreeMap<String, String>,
        fault: Fault,
        announced: Announced,
    ) -> Result<StdioTransport, SandboxError> {
        env.extend(stdio.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())));
        let mut argv = ["/bin/sh", "-c", LAUNCH, "sh", &self.log, &stdio.command].map(str::to_owned).to_vec();
        argv.extend(stdio.args.iter().cloned());
        let start = Start {
            process_id: self.id.clone(),
            argv,
            cwd,
            env,
            tty: false,
            pipe_stdin: true,
            deadline_ms: None,
        };
        self.sandbox.start(&self.boot, start, 0).await?;
        let (inbox, incoming, asked) = Inbox::new(announced);
        let (outgoing, lines) = mpsc::channel(OUTGOING);
        let reader = tokio::spawn(read(self.clone(), inbox, fault.clone()));
        let writer = tokio::spawn(write(self.clone(), lines, fault));
        Ok(StdioTransport {
            program: self,
            asked,
            incoming,
            outgoing,
            _reader: AbortOnDropHandle::new(reader),
            _writer: AbortOnDropHandle::new(writer),
        })
    }

    /// The end of what it wrote to standard error, as one line of text; empty when it cannot be had.
    pub async fn complaint(&self) -> String {
        let Ok(id) = OpId::new(format!("{}-log", self.id)) else { return String::new() };
        let start = Start {
            process_id: id.clone(),
            argv: ["tail", "-c", &COMPLAINT_MAX.to_string(), &self.log].map(str::to_owned).to_vec(),
            cwd: "/".to_owned(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
            tty: false,
            pipe_stdin: false,
            deadline_ms: Some(u64::try_from(COMPLAINT_WITHIN.as_millis()).unwrap_or(u64::MAX)),
        };
        let read = async {
            self.sandbox.start(&self.boot, start, 0).await?;
            self.sandbox.observe(&id, COMPLAINT_WITHIN).await
        };
        let text = match read.await {
            Ok(seen) => String::from_utf8_lossy(&seen.output.head).into_owned(),
            Err(_) => String::new(),
        };
        // Nobody needs its record.
        let _ = self.sandbox.end(&self.boot, &id).await;
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").chars().filter(|letter| !letter.is_control()).take(COMPLAINT_MAX).collect()
    }
}

impl Transport<RoleClient> for StdioTransport {
    type Error = TransportError;

    fn send(&mut self, item: Outgoing) -> impl Future<Output = Result<(), TransportError>> + Send + 'static {
        self.asked.answered_by(&item);
        let outgoing = self.outgoing.clone();
        async move {
            let gone = || TransportError::NotSent("it is not there any more".to_owned());
            let mut bytes =
                serde_json::to_vec(&item).map_err(|error| TransportError::NotSent(error.to_string()))?;
            bytes.push(b'\n');
            let (done, sent) = oneshot::channel();
            outgoing.send(Line { bytes, done }).await.map_err(|_| gone())?;
            let lost = || TransportError::Unknown("it ended".to_owned());
            sent.await.map_err(|_| lost())?
        }
    }

    async fn receive(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        // Dropped right after, which ends the program.
        self.incoming.close();
        Ok(())
    }
}

impl Drop for StdioTransport {
    fn drop(&mut self) {
        let Program { sandbox, boot, id, .. } = self.program.clone();
        // Without a runtime the whole agent ends, and with it the phase.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = sandbox.end(&boot, &id).await {
                    tracing::debug!(%id, %error, "an MCP server cannot be ended");
                }
            });
        }
    }
}

/// Reads messages until the program ends or does what no server may.
async fn read(program: Program, inbox: Inbox, fault: Fault) {
    let mut lines = Lines::new(MESSAGE_MAX);
    let mut noise = 0;
    loop {
        let seen = match program.sandbox.listen(&program.id).await {
            Ok(seen) => seen,
            Err(error) => return fault.set(error.to_string()),
        };
        if seen.output.omitted > 0 {
            return fault.set("it wrote more than can be kept");
        }
        let pieces = [&seen.output.head, &seen.output.tail];
        for piece in pieces {
            if let Err(why) = inbox.heard(piece.len()) {
                return fault.set(why);
            }
            let whole = match lines.push(piece) {
                Ok(whole) => whole,
                Err(error) => return fault.set(error.to_string()),
            };
            for line in whole.iter().filter(|line| !line.trim_ascii().is_empty()) {
                let taken = match message(line) {
                    Ok(message) => inbox.take(message).await,
                    Err(error @ Unreadable::TooMany) => Err(error.to_string()),
                    Err(Unreadable::NoMessage) => {
                        noise += 1;
                        if noise > NOISE_MAX { Err("it does not speak MCP".to_owned()) } else { Ok(()) }
                    }
                };
                if let Err(why) = taken {
                    return fault.set(why);
                }
            }
        }
        let why = match seen.outcome {
            Outcome::Running => continue,
            Outcome::Exited(ended) => format!("it ended with exit code {}", ended.exit.shell_code()),
            Outcome::Interrupted { .. } => "the sandbox was restarted".to_owned(),
            Outcome::Unknown { why } => why,
        };
        return fault.set(why);
    }
}

/// Writes messages one after the other.
async fn write(program: Program, mut lines: mpsc::Receiver<Line>, fault: Fault) {
    let mut at = 0;
    while let Some(Line { bytes, done }) = lines.recv().await {
        let end = at + bytes.len() as u64;
        let written = match program.sandbox.write(&program.id, at, &bytes, false).await {
            Ok(next) if next == end => Ok(()),
            Ok(_) => Err(TransportError::Unknown("it does not read its input".to_owned())),
            Err(error) => Err(TransportError::Unknown(error.to_string())),
        };
        if let Err(error) = &written {
            fault.set(error.to_string());
        }
        let failed = written.is_err();
        // Whoever asked may have stopped waiting.
        let _ = done.send(written);
        if failed {
            return;
        }
        at = end;
    }
}
