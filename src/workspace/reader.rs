//! The only code on this side that opens paths of the work tree.
//!
//! A command may change the tree while it is read: swap a directory for a link to this container's
//! secrets, a file for a pipe that never ends, cut a file off under a mapping. So paths are resolved by
//! the kernel beneath a directory's descriptor without following any link or crossing a mount, opening
//! never blocks, what was opened is looked at before it is read, and it is read, never mapped, up to a
//! bound.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat, statat};
use rustix::io::Errno;

/// Opening is tried again when the kernel saw a rename in the middle of it: often enough that no honest
/// tree fails, and then given up, since a hostile one can rename for ever.
const RACES_MAX: usize = 64;

/// Linux's own bound on a symbolic link's target.
const TARGET_MAX: usize = 4096;

/// One directory that the sandbox may write, opened where the sandbox cannot replace it (a mount point).
#[derive(Debug)]
pub struct Reader {
    root: OwnedFd,
}

/// What a file held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// At most as many bytes as were asked for.
    pub bytes: Vec<u8>,
    /// Whether the file has more.
    pub truncated: bool,
}

/// Why something in the work tree was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ReadError {
    /// There is nothing of that name.
    #[error("there is no such file")]
    Missing,
    /// A directory, pipe, socket or device.
    #[error("not a regular file")]
    NotRegular,
    /// A symbolic link, or a way out of the directory or onto another file system.
    #[error("a link, or on another file system")]
    Leads,
    /// The sandbox took our right to read it.
    #[error("no permission to read it")]
    Denied,
    /// It is larger than the reader takes.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// It has more entries than the reader takes.
    #[error("more entries than are read")]
    TooMany,
    /// It was renamed all the time.
    #[error("it changed all the time")]
    Unstable,
    /// The system failed.
    #[error("{0}")]
    System(Errno),
}

impl Reader {
    /// Opens the directory `root`, which must be a mount point or lie where only this side writes.
    ///
    /// # Errors
    /// [`ReadError`] when it is no directory or cannot be opened.
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: openat2(CWD, root, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)? })
    }

    /// Reads the regular file at `path`, relative to the root: its first `max` bytes.
    ///
    /// # Errors
    /// [`ReadError`]; a link anywhere in the path is [`ReadError::Leads`].
    pub fn read(&self, path: &Path, max: usize) -> Result<Content, ReadError> {
        let (file, _) = open_regular(&self.root, path)?;
        let mut bytes = Vec::new();
        let limit = max as u64;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(system)?;
        let truncated = bytes.len() > max;
        bytes.truncate(max);
        Ok(Content { bytes, truncated })
    }

    /// Opens a directory beneath the root.
    pub(crate) fn directory(&self, path: &Path) -> Result<OwnedFd, ReadError> {
        open_directory(&self.root, path)
    }
}

/// Opens the directory `path` beneath `directory`.
pub(crate) fn open_directory(directory: impl AsFd, path: &Path) -> Result<OwnedFd, ReadError> {
    open_beneath(directory, path, OFlags::DIRECTORY)
}

/// The names in a directory, at most `max` of them, in no order. Each counts with the `prefix` bytes that its path has
/// before it, and all of them have at most `max_bytes`.
pub(crate) fn names(
    directory: &OwnedFd,
    max: usize,
    prefix: usize,
    max_bytes: usize,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let (mut names, mut bytes) = (Vec::new(), 0);
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        bytes += prefix + name.len();
        if names.len() >= max || bytes > max_bytes {
            return Err(ReadError::TooMany);
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// What `name` in `directory` is; a link is itself.
pub(crate) fn stat(directory: &OwnedFd, name: &Path) -> Result<Stat, ReadError> {
    Ok(statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A file that was read whole.
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    /// Its state after the reading.
    pub(crate) stat: Stat,
    /// Whether the state was the same before. Otherwise the bytes are taken as they came, and no state of
    /// the file is known to have them.
    pub(crate) steady: bool,
}

/// Reads a regular file of at most `max` bytes.
pub(crate) fn read_whole(directory: &OwnedFd, name: &Path, max: u64) -> Result<Whole, ReadError> {
    let (file, before) = open_regular(directory, name)?;
    let size = u64::try_from(before.st_size).unwrap_or(0);
    if size > max {
        return Err(ReadError::TooLarge(max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    // It may have grown since.
    (&file).take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(system)?;
    if bytes.len() as u64 > max {
        return Err(ReadError::TooLarge(max));
    }
    let stat = fstat(&file)?;
    Ok(Whole { bytes, steady: same_state(&before, &stat), stat })
}

/// A symbolic link's target.
pub(crate) fn read_link(directory: &OwnedFd, name: &Path) -> Result<Vec<u8>, ReadError> {
    let target = readlinkat(directory, name, Vec::with_capacity(256))?.into_bytes();
    if target.len() > TARGET_MAX { Err(ReadError::TooLarge(TARGET_MAX as u64)) } else { Ok(target) }
}

fn open_regular(directory: impl AsFd, path: &Path) -> Result<(File, Stat), ReadError> {
    let file = open_beneath(directory, path, OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(ReadError::NotRegular);
    }
    Ok((File::from(file), stat))
}

fn open_beneath(directory: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    for _ in 0..RACES_MAX {
        match openat2(&directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(ReadError::Unstable)
}

fn same_state(before: &Stat, after: &Stat) -> bool {
    let state =
        |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    state(before) == state(after)
}

fn system(error: std::io::Error) -> ReadError {
    ReadError::from(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing,
            Errno::LOOP | Errno::XDEV => Self::Leads,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            // A socket or a device without a driver; a file where a directory was.
            Errno::NXIO | Errno::NODEV | Errno::NOTDIR | Errno::ISDIR => Self::NotRegular,
            other => Self::System(other),
        }
    }
}
