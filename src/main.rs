//! `podwright`: one binary for the controller, the agent and the tools around them.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First, while there is one thread: a git child confines itself and becomes git.
    if let Some(code) = podwright::workspace::confine::dispatch(std::env::args_os()) {
        return code;
    }
    ExitCode::SUCCESS
}
