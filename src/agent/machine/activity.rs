//! What goes on, in a few words for people.

use super::{Machine, Stage};
use crate::agent::journal::record::ModelEnd;
use crate::agent::thread::{OpenCall, Thread};
use crate::agent::tools::ToolCall;
use crate::api::conditions::cut;

/// Longest text of one call, in bytes: a line of a terminal, and enough to know a command by.
const WORDS_MAX: usize = 160;

impl Machine {
    /// What goes on at this moment, on one line; nothing while the workspace or the sandbox is made ready, of which
    /// only the driver knows.
    pub fn doing(&self) -> Option<String> {
        let stands = |words: &str| Some(words.to_owned());
        match self.stage {
            Stage::New | Stage::Preparing | Stage::Surveying => return None,
            Stage::Finishing | Stage::Done => return stands("gathering the results"),
            Stage::Working => {}
        }
        if self.is_suspended() {
            return stands("suspended");
        }
        let thread = self.thread()?;
        let mut running = thread.calls.iter().filter(|call| self.running.contains_key(&call.ordinal));
        if let Some(first) = running.next() {
            let mut words = in_words(thread, first);
            words.truncate(cut(&words, WORDS_MAX).len());
            return Some(match running.count() {
                0 => words,
                more => format!("{words} (and {more} more)"),
            });
        }
        if self.is_parked() {
            return stands("waiting until the model can be used again");
        }
        if self.retry_at.is_some() {
            let why = match &thread.last_end {
                Some(ModelEnd::Retry { message, .. }) => format!(": {message}"),
                _ => String::new(),
            };
            return Some(format!("waiting before the model is asked again{why}"));
        }
        if self.lists_tools() {
            return stands("asking the MCP servers for their tools");
        }
        if thread.compaction.is_some() {
            return stands("having the thread summed up, since it nears the end of the context window");
        }
        if thread.request.is_some() {
            return stands("waiting for the model");
        }
        if self.boot_over {
            return stands("waiting for the sandbox");
        }
        stands("waiting for a further message")
    }
}

/// A call under way.
fn in_words(thread: &Thread, call: &OpenCall) -> String {
    let Some(written) = thread.call_at(call.ordinal) else { return String::new() };
    match thread.meaning(written) {
        Ok(ToolCall::ExecCommand(command)) => {
            let words: Vec<&str> = command.cmd.split_whitespace().collect();
            format!("running: {}", words.join(" "))
        }
        Ok(ToolCall::WriteStdin(write)) => format!("following the session {}", write.session_id),
        Ok(ToolCall::ApplyPatch(_)) => "applying a patch".to_owned(),
        Ok(ToolCall::ViewImage(_)) => "looking at an image".to_owned(),
        Ok(ToolCall::Mcp(call)) => format!("calling {}", call.tool.shown()),
        Ok(ToolCall::UpdatePlan(_)) | Err(_) => written.name.to_owned(),
    }
}
