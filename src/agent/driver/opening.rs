//! What a thread begins with: its model, its tools and its first messages.

mod reading;

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use podwright_sandboxd::confine::WRITABLE;
use podwright_sandboxd::protocol::{BootId, FileState};

use self::reading::Reading;
use super::Assignment;
use super::brought::Brought;
use super::cluster::Cluster;
use super::mcp::{Servers, Started};
use super::prepare::{Preparation, Workspace, command_limit, internal, lost};
use crate::agent::journal::record::ThreadOpened;
use crate::agent::prompt::continuation::{Beginning, Speaks, begin};
use crate::agent::prompt::mode::{Compared, Work};
use crate::agent::prompt::network::NetworkAccess;
use crate::agent::prompt::{self, EnvironmentContext, Permissions, PromptInput};
use crate::agent::tools::definitions;
use crate::agent::tools::mcp::selection::{Listing, Selection, select};
use crate::api::attempt::{Job, JobEnvironment, Outcome};
use crate::api::environment::NetworkMode;
use crate::api::network::Methods;
use crate::api::reasons::Reason;
use crate::api::task::{Mode, ReasoningEffort};
use crate::egress::presets;
use crate::llm::{Capabilities, ToolDefinition, Wire};
use crate::sandbox::Sandbox;
use crate::workspace::Fetched;

/// Where bash is looked for, since models write for it: its usual place, and the one that this is a link to in most
/// images.
const SHELLS: [&str; 2] = ["bin/bash", "usr/bin/bash"];

/// What MCP servers add to a thread.
#[derive(Default)]
pub(super) struct Offered {
    selection: Selection,
    /// Servers that did not start.
    missing: Vec<String>,
    /// The life of the sandbox, when some of the servers run in it.
    boot: Option<BootId>,
}

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
        loopback: bool,
        brought: &Brought,
        offered: Offered,
    ) -> Result<(ThreadOpened, Vec<String>), Outcome> {
        let Assignment { job, attempt, attempt_uid, task_uid, .. } = &self.assignment;
        let (wire, capabilities) = (Wire::from(job.model.api), Capabilities::from(&job.model.capabilities));
        let Offered { selection, missing, boot } = offered;
        let own = definitions::of(job.model.surface, capabilities.image_input);
        let tools: Vec<ToolDefinition> = own.into_iter().chain(selection.definitions).collect();
        let tools = wire.tools(&tools, &capabilities);
        let cwd = self.layout.worktree().to_string_lossy().into_owned();
        let (reader, mount) = (workspace.worktree.reader(), self.layout.workspace());
        let mut reading = Reading { reader, mount, cwd: &cwd, warnings: Vec::new() };
        let (agents_md, skills) = (reading.agents_md(), reading.skills());
        let warnings = reading.warnings.into_iter().chain(selection.left_out).collect();
        let names = listed_names(&job.environment);
        let input = PromptInput {
            surface: job.model.surface,
            images: capabilities.image_input,
            instructions: &job.instructions,
            permissions: Permissions {
                writable_roots: &WRITABLE,
                network: network_access(&job.environment, &names),
                loopback,
                command_limit: command_limit(job),
            },
            work: work(job, &workspace.fetched),
            answer_schema: brought.answer.as_ref().map(|format| format.schema.as_str()),
            missing_servers: &missing,
            agents_md: agents_md.as_ref(),
            skills: &skills,
            environment: EnvironmentContext {
                cwd: &cwd,
                workspace_root: &cwd,
                shell: Path::new(&shell).file_name().and_then(|name| name.to_str()).unwrap_or("sh"),
                date: Timestamp::now().to_zoned(TimeZone::UTC).date(),
            },
            prompt: &brought.prompt,
        };
        let mut messages = prompt::initial_messages(&input);
        // The prompt itself begins the first turn.
        messages.pop();
        let speaks = Speaks {
            provider: &job.model.provider_name,
            model: &job.model.name,
            wire,
            capabilities: &capabilities,
            tools: &tools,
        };
        let Beginning { prefix, inherited, cache_key } = begin(brought.former.as_ref(), messages, speaks);
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
            answer: brought.answer.clone(),
            cache_key,
            inherited: Box::new(inherited),
            mcp_tools: selection.tools,
            boot,
        };
        Ok((opened, warnings))
    }

    /// Starts the MCP servers and chooses among their tools.
    ///
    /// # Errors
    /// How the attempt ends whose environment requires one that does not start.
    pub(super) async fn start_servers(
        &self,
        servers: &Servers<C>,
        sandbox: &Sandbox,
        boot: &BootId,
    ) -> Result<Offered, Outcome> {
        servers.reach(sandbox.clone());
        if servers.is_empty() {
            return Ok(Offered::default());
        }
        self.announce.phase("starting MCP servers").await;
        let (mut listings, mut missing) = (Vec::new(), Vec::new());
        for Started { server, tools } in servers.start().await {
            match tools {
                Ok(tools) => listings.push(Listing { server, tools }),
                Err(why) if server.required => {
                    let name = &server.name;
                    return Err(Outcome {
                        reason: Reason::SetupFailed,
                        message: format!(
                            "The MCP server {name}, which the AgentEnvironment requires, cannot be used: {why}. The \
                             agent's log says more. Mend it, or take required out of its entry in spec.mcpServers."
                        ),
                    });
                }
                Err(_) => missing.push(server.name.clone()),
            }
        }
        let selection = select(listings);
        let boot = selection.tools.iter().any(|tool| tool.sandboxed).then(|| boot.clone());
        Ok(Offered { selection, missing, boot })
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

/// The kind of work. A review without anything to compare with is a question about the repository; the controller
/// makes no such job.
fn work<'a>(job: &'a Job, fetched: &Fetched) -> Work<'a> {
    match (job.mode, &job.review, &fetched.beside) {
        (Mode::Change, _, _) => Work::Change,
        (Mode::Review, Some(review), Some(beside)) => Work::Review(Compared {
            reference: &job.repository.reference,
            commit: fetched.base_commit.to_string(),
            base: &review.base,
            base_commit: beside.commit.to_string(),
            meets: beside.meets.map(|commit| commit.to_string()),
        }),
        (Mode::Ask | Mode::Review, _, _) => Work::Ask,
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

/// Every name that commands may reach, those of presets among them.
fn listed_names(environment: &JobEnvironment) -> Vec<String> {
    let Some(egress) = &environment.egress else { return Vec::new() };
    let presets = egress.presets.iter().flat_map(|preset| presets::names(*preset));
    presets.map(|name| (*name).to_owned()).chain(egress.names.iter().cloned()).collect()
}

fn network_access<'a>(environment: &JobEnvironment, names: &'a [String]) -> NetworkAccess<'a> {
    let read_only = environment.egress.as_ref().is_some_and(|egress| egress.methods == Methods::ReadOnly);
    match environment.network {
        NetworkMode::None => NetworkAccess::None,
        NetworkMode::Allowlist => NetworkAccess::Listed { names, read_only },
        NetworkMode::Full => NetworkAccess::Public { read_only },
    }
}

#[cfg(test)]
mod tests {
    use podwright_sandboxd::protocol::Digest;

    use super::*;

    #[test]
    fn bash_goes_by_its_usual_name_where_it_has_it() {
        let file = FileState::File { sha256: Digest::of(b""), size: 0, executable: true };
        for (bin, usr, shell) in [
            (FileState::Special, file, "/bin/bash"),
            (file, FileState::Absent, "/bin/bash"),
            (file, file, "/bin/bash"),
            (FileState::Absent, file, "/usr/bin/bash"),
            (FileState::Special, FileState::Absent, "/bin/sh"),
            (FileState::Absent, FileState::Absent, "/bin/sh"),
        ] {
            assert_eq!(shell_among(&[bin, usr]), shell);
        }
    }
}
