//! Confinement of the commands that run in a sandbox.
//!
//! Everything that a command does is hostile. It runs beneath a *nursery*, one process for each phase (setup,
//! maintenance, agent), which takes away its own rights first and then starts every command of its phase: all of
//! them share one Landlock domain, so they can signal each other, and none can signal, trace, blind or slow down
//! the supervisor. In [`Network::Loopback`] a command can connect to nothing by itself: the kernel hands each
//! `socket`, `connect` and `bind` to the supervisor, which makes the socket in the command's place. In
//! [`Network::Proxied`] that may also be connected to one port of the supervisor's own, the [`Gate`].
//!
//! What each layer is for:
//!
//! | Layer | Stops |
//! |---|---|
//! | Landlock, files | reads outside the image and the workspace, writes outside the workspace, other people's terminals |
//! | Landlock, TCP without any rule | every connection that did not come from the supervisor, also under a race |
//! | Landlock, scopes | signals and abstract sockets out of the phase |
//! | seccomp | other socket families, TCP without `connect`, resource calls on the supervisor, kernel surface |
//! | subreaper for each command | descendants that outlive `kill_tree` by leaving their session |

mod domain;
mod filter;
mod gate;
mod launch;
mod mediate;
mod nursery;
mod policy;
mod profile;
pub(crate) mod sys;
mod tree;

pub use crate::protocol::{Exit, Network, Profile};
pub use gate::{Gate, Guest};
pub use launch::{Launch, LaunchError, Launched, read_exit};
pub use nursery::{ConfineError, NURSERY_COMMAND, Nursery, Terminal, TerminalMaster, nursery_main};
pub use policy::{Policy, WRITABLE};
pub use profile::{Insufficient, Support};
pub(crate) use tree::{count_others, parent_of};
pub use tree::{kill_all, kill_strays, kill_tree, strays, terminate_tree};
