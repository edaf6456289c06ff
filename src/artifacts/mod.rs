//! Where patches and transcripts are kept when their pod is gone.
//!
//! An artifact is one key of a ConfigMap that the controller made empty, filled by the agent, compressed,
//! with the digest of its content in the attempt's status. [`encoding`] decides, [`config_map`] performs.

pub mod config_map;
pub mod encoding;
pub mod transcript;

pub use config_map::{ConfigMapSink, SinkError};
pub use encoding::{
    DecodeError, ENCODED_MAX, Encoded, INLINE_MAX, TooLarge, WINDOW_LOG_MAX, decode, encode, inline,
};
pub use transcript::{Transcript, transcript};
