//! The secret of the current boot, kept where an agent that was restarted finds it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use podwright_sandboxd::protocol::{BootId, Token};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// A file that holds the token of one boot. It must be where the sandbox cannot read it.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    boot_id: BootId,
    token: Token,
}

impl TokenFile {
    /// Keeps the token in `path`, whose directory exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The token of a boot. A new one is on disk before this returns, since the supervisor takes the first that it
    /// is shown and no other for the rest of its life.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn token_for(&self, boot: &BootId) -> io::Result<Token> {
        if let Some(stored) = self.load()?
            && stored.boot_id == *boot
        {
            return Ok(stored.token);
        }
        let mut random = [0; 32];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let token = Token::from_random(random);
        self.store(&Stored { boot_id: boot.clone(), token: token.clone() })?;
        Ok(token)
    }

    /// What is stored. A file that makes no sense counts as none: it was not written whole, so its token was never
    /// shown to anybody.
    fn load(&self) -> io::Result<Option<Stored>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&self, stored: &Stored) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&serde_json::to_vec(stored)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        let directory = self.path.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(digit: u8) -> BootId {
        BootId::from_random([digit; 16])
    }

    #[test]
    fn one_token_a_boot_over_restarts_of_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let first = TokenFile::new(&path).token_for(&boot(1)).unwrap();
        assert!(TokenFile::new(&path).token_for(&boot(1)).unwrap().matches(&first));
        assert!(!TokenFile::new(&path).token_for(&boot(2)).unwrap().matches(&first));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_torn_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "{\"bootId\":").unwrap();
        let token = TokenFile::new(&path).token_for(&boot(1)).unwrap();
        assert!(TokenFile::new(&path).token_for(&boot(1)).unwrap().matches(&token));
    }
}
