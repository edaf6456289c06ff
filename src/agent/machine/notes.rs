//! What the model is told, between two steps, of what happened to the sandbox.

use super::{Effect, Machine};
use crate::agent::journal::record::SandboxNoted;
use crate::agent::thread::Thread;
use crate::agent::tools::mcp;
use crate::llm::Role;
use podwright_sandboxd::protocol::BootId;

impl Machine {
    /// Says that the sandbox lives anew, before the first request after it, where something ran in it that the model may
    /// count on: servers of its tools, commands in the background. That the call under way was interrupted its own output
    /// tells.
    pub(super) fn tell_of_new_life(&mut self, effects: &mut Vec<Effect>) {
        let (Some(thread), Some(boot)) = (self.thread(), &self.boot) else { return };
        let has_other_servers = thread.boot.as_ref().is_some_and(|known| known != boot);
        let servers = has_other_servers.then(|| mcp::restarted_note(&thread.mcp_tools)).flatten();
        let texts: Vec<String> = servers.into_iter().chain(lost_sessions(thread, boot)).collect();
        if texts.is_empty() {
            return;
        }
        let item = thread.message(Role::Developer, texts.join("\n"));
        let boot = boot.clone();
        self.append(SandboxNoted { boot, items: vec![item] }, effects);
    }
}

/// The commands that went on in the background and ended with their life of the sandbox, by number alone: what stands in
/// a command is the model's, and has no place in a message that ranks above the user's.
fn lost_sessions(thread: &Thread, boot: &BootId) -> Option<String> {
    let lost = thread.sessions.values().filter(|session| session.boot != *boot);
    let lost: Vec<String> = lost.map(|session| session.session.to_string()).collect();
    (!lost.is_empty()).then(|| {
        format!(
            "The sandbox was restarted. The commands that ran in these sessions are gone, and how far they came is not \
             known: {}.",
            lost.join(", ")
        )
    })
}
