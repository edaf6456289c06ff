//! Ending whole process trees.
//!
//! A process group is not enough: `setsid` leaves it. Every command has a subreaper, so its descendants can be found
//! by their parents, however often they forked. They are stopped first, so that none can fork while the others end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long processes may take to end. A killed process needs microseconds; a fork bomb may need several sweeps.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two sweeps, for the kernel to carry out the last one.
const PAUSE: Duration = Duration::from_millis(1);

/// Ends a command and every descendant, also those in sessions of their own. `pid` is [`super::Launched::pid`], which
/// then ends by itself. Blocks for some milliseconds.
///
/// # Errors
/// When some survive 10 s, which only a fork bomb that outruns the sweeps can bring about; then [`kill_all`] is the
/// way out.
pub fn kill_tree(pid: Pid) -> io::Result<()> {
    let root = pid.as_raw_pid();
    let deadline = Instant::now() + PATIENCE;
    let mut stopped = BTreeSet::new();
    loop {
        let alive = descendants(&processes()?, root);
        if alive.is_empty() {
            // A command may have stopped its subreaper, which now only has to notice that it is alone.
            signal(root, Signal::CONT);
            return Ok(());
        }
        let new: Vec<i32> = alive.iter().copied().filter(|pid| stopped.insert(*pid)).collect();
        if new.is_empty() {
            alive.iter().for_each(|pid| signal(*pid, Signal::KILL));
            // The subreaper has to reap them.
            signal(root, Signal::CONT);
            sleep(PAUSE);
        } else {
            new.iter().for_each(|pid| signal(*pid, Signal::STOP));
        }
        if Instant::now() > deadline {
            return Err(survivors(alive.len()));
        }
    }
}

/// Ends every process that the supervisor may signal except itself: the end of a phase. The agent's `attach` goes too
/// and is opened anew by the agent. The caller goes on reaping its children meanwhile.
///
/// # Errors
/// When some survive 10 s.
pub fn kill_all() -> io::Result<()> {
    let own = rustix::process::getpid().as_raw_pid();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Group 1, negated, is the kernel's word for everybody but the caller and process 1.
        let _ = kill_process_group(Pid::INIT, Signal::KILL);
        let alive = processes()?.iter().filter(|(pid, process)| **pid != own && !process.ended).count();
        if alive == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(survivors(alive));
        }
        sleep(PAUSE);
    }
}

/// The living children of a process.
pub(super) fn children(pid: Pid) -> io::Result<BTreeSet<i32>> {
    let parent = pid.as_raw_pid();
    let processes = processes()?;
    Ok(processes.iter().filter(|(_, p)| p.parent == parent && !p.ended).map(|(pid, _)| *pid).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    ended: bool,
}

/// Every process that there is. One that ends meanwhile may be missing.
fn processes() -> io::Result<BTreeMap<i32, Process>> {
    let mut processes = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        if let Some(process) = parse(&stat) {
            processes.insert(pid, process);
        }
    }
    Ok(processes)
}

/// Reads state and parent out of `/proc/PID/stat`. The name before them is the process's own choice: it may hold
/// parentheses, spaces and line feeds.
fn parse(stat: &[u8]) -> Option<Process> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    Some(Process { parent: fields.next()?.parse().ok()?, ended })
}

/// The living descendants of a process, itself left out. An ended one counts as a link: its children hang on it until
/// the subreaper has them.
fn descendants(processes: &BTreeMap<i32, Process>, root: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        found.extend(
            processes
                .iter()
                .filter(|(_, p)| found.contains(&p.parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    found.retain(|pid| *pid != root && processes.get(pid).is_some_and(|process| !process.ended));
    found
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended since it was seen.
        let _ = kill_process(pid, signal);
    }
}

fn survivors(count: usize) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{count} processes survive being killed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_forge_a_parent() {
        assert_eq!(parse(b"7 (sh) S 3 7 7 0"), Some(Process { parent: 3, ended: false }));
        assert_eq!(parse(b"7 (x) Z 1 \n(y)) Z 3 7 7 0"), Some(Process { parent: 3, ended: true }));
        assert_eq!(parse(b"7 (\xff\xfe) R 3 7"), Some(Process { parent: 3, ended: false }));
        for broken in [b"".as_slice(), b"7 sh S 3", b"7 (sh)", b"7 (sh) S", b"7 (sh) S x"] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn descendants_are_found_through_the_dead() {
        let process = |parent, ended| Process { parent, ended };
        let processes = BTreeMap::from([
            (1, process(0, false)),
            (5, process(1, false)),
            (9, process(5, true)),
            (6, process(9, false)),
            (7, process(6, false)),
            (8, process(1, false)),
        ]);
        assert_eq!(descendants(&processes, 5), BTreeSet::from([6, 7]));
        assert_eq!(descendants(&processes, 8), BTreeSet::new());
        assert_eq!(descendants(&processes, 1), BTreeSet::from([5, 6, 7, 8]));
    }
}
