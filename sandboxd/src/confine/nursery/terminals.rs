//! Terminals that the commands of a phase may open by path.
//!
//! A Landlock rule names a device that exists, and a domain takes no rule after it was entered. So some terminals are
//! opened beforehand and lent out: `/dev/stderr` and `$(tty)` then work in a command on a terminal, while every other
//! terminal in the container stays shut. A person's terminal must not be one of these: every command of the phase can
//! open them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, QueueSelector, Termios, Winsize, tcflush, tcgetattr, tcgetsid, tcsetattr, tcsetwinsize,
};

/// A terminal for one command.
#[derive(Debug)]
pub struct Terminal {
    /// The supervisor's end. Reading it fails with `EIO` once no process has the other end open.
    pub master: TerminalMaster,
    /// The command's end: pass it (cloned) as all three of its standard streams, and keep no copy.
    pub slave: OwnedFd,
}

/// The supervisor's end of a terminal. Dropped once the terminal has no process and no session any more, it goes back to
/// those that are lent out, for a later command; else it is closed.
#[derive(Debug)]
pub struct TerminalMaster {
    fd: Arc<OwnedFd>,
    /// Dangling for a terminal that commands cannot open by its path, and once the phase has another nursery.
    home: Weak<Free>,
}

#[derive(Debug)]
pub(super) struct Terminals {
    free: Arc<Free>,
    /// The settings of a terminal that nobody has used.
    fresh: Option<Termios>,
}

/// Terminals that nobody has.
#[derive(Debug)]
struct Free(Mutex<Vec<Arc<OwnedFd>>>);

/// How many terminals are opened beforehand. A node has some 3,000 for all its pods, of which there may be 250.
pub(super) const TERMINALS: usize = 8;

impl Terminals {
    /// Opens as many as there are: without any, commands on terminals only cannot open theirs by path.
    pub(super) fn open() -> Self {
        let free: Vec<Arc<OwnedFd>> = (0..TERMINALS).map_while(|_| open().ok().map(Arc::new)).collect();
        let fresh = free.first().and_then(|master| tcgetattr(slave_of(master).ok()?).ok());
        Self { free: Arc::new(Free(Mutex::new(free))), fresh }
    }

    /// The command's end of each, to make rules of.
    pub(super) fn slaves(&self) -> io::Result<Vec<OwnedFd>> {
        self.free.lock().iter().map(|master| slave_of(master)).collect()
    }

    pub(super) fn take(&self) -> io::Result<Terminal> {
        let (master, slave) = self.lend().map_or_else(open_both, Ok)?;
        if let Some(fresh) = &self.fresh {
            tcsetattr(&slave, OptionalActions::Now, fresh)?;
        }
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
        Ok(Terminal { master, slave })
    }

    /// One that was set aside. A command can have made its own refuse to be opened again (`TIOCEXCL`): that one goes.
    fn lend(&self) -> Option<(TerminalMaster, OwnedFd)> {
        loop {
            let fd = self.free.lock().pop()?;
            if let Ok(slave) = slave_of(&fd) {
                return Some((TerminalMaster { fd, home: Arc::downgrade(&self.free) }, slave));
            }
        }
    }
}

impl Free {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for TerminalMaster {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for TerminalMaster {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade()
            && is_abandoned(&self.fd)
        {
            home.lock().push(self.fd.clone());
        }
    }
}

fn open_both() -> io::Result<(TerminalMaster, OwnedFd)> {
    let fd = open()?;
    let slave = slave_of(&fd)?;
    Ok((TerminalMaster { fd: Arc::new(fd), home: Weak::new() }, slave))
}

fn open() -> io::Result<OwnedFd> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    Ok(master)
}

fn slave_of(master: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?)
}

/// Whether no process has the other end open, so that what the next command writes is seen by nobody else; and no
/// session has it, which could open it again, and whose terminal could not become the next command's.
fn is_abandoned(master: &OwnedFd) -> bool {
    let _ = tcflush(master, QueueSelector::IOFlush);
    let mut fds = [PollFd::from_borrowed_fd(master.as_fd(), PollFlags::empty())];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let hung_up = poll(&mut fds, Some(&zero)).is_ok() && fds[0].revents().contains(PollFlags::HUP);
    hung_up && tcgetsid(master) == Err(Errno::NOTTY)
}
