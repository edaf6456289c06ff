//! What a thread begins with: its model, its tools and its first messages.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use podwright_sandboxd::confine::WRITABLE;
use podwright_sandboxd::protocol::FileState;

use super::Assignment;
use super::cluster::Cluster;
use super::prepare::{Preparation, Workspace, command_limit, internal, lost};
use crate::agent::agents_md::{self, AgentsMd, BUDGET, Found};
use crate::agent::journal::record::ThreadOpened;
use crate::agent::prompt::{self, EnvironmentContext, Permissions, PromptInput};
use crate::agent::tools::definitions;
use crate::api::attempt::Outcome;
use crate::api::task::ReasoningEffort;
use crate::llm::{Capabilities, Wire};
use crate::sandbox::Sandbox;

/// Shells that are looked for, the first that is there runs the model's commands: models write for bash.
/// The second place is for images in which `/bin` is no link.
const SHELLS: [&str; 2] = ["usr/bin/bash", "bin/bash"];

impl<C: Cluster> Preparation<C> {
    /// Settles what stays as it is for the whole thread.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) fn open(
        &self,
        workspace: &Workspace,
        baseline_tree: String,
        shell: String,
        prompt: &str,
    ) -> Result<ThreadOpened, Outcome> {
        let Assignment { job, attempt, attempt_uid, task_uid, .. } = &self.assignment;
        let (wire, capabilities) = (Wire::from(job.model.api), Capabilities::from(&job.model.capabilities));
        let tools = wire.tools(&definitions::codex(), &capabilities);
        let cwd = self.layout.worktree().to_string_lossy().into_owned();
        let agents_md = self.agents_md(workspace, &cwd);
        let input = PromptInput {
            instructions: &job.instructions,
            permissions: Permissions {
                writable_roots: &WRITABLE,
                network: job.environment.network,
                command_limit: command_limit(job),
            },
            agents_md: agents_md.as_ref(),
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
        Ok(ThreadOpened {
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
        })
    }

    fn agents_md(&self, workspace: &Workspace, cwd: &str) -> Option<AgentsMd> {
        let reader = workspace.worktree.reader();
        let mount = self.layout.workspace();
        let read = |path: &String| {
            let relative = Path::new(path).strip_prefix(mount).ok()?;
            // One byte more than counts tells whether something is missing.
            let content = reader.read(relative, BUDGET + 1).ok()?;
            let length = content.bytes.len() as u64;
            Some(Found { path: path.clone(), content: content.bytes, length })
        };
        let found: Vec<Vec<Found>> = agents_md::candidates(cwd, cwd)
            .iter()
            .map(|names| names.iter().filter_map(read).collect())
            .collect();
        agents_md::assemble(&found)
    }
}

/// The shell for the model's commands.
///
/// # Errors
/// How the attempt ends.
pub(super) async fn shell(sandbox: &Sandbox) -> Result<String, Outcome> {
    let paths = SHELLS.map(str::to_owned);
    let states = sandbox.fs_state("/", &paths).await.map_err(lost)?;
    let found = states.into_iter().find(|path| matches!(path.state, FileState::File { .. }));
    Ok(found.map_or_else(|| "/bin/sh".to_owned(), |path| format!("/{}", path.path)))
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
