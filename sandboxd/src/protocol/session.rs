//! The stream itself: greeting, authentication, heartbeats, phases.

use serde::{Deserialize, Serialize};

use super::scalar::{BootId, OpId, Token};

/// `hello`, the supervisor's first line on every stream, before anybody is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// [`super::PROTOCOL_VERSION`] of the supervisor.
    pub protocol_version: u32,
    /// This life of the supervisor.
    pub boot_id: BootId,
}

/// `initialize`: must be the first request of a stream, within 2 s.
///
/// The first one of a boot sets the token, later ones must show the same. It fences every older stream:
/// those are closed and nothing that was still on its way in them has any effect.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialize {
    /// [`super::PROTOCOL_VERSION`] of the client.
    pub protocol_version: u32,
    /// Who speaks, for the supervisor's log; at most 64 bytes.
    pub client_name: String,
    /// The boot of the `hello` before; refused if it is another.
    pub boot_id: BootId,
    /// The secret of this boot, stored by the client before it was sent.
    pub token: Token,
}

/// Answer to [`Initialize`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// Number of this stream within the boot, from 1; a higher one has fenced this one.
    pub stream: u64,
    /// What this kernel can enforce on commands; `None` when that is too little to run any.
    pub profile: Option<Profile>,
    /// The phase that is open, if any.
    pub phase: Option<OpId>,
}

/// How far commands are confined on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Landlock ABI 6 (Linux 6.12) or later: files, network, signals and abstract sockets.
    Strict,
    /// Landlock ABI 3 (Linux 6.2) to 5: files and network; signals to the supervisor are refused by number alone.
    /// Before ABI 4 (Linux 6.7) commands have no network at all, not even loopback, because nothing would back up
    /// the mediation of connections.
    Reduced,
}

/// `heartbeat`, both ways every [`super::HEARTBEAT_SECONDS`]. Any line counts as a sign of life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {}

/// `phase/begin`: from now on commands run under one policy, until the phase ends.
///
/// Repeating it with the same members changes nothing; while a phase is open, another id or network is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseBegin {
    /// Identifies the phase within the boot; never used again after its end.
    pub phase: OpId,
    /// The network that its commands see.
    pub network: Network,
}

/// Network of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Only TCP listeners that commands of the same phase opened, on loopback. Every `socket`, `connect` and `bind` is
    /// done by the supervisor in the command's place.
    Loopback,
    /// The same, and the supervisor's proxy: whatever a command connects to there is carried to the client.
    Proxied,
    /// The pod's network, unfiltered but for the socket families that nobody needs: for setup scripts of platform
    /// people.
    Open,
}

/// Answer to [`PhaseBegin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseBeginResult {
    /// What is enforced on the commands of this phase.
    pub profile: Profile,
    /// Whether they may talk to each other over loopback. Before Landlock ABI 4 they may not.
    pub loopback: bool,
    /// The proxy's port on 127.0.0.1, in a phase that has one.
    pub proxy: Option<u16>,
}

/// `phase/end`: kills every process of the sandbox and wipes its temporary files.
///
/// The stream itself dies in this (its `attach` is a process of the sandbox). The client dials again and
/// repeats the request, which is then answered with what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseEnd {
    /// The phase that ends.
    pub phase: OpId,
}

/// Answer to [`PhaseEnd`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseEndResult {
    /// Processes that were still there and were killed, the stream's own among them.
    pub killed: u32,
    /// Temporary files and directories removed.
    pub wiped: u64,
    /// Temporary files that could not be removed (another user's).
    pub left: u64,
}
