//! Ending whole process trees.
//!
//! A process group is not enough: `setsid` leaves it. Every command has a subreaper, so its descendants can be found
//! by their parents, however often they forked. They are stopped first, so that none can fork while the others end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long processes may take to end. An ordinary tree needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two sweeps, for the kernel to carry out the last one.
const PAUSE: Duration = Duration::from_millis(1);

/// Ends a command and every descendant, also those in sessions of their own. `pid` is [`super::Launched::pid`], which
/// ends by itself when the last of them has. Blocks for some milliseconds.
///
/// # Errors
/// When some survive 5 s, which only a fork bomb can bring about that forks faster than it can be looked at; then
/// [`kill_all`] is the way out.
pub fn kill_tree(pid: Pid) -> io::Result<()> {
    let root = pid.as_raw_pid();
    let mut sweeper = Sweeper::new();
    loop {
        // A command may have stopped its subreaper, which has to reap what is ended here.
        signal(root, Signal::CONT);
        let processes = processes()?;
        // The subreaper ends when the kernel has no child left for it: no look at a moving list is as sure.
        if processes.get(&root).is_none_or(|process| process.ended) {
            return Ok(());
        }
        sweeper.sweep(&descendants(&processes, &BTreeSet::from([root])))?;
    }
}

/// The living children of this process that are not in `known`. Process 1 has such when a command killed its own
/// subreaper: the command's processes have come to it.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn strays(known: &BTreeSet<i32>) -> io::Result<BTreeSet<i32>> {
    let mut strays = children(&processes()?, rustix::process::getpid().as_raw_pid());
    strays.retain(|stray| !known.contains(stray));
    Ok(strays)
}

/// Ends these processes and every descendant, while the caller's other threads reap. What is forked during it by one
/// that ends may be missed, and becomes a stray in its turn: look for [`strays`] again until there are none.
///
/// # Errors
/// When some survive 5 s: see [`kill_tree`].
pub fn kill_strays(strays: &BTreeSet<i32>) -> io::Result<()> {
    let mut sweeper = Sweeper::new();
    loop {
        let processes = processes()?;
        let mut alive = descendants(&processes, strays);
        alive
            .extend(strays.iter().filter(|stray| processes.get(stray).is_some_and(|process| !process.ended)));
        if alive.is_empty() {
            return Ok(());
        }
        sweeper.sweep(&alive)?;
    }
}

/// Asks a command and every descendant to end (SIGTERM), in one sweep: what is started meanwhile may miss it.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn terminate_tree(pid: Pid) -> io::Result<()> {
    let below = descendants(&processes()?, &BTreeSet::from([pid.as_raw_pid()]));
    below.iter().for_each(|pid| signal(*pid, Signal::TERM));
    Ok(())
}

/// Ends every process that the supervisor may signal except itself: the end of a phase. The agent's `attach` goes too
/// and is opened anew by the agent. The caller goes on reaping its children meanwhile.
///
/// # Errors
/// When some survive 5 s.
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

/// The parent of a process, 0 when that is in another namespace. None when there is no such process.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&stat).map(|process| process.parent)
}

/// The child of this process from which a process or thread descends: a command's subreaper.
pub(super) fn tree_of(thread: u32) -> Option<i32> {
    // A command can fork as deep as it likes; what lies deeper is nobody's.
    const DEPTH_MAX: usize = 256;
    let own = rustix::process::getpid().as_raw_pid();
    let mut pid = i32::try_from(thread).ok()?;
    for _ in 0..DEPTH_MAX {
        match parent_of(pid)? {
            parent if parent == own => return Some(pid),
            0 => return None,
            parent => pid = parent,
        }
    }
    None
}

/// How many processes there are besides this one.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn count_others() -> io::Result<usize> {
    Ok(processes()?.len().saturating_sub(1))
}

/// Stops what is new to it, and ends all once nothing is.
struct Sweeper {
    stopped: BTreeSet<i32>,
    deadline: Instant,
}

impl Sweeper {
    fn new() -> Self {
        Self { stopped: BTreeSet::new(), deadline: Instant::now() + PATIENCE }
    }

    fn sweep(&mut self, alive: &BTreeSet<i32>) -> io::Result<()> {
        let new: Vec<i32> = alive.iter().copied().filter(|pid| self.stopped.insert(*pid)).collect();
        if new.is_empty() {
            alive.iter().for_each(|pid| signal(*pid, Signal::KILL));
            sleep(PAUSE);
        } else {
            new.iter().for_each(|pid| signal(*pid, Signal::STOP));
        }
        if Instant::now() > self.deadline { Err(survivors(alive.len())) } else { Ok(()) }
    }
}

type Processes = BTreeMap<i32, Process>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    ended: bool,
}

/// Every process that there is. One that ends meanwhile may be missing.
fn processes() -> io::Result<Processes> {
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

/// The living children of a process.
fn children(processes: &Processes, parent: i32) -> BTreeSet<i32> {
    processes.iter().filter(|(_, p)| p.parent == parent && !p.ended).map(|(pid, _)| *pid).collect()
}

/// The living descendants of processes, themselves left out. An ended one counts as a link: its children hang on it
/// until the subreaper has them.
fn descendants(processes: &Processes, roots: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut found = roots.clone();
    loop {
        let next: Vec<i32> = processes
            .iter()
            .filter(|(pid, process)| found.contains(&process.parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if next.is_empty() {
            break;
        }
        found.extend(next);
    }
    found.retain(|pid| !roots.contains(pid) && processes.get(pid).is_some_and(|process| !process.ended));
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
        let below = |root| descendants(&processes, &BTreeSet::from([root]));
        assert_eq!(below(5), BTreeSet::from([6, 7]));
        assert_eq!(below(8), BTreeSet::new());
        assert_eq!(below(1), BTreeSet::from([5, 6, 7, 8]));
        assert_eq!(children(&processes, 5), BTreeSet::new());
        assert_eq!(children(&processes, 1), BTreeSet::from([5, 8]));
    }

    #[test]
    fn a_parent_is_found() {
        let me = rustix::process::getpid().as_raw_pid();
        assert_eq!(parent_of(me), rustix::process::getppid().map(Pid::as_raw_pid));
        assert_eq!(parent_of(-1), None);
    }
}
