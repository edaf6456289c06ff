//! What a thread begins with: its model, its tools and its first messages.

mod reading;

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use podwright_sandboxd::confine::WRITABLE;
use podwright_sandboxd::protocol::FileState;

use self::reading::Reading;
use super::Assignment;
use super::cluster::Cluster;
use super::prepare::{Preparation, Workspace, command_limit, internal, lost};
use crate::agent::journal::record::ThreadOpened;
use crate::agent::prompt::{self, EnvironmentContext, Permissions, PromptInput};
use crate::agent::tools::definitions;
use crate::api::attempt::Outcome;
use crate::api::task::ReasoningEffort;
use crate::llm::{Capabilities, Wire};
use crate::sandbox::Sandbox;

/// Where bash is looked for, since models write for it: its usual place, and the one that this is a link to in most
/// images.
const SHELLS: [&str; 2] = ["bin/bash", "usr/bin/bash"];

impl<C: Cluster> Preparation<C> {
    /// Settles what stays as it is for the whole thread, and says what people should know of how it began.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) fn open(
        &self,
        workspace: &Workspace,
        baseline_tree: String,
        shell: String,
        prompt: &str,
    ) -> Result<(ThreadOpened, Vec<String>), Outcome> {
        let Assignment { job, attempt, attempt_uid, task_uid, .. } = &self.assignment;
        let (wire, capabilities) = (Wire::from(job.model.api), Capabilities::from(&job.model.capabilities));
        let tools = wire.tools(&definitions::of(job.model.surface, capabilities.image_input), &capabilities);
        let cwd = self.layout.worktree().to_string_lossy().into_owned();
        let (reader, mount) = (workspace.worktree.reader(), self.layout.workspace());
        let mut reading = Reading { reader, mount, cwd: &cwd, warnings: Vec::new() };
        let (agents_md, skills) = (reading.agents_md(), reading.skills());
        let warnings = reading.warnings;
        let input = PromptInput {
            surface: job.model.surface,
            images: capabilities.image_input,
            instructions: &job.instructions,
            permissions: Permissions {
                writable_roots: &WRITABLE,
                network: job.environment.network,
                command_limit: command_limit(job),
            },
            agents_md: agents_md.as_ref(),
            skills: &skills,
            environment: EnvironmentContext {
                cwd: &cwd,
                workspace_root: &cwd,
                shell: Path::new(&shell).file_name().and_then(|name| name.to_str()).unwrap_or("sh"),
                date: Timestamp::now().to_zoned(TimeZone::UTC).date(),
            },
            prompt,
        };
        let mut messages = prompt::initial_messages(&input);
        // The prompt itself begins the first turn.
        messages.pop();
        let prefix = messages.into_iter().map(|message| wire.message(message, &capabilities)).collect();
        let opened = ThreadOpened {
            thread_id: attempt_uid.clone(),
            task_uid: task_uid.clone(),
            attempt: attempt.clone(),
            base_commit: workspace.fetched.base_commit.to_string(),
            baseline_tree,
            provider: job.model.provider_name.clone(),
            model: job.model.name.clone(),
            reasoning_effort: effort(job.model.reasoning_effort),
            shell,
            wire,
            capabilities,
            tools: String::from_utf8(tools.bytes.to_vec()).map_err(|error| internal(&error))?,
            custom_as_function: tools.custom_as_function,
            prefix,
            skills,
        };
        Ok((opened, warnings))
    }
}

/// The shell for the model's commands.
///
/// # Errors
/// How the attempt ends.
pub(super) async fn shell(sandbox: &Sandbox) -> Result<String, Outcome> {
    let paths = SHELLS.map(str::to_owned);
    let states = sandbox.fs_state("/", &paths).await.map_err(lost)?;
    let states: Vec<FileState> = states.into_iter().map(|path| path.state).collect();
    Ok(shell_among(&states).to_owned())
}

/// The shell, by what is at each of [`SHELLS`]. A bash behind the link that `/bin` is goes by that name: it puts its own
/// name before its messages, and models know it as `/bin/bash`.
fn shell_among(states: &[FileState]) -> &'static str {
    match states {
        [FileState::File { .. }, ..] | [FileState::Special, FileState::File { .. }] => "/bin/bash",
        [_, FileState::File { .. }] => "/usr/bin/bash",
        _ => "/bin/sh",
    }
}

fn effort(effort: Option<ReasoningEffort>) -> Option<String> {
    let name = match effort? {
        ReasoningEffort::Minimal => "minimal",
        ReasoningEffort::Low => "low",
        ReasoningEffort::Medium => "medium",
        ReasoningEffort::High => "high",
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use podwright_sandboxd::protocol::Digest;

    use super::*;

    #[test]
    fn bash_goes_by_its_usual_name_where_it_has_it() {
        let file = FileState::File { sha256: Digest::of(b""), size: 0, executable: true };
        for (bin, usr, shell) in [
            (FileState::Special, file.clone(), "/bin/bash"),
            (file.clone(), FileState::Absent, "/bin/bash"),
            (file.clone(), file.clone(), "/bin/bash"),
            (FileState::Absent, file, "/usr/bin/bash"),
            (FileState::Special, FileState::Absent, "/bin/sh"),
            (FileState::Absent, FileState::Absent, "/bin/sh"),
        ] {
            assert_eq!(shell_among(&[bin, usr]), shell);
        }
    }
}
