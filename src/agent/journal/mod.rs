//! The journal of an attempt: facts on disk, from which everything else is made again after a crash.
//!
//! `state/journal/NNNN` are segments of lines, `state/blobs/<sha256>` the long strings. A process that
//! dies in the middle of a write leaves a torn last line, which is cut off; any other damage is
//! [`JournalError::Corrupt`]. What must be on disk before something happens outside is said by a
//! [`Barrier`].

mod blob;
pub mod frame;
pub mod record;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::blob::{Blobs, sync_directory};
use self::frame::{Decoded, FrameError};
use self::record::Entry;

/// A segment is closed at this length, so that one that is shipped or repaired stays handy.
const SEGMENT_MAX: u64 = 4 * 1024 * 1024;

/// A moment at which everything written so far must be on disk. The numbers are those of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// B0: before a thread or an epoch begins to act.
    Opened,
    /// B1: before a person is told that he was heard.
    Accepted,
    /// B2: before a model request.
    Request,
    /// B3: before anything leaves for the sandbox.
    Call,
    /// B4: before an end is visible outside.
    End,
    /// B5: before an exit record is acknowledged, since the supervisor then forgets it.
    Acknowledge,
}

/// Why a journal cannot be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("the journal at {path} cannot be used: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is damaged that no torn write explains.
    #[error("JournalCorrupt: {path}, line {line}: {reason}")]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("JournalVersion: {0}")]
    Version(FrameError),
}

/// A journal that was opened, and what it held.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// Its entries, in order.
    pub entries: Vec<Entry>,
    /// The number of the next entry. Higher than the last entry's by more than one when records of a newer
    /// program were skipped.
    pub next_seq: u64,
}

/// The journal, open for writing. One process at a time has it.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    blobs: Blobs,
    segment: u32,
    file: File,
    length: u64,
    /// Whether something was written since the last sync.
    dirty: bool,
}

impl Journal {
    /// Opens the journal beneath `state` and reads it whole. A torn last line is cut off.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(state: &Path) -> Result<Opened, JournalError> {
        let directory = state.join("journal");
        let at = |path: &Path| io_error(path.to_owned());
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        let blobs = Blobs::open(state.join("blobs")).map_err(at(state))?;
        let segments = segments(&directory).map_err(at(&directory))?;
        let mut entries = Vec::new();
        let mut next_seq = 1;
        for (index, segment) in segments.iter().enumerate() {
            let is_last = index + 1 == segments.len();
            read_segment(&segment_path(&directory, *segment), is_last, &blobs, &mut next_seq, &mut entries)?;
        }
        let segment = segments.last().copied().unwrap_or(1);
        let path = segment_path(&directory, segment);
        let (file, length) = open_segment(&path).map_err(at(&path))?;
        sync_directory(&directory).map_err(at(&directory))?;
        let journal = Self { directory, blobs, segment, file, length, dirty: false };
        Ok(Opened { journal, entries, next_seq })
    }

    /// Appends entries, in order. They are durable after the next [`Journal::barrier`].
    ///
    /// # Errors
    /// [`JournalError::Io`]; the journal must not be used any more then.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        self.try_append(entries).map_err(io_error(segment_path(&self.directory, self.segment)))
    }

    /// Makes everything appended so far durable: one `fdatasync`, or none when a barrier before covered it
    /// all.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the journal must not be used any more then.
    pub fn barrier(&mut self, barrier: Barrier) -> Result<(), JournalError> {
        if self.dirty {
            tracing::trace!(?barrier, "syncing the journal");
            self.file.sync_data().map_err(io_error(segment_path(&self.directory, self.segment)))?;
            self.dirty = false;
        }
        Ok(())
    }

    fn try_append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            let mut json = frame::to_json(entry)?;
            self.blobs.detach(&mut json)?;
            lines.extend(frame::encode_line(&json));
        }
        if self.length > SEGMENT_MAX {
            self.next_segment()?;
        }
        self.file.write_all(&lines)?;
        self.length += lines.len() as u64;
        self.dirty |= !lines.is_empty();
        Ok(())
    }

    fn next_segment(&mut self) -> io::Result<()> {
        // Only the last segment may end torn, so the one before it is made durable first.
        self.file.sync_data()?;
        self.segment += 1;
        (self.file, self.length) = open_segment(&segment_path(&self.directory, self.segment))?;
        sync_directory(&self.directory)
    }
}

fn read_segment(
    path: &Path,
    is_last: bool,
    blobs: &Blobs,
    next_seq: &mut u64,
    entries: &mut Vec<Entry>,
) -> Result<(), JournalError> {
    let content = fs::read(path).map_err(io_error(path.to_owned()))?;
    let corrupt =
        |line, reason: String| JournalError::Corrupt { path: path.to_owned(), line: line + 1, reason };
    let mut good = 0;
    for (index, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let mut json = match frame::decode_line(line) {
            Ok(json) => json,
            Err(FrameError::Checksum) if is_last && good + line.len() == content.len() => break,
            Err(error) => return Err(corrupt(index, error.to_string())),
        };
        blobs.attach(&mut json).map_err(|error| corrupt(index, error.to_string()))?;
        let (seq, entry) = match frame::from_json(json) {
            Ok(Decoded::Entry(entry)) => (entry.seq, Some(*entry)),
            Ok(Decoded::Skipped { seq }) => (seq, None),
            Err(error @ FrameError::Version { .. }) => return Err(JournalError::Version(error)),
            Err(error @ (FrameError::Checksum | FrameError::Content(_))) => {
                return Err(corrupt(index, error.to_string()));
            }
        };
        if seq != *next_seq {
            return Err(corrupt(index, format!("number {seq} where {next_seq} belongs")));
        }
        *next_seq += 1;
        entries.extend(entry);
        good += line.len();
    }
    if good < content.len() {
        cut(path, good as u64).map_err(io_error(path.to_owned()))?;
    }
    Ok(())
}

fn cut(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

fn open_segment(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    Ok((file, length))
}

fn segments(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn segment_path(directory: &Path, segment: u32) -> PathBuf {
    directory.join(format!("{segment:04}"))
}

fn io_error(path: PathBuf) -> impl FnOnce(io::Error) -> JournalError {
    |source| JournalError::Io { path, source }
}

#[cfg(test)]
mod tests;
