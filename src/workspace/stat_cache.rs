//! What files held when they were last read, so that a second look at a work tree need not read them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::object::ObjectId;

/// A time stamp is at most one tick of the kernel's clock (10 ms) old when it is set, so a file that was
/// last changed this long ago shows a later change in its stamps.
const SETTLED: Duration = Duration::from_millis(100);

/// The ids of files that did not change since they were read, by device and inode.
#[derive(Debug, Default)]
pub(crate) struct StatCache(HashMap<(u64, u64), (Stamp, ObjectId)>);

/// What changes when a file's content does. A command can set the modification time but not the change time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl StatCache {
    pub(crate) fn get(&self, stat: &Stat) -> Option<ObjectId> {
        let (stamp, id) = self.0.get(&(stat.st_dev, stat.st_ino))?;
        (*stamp == Stamp::of(stat)).then_some(*id)
    }

    pub(crate) fn put(&mut self, stat: &Stat, id: ObjectId) {
        self.0.insert((stat.st_dev, stat.st_ino), (Stamp::of(stat), id));
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let nanos = |value| i64::try_from(value).unwrap_or(0);
        Self {
            size: stat.st_size,
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
        }
    }
}

/// Whether a later change would show in the stamps of a file that was read from `started` on.
pub(crate) fn settled(stat: &Stat, started: SystemTime) -> bool {
    let seconds = u64::try_from(stat.st_ctime).unwrap_or(u64::MAX);
    let nanos = u32::try_from(stat.st_ctime_nsec).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
    changed.and_then(|changed| changed.checked_add(SETTLED)).is_some_and(|settled| settled < started)
}
