//! What a phase's commands may reach.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol::Network;

/// What every command of one phase may reach. Serialised once, from the supervisor to the nursery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Files and directories beneath which everything may be read and executed. A path that does not exist is
    /// left out.
    pub readable: Vec<PathBuf>,
    /// Files and directories beneath which everything may be read, executed and changed. A path that does not
    /// exist is left out.
    pub writable: Vec<PathBuf>,
    /// What the commands may connect to.
    pub network: Network,
}

/// Where commands may write: the work tree, the home directory, and memory that is the container's own.
pub const WRITABLE: [&str; 4] = ["/workspace", "/home/agent", "/tmp", "/dev/shm"];

/// Top-level directories that get no read rule as a whole. `/dev` has rules for single devices, `/proc` one for
/// reading alone, and nobody but the supervisor needs its binary in `/tools`.
const NOT_THE_IMAGE: [&str; 3] = ["dev", "proc", "tools"];

impl Policy {
    /// The policy of a sandbox container: the image readable and executable, [`WRITABLE`] writable.
    ///
    /// # Errors
    /// When the root directory cannot be listed.
    pub fn sandbox(network: Network) -> std::io::Result<Self> {
        let mut readable = Vec::new();
        for entry in Path::new("/").read_dir()? {
            let entry = entry?;
            if !NOT_THE_IMAGE.iter().any(|name| entry.file_name() == *name) {
                readable.push(entry.path());
            }
        }
        readable.sort();
        Ok(Self { readable, writable: WRITABLE.iter().map(PathBuf::from).collect(), network })
    }
}
