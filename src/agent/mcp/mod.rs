//! Connections to MCP servers: programs in the sandbox, and servers elsewhere.
//!
//! The protocol itself (who asks what with which number) is the crate `rmcp`'s. The ways to the servers are ours, since
//! every server is hostile: nothing that it says is read beyond a bound.
//!
//! | Module | Holds |
//! |---|---|
//! | [`connection`] | a server that was started: its tools and their calls |
//! | [`stdio`] | the way to a program in the sandbox |
//! | [`http`] | the way to a server elsewhere |
//! | [`lines`] | lines of a bounded length |
//! | [`transport`] | what both ways have in common |

pub mod connection;
pub mod http;
pub mod lines;
pub mod stdio;
pub mod transport;

pub use connection::{CallError, Connection, StartError};
pub use http::{HttpServer, HttpTransport};
pub use stdio::{Program, StdioTransport};

/// Largest message of a server, in bytes: twice the largest picture that is shown, in base64. With [`VALUES_MAX`] it
/// bounds the memory that a hostile server can take to a few of these.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// Most values of a message: members, elements, the lists and objects themselves. Each takes a hundred bytes and more
/// when it is read, and two bytes in the message; of a result the model is shown 40,000 bytes.
pub const VALUES_MAX: usize = 100_000;
