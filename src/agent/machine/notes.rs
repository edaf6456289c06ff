//! What the model is told, between two steps, of what happened to the sandbox.

use super::{Effect, Machine};
use crate::agent::journal::record::SandboxNoted;
use crate::agent::tools::mcp;
use crate::llm::Role;

impl Machine {
    /// Says that the sandbox lives anew, before the first request after it, where tools of the thread depend on what
    /// ran in it. That commands were interrupted their own outputs tell.
    pub(super) fn tell_of_new_life(&mut self, effects: &mut Vec<Effect>) {
        let (Some(thread), Some(boot)) = (self.thread(), &self.boot) else { return };
        if thread.boot.as_ref().is_none_or(|known| known == boot) {
            return;
        }
        let Some(text) = mcp::restarted_note(&thread.mcp_tools) else { return };
        let item = thread.message(Role::Developer, text);
        let boot = boot.clone();
        self.append(SandboxNoted { boot, items: vec![item] }, effects);
    }
}
