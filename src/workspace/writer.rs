//! Replacing paths of a work tree in which commands have run.
//!
//! What commands left may lead anywhere: a directory may have become a link to this container's secrets, a file may
//! have a second name. So directories are opened one by one and without following links, as the
//! [`reader`](super::reader) does, and nothing is opened to be changed: a file is written anew, under a name of its own,
//! and put in the old one's place.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::Layout;
use super::path::RepoPath;
use super::reader::{self, ReadError, Reader};

/// The name under which a file is written, in the directory that it is for.
const NEW: &str = ".podwright-new";

/// A work tree, opened where the sandbox cannot replace it.
pub(super) struct Writer {
    root: OwnedFd,
}

/// A file that is being written.
pub(super) struct NewFile {
    path: RepoPath,
    directory: OwnedFd,
    name: Vec<u8>,
    file: File,
}

/// Why a path is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// Something is in the way that is not replaced.
    #[error("{path} {what}")]
    InTheWay {
        /// Where it is.
        path: RepoPath,
        /// What it is.
        what: String,
    },
    /// The volume is full or cannot be written.
    #[error(transparent)]
    Volume(#[from] io::Error),
}

impl Writer {
    pub(super) fn open(layout: &Layout) -> Result<Self, WriteError> {
        let root = RepoPath::default();
        let mount = Reader::open(layout.workspace()).map_err(|error| unopened(&root, error))?;
        let directory = mount.directory(Path::new(layout.name()));
        Ok(Self { root: directory.map_err(|error| unopened(&root, error))? })
    }

    /// Begins a regular file. What is there stays until it is whole.
    pub(super) fn file(&self, path: &RepoPath, executable: bool) -> Result<NewFile, WriteError> {
        let (directory, name) = self.directory_of(path)?;
        remove_leftover(&directory)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let file = openat(&directory, NEW, flags, mode).map_err(io::Error::from)?;
        Ok(NewFile { path: path.clone(), directory, name, file: File::from(file) })
    }

    /// Puts a symbolic link.
    pub(super) fn link(&self, path: &RepoPath, target: &[u8]) -> Result<(), WriteError> {
        let (directory, name) = self.directory_of(path)?;
        remove_leftover(&directory)?;
        symlinkat(OsStr::from_bytes(target), &directory, NEW).map_err(io::Error::from)?;
        put(&directory, &name, path)
    }

    /// Makes the directory in which a submodule would be.
    pub(super) fn directory(&self, path: &RepoPath) -> Result<(), WriteError> {
        self.remove(path)?;
        self.directory_of(&path.join(b"x")).map(drop)
    }

    /// Removes a file or link, and the directories that are empty without it, as git does. A directory that is there
    /// instead stays.
    pub(super) fn remove(&self, path: &RepoPath) -> Result<(), WriteError> {
        let mut parts: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
        let mut flags = AtFlags::empty();
        while let Some(name) = parts.pop() {
            // Where no directory leads to it, it is not there.
            let Ok(directory) = self.descend(&parts) else { return Ok(()) };
            match unlinkat(&directory, OsStr::from_bytes(name), flags) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                // Something else is in that directory.
                Err(_) if flags == AtFlags::REMOVEDIR => return Ok(()),
                Err(error) => return Err(io::Error::from(error).into()),
            }
            flags = AtFlags::REMOVEDIR;
        }
        Ok(())
    }

    fn descend(&self, parts: &[&[u8]]) -> Result<OwnedFd, ReadError> {
        let mut directory = reader::open_directory(&self.root, Path::new("."))?;
        for part in parts {
            directory = reader::open_directory(&directory, as_path(part))?;
        }
        Ok(directory)
    }

    /// The directory of a path, made where it is missing, and the name in it.
    fn directory_of(&self, path: &RepoPath) -> Result<(OwnedFd, Vec<u8>), WriteError> {
        let mut parts: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
        let name = parts.pop().unwrap_or_default().to_owned();
        let mut reached = RepoPath::default();
        let mut directory = self.descend(&[]).map_err(|error| unopened(&reached, error))?;
        for part in parts {
            reached = reached.join(part);
            let mut opened = reader::open_directory(&directory, as_path(part));
            if matches!(opened, Err(ReadError::Missing)) {
                mkdirat(&directory, as_path(part), Mode::from_raw_mode(0o777)).map_err(io::Error::from)?;
                opened = reader::open_directory(&directory, as_path(part));
            }
            directory = opened.map_err(|error| unopened(&reached, error))?;
        }
        Ok((directory, name))
    }
}

impl NewFile {
    /// Writes more of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts it in its place.
    pub(super) fn done(self) -> Result<(), WriteError> {
        put(&self.directory, &self.name, &self.path)
    }
}

/// What a process before this one had not finished.
fn remove_leftover(directory: &OwnedFd) -> io::Result<()> {
    match unlinkat(directory, NEW, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives what is new its name. An empty directory of that name gives way, as with git.
fn put(directory: &OwnedFd, name: &[u8], path: &RepoPath) -> Result<(), WriteError> {
    let name = as_path(name);
    let mut renamed = renameat(directory, NEW, directory, name);
    if renamed == Err(Errno::ISDIR) && unlinkat(directory, name, AtFlags::REMOVEDIR).is_ok() {
        renamed = renameat(directory, NEW, directory, name);
    }
    match renamed {
        Ok(()) => Ok(()),
        Err(Errno::ISDIR) => {
            remove_leftover(directory)?;
            Err(in_the_way(path, "is a directory that is not empty"))
        }
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn unopened(path: &RepoPath, error: ReadError) -> WriteError {
    match error {
        ReadError::Missing => in_the_way(path, "is gone"),
        ReadError::NotRegular => in_the_way(path, "is no directory"),
        ReadError::Leads => in_the_way(path, "is a link"),
        ReadError::Denied => in_the_way(path, "may not be entered"),
        ReadError::TooLarge(_) | ReadError::TooMany | ReadError::Unstable | ReadError::System(_) => {
            in_the_way(path, &format!("cannot be opened ({error})"))
        }
    }
}

fn in_the_way(path: &RepoPath, what: &str) -> WriteError {
    WriteError::InTheWay { path: path.clone(), what: what.to_owned() }
}

fn as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}
