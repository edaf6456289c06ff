//! Ways to reach a supervisor: a byte stream each way, and word of its end.

mod child;
mod pod;

pub use child::ChildDial;
pub use pod::PodDial;

use std::fmt;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// Why a supervisor could not be reached. Always worth another try: the pod may be starting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DialError(pub String);

/// Opens streams to one supervisor.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to `podwright-sandboxd attach`.
    fn dial(&self) -> impl Future<Output = Result<Transport, DialError>> + Send;
}

/// One stream. Dropping it ends it.
pub struct Transport {
    /// What the supervisor says. May neither end nor fail when the stream is lost: see [`Transport::ended`].
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it is told. A successful write means nothing; dropping it does not close it, a shutdown does.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Resolves when the stream has ended, with a word on why. Owns the stream.
    pub ended: Pin<Box<dyn Future<Output = String> + Send>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}
