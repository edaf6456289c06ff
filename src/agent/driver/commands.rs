//! `exec_command` and `write_stdin`: commands in the sandbox, and the sessions of those that go on.

mod answer;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, EndedBy, ErrorCode, OpId, Start};
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::answer::{failed, refused, start_error, told};
use super::network::CommandNetwork;
use crate::agent::events::Event;
use crate::agent::journal::record::{CallOutcome, SessionCursor, SessionOpened};
use crate::agent::machine::{CallResult, RunCall, SessionChange, Signal};
use crate::agent::thread::Thread;
use crate::agent::tools::exec::{
    ExecCommand, ExecContext, ExecError, ExecReport, ExecState, WriteStdin, chunk_id,
};
use crate::agent::tools::truncate::Captured;
use crate::sandbox::{Known, Observation, Outcome, Sandbox, SandboxError};

/// Where programs are looked for; the environment may say otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The sandbox user's home: a directory of the workspace's volume.
pub(super) const HOME: &str = "/home/agent";

/// Session numbers begin here: five digits, as models know them.
const FIRST_SESSION: u64 = 10_000;

/// What every command of a thread is started with.
#[derive(Clone)]
pub(super) struct CommandContext {
    /// The thread, the first part of operation ids.
    pub(super) thread_id: String,
    /// The shell for commands that name none.
    pub(super) shell: String,
    /// The repository's directory.
    pub(super) cwd: String,
    /// The environment's variables.
    pub(super) env: Vec<(String, String)>,
    /// What they reach.
    pub(super) network: CommandNetwork,
    /// How long one command may run.
    pub(super) limit: Duration,
}

/// The commands of a thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Commands {
    sandbox: Sandbox,
    context: Arc<CommandContext>,
    sessions: Arc<RwLock<HashMap<i32, Arc<Mutex<Live>>>>>,
}

/// A command that goes on in the background.
#[derive(Debug)]
struct Live {
    op: u64,
    ordinal: u64,
    id: OpId,
    boot: BootId,
    command: String,
    tty: bool,
    cursor: SessionCursor,
}

/// What a call came to.
pub(super) struct Done {
    /// For the machine.
    pub(super) signal: Signal,
    /// For surfaces.
    pub(super) event: Option<Event>,
}

impl Done {
    /// The end of a call.
    pub(super) fn ended(result: CallResult, event: Option<Event>) -> Self {
        Self { signal: Signal::CallEnded(result), event }
    }
}

/// One look at a command, in words and in facts.
struct Look {
    text: String,
    outcome: CallOutcome,
    state: State,
    output: String,
}

enum State {
    Running,
    Exited(podwright_sandboxd::protocol::ExitRecord, i32),
    Gone,
}

/// The environment of everything that runs in the sandbox, before what is particular to it.
pub(super) fn base_environment(env: &[(String, String)]) -> BTreeMap<String, String> {
    let own = [("HOME", HOME), ("LOGNAME", "agent"), ("PATH", PATH), ("SHELL", "/bin/sh"), ("USER", "agent")];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.chain(env.iter().cloned()).collect()
}

impl Commands {
    /// The commands of a thread that has none yet.
    pub(super) fn new(sandbox: Sandbox, context: CommandContext) -> Self {
        Self { sandbox, context: Arc::new(context), sessions: Arc::default() }
    }

    /// Finds the sessions of a thread again after a restart of the agent.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    pub(super) async fn restore(&self, thread: &Thread, boot: &BootId) -> Result<(), SandboxError> {
        for (number, session) in &thread.sessions {
            let call = thread.call_at(session.ordinal).zip(thread.command_at(session.ordinal));
            let Some((call, command)) = call else { continue };
            let Ok(start) = self.start(session.op, call.call_id, &command) else { continue };
            self.context.network.watch(&start.process_id);
            let live = Live {
                op: session.op,
                ordinal: session.ordinal,
                id: start.process_id.clone(),
                boot: session.boot.clone(),
                command: command.cmd.clone(),
                tty: command.tty,
                cursor: session.cursor,
            };
            // Of another boot nothing runs any more: whoever asks for the session is told so.
            if session.boot == *boot
                && let Err(error @ SandboxError::Lost(_)) =
                    self.sandbox.start(boot, start, session.cursor.output).await
            {
                return Err(error);
            }
            self.insert(*number, live);
        }
        Ok(())
    }

    /// Runs a command, or finds it again.
    pub(super) async fn exec(&self, run: &RunCall, command: &ExecCommand) -> Done {
        let begun = Instant::now();
        let start = match self.start(run.op, &run.call_id, command) {
            Ok(start) => start,
            Err(reason) => return failed(run, command, &ExecError::Spawn(reason)),
        };
        // A command that is certainly not sent has certainly not run. A restart between this look and the
        // request leaves that open, and then so it is told.
        match self.sandbox.ready().await {
            Ok(boot) if boot.id != run.boot && !run.resumed => {
                let signal = Signal::CallUnsent { ordinal: run.ordinal, boot: run.boot.clone() };
                return Done { signal, event: None };
            }
            Ok(_) => {}
            Err(error) => return failed(run, command, &start_error(error)),
        }
        let id = start.process_id.clone();
        self.context.network.watch(&id);
        if let Err(error) = self.sandbox.start(&run.boot, start, 0).await {
            self.context.network.leave(&id);
            return failed(run, command, &start_error(error));
        }
        let observed = self.sandbox.observe(&id, command.yield_time).await;
        let number = session_number(run.op);
        let seen = observed.as_ref().map_or(0, |observed| observed.seen);
        let look = self.look(&id, &id, observed, begun, number, command.max_output_tokens);
        let live = Live {
            op: run.op,
            ordinal: run.ordinal,
            id,
            boot: run.boot.clone(),
            command: command.cmd.clone(),
            tty: command.tty,
            cursor: SessionCursor { output: seen, input: 0 },
        };
        let event = Some(told(&live, &look));
        let (exit, session) = match &look.state {
            State::Running => {
                let opened = SessionOpened {
                    session: number,
                    op: live.op,
                    ordinal: live.ordinal,
                    boot: live.boot.clone(),
                    cursor: live.cursor,
                };
                self.insert(number, live);
                (None, Some(SessionChange::Opened(opened)))
            }
            State::Exited(record, _) => (Some((run.op, record.clone())), None),
            State::Gone => (None, None),
        };
        let (outcome, output) = (look.outcome, look.text);
        Done::ended(
            CallResult { ordinal: run.ordinal, outcome, output, images: Vec::new(), exit, session },
            event,
        )
    }

    /// Writes to a session, or looks at it. One call at a time has a session, in the order in which they came.
    pub(super) async fn write_stdin(&self, run: &RunCall, write: &WriteStdin) -> Done {
        let begun = Instant::now();
        let number = write.session_id;
        let Some(live) = self.session(number) else {
            return refused(run, &ExecError::UnknownSession(number), None);
        };
        let mut live = live.lock().await;
        if self.session(number).is_none() {
            return refused(run, &ExecError::UnknownSession(number), None);
        }
        if !write.chars.is_empty() {
            if !live.tty {
                return refused(run, &ExecError::StdinClosed, None);
            }
            match self.sandbox.write(&live.id, live.cursor.input, write.chars.as_bytes(), false).await {
                Ok(next) => live.cursor.input = next,
                // What it wrote and how it ended is told below.
                Err(SandboxError::Refused(error)) if error.code == ErrorCode::StdinClosed => {}
                Err(error) => {
                    let lost = matches!(error, SandboxError::Restarted { .. });
                    let error = if lost { ExecError::SandboxRestarted } else { ExecError::OutcomeUnknown };
                    self.remove(number);
                    return refused(run, &error, Some(number));
                }
            }
        }
        let observed = self.sandbox.observe(&live.id, write.yield_time).await;
        if let Ok(observed) = &observed {
            live.cursor.output = observed.seen;
        }
        let id = self.op_id(run.op).unwrap_or_else(|_| live.id.clone());
        let look = self.look(&id, &live.id, observed, begun, number, write.max_output_tokens);
        let (exit, session) = match &look.state {
            State::Running => (None, SessionChange::Moved { session: number, cursor: live.cursor }),
            State::Exited(record, _) => {
                (Some((live.op, record.clone())), SessionChange::Closed { session: number })
            }
            State::Gone => (None, SessionChange::Closed { session: number }),
        };
        if matches!(session, SessionChange::Closed { .. }) {
            self.remove(number);
        }
        let event = Some(told(&live, &look));
        let (outcome, output) = (look.outcome, look.text);
        let (images, session) = (Vec::new(), Some(session));
        let result = CallResult { ordinal: run.ordinal, outcome, output, images, exit, session };
        Done::ended(result, event)
    }

    /// Lets the supervisor forget processes whose end is in the journal.
    pub(super) async fn acknowledge(&self, boot: &BootId, ops: Vec<u64>) {
        for op in ops {
            let Ok(id) = self.op_id(op) else { continue };
            if let Err(error) = self.sandbox.acknowledge(boot, &id).await {
                tracing::debug!(%id, %error, "the supervisor keeps an exit record for longer than needed");
            }
        }
    }

    /// What is sent to start a command: the same for the same call, since its digest identifies it.
    fn start(&self, op: u64, call_id: &str, command: &ExecCommand) -> Result<Start, String> {
        let context = &*self.context;
        let own = ExecContext { thread_id: &context.thread_id, call_id, network: context.network.is_open() };
        let mut env = base_environment(&context.env);
        env.extend(own.environment());
        env.extend(context.network.variables());
        Ok(Start {
            process_id: self.op_id(op)?,
            argv: command.argv(&context.shell).into(),
            cwd: command.cwd(&context.cwd),
            env,
            tty: command.tty,
            pipe_stdin: false,
            deadline_ms: Some(u64::try_from(context.limit.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    fn op_id(&self, op: u64) -> Result<OpId, String> {
        OpId::new(format!("{}-{op}", self.context.thread_id)).map_err(|error| error.to_string())
    }

    /// What a look at a process is told as; `id` is the look's own.
    fn look(
        &self,
        id: &OpId,
        process: &OpId,
        observed: Result<Observation, SandboxError>,
        begun: Instant,
        session_id: i32,
        max_output_tokens: usize,
    ) -> Look {
        let network = &self.context.network;
        let note = network.note(process);
        let noted = |mut text: String| {
            if let Some(note) = &note {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(note);
            }
            text
        };
        let unknown = |error: ExecError| Look {
            text: noted(error.to_string()),
            outcome: CallOutcome::Unknown,
            state: State::Gone,
            output: String::new(),
        };
        let Ok(Observation { output, outcome, seen: _ }) = observed else {
            return unknown(ExecError::OutcomeUnknown);
        };
        let (told, state) = match outcome {
            Outcome::Running => (ExecState::Running { session_id }, State::Running),
            Outcome::Exited(ended) => {
                let told = match (ended.record.ended_by, ended.exit) {
                    (EndedBy::Deadline, _) => ExecState::DeadlineExceeded { limit: self.context.limit },
                    (_, Known::Code(code)) => ExecState::Exited(code),
                    (_, Known::Signal(signal)) => ExecState::Signalled(signal),
                };
                (told, State::Exited(ended.record, ended.exit.shell_code()))
            }
            Outcome::Interrupted { .. } => return unknown(ExecError::SandboxRestarted),
            Outcome::Unknown { why } => {
                tracing::warn!(%id, %why, "the outcome of a command is unknown");
                return unknown(ExecError::OutcomeUnknown);
            }
        };
        let captured = Captured { head: &output.head, tail: &output.tail, omitted: output.omitted };
        let report = ExecReport {
            chunk_id: &chunk_id(id.as_str()),
            wall: begun.elapsed(),
            state: told,
            output: captured,
            max_output_tokens,
        };
        if matches!(state, State::Exited(..)) {
            network.leave(process);
        }
        Look {
            text: noted(report.text()),
            outcome: CallOutcome::Ok,
            state,
            output: noted(captured.text(max_output_tokens)),
        }
    }

    fn session(&self, number: i32) -> Option<Arc<Mutex<Live>>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn insert(&self, number: i32, live: Live) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(number, Arc::new(Mutex::new(live)));
    }

    fn remove(&self, number: i32) {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

fn session_number(op: u64) -> i32 {
    i32::try_from(FIRST_SESSION + op).unwrap_or(i32::MAX)
}
