//! Removes what a phase left in temporary places.
//!
//! Runs when no process of the sandbox is left, so nothing changes underneath. The names are hostile all the
//! same: directories nested deeper than any path may be long, modes that forbid everything, links to elsewhere.
//! So nothing is followed, and instead of descending, each directory is moved onto one pile and emptied there.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, chmodat, mkdirat, open, openat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::confine::sys::init::{SysvKind, remove_sysv};

/// Where commands may leave temporary files. `/dev/mqueue` holds POSIX message queues.
pub(super) const TEMPORARY: [&str; 3] = ["/tmp", "/dev/shm", "/dev/mqueue"];

/// Names read from a directory at once, which bounds the memory that a million files can take.
const BATCH: usize = 4096;

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wiped {
    /// Files, directories and System V objects removed.
    pub(super) removed: u64,
    /// Those that could not be removed: another user's.
    pub(super) left: u64,
}

/// Empties the temporary directories and removes System V objects.
pub(super) fn wipe() -> Wiped {
    let mut wiped = Wiped::default();
    for place in TEMPORARY {
        wipe_directory(place, &mut wiped);
    }
    for (kind, table) in [
        (SysvKind::Memory, "/proc/sysvipc/shm"),
        (SysvKind::Semaphores, "/proc/sysvipc/sem"),
        (SysvKind::Messages, "/proc/sysvipc/msg"),
    ] {
        for id in sysv_ids(&fs::read_to_string(table).unwrap_or_default()) {
            match remove_sysv(kind, id) {
                Ok(()) => wiped.removed += 1,
                Err(_) => wiped.left += 1,
            }
        }
    }
    wiped
}

/// Empties a directory. One that is missing, a link or unreadable is left alone.
fn wipe_directory(path: impl Arg, wiped: &mut Wiped) {
    let Ok(top) = open(path, DIRECTORY, Mode::empty()) else { return };
    let Ok((pile_name, pile)) = make_pile(&top) else { return };
    let mut moved = 0;
    let mut left = empty(&top, &pile, Some(&pile_name), &mut moved, wiped);
    loop {
        let before = wiped.removed;
        let mut stuck = 0;
        for name in names(&pile) {
            if let Ok(directory) = openat(&pile, &name, DIRECTORY, Mode::empty()) {
                stuck += empty(&directory, &pile, None, &mut moved, wiped);
            }
            match unlinkat(&pile, &name, AtFlags::REMOVEDIR) {
                Ok(()) => wiped.removed += 1,
                Err(_) => stuck += 1,
            }
        }
        if wiped.removed == before {
            left += stuck;
            break;
        }
    }
    // Fails when something of another user's is left in it.
    let _ = unlinkat(&top, &pile_name, AtFlags::REMOVEDIR);
    wiped.left += left;
}

/// Removes everything in `directory` but its directories, which are moved to the pile. Returns how many entries
/// could not be removed. Goes over it again until nothing changes, since removing entries while a directory is
/// read may hide others.
fn empty(
    directory: &OwnedFd,
    pile: &OwnedFd,
    except: Option<&CStr>,
    moved: &mut u64,
    wiped: &mut Wiped,
) -> u64 {
    loop {
        let (mut left, mut changed) = (0, false);
        for name in names(directory) {
            if Some(name.as_c_str()) == except {
                continue;
            }
            let Ok(stat) = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let done = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                // Moving a directory changes its `..`, which needs the right to write in it.
                let _ = chmodat(directory, &name, Mode::RWXU, AtFlags::empty());
                *moved += 1;
                renameat_with(directory, &name, pile, moved.to_string(), RenameFlags::NOREPLACE).is_ok()
            } else {
                let removed = unlinkat(directory, &name, AtFlags::empty()).is_ok();
                wiped.removed += u64::from(removed);
                removed
            };
            changed |= done;
            left += u64::from(!done);
        }
        if !changed {
            return left;
        }
    }
}

/// The next names in a directory, [`BATCH`] at most.
fn names(directory: &OwnedFd) -> Vec<CString> {
    let Ok(entries) = Dir::read_from(directory) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_owned());
    names.filter(|name| !matches!(name.to_bytes(), b"." | b"..")).take(BATCH).collect()
}

/// Makes a directory of our own in `top`, for directories that are not emptied yet.
fn make_pile(top: &OwnedFd) -> Result<(CString, OwnedFd), Errno> {
    for attempt in 0..100 {
        let name = CString::new(format!(".podwright-wipe-{attempt}")).map_err(|_| Errno::INVAL)?;
        match mkdirat(top, &name, Mode::RWXU) {
            Ok(()) => return openat(top, &name, DIRECTORY, Mode::empty()).map(|pile| (name, pile)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// The second column of a table in `/proc/sysvipc`, whose first line is a heading.
fn sysv_ids(table: &str) -> impl Iterator<Item = i32> {
    table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn nothing_hostile_survives_and_nothing_outside_is_touched() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let top = tempfile::tempdir().unwrap();
        symlink(outside.path(), top.path().join("link")).unwrap();
        fs::write(top.path().join("file"), "x").unwrap();
        fs::create_dir(top.path().join(".podwright-wipe-0")).unwrap();
        let locked = top.path().join("a/b");
        fs::create_dir_all(&locked).unwrap();
        symlink(outside.path(), locked.join("deep link")).unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();

        let mut wiped = Wiped::default();
        wipe_directory(top.path(), &mut wiped);
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
        assert_eq!(wiped, Wiped { removed: 6, left: 0 });
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes_too() {
        let top = tempfile::tempdir().unwrap();
        let mut at = open(top.path(), DIRECTORY, Mode::empty()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..60 {
            mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = openat(&at, &name, DIRECTORY, Mode::empty()).unwrap();
        }
        let mut wiped = Wiped::default();
        wipe_directory(top.path(), &mut wiped);
        assert_eq!(wiped, Wiped { removed: 60, left: 0 });
    }

    #[test]
    fn more_files_than_are_read_at_once() {
        let top = tempfile::tempdir().unwrap();
        for number in 0..BATCH + 10 {
            fs::write(top.path().join(number.to_string()), "").unwrap();
        }
        let mut wiped = Wiped::default();
        wipe_directory(top.path(), &mut wiped);
        assert_eq!(wiped, Wiped { removed: BATCH as u64 + 10, left: 0 });
    }

    #[test]
    fn numbers_come_from_the_second_column() {
        let table = "       key      shmid perms\n         0         32  1600\n         0         33  1600\n";
        assert_eq!(sysv_ids(table).collect::<Vec<_>>(), [32, 33]);
        assert_eq!(sysv_ids("").count(), 0);
    }
}
