//! Asking a command and everything that it started to end.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::process::Process;
use crate::protocol::EndedBy;

/// Sends SIGTERM to the tree below the command's subreaper, and has it killed if that is not enough. Returns whether
/// the command was running.
///
/// One pass over `/proc`: a process that is being started meanwhile may miss the signal, and is killed later.
pub(super) fn ask(process: &mut Process, by: EndedBy, now: Instant) -> bool {
    let running = process.ask_to_end(by, now);
    if let (true, Some(root)) = (running, process.tree()) {
        for pid in descendants(root.as_raw_nonzero().get(), &parents()) {
            if let Some(pid) = Pid::from_raw(pid) {
                // One that has just ended is no failure.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
    }
    running
}

/// Every process and its parent.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, super::listener::parent_of(pid)?))).collect()
}

/// Everything below `root`, without it.
fn descendants(root: i32, parents: &[(i32, i32)]) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        let below = |parent: &i32| *parent == root || found.contains(parent);
        let more: Vec<i32> =
            parents.iter().filter(|(_, parent)| below(parent)).map(|(pid, _)| *pid).collect();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_whole_tree_in_any_order_and_nothing_else() {
        let parents = [(9, 5), (1, 0), (5, 3), (3, 2), (2, 1), (4, 1), (8, 4), (7, 3)];
        assert_eq!(descendants(2, &parents), BTreeSet::from([3, 5, 7, 9]));
        assert_eq!(descendants(9, &parents), BTreeSet::new());
    }
}
