//! Calls as they stand in a thread, and what they mean.

use super::Thread;
use crate::agent::tools::ToolCall;
use crate::agent::tools::exec::ExecCommand;
use crate::agent::tools::mcp::{McpCall, McpTool};
use crate::agent::tools::plan::PlanStep;
use crate::llm::{Call, CallKind};

impl Thread {
    /// The call at a place in history.
    pub fn call_at(&self, ordinal: u64) -> Option<Call<'_>> {
        self.history.get(usize::try_from(ordinal).ok()?)?.call()
    }

    /// What a call means: one of our own tools, or one of an MCP server's that the thread has.
    ///
    /// # Errors
    /// The call's whole output, as for [`ToolCall::parse`].
    pub fn meaning(&self, call: Call<'_>) -> Result<ToolCall, String> {
        let Call { kind, name, arguments, call_id: _ } = call;
        match (kind, self.mcp_tool(name)) {
            (CallKind::Function, Some(tool)) => McpCall::parse(tool, arguments).map(ToolCall::Mcp),
            (CallKind::Function | CallKind::Custom, _) => ToolCall::parse(kind, name, arguments),
        }
    }

    /// The command that the call at a place runs, if it runs one.
    pub fn command_at(&self, ordinal: u64) -> Option<ExecCommand> {
        match self.meaning(self.call_at(ordinal)?) {
            Ok(ToolCall::ExecCommand(command)) => Some(command),
            Ok(
                ToolCall::WriteStdin(_)
                | ToolCall::ApplyPatch(_)
                | ToolCall::UpdatePlan(_)
                | ToolCall::ViewImage(_)
                | ToolCall::Mcp(_),
            )
            | Err(_) => None,
        }
    }

    /// The plan that the call at a place brings, if it brings one.
    pub fn plan_at(&self, ordinal: u64) -> Option<Vec<PlanStep>> {
        let call = self.call_at(ordinal)?;
        // Free text is a patch, which may be long.
        if call.kind == CallKind::Custom {
            return None;
        }
        match self.meaning(call) {
            Ok(ToolCall::UpdatePlan(update)) => Some(update.plan),
            Ok(
                ToolCall::ExecCommand(_)
                | ToolCall::WriteStdin(_)
                | ToolCall::ApplyPatch(_)
                | ToolCall::ViewImage(_)
                | ToolCall::Mcp(_),
            )
            | Err(_) => None,
        }
    }

    /// The tool of an MCP server that the model calls by this name in this window.
    pub fn mcp_tool(&self, name: &str) -> Option<&McpTool> {
        self.mcp_tools.iter().find(|tool| tool.name == name)
    }
}
