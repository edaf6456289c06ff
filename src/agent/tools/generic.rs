//! The tools of the generic surface: the same effects as the Codex surface, in shapes that a model needs no
//! training for.

use std::time::Duration;

use serde::Deserialize;

use super::edit::{Edit, Replace, WriteFile};
use super::exec::{ExecCommand, WriteStdin};
use super::plan::{PlanStep, PlanUpdate};
use super::truncate::OUTPUT_TOKENS;
use super::{ApplyPatch, ToolCall, parse_arguments};
use crate::api::provider::Surface;

/// Shortest and longest wait for a command, in seconds.
const WAIT: (f64, f64) = (1.0, 300.0);

/// Waits for models that name none: long enough for most commands, and short where something was just written.
const COMMAND_WAIT: f64 = 60.0;
const LOOK_WAIT: f64 = 10.0;
const INPUT_WAIT: f64 = 2.0;

/// Parses a call of one of these tools; `None` for any other name.
pub(super) fn parse(name: &str, arguments: &str) -> Option<Result<ToolCall, String>> {
    match name {
        "shell" => Some(parse_arguments::<Shell>(arguments).and_then(Shell::call)),
        "shell_input" => Some(parse_arguments(arguments).map(ShellInput::call)),
        "str_replace" => Some(parse_arguments(arguments).map(StrReplace::call)),
        "write_file" => Some(parse_arguments(arguments).map(WriteWhole::call)),
        "plan" => Some(parse_arguments(arguments).map(Plan::call)),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Shell {
    command: String,
    workdir: Option<String>,
    wait_seconds: Option<f64>,
    terminal: Option<bool>,
}

#[derive(Deserialize)]
struct ShellInput {
    session_id: i32,
    input: Option<String>,
    wait_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct StrReplace {
    path: String,
    old_str: String,
    new_str: String,
    replace_all: Option<bool>,
}

#[derive(Deserialize)]
struct WriteWhole {
    path: String,
    content: String,
}

#[derive(Deserialize)]
struct Plan {
    steps: Vec<PlanStep>,
}

impl Shell {
    fn call(self) -> Result<ToolCall, String> {
        ToolCall::command(ExecCommand {
            cmd: self.command,
            workdir: self.workdir.filter(|workdir| !workdir.is_empty()),
            shell: None,
            login: true,
            tty: self.terminal.unwrap_or(false),
            yield_time: wait(self.wait_seconds, COMMAND_WAIT),
            max_output_tokens: OUTPUT_TOKENS,
            surface: Surface::Generic,
        })
    }
}

impl ShellInput {
    fn call(self) -> ToolCall {
        let chars = self.input.unwrap_or_default();
        let default = if chars.is_empty() { LOOK_WAIT } else { INPUT_WAIT };
        ToolCall::WriteStdin(WriteStdin {
            session_id: self.session_id,
            chars,
            yield_time: wait(self.wait_seconds, default),
            max_output_tokens: OUTPUT_TOKENS,
            surface: Surface::Generic,
        })
    }
}

impl StrReplace {
    fn call(self) -> ToolCall {
        let Self { path, old_str, new_str, replace_all } = self;
        let all = replace_all.unwrap_or(false);
        edit(Edit::Replace(Replace { path, old: old_str, new: new_str, all }))
    }
}

impl WriteWhole {
    fn call(self) -> ToolCall {
        let Self { path, content } = self;
        edit(Edit::Write(WriteFile { path, content }))
    }
}

impl Plan {
    fn call(self) -> ToolCall {
        ToolCall::UpdatePlan(PlanUpdate { explanation: None, plan: self.steps })
    }
}

fn edit(edit: Edit) -> ToolCall {
    ToolCall::ApplyPatch(ApplyPatch { edit, workdir: None, from_command: false })
}

fn wait(seconds: Option<f64>, default: f64) -> Duration {
    Duration::from_secs_f64(seconds.unwrap_or(default).clamp(WAIT.0, WAIT.1))
}
