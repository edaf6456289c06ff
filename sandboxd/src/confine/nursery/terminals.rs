//! Terminals that the commands of a phase may open by path.
//!
//! A Landlock rule names a device that exists, and a domain takes no rule after it was entered. So some terminals are
//! opened beforehand and lent out: `/dev/stderr` and `$(tty)` then work in a command on a terminal, while every other
//! terminal in the container stays shut. A person's terminal must not be one of these: every command of the phase can
//! open them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, QueueSelector, Termios, Winsize, tcflush, tcgetattr, tcsetattr, tcsetwinsize,
};

/// A terminal for one command.
#[derive(Debug)]
pub struct Terminal {
    /// The supervisor's end. Reading it fails with `EIO` once no process has the other end open.
    pub master: OwnedFd,
    /// The command's end: pass it (cloned) as all three of its standard streams, and keep no copy.
    pub slave: OwnedFd,
}

#[derive(Debug)]
pub(super) struct Terminals {
    free: Mutex<Vec<OwnedFd>>,
    /// The settings of a terminal that nobody has used.
    fresh: Option<Termios>,
}

/// How many terminals are opened beforehand. A node has some 3,000 for all its pods, of which there may be 250.
pub(super) const TERMINALS: usize = 8;

impl Terminals {
    /// Opens as many as there are: without any, commands on terminals only cannot open theirs by path.
    pub(super) fn open() -> Self {
        let free: Vec<OwnedFd> = (0..TERMINALS).map_while(|_| open().ok()).collect();
        let fresh = free.first().and_then(|master| tcgetattr(slave_of(master).ok()?).ok());
        Self { free: Mutex::new(free), fresh }
    }

    /// The command's end of each, to make rules of.
    pub(super) fn slaves(&self) -> io::Result<Vec<OwnedFd>> {
        self.free().iter().map(slave_of).collect()
    }

    pub(super) fn take(&self) -> io::Result<Terminal> {
        let master = self.free().pop();
        let master = master.map_or_else(open, Ok)?;
        let slave = slave_of(&master)?;
        if let Some(fresh) = &self.fresh {
            tcsetattr(&slave, OptionalActions::Now, fresh)?;
        }
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
        Ok(Terminal { master, slave })
    }

    pub(super) fn give_back(&self, master: OwnedFd) {
        let mut free = self.free();
        if free.len() < TERMINALS && is_abandoned(&master) {
            free.push(master);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open() -> io::Result<OwnedFd> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    Ok(master)
}

fn slave_of(master: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?)
}

/// Whether no process has the other end open, so that what the next command writes is seen by nobody else.
fn is_abandoned(master: &OwnedFd) -> bool {
    let _ = tcflush(master, QueueSelector::IOFlush);
    let mut fds = [PollFd::from_borrowed_fd(master.as_fd(), PollFlags::empty())];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&zero)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}
