//! The agent: the thread of one attempt, driven from the sidecar.
//!
//! | Module | Holds | Pure |
//! |---|---|---|
//! | [`machine`] | the loop: what happened in, what to do out | yes |
//! | [`state`], [`thread`], [`history`] | the fold of the journal | yes |
//! | [`budget`], [`recover`], [`prompt`], [`tools`] | limits; calls after a restart; texts; tools | yes |
//! | [`compaction`] | what a thread that grew too long goes on from | yes |
//! | [`journal`] | facts on disk | |
//! | [`events`] | one typed stream for surfaces | |
//! | [`mcp`] | connections to MCP servers | |
//! | [`driver`] | performs what the machine wants | |
//! | [`parent`], [`install`] | the container's first process, and its hook | |

pub mod agents_md;
pub mod budget;
pub mod compaction;
pub mod driver;
pub mod events;
pub mod history;
pub mod install;
pub mod journal;
pub mod machine;
pub mod mcp;
pub mod parent;
pub mod prompt;
pub mod recover;
pub mod review;
pub mod state;
pub mod thread;
pub mod tools;
pub mod transcript;
