//! Where patches and transcripts are kept when their pod is gone.
//!
//! An artifact is one key of a ConfigMap that the controller made empty, filled by the agent, compressed,
//! with the digest of its content in the attempt's status. Where an object store is configured, the controller
//! carries it there at the attempt's end.

pub mod config_map;
pub mod encoding;
pub mod object;
pub mod store;
pub mod transcript;

pub use encoding::{
    DecodeError, ENCODED_MAX, Encoded, INLINE_MAX, TooLarge, WINDOW_LOG_MAX, decode, encode, inline,
};
pub use object::ObjectKey;
pub use store::{ArtifactStore, StoreError};
pub use transcript::{Transcript, transcript};
