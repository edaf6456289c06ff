//! Signals, on kernels whose Landlock does not keep them within a phase.
//!
//! The filter refuses the supervisor's own number. But the kernel takes the number of any of its threads for it as well, and
//! the process that joins the agent's stream to the supervisor (`attach`) has a number of its own. Neither has a parent in
//! this namespace, and everything that a command may signal has one.

use super::Reply;
use rustix::io::Errno;

/// Whether the process, thread or group of a signal may be sent one. The argument is a number, so nothing can change
/// behind the decision.
pub(super) fn judge(target: u32) -> Reply {
    let number = target.cast_signed().unsigned_abs();
    // 0 is the caller's own group. What is not there, the kernel refuses better.
    let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    if number != 0 && is_parentless(&status) { Reply::Fail(Errno::PERM) } else { Reply::Continue }
}

fn is_parentless(status: &str) -> bool {
    status.lines().find_map(|line| line.strip_prefix("PPid:")).is_some_and(|parent| parent.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_parent_makes_a_process_a_commands() {
        assert!(is_parentless("Name:\tx\nTgid:\t1\nPid:\t3\nPPid:\t0\nTracerPid:\t0\n"));
        assert!(!is_parentless("Name:\tPPid:\nPid:\t0\nPPid:\t10\n"));
        assert!(!is_parentless(""));
    }
}
