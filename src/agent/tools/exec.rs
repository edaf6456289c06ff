//! `exec_command` and `write_stdin`: commands in the sandbox and what the model reads of them.

use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::path::resolve;
use super::truncate::{Captured, OUTPUT_TOKENS};
use crate::api::provider::Surface;

/// Shortest and longest wait before a running command's output is handed over.
const YIELD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The same for a poll, which has nothing to hurry for: each one costs a model request.
const POLL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Shells that take `-l` and `-c`; any other word for a shell means [`FALLBACK_SHELL`].
const SHELLS: [&str; 3] = ["bash", "sh", "zsh"];

const FALLBACK_SHELL: &str = "/bin/sh";

/// What a model that may not ask for more rights reads when it does.
const ESCALATION_REFUSED: &str = "approval policy is Never; reject command — you cannot ask for escalated permissions \
     if the approval policy is Never";

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecCommand {
    /// The command, for a shell.
    pub cmd: String,
    /// Its working directory, relative to the turn's or absolute.
    pub workdir: Option<String>,
    /// The shell that the model wants.
    pub shell: Option<String>,
    /// Whether the shell reads the profile.
    pub login: bool,
    /// Whether it runs on a terminal. Without one its standard input is closed from the start.
    pub tty: bool,
    /// How long to wait for its end before the output so far is handed over: 250 ms to 30 s on the Codex surface.
    pub yield_time: Duration,
    /// Most tokens of output.
    pub max_output_tokens: usize,
    /// The surface that the call is of.
    pub surface: Surface,
}

/// Characters for a running command, or a look at its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteStdin {
    /// The session.
    pub session_id: i32,
    /// The characters; empty to look only.
    pub chars: String,
    /// How long to wait before the output is handed over: 250 ms to 30 s, for a look 5 s to 300 s on the Codex
    /// surface.
    pub yield_time: Duration,
    /// Most tokens of output.
    pub max_output_tokens: usize,
    /// The surface that the call is of.
    pub surface: Surface,
}

/// What a command's environment says about its place.
#[derive(Clone, Copy, Debug)]
pub struct ExecContext<'a> {
    /// The thread.
    pub thread_id: &'a str,
    /// The call, as the model's provider names it.
    pub call_id: &'a str,
    /// Whether the command may use the network.
    pub network: bool,
}

/// What there is to say about a command after a wait.
#[derive(Clone, Copy, Debug)]
pub struct ExecReport<'a> {
    /// Six hexadecimal digits, see [`chunk_id`].
    pub chunk_id: &'a str,
    /// How long this call waited.
    pub wall: Duration,
    /// Whether it runs on, or how it ended.
    pub state: ExecState,
    /// The output since the call before.
    pub output: Captured<'a>,
    /// Most tokens of it.
    pub max_output_tokens: usize,
}

/// Whether a command runs on, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// It runs.
    Running {
        /// The session by which it is reached.
        session_id: i32,
    },
    /// It exited.
    Exited(u8),
    /// A signal ended it.
    Signalled(u8),
    /// It ran longer than any command may, and was ended.
    DeadlineExceeded {
        /// The limit.
        limit: Duration,
    },
}

/// Why a command has no result, in the words that the model reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The sandbox could not start it; the text is that of the operating system,
    /// `No such file or directory (os error 2)`.
    // The form, quoted twice, is the one that models have seen.
    #[error(
        "exec_command failed: CreateProcess {{ message: {:?} }}",
        format!("Rejected({:?})", format!("Failed to create unified exec process: {_0}"))
    )]
    Spawn(String),
    /// No command runs under that session, or its end was told before.
    #[error("write_stdin failed: Unknown process id {0}")]
    UnknownSession(i32),
    /// The command has no terminal.
    #[error(
        "write_stdin failed: stdin is closed for this session; rerun exec_command with tty=true to keep stdin open"
    )]
    StdinClosed,
    /// The sandbox was restarted while the command ran.
    #[error(
        "The sandbox was restarted while this command ran. It may have partly run; its exit status is unknown. \
         Check the state of the workspace before running it again."
    )]
    SandboxRestarted,
    /// The connection was lost in a way that leaves the outcome open.
    #[error(
        "The outcome of this call is unknown: it may have run wholly, partly or not at all. Check the state of the \
         workspace before repeating it."
    )]
    OutcomeUnknown,
    /// Too many commands run in sessions.
    #[error(
        "exec_command failed: {0} commands are running in sessions, which is the limit; end one with write_stdin \
         or wait for it before starting another"
    )]
    TooManySessions(usize),
}

impl ExecError {
    /// The text in the words of a surface: what names a tool or an argument differs.
    pub fn text(&self, surface: Surface) -> String {
        match (surface, self) {
            (Surface::Codex, _) | (Surface::Generic, Self::SandboxRestarted | Self::OutcomeUnknown) => {
                self.to_string()
            }
            (Surface::Generic, Self::Spawn(why)) => format!("The command could not be started: {why}"),
            (Surface::Generic, Self::UnknownSession(session)) => {
                format!("There is no session {session}, or its end was told before.")
            }
            (Surface::Generic, Self::StdinClosed) => {
                "The command reads no input. Run it again with terminal set to be able to write to it."
                    .to_owned()
            }
            (Surface::Generic, Self::TooManySessions(limit)) => format!(
                "{limit} commands are running, which is the limit. Stop one, or wait for one with shell_input, before \
                 you start another."
            ),
        }
    }
}

impl ExecCommand {
    /// Parses the arguments of a call.
    ///
    /// # Errors
    /// The text that the model reads.
    pub fn parse(arguments: &str) -> Result<Self, String> {
        let arguments: ExecCommandArguments = super::parse_arguments(arguments)?;
        match arguments.sandbox_permissions {
            None | Some(SandboxPermissions::UseDefault) => {}
            Some(SandboxPermissions::RequireEscalated | SandboxPermissions::WithAdditionalPermissions) => {
                return Err(ESCALATION_REFUSED.to_owned());
            }
        }
        Ok(Self {
            cmd: arguments.cmd,
            workdir: arguments.workdir.filter(|workdir| !workdir.is_empty()),
            shell: arguments.shell,
            login: arguments.login.unwrap_or(true),
            tty: arguments.tty,
            yield_time: Duration::from_millis(arguments.yield_time_ms).clamp(YIELD.0, YIELD.1),
            max_output_tokens: arguments.max_output_tokens.unwrap_or(OUTPUT_TOKENS),
            surface: Surface::Codex,
        })
    }

    /// Program and arguments, with the shell of the sandbox where the model names none.
    pub fn argv(&self, default_shell: &str) -> [String; 3] {
        let shell = match &self.shell {
            None => default_shell,
            Some(shell) if SHELLS.contains(&shell.rsplit('/').next().unwrap_or(shell)) => shell,
            Some(_) => FALLBACK_SHELL,
        };
        let flag = if self.login { "-lc" } else { "-c" };
        [shell.to_owned(), flag.to_owned(), self.cmd.clone()]
    }

    /// The absolute working directory, given the turn's.
    pub fn cwd(&self, turn_cwd: &str) -> String {
        resolve(turn_cwd, self.workdir.as_deref().unwrap_or_default())
    }
}

impl WriteStdin {
    /// Parses the arguments of a call.
    ///
    /// # Errors
    /// The text that the model reads.
    pub fn parse(arguments: &str) -> Result<Self, String> {
        let arguments: WriteStdinArguments = super::parse_arguments(arguments)?;
        let chars = arguments.chars.unwrap_or_default();
        let (shortest, longest) = if chars.is_empty() { POLL } else { YIELD };
        let asked = arguments.yield_time_ms.map_or(shortest, Duration::from_millis);
        Ok(Self {
            session_id: arguments.session_id,
            chars,
            yield_time: asked.clamp(shortest, longest),
            max_output_tokens: arguments.max_output_tokens.unwrap_or(OUTPUT_TOKENS),
            surface: Surface::Codex,
        })
    }
}

impl ExecContext<'_> {
    /// What a command finds in its environment beside what the environment of the task sets: no colours, no
    /// pagers, no questions, UTF-8, and where it is.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("COLORTERM", ""),
            ("GH_PAGER", "cat"),
            ("GIT_PAGER", "cat"),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C.UTF-8"),
            ("LC_CTYPE", "C.UTF-8"),
            ("NO_COLOR", "1"),
            ("PAGER", "cat"),
            ("PODWRIGHT_CI", "1"),
            ("PODWRIGHT_THREAD_ID", self.thread_id),
            ("PODWRIGHT_TOOL_CALL_ID", self.call_id),
            ("TERM", "dumb"),
        ];
        if !self.network {
            variables.push(("PODWRIGHT_SANDBOX_NETWORK_DISABLED", "1"));
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

impl ExecReport<'_> {
    /// The text for the model.
    pub fn text(&self) -> String {
        let state = match self.state {
            ExecState::Running { session_id } => format!("Process running with session ID {session_id}"),
            ExecState::Exited(code) => format!("Process exited with code {code}"),
            ExecState::Signalled(signal) => format!("Process exited with code {}", 128 + u16::from(signal)),
            // The code is the one that timeout(1) gives.
            ExecState::DeadlineExceeded { limit } => format!(
                "Process exited with code 124 (ended by the harness: it ran longer than the limit of {} seconds a command)",
                limit.as_secs()
            ),
        };
        format!(
            "Chunk ID: {}\nWall time: {:.4} seconds\n{state}\nOriginal token count: {}\nOutput:\n{}",
            self.chunk_id,
            self.wall.as_secs_f64(),
            self.output.tokens(),
            self.output.text(self.max_output_tokens),
        )
    }
}

/// The id of a piece of output: six hexadecimal digits that only depend on the operation that gave it.
pub fn chunk_id(operation: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(operation).into();
    let [first, second, third, ..] = digest;
    format!("{first:02x}{second:02x}{third:02x}")
}

/// What the model reads of a call of `tool` that was interrupted by `cause`: the user, a limit, another end of the task.
pub fn aborted(tool: &str, wall: Duration, cause: &str) -> String {
    let seconds = wall.as_secs_f64();
    match tool {
        "exec_command" | "shell" => format!("Wall time: {seconds:.1} seconds\naborted by {cause}"),
        _ => format!("aborted by {cause} after {seconds:.1}s"),
    }
}

#[derive(Deserialize)]
struct ExecCommandArguments {
    cmd: String,
    workdir: Option<String>,
    shell: Option<String>,
    login: Option<bool>,
    #[serde(default)]
    tty: bool,
    #[serde(default = "default_yield_time_ms")]
    yield_time_ms: u64,
    max_output_tokens: Option<usize>,
    sandbox_permissions: Option<SandboxPermissions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SandboxPermissions {
    UseDefault,
    RequireEscalated,
    WithAdditionalPermissions,
}

#[derive(Deserialize)]
struct WriteStdinArguments {
    session_id: i32,
    chars: Option<String>,
    yield_time_ms: Option<u64>,
    max_output_tokens: Option<usize>,
}

fn default_yield_time_ms() -> u64 {
    10_000
}
