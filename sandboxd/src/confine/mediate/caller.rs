//! The thread whose call waits, looked at through `/proc`.
//!
//! `pidfd_getfd` and `process_vm_readv` would be the direct ways; container runtimes refuse both to a process without
//! privileges. `/proc` is open to the supervisor, an unconfined ancestor with the same UID. What is read here may
//! belong to a later process with the same number until the notification was found to be valid still.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::io::Errno;

/// A thread of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) thread: u32,
}

impl Caller {
    /// Reads the caller's memory, once: what is decided on is what was read, whatever the caller writes there later.
    pub(super) fn memory(self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let memory = File::open(self.path("mem")).map_err(refused)?;
        memory.read_exact_at(buffer, address).map_err(|_| Errno::FAULT)
    }

    /// The number of the socket that a descriptor means.
    pub(super) fn socket(self, descriptor: u32) -> Result<u64, Errno> {
        let link = std::fs::read_link(self.path(&format!("fd/{descriptor}"))).map_err(bad_descriptor)?;
        let name = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        name.and_then(|inode| inode.parse().ok()).ok_or(Errno::NOTSOCK)
    }

    /// The flags of a descriptor: those of `open`, with `O_CLOEXEC` if it is closed on exec.
    pub(super) fn flags(self, descriptor: u32) -> Result<u32, Errno> {
        let flags = self.described(descriptor, "flags:")?.ok_or(Errno::BADF)?;
        u32::from_str_radix(&flags, 8).map_err(|_| Errno::BADF)
    }

    /// The number of the terminal whose supervising end a descriptor is.
    pub(super) fn terminal(self, descriptor: u32) -> Result<u32, Errno> {
        let index = self.described(descriptor, "tty-index:")?;
        index.and_then(|index| index.parse().ok()).ok_or(Errno::NOTTY)
    }

    /// Whether a thread belongs to the caller's own process.
    pub(super) fn owns_thread(self, thread: u32) -> bool {
        self.path(&format!("task/{thread}")).exists()
    }

    fn described(self, descriptor: u32, key: &str) -> Result<Option<String>, Errno> {
        let text =
            std::fs::read_to_string(self.path(&format!("fdinfo/{descriptor}"))).map_err(bad_descriptor)?;
        Ok(text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned()))
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.thread))
    }
}

fn bad_descriptor(error: std::io::Error) -> Errno {
    if error.kind() == ErrorKind::NotFound { Errno::BADF } else { refused(error) }
}

/// A process that made itself unreadable (`PR_SET_DUMPABLE`) gets no sockets.
fn refused(_: std::io::Error) -> Errno {
    Errno::ACCESS
}
