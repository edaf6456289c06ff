//! The prompt: everything that a thread says before the model's first word.
//!
//! Four messages in a fixed order, the ones that change least first, so that tasks of one kind share the
//! longest beginning: base instructions; developer instructions and what is enforced; what the repository
//! says and where the agent is; the task. Later changes are appended to the thread, never made here.

pub mod continuation;
pub mod inputs;
pub mod mode;
pub mod network;
pub mod skills;

use std::fmt::Write as _;
use std::time::Duration;

use jiff::civil::Date;

use self::mode::Work;
use self::network::NetworkAccess;
use self::skills::Skill;
use super::agents_md::AgentsMd;
use super::tools::mcp;
use crate::answer::ANSWER_MAX;
use crate::api::provider::Surface;
use crate::llm::{ContentPart, Message, Role};

/// How to work, with which tools, and how to end: the same for every task of a model.
const WORK: &str = include_str!("base/work.md");
const CODEX_TOOLS: &str = include_str!("base/tools_codex.md");
const GENERIC_TOOLS: &str = include_str!("base/tools_generic.md");
const IMAGE_TOOL: &str = include_str!("base/tools_images.md");
const REPORT: &str = include_str!("base/report.md");

/// What the first messages are made of.
#[derive(Clone, Debug)]
pub struct PromptInput<'a> {
    /// Which tools the model has.
    pub surface: Surface,
    /// Whether the model takes images, and so has the tool for them.
    pub images: bool,
    /// The task's developer instructions; empty for none.
    pub instructions: &'a str,
    /// What commands may do.
    pub permissions: Permissions<'a>,
    /// What kind of work it is.
    pub work: Work<'a>,
    /// The JSON schema of the final answer, if it has to fit one.
    pub answer_schema: Option<&'a str>,
    /// MCP servers that did not start.
    pub missing_servers: &'a [String],
    /// What the repository tells agents.
    pub agents_md: Option<&'a AgentsMd>,
    /// The skills that it brings along.
    pub skills: &'a [Skill],
    /// Where the agent is.
    pub environment: EnvironmentContext<'a>,
    /// The task.
    pub prompt: &'a str,
}

/// What is really enforced on commands. Nobody can be asked for more.
#[derive(Clone, Copy, Debug)]
pub struct Permissions<'a> {
    /// Absolute directories beneath which commands may write.
    pub writable_roots: &'a [&'a str],
    /// What commands may reach.
    pub network: NetworkAccess<'a>,
    /// Whether commands may talk to each other over loopback: on older kernels they have no sockets for it.
    pub loopback: bool,
    /// After this time a command is ended.
    pub command_limit: Duration,
}

/// Where the agent is.
#[derive(Clone, Copy, Debug)]
pub struct EnvironmentContext<'a> {
    /// Absolute working directory.
    pub cwd: &'a str,
    /// The absolute path of the repository.
    pub workspace_root: &'a str,
    /// The shell that runs commands, by its short name.
    pub shell: &'a str,
    /// The day on which the thread began, in UTC, the sandbox's time zone.
    pub date: Date,
}

/// The base instructions. `images`: whether the model takes images.
pub fn base_instructions(surface: Surface, images: bool) -> String {
    let tools = match surface {
        Surface::Codex => CODEX_TOOLS,
        Surface::Generic => GENERIC_TOOLS,
    };
    let images = if images { IMAGE_TOOL } else { "" };
    [WORK, tools, images, REPORT.trim_end()].concat()
}

/// The first messages, in order.
pub fn initial_messages(input: &PromptInput<'_>) -> Vec<Message> {
    let cwd = input.environment.cwd;
    let instructions = Some(input.instructions).filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let agents_md = input.agents_md.map(|agents_md| agents_md.block(cwd));
    vec![
        message(Role::Developer, [base_instructions(input.surface, input.images)]),
        message(
            Role::Developer,
            instructions
                .into_iter()
                .chain([input.permissions.block(input.surface)])
                .chain(input.work.block())
                .chain(input.answer_schema.map(answer_format))
                .chain(mcp::missing_note(input.missing_servers)),
        ),
        message(
            Role::User,
            agents_md
                .into_iter()
                .chain(skills::list(input.skills))
                .chain([input.environment.block(input.permissions.network)]),
        ),
        message(Role::User, [input.prompt.to_owned()]),
    ]
}

impl Permissions<'_> {
    /// The text that tells the model what is enforced.
    pub fn block(&self, surface: Surface) -> String {
        let edits = match surface {
            Surface::Codex => "`apply_patch` changes",
            Surface::Generic => "`str_replace` and `write_file` change",
        };
        let roots: Vec<String> = self.writable_roots.iter().map(|root| format!("`{root}`")).collect();
        let network = self.network.sentences(self.loopback);
        format!(
            "<permissions instructions>\n\
             `sandbox_mode` is `workspace-write`: commands may read the files of the sandbox, and write beneath {}. \
             Writing elsewhere fails. {edits} files of the repository only, and not its `.git`.\n\
             {network}\n\
             A command that runs longer than {} seconds is ended with everything that it started.\n\
             Approval policy is currently never: there is nobody to ask, and a request for more rights is \
             rejected. Find a way within these limits, or report what could not be done.\n\
             </permissions instructions>",
            roots.join(", "),
            self.command_limit.as_secs(),
        )
    }
}

impl EnvironmentContext<'_> {
    /// The block that tells the model where it is.
    pub fn block(&self, network: NetworkAccess<'_>) -> String {
        let mut block = String::from("<environment_context>\n");
        for (name, value) in [
            ("cwd", self.cwd),
            ("shell", self.shell),
            ("current_date", &self.date.to_string()),
            ("timezone", "Etc/UTC"),
            ("network_access", network.word()),
            ("workspace_root", self.workspace_root),
        ] {
            // Writing to a string cannot fail.
            let _ = writeln!(block, "  <{name}>{value}</{name}>");
        }
        block.push_str("</environment_context>");
        block
    }
}

/// Tells the model what its final answer has to look like, also where the provider is told: what a member means stands
/// in the schema, and the messages on the way to the answer are free.
fn answer_format(schema: &str) -> String {
    format!(
        "<answer_format>\n\
         Your final message is read by a program. It is one JSON value that fits the JSON schema below, and nothing else: \
         no words before or after it, no Markdown. What other instructions say of a report goes into its members as far \
         as they have room for it. It is checked, and may have {ANSWER_MAX} bytes.\n\
         {schema}\n\
         </answer_format>"
    )
}

fn message(role: Role, parts: impl IntoIterator<Item = String>) -> Message {
    Message { role, content: parts.into_iter().map(|text| ContentPart::Text { text }).collect() }
}

#[cfg(test)]
mod tests;
