//! `podwright scripted-model`.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use thiserror::Error;
use tokio::net::TcpListener;

use super::{
    script::{Script, ScriptError},
    server::serve,
};
use crate::files::read_text;

/// The largest script that is read: thousands of replies are smaller.
const MAX_SCRIPT_BYTES: u64 = 4 * 1024 * 1024;

/// Answers as a model from a script, without a key.
#[derive(Clone, Debug, Args)]
pub struct ScriptedModelArgs {
    /// The script, in YAML. Without one, every task is told what the scripted model is.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
}

/// Why the scripted model cannot run.
#[derive(Debug, Error)]
pub enum ScriptedModelError {
    /// The file cannot be read.
    #[error("cannot read the script {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large.
    #[error("the script {path} has more than {MAX_SCRIPT_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The script cannot be played.
    #[error("the script {path} cannot be played")]
    Script {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ScriptError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Serving failed.
    #[error("serving failed")]
    Serve(#[source] io::Error),
}

impl ScriptedModelArgs {
    /// Runs the server until `shutdown` is done.
    ///
    /// # Errors
    /// [`ScriptedModelError`].
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ScriptedModelError> {
        let script = match &self.script {
            Some(path) => read(path).await?,
            None => Script::default_script().map_err(|source| ScriptedModelError::Script {
                path: PathBuf::from("(the built-in one)"),
                source,
            })?,
        };
        let address = self.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ScriptedModelError::Listen { address, source })?;
        tracing::info!(%address, scenarios = script.scenarios.len(), "the scripted model listens");
        serve(listener, script, shutdown).await.map_err(ScriptedModelError::Serve)
    }
}

async fn read(path: &Path) -> Result<Script, ScriptedModelError> {
    let text = read_text(path, MAX_SCRIPT_BYTES).await;
    let text = text.map_err(|source| ScriptedModelError::Read { path: path.to_owned(), source })?;
    let text = text.ok_or_else(|| ScriptedModelError::TooLarge { path: path.to_owned() })?;
    Script::from_yaml(&text).map_err(|source| ScriptedModelError::Script { path: path.to_owned(), source })
}
