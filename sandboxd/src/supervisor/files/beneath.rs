//! Single file operations beneath a directory, none of which can be led out of it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, mkdirat, openat2, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

use crate::protocol::{Digest, ErrorCode, FILE_MAX, FileState, RpcError};

const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);
const BENEATH: ResolveFlags = NO_LINKS.union(ResolveFlags::BENEATH).union(ResolveFlags::NO_XDEV);

/// Times that a resolution is repeated when something was renamed during it.
const RACES_MAX: usize = 8;

/// Mode of a new file, and what may be changed of a mode.
const NEW_FILE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::ROTH);
const EXECUTE: Mode = Mode::XUSR.union(Mode::XGRP).union(Mode::XOTH);

/// A path of plain names.
#[derive(Debug)]
pub(super) struct RelativePath<'a> {
    whole: &'a str,
    parent: &'a str,
    name: &'a str,
}

impl<'a> RelativePath<'a> {
    pub(super) fn parse(path: &'a str) -> Result<Self, RpcError> {
        let plain = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255;
        if path.len() > 4095 || path.contains('\0') || !path.split('/').all(plain) {
            let message = format!("not a plain relative path: {path:?}");
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        Ok(Self { whole: path, parent, name })
    }
}

/// Opens the directory beneath which everything happens.
pub(super) fn open_root(path: &str) -> Result<OwnedFd, RpcError> {
    if !path.starts_with('/') {
        return Err(RpcError::new(ErrorCode::InvalidParams, format!("not an absolute path: {path:?}")));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), NO_LINKS).map_err(|error| {
        let code = if error == Errno::NOENT { ErrorCode::NotFound } else { ErrorCode::Io };
        RpcError::new(code, format!("{path}: {error}"))
    })
}

/// What is at a path.
pub(super) fn state(root: &OwnedFd, path: &RelativePath<'_>) -> Result<FileState, RpcError> {
    let error = |error: Errno| RpcError::new(ErrorCode::Io, format!("{}: {error}", path.whole));
    let (file, stat) = match open_file(root, path) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(FileState::Special),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(FileState::Absent),
        Err(Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV) => return Ok(FileState::Special),
        Err(Errno::ACCESS | Errno::PERM) => return Ok(FileState::Unreadable),
        Err(errno) => return Err(error(errno)),
    };
    let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
    match hash(file).map_err(|e| error(Errno::from_io_error(&e).unwrap_or(Errno::IO)))? {
        Some((sha256, size)) => Ok(FileState::File { sha256, size, executable }),
        None => Ok(FileState::TooLarge),
    }
}

/// Puts content at a path: a temporary file beside it, then a rename. Keeps the mode of what was there.
pub(super) fn replace(
    root: &OwnedFd,
    path: &RelativePath<'_>,
    content: &[u8],
    executable: Option<bool>,
) -> Result<(), Errno> {
    let parent = make_parent(root, path.parent)?;
    let mode = match open_file(root, path) {
        Ok(Some((_, stat))) => Mode::from_raw_mode(stat.st_mode),
        Ok(None) | Err(_) => NEW_FILE,
    };
    let mut random = [0; 8];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let temporary = format!(".podwright-{:016x}", u64::from_ne_bytes(random));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(&parent, &temporary, flags, Mode::RUSR | Mode::WUSR, BENEATH)?;
    let written = write_all(file, content, with_execute(mode, executable))
        .and_then(|()| renameat(&parent, &temporary, &parent, path.name));
    if written.is_err() {
        // The first failure is the one to report.
        let _ = unlinkat(&parent, &temporary, AtFlags::empty());
    }
    written
}

/// Changes nothing but the right to execute.
pub(super) fn set_executable(root: &OwnedFd, path: &RelativePath<'_>, executable: bool) -> Result<(), Errno> {
    let (file, stat) = open_file(root, path)?.ok_or(Errno::INVAL)?;
    fchmod(file, with_execute(Mode::from_raw_mode(stat.st_mode), Some(executable)))
}

/// Removes a file.
pub(super) fn remove(root: &OwnedFd, path: &RelativePath<'_>) -> Result<(), Errno> {
    let parent = open_directory(root, path.parent)?;
    unlinkat(parent, path.name, AtFlags::empty())
}

/// Opens a regular file for reading. `None` for anything else, which is never read: the descriptor of a pipe is
/// opened without waiting for its other end and closed at once.
fn open_file(root: &OwnedFd, path: &RelativePath<'_>) -> Result<Option<(File, Stat)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = resolve(root, path.whole, flags)?;
    let stat = fstat(&fd)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| (File::from(fd), stat)))
}

fn open_directory(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    resolve(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
}

fn make_parent(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    match open_directory(root, path) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let above = make_parent(root, above)?;
    match mkdirat(&above, name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH) {
        Ok(()) | Err(Errno::EXIST) => open_directory(root, path),
        Err(error) => Err(error),
    }
}

fn resolve(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..RACES_MAX {
        result = openat2(root, path, flags, Mode::empty(), BENEATH);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

fn write_all(fd: OwnedFd, content: &[u8], mode: Mode) -> Result<(), Errno> {
    let mut file = File::from(fd);
    file.write_all(content).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    fchmod(file.as_fd(), mode)
}

/// Everybody who may read may execute, or nobody. Set-user and sticky bits never survive.
fn with_execute(mode: Mode, executable: Option<bool>) -> Mode {
    let mode = mode & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
    match executable {
        None => mode,
        Some(false) => mode - EXECUTE,
        Some(true) => {
            let readers = mode & (Mode::RUSR | Mode::RGRP | Mode::ROTH);
            mode | Mode::from_raw_mode(readers.as_raw_mode() >> 2)
        }
    }
}

/// Digest and length; `None` over [`FILE_MAX`].
fn hash(file: File) -> io::Result<Option<(Digest, u64)>> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut file = file.take(FILE_MAX + 1);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                hash.update(&buffer[..length]);
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((size <= FILE_MAX).then(|| (Digest::from_bytes(hash.finalize().into()), size)))
}
