//! The credential's way to git: an inherited memory file, read by this program as git's "askpass".
//!
//! So it is never in a URL, an argument, the environment, a configuration file or on a disk.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::process::{Command, ExitCode};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

/// Names the inherited descriptor, and makes this program answer git's prompts: git runs `GIT_ASKPASS`
/// with the prompt as its only argument, so there is no place for a subcommand.
const DESCRIPTOR: &str = "PODWRIGHT_ASKPASS_FD";

/// Two lines of a Secret; more is no credential.
const ANSWER_MAX: u64 = 64 * 1024;

/// What git is told when it asks.
#[derive(Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// Puts the answer into a memory file that `command` inherits.
pub(crate) fn hand_over(answer: &Answer, command: &mut Command) -> io::Result<()> {
    // Without CLOEXEC: git, its transport helper and this program again inherit it.
    let mut file = File::from(memfd_create("askpass", MemfdFlags::empty())?);
    file.write_all(&serde_json::to_vec(answer)?)?;
    command.env(DESCRIPTOR, file.as_raw_fd().to_string()).env("GIT_ASKPASS", std::env::current_exe()?);
    // Closed by nobody: it has to be open when this process has become git.
    let _ = file.into_raw_fd();
    Ok(())
}

/// Answers one prompt of git's; `None` when this process is not git's askpass.
pub(crate) fn answer(prompt: &OsStr) -> Option<ExitCode> {
    let descriptor = std::env::var(DESCRIPTOR).ok()?;
    Some(match print_answer(&descriptor, &prompt.to_string_lossy()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot answer git's question for a credential: {error}");
            ExitCode::FAILURE
        }
    })
}

fn print_answer(descriptor: &str, prompt: &str) -> io::Result<()> {
    let number: u32 = descriptor.parse().map_err(io::Error::other)?;
    // Opened anew, since git asks twice and an inherited descriptor shares its position.
    let mut bytes = Vec::new();
    File::open(format!("/proc/self/fd/{number}"))?.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    let answer: Answer = serde_json::from_slice(&bytes)?;
    let line = if prompt.starts_with("Username") {
        answer.username
    } else if prompt.starts_with("Password") {
        answer.password
    } else {
        return Err(io::Error::other("git asks for something else"));
    };
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}
