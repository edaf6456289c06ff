//! Long strings of records, kept as files named by their digest.
//!
//! Records know nothing of it: on the way out every string over [`INLINE_MAX`] bytes is replaced by
//! `{"$blob": digest}`, on the way in it is put back. No record of ours holds free JSON, so no other
//! object has that member.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use podwright_sandboxd::protocol::Digest;
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

/// Longest string that stays in its record. Keeps lines short enough to be read, compared and repaired by
/// people, and a torn one cheap.
pub(super) const INLINE_MAX: usize = 8 * 1024;

const MEMBER: &str = "$blob";

/// The directory of blobs.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    /// Opens the directory, and makes it when it is not there.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// Moves long strings out of a value into durable files.
    pub(super) fn detach(&self, value: &mut Value) -> io::Result<()> {
        match value {
            Value::String(text) if text.len() > INLINE_MAX => {
                let digest = self.put(text.as_bytes())?;
                *value = Value::Object(Map::from_iter([(MEMBER.to_owned(), digest.to_string().into())]));
                Ok(())
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.detach(item)),
            Value::Object(members) => members.values_mut().try_for_each(|member| self.detach(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    /// Puts long strings back.
    pub(super) fn attach(&self, value: &mut Value) -> io::Result<()> {
        if let Some(digest) = value.get(MEMBER).and_then(Value::as_str) {
            *value = Value::String(self.get(digest)?);
            return Ok(());
        }
        match value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.attach(item)),
            Value::Object(members) => members.values_mut().try_for_each(|member| self.attach(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn put(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(content);
        let path = self.directory.join(digest.to_string());
        if !path.exists() {
            let mut file = NamedTempFile::new_in(&self.directory)?;
            file.write_all(content)?;
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)?;
            sync_directory(&self.directory)?;
        }
        Ok(digest)
    }

    fn get(&self, digest: &str) -> io::Result<String> {
        let invalid =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("blob {digest}: {what}"));
        let expected = Digest::parse(digest).map_err(|_| invalid("no digest"))?;
        let content = fs::read(self.directory.join(digest))?;
        if Digest::of(&content) != expected {
            return Err(invalid("its content has another digest"));
        }
        String::from_utf8(content).map_err(|_| invalid("no UTF-8"))
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
