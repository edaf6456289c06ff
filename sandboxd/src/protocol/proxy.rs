//! The network proxy: connections of commands, carried over the stream.
//!
//! The supervisor looks into none of it. A connection is numbered, its bytes travel in both directions, each with
//! credit of its own, and whoever is on the other side decides what becomes of them. Nothing outlives the stream: a
//! connection whose stream ends is over.

use serde::{Deserialize, Serialize};

use super::scalar::{Bytes, OpId};

/// `proxy/opened`: a command has connected to the proxy's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyOpened {
    /// Number of the connection within the boot.
    pub connection: u64,
    /// The process that asked for it; `None` when it was left behind by one that is acknowledged.
    pub process_id: Option<OpId>,
}

/// `proxy/data`, both ways: bytes of a connection. At most [`super::PROXY_WINDOW_BYTES`] of a direction travel
/// unacknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyData {
    /// Number of the connection.
    pub connection: u64,
    /// Position of the first byte in this direction.
    pub seq: u64,
    /// The bytes, at most [`super::CHUNK_MAX`].
    pub chunk: Bytes,
    /// Whether no more come in this direction.
    pub end: bool,
}

/// `proxy/ack`, both ways: bytes have gone on to where they were meant to go, and as many more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyAck {
    /// Number of the connection.
    pub connection: u64,
    /// Position after the last byte that has gone on.
    pub seq: u64,
}

/// `proxy/closed`, both ways: nothing more comes in either direction. What came before it still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyClosed {
    /// Number of the connection.
    pub connection: u64,
}
