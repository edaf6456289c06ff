//! `podwright install`: puts the supervisor and the sandbox's user database where the sandbox finds them.
//!
//! Run by the agent container's `postStart` hook, so before the sandbox starts, and again at every restart
//! of the agent. Each file is written beside its place and renamed over it: a copy onto a file of mode 0111
//! fails, and then the kubelet kills the agent for ever.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::names;

/// Where the image keeps the supervisor, readable.
pub const SOURCE: &str = "/usr/lib/podwright/podwright-sandboxd";

/// Executable and nothing else: who may run it need not read it.
const EXECUTABLE: u32 = 0o111;

/// The user database is for everybody to read.
const READABLE: u32 = 0o444;

/// Why something is not in its place.
#[derive(Debug, thiserror::Error)]
#[error("cannot install {path}: {source}")]
pub struct InstallError {
    path: PathBuf,
    source: io::Error,
}

/// Installs into `directory` the supervisor from `source`, and a user database with one entry, for `uid`
/// and `gid`.
///
/// # Errors
/// [`InstallError`]; what was there before is there still.
pub fn install(source: &Path, directory: &Path, uid: u32, gid: u32) -> Result<(), InstallError> {
    let supervisor = Path::new(names::SUPERVISOR_PATH).file_name().unwrap_or_default();
    let open = File::open(source);
    let mut program = open.map_err(|error| InstallError { path: source.to_owned(), source: error })?;
    put(&directory.join(supervisor), EXECUTABLE, &mut program)?;
    let passwd = format!("agent:x:{uid}:{gid}:agent:/home/agent:/bin/sh\n");
    put(&directory.join(names::PASSWD_FILE), READABLE, &mut passwd.as_bytes())?;
    let group = format!("agent:x:{gid}:\n");
    put(&directory.join(names::GROUP_FILE), READABLE, &mut group.as_bytes())
}

fn put(path: &Path, mode: u32, content: &mut dyn Read) -> Result<(), InstallError> {
    try_put(path, mode, content).map_err(|source| InstallError { path: path.to_owned(), source })
}

fn try_put(path: &Path, mode: u32, content: &mut dyn Read) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
    io::copy(content, &mut file)?;
    file.flush()?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.persist(path).map_err(|error| error.error)?;
    // A leftover of a hook that was killed is taken away by the next one.
    remove_leftovers(path.parent().unwrap_or(Path::new("/")))
}

fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn can_be_repeated_over_a_file_that_nobody_may_write() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        let tools = directory.path().join("tools");
        fs::create_dir(&tools).unwrap();
        for content in ["first", "second"] {
            fs::write(&source, content).unwrap();
            install(&source, &tools, 1_000_123, 1_000_123).unwrap();
            let supervisor = tools.join("podwright-sandboxd");
            assert_eq!(fs::metadata(&supervisor).unwrap().permissions().mode() & 0o7777, 0o111);
        }
        let passwd = fs::read_to_string(tools.join("passwd")).unwrap();
        assert_eq!(passwd, "agent:x:1000123:1000123:agent:/home/agent:/bin/sh\n");
        assert_eq!(fs::read_to_string(tools.join("group")).unwrap(), "agent:x:1000123:\n");
        assert_eq!(fs::read_dir(&tools).unwrap().count(), 3);
    }

    #[test]
    fn leaves_the_old_supervisor_when_there_is_no_new_one() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("podwright-sandboxd"), "old").unwrap();
        assert!(install(Path::new("/nonexistent"), directory.path(), 1, 1).is_err());
        assert_eq!(fs::read(directory.path().join("podwright-sandboxd")).unwrap(), b"old");
    }
}
