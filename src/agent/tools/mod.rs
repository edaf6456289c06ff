//! The tools: what a model may call, what its calls mean, and the exact texts that it reads.
//!
//! Nothing here acts. A call is parsed into a [`ToolCall`], or answered at once with a text: a wrong name and
//! wrong arguments are something for the model to mend, never the end of a turn.

pub mod apply_patch;
pub mod definitions;
pub mod edit;
pub mod exec;
mod generic;
pub mod image;
pub mod mcp;
pub mod path;
pub mod plan;
pub mod truncate;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use apply_patch::{BARE_PATCH, ShellForm, shell_form};
use edit::Edit;
use exec::{ExecCommand, WriteStdin};
use image::{VIEW_IMAGE, ViewImage};
use mcp::McpCall;
use plan::PlanUpdate;
use truncate::{ANSWER_TOKENS, shorten};

use crate::api::provider::Surface;
use crate::llm::{CallKind, ContentPart};

/// A call that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolCall {
    /// Runs a command.
    ExecCommand(ExecCommand),
    /// Writes to a running command, or looks at it.
    WriteStdin(WriteStdin),
    /// Changes files.
    ApplyPatch(ApplyPatch),
    /// Says what is done and what is to do.
    UpdatePlan(PlanUpdate),
    /// Looks at a picture.
    ViewImage(ViewImage),
    /// Calls a tool of an MCP server. Which tools there are only the thread knows, so [`ToolCall::parse`] never gives it.
    Mcp(McpCall),
}

/// An edit of files, mostly a patch, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyPatch {
    /// The edit.
    pub edit: Edit,
    /// The directory from which its paths count, relative to the turn's; that one when absent.
    pub workdir: Option<String>,
    /// It came as a command for `exec_command`.
    pub from_command: bool,
}

/// Which calls may run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallClass {
    /// Beside others of its kind.
    Shared,
    /// Alone: after all earlier calls, before all later ones.
    Exclusive,
}

impl ToolCall {
    /// Parses a call, of whichever surface. The input of a tool for free text is also taken from a function of one string `input`,
    /// the form in which it is offered to models that take no free text.
    ///
    /// # Errors
    /// The call's whole output: the text that the model reads instead of a result.
    pub fn parse(kind: CallKind, name: &str, arguments: &str) -> Result<Self, String> {
        match (kind, name) {
            (CallKind::Function, "exec_command") => Self::command(ExecCommand::parse(arguments)?),
            (CallKind::Function, "write_stdin") => WriteStdin::parse(arguments).map(Self::WriteStdin),
            (CallKind::Function, "update_plan") => parse_arguments(arguments).map(Self::UpdatePlan),
            (CallKind::Function, VIEW_IMAGE) => parse_arguments(arguments).map(Self::ViewImage),
            (CallKind::Function, "apply_patch") => {
                let ApplyPatchArguments { input } = parse_arguments(arguments)?;
                ApplyPatch::parse(&input, None, false).map(Self::ApplyPatch)
            }
            (CallKind::Custom, "apply_patch") => {
                ApplyPatch::parse(arguments, None, false).map(Self::ApplyPatch)
            }
            (CallKind::Function, _) => {
                generic::parse(name, arguments).unwrap_or_else(|| Err(unsupported(name)))
            }
            (CallKind::Custom, _) => Err(format!("unsupported custom tool call: {name}")),
        }
    }

    /// Which calls may run beside this one.
    pub fn class(&self) -> CallClass {
        match self {
            Self::ExecCommand(_) | Self::WriteStdin(_) | Self::ViewImage(_) => CallClass::Shared,
            Self::ApplyPatch(_) | Self::UpdatePlan(_) => CallClass::Exclusive,
            Self::Mcp(call) => call.class(),
        }
    }

    /// The surface in whose words its errors are told.
    pub fn surface(&self) -> Surface {
        match self {
            Self::ExecCommand(command) => command.surface,
            Self::WriteStdin(write) => write.surface,
            Self::ApplyPatch(_) | Self::UpdatePlan(_) | Self::ViewImage(_) | Self::Mcp(_) => Surface::Codex,
        }
    }

    fn command(command: ExecCommand) -> Result<Self, String> {
        match shell_form(&command.cmd) {
            None => Ok(Self::ExecCommand(command)),
            Some(ShellForm::Bare) => Err(BARE_PATCH.to_owned()),
            Some(ShellForm::Call { directory, patch }) => {
                let workdir = match (command.workdir.as_deref(), directory) {
                    (Some(workdir), Some(directory)) if !directory.starts_with('/') => {
                        Some(format!("{workdir}/{directory}"))
                    }
                    (workdir, directory) => directory.or(workdir).map(str::to_owned),
                };
                ApplyPatch::parse(patch, workdir, true).map(Self::ApplyPatch)
            }
        }
    }
}

impl ApplyPatch {
    /// The absolute directory from which the patch's paths count, given the turn's.
    pub fn cwd(&self, turn_cwd: &str) -> String {
        path::resolve(turn_cwd, self.workdir.as_deref().unwrap_or_default())
    }

    /// The output for the model of an edit that was carried out, or failed to be: `text` is that of
    /// [`edit::Success::text`] or [`Edit::failure`].
    pub fn output(&self, text: &str, wall: Duration) -> String {
        if self.from_command {
            format!("Wall time: {:.4} seconds\nOutput:\n{text}", wall.as_secs_f64())
        } else {
            text.to_owned()
        }
    }

    fn parse(text: &str, workdir: Option<String>, from_command: bool) -> Result<Self, String> {
        match apply_patch::parse(text) {
            Ok(patch) => Ok(Self { edit: Edit::Patch(patch), workdir, from_command }),
            Err(error) => Err(format!("apply_patch verification failed: {error}")),
        }
    }
}

/// What the model reads that calls a function which it was not offered.
pub fn unsupported(name: &str) -> String {
    format!("unsupported call: {name}")
}

/// What the output of a call is made of: its text, or the picture whose `data:` URL stands in the text's place. A text
/// that is too long loses its middle: an error may quote all that the model wrote.
pub fn output_parts(name: &str, succeeded: bool, output: String) -> Vec<ContentPart> {
    if succeeded && name == VIEW_IMAGE {
        return vec![ContentPart::Image { url: output }];
    }
    let text = shorten(&output, ANSWER_TOKENS).unwrap_or(output);
    vec![ContentPart::Text { text }]
}

#[derive(Deserialize)]
struct ApplyPatchArguments {
    input: String,
}

fn parse_arguments<T: DeserializeOwned>(arguments: &str) -> Result<T, String> {
    serde_json::from_str(arguments).map_err(|error| format!("failed to parse function arguments: {error}"))
}
