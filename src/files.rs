//! Small files of our own and of whoever runs a command: read with a bound, replaced as a whole.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;

/// Bytes of a record. The largest is that of a verification: at most 8 results with 2 KiB of output each, as JSON six
/// times that.
const RECORD_MAX: u64 = 1 << 20;

/// A record that a process leaves to the next one, as JSON.
#[derive(Clone, Debug)]
pub(crate) struct RecordFile {
    directory: PathBuf,
    name: &'static str,
    /// What it is the record of, for people.
    what: &'static str,
}

impl RecordFile {
    /// The record `name` in `directory`, which exists.
    pub(crate) fn new(directory: &Path, name: &'static str, what: &'static str) -> Self {
        Self { directory: directory.to_owned(), name, what }
    }

    /// What was recorded, if anything was.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let path = self.directory.join(self.name);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > RECORD_MAX {
            return Err(io::Error::other(format!("the record of the {} is damaged", self.what)));
        }
        Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
    }

    /// Replaces the record. With `durable` it is on disk when this returns.
    pub(crate) fn write(&self, record: &impl Serialize, durable: bool) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        if durable {
            file.as_file().sync_all()?;
        }
        file.persist(self.directory.join(self.name)).map_err(|error| error.error)?;
        if durable {
            fs::File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// The text of a file; nothing when it has more than `max` bytes.
pub(crate) async fn read_text(path: &Path, max: u64) -> io::Result<Option<String>> {
    let file = tokio::fs::File::open(path).await?;
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text).await?;
    Ok(Some(text).filter(|text| text.len() as u64 <= max))
}
