//! Replacing paths of a work tree in which commands have run.
//!
//! What commands left may lead anywhere: a directory may have become a link to this container's secrets, a file may
//! have a second name. So directories are opened one by one and without following links, as the
//! [`reader`](super::reader) does, and nothing is opened to be changed: a file is written anew, in a directory of the
//! writer's own beside the work tree, and put in the old one's place. In the work tree every name is somebody's.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, renameat, symlinkat, syncfs, unlinkat};
use rustix::io::Errno;
use tempfile::TempDir;

use super::Layout;
use super::path::RepoPath;
use super::reader::{self, ReadError, Reader};

/// What the writer's own directory is called, before what makes it its own.
const STAGING: &str = ".podwright-";

/// The name in it under which a file is written.
const NEW: &str = "new";

/// A work tree, opened where the sandbox cannot replace it.
pub(super) struct Writer {
    root: OwnedFd,
    staging: Staging,
}

/// A directory of the writer's own on the same volume. It goes with this value; one that a process before this one
/// could not remove stays there, where git never looks.
struct Staging {
    directory: OwnedFd,
    _removed: TempDir,
}

/// A file that is being written.
pub(super) struct NewFile<'a> {
    writer: &'a Writer,
    place: Place,
    file: File,
}

/// Where a path is put.
struct Place {
    directory: OwnedFd,
    /// The directory's own path.
    parent: RepoPath,
    name: Vec<u8>,
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
        let directory = directory.map_err(|error| unopened(&root, error))?;
        let own = tempfile::Builder::new().prefix(STAGING).tempdir_in(layout.workspace());
        let own = own.map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                in_the_way(&root, "is where nothing may be written beside it")
            } else {
                error.into()
            }
        })?;
        let name = own.path().file_name().unwrap_or_default();
        let staging = mount.directory(Path::new(name)).map_err(|error| unopened(&root, error))?;
        Ok(Self { root: directory, staging: Staging { directory: staging, _removed: own } })
    }

    /// Begins a regular file. What is there stays until it is whole. No other may be begun meanwhile.
    pub(super) fn file(&self, path: &RepoPath, executable: bool) -> Result<NewFile<'_>, WriteError> {
        let place = self.place_of(path)?;
        self.remove_unfinished()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let file = openat(&self.staging.directory, NEW, flags, mode).map_err(io::Error::from)?;
        Ok(NewFile { writer: self, place, file: File::from(file) })
    }

    /// Puts a symbolic link.
    pub(super) fn link(&self, path: &RepoPath, target: &[u8]) -> Result<(), WriteError> {
        let place = self.place_of(path)?;
        self.remove_unfinished()?;
        symlinkat(OsStr::from_bytes(target), &self.staging.directory, NEW).map_err(io::Error::from)?;
        self.put(&place)
    }

    /// Makes the directory in which a submodule would be.
    pub(super) fn directory(&self, path: &RepoPath) -> Result<(), WriteError> {
        self.remove(path)?;
        self.place_of(&path.join(b"x")).map(drop)
    }

    /// Removes a file or link, and the directories that are empty without it, as git does. A directory that is there
    /// instead stays.
    ///
    /// # Errors
    /// [`WriteError::InTheWay`] with the path of what is no directory any more and may lead to such a file nevertheless.
    pub(super) fn remove(&self, path: &RepoPath) -> Result<(), WriteError> {
        let mut path = path.clone();
        let mut flags = AtFlags::empty();
        while let Some((parent, name)) = path.split_last() {
            // Where no directory leads to it, it is not there.
            let Some(directory) = self.descend(&parent)? else { return Ok(()) };
            match unlinkat(&directory, OsStr::from_bytes(&name), flags) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                // Something else is in that directory.
                Err(_) if flags == AtFlags::REMOVEDIR => return Ok(()),
                Err(error) => return Err(unwritten(&parent, error)),
            }
            flags = AtFlags::REMOVEDIR;
            path = parent;
        }
        Ok(())
    }

    /// Has everything that was written on disk, and all else of the volume.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.root)?)
    }

    /// A directory; nothing where there is none, or a plain file in its way or in that of one above it.
    fn descend(&self, path: &RepoPath) -> Result<Option<OwnedFd>, WriteError> {
        let mut reached = RepoPath::default();
        let mut directory = self.root_again()?;
        for part in path.parts() {
            reached = reached.join(part);
            directory = match reader::open_directory(&directory, as_path(part)) {
                Ok(opened) => opened,
                Err(ReadError::Missing) => return Ok(None),
                Err(ReadError::NotRegular) if is_file(&directory, part) => return Ok(None),
                Err(error) => return Err(unopened(&reached, error)),
            };
        }
        Ok(Some(directory))
    }

    /// The directory of a path, made where it is missing, and the name in it.
    fn place_of(&self, path: &RepoPath) -> Result<Place, WriteError> {
        let (parent, name) = path.split_last().unwrap_or_default();
        let mut reached = RepoPath::default();
        let mut directory = self.root_again()?;
        for part in parent.parts() {
            let mut opened = reader::open_directory(&directory, as_path(part));
            if matches!(opened, Err(ReadError::Missing)) {
                let made = mkdirat(&directory, as_path(part), Mode::from_raw_mode(0o777));
                made.map_err(|error| unwritten(&reached, error))?;
                opened = reader::open_directory(&directory, as_path(part));
            }
            reached = reached.join(part);
            directory = opened.map_err(|error| unopened(&reached, error))?;
        }
        Ok(Place { directory, parent, name })
    }

    fn root_again(&self) -> Result<OwnedFd, WriteError> {
        let opened = reader::open_directory(&self.root, Path::new("."));
        opened.map_err(|error| unopened(&RepoPath::default(), error))
    }

    /// Gives what is new its name. An empty directory of that name gives way, as with git.
    fn put(&self, Place { directory, parent, name }: &Place) -> Result<(), WriteError> {
        let (from, to) = (&self.staging.directory, as_path(name));
        let mut renamed = renameat(from, NEW, directory, to);
        if renamed == Err(Errno::ISDIR) && unlinkat(directory, to, AtFlags::REMOVEDIR).is_ok() {
            renamed = renameat(from, NEW, directory, to);
        }
        renamed.map_err(|error| match error {
            Errno::ISDIR => in_the_way(&parent.join(name), "is a directory that is not empty"),
            error => unwritten(parent, error),
        })
    }

    /// Removes what was begun and not put, because it met an error.
    fn remove_unfinished(&self) -> io::Result<()> {
        match unlinkat(&self.staging.directory, NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl NewFile<'_> {
    /// Writes more of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts it in its place.
    pub(super) fn done(self) -> Result<(), WriteError> {
        self.writer.put(&self.place)
    }
}

fn is_file(directory: &OwnedFd, name: &[u8]) -> bool {
    let stat = reader::stat(directory, as_path(name));
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Why nothing could be changed in a directory. Whoever ran there may have taken our right to it.
fn unwritten(directory: &RepoPath, error: Errno) -> WriteError {
    match error {
        Errno::ACCESS | Errno::PERM => in_the_way(directory, "may not be written"),
        other => io::Error::from(other).into(),
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
