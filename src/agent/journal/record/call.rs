//! Records of calls, and of the sessions that some of them leave behind.

use podwright_sandboxd::protocol::{BootId, Digest, ExitRecord};
use serde::{Deserialize, Serialize};

/// A call is about to leave for the sandbox, or for a server elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallIntent {
    /// The operation's number: its id is `<thread>-<op>`.
    pub op: u64,
    /// Place of the call in history.
    pub ordinal: u64,
    /// The tool.
    pub tool: String,
    /// Digest of the arguments as the model wrote them.
    pub arguments: Digest,
    /// What is known about its effect.
    pub class: EffectClass,
    /// The life of the supervisor that it is sent to.
    pub boot: BootId,
    /// What a patch changes.
    pub patch: Option<PatchIntent>,
}

/// What is known about the effect of a call after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EffectClass {
    /// The supervisor remembers it by its id.
    SandboxDurable,
    /// It went to somebody who remembers nothing: after a crash nobody knows.
    External,
}

/// What a patch changes, so that after a crash the files themselves tell whether it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchIntent {
    /// Absolute directory that the paths are relative to.
    pub root: String,
    /// The files, each once.
    pub files: Vec<PatchedFile>,
    /// The output to send once it is applied.
    pub success: String,
}

/// A file before and after a patch; no digest stands for no file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchedFile {
    /// Path relative to the root.
    pub path: String,
    /// Digest before.
    pub before: Option<Digest>,
    /// Digest after.
    pub after: Option<Digest>,
}

/// A call has its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallEnded {
    /// Place of the call in history.
    pub ordinal: u64,
    /// The operation, if the call had one.
    pub op: Option<u64>,
    /// How it ended.
    pub outcome: CallOutcome,
    /// The operation whose process's exit it tells: not its own when it looked at a session.
    pub process: Option<u64>,
    /// That exit.
    pub exit: Option<ExitRecord>,
    /// The exact output as it will be sent.
    pub output: String,
    /// Pictures that go with it, as `data:` URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CallOutcome {
    /// As asked; also a command that exited with an error code.
    Ok,
    /// It could not be done; the output says why.
    Error,
    /// The turn ended before it did.
    Interrupted,
    /// Nobody knows whether, or how far, it ran.
    Unknown,
}

/// A command goes on in the background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionOpened {
    /// The number by which the model knows it.
    pub session: i32,
    /// The operation that started it: the process's name.
    pub op: u64,
    /// Place in history of the call that started it.
    pub ordinal: u64,
    /// The life of the supervisor in which it runs.
    pub boot: BootId,
    /// How far it was read and written.
    pub cursor: SessionCursor,
}

/// How far a session was read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCursor {
    /// Position of the next byte of its output.
    pub output: u64,
    /// Position of the next byte of its input.
    pub input: u64,
}

/// A session was read or written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionMoved {
    /// The session.
    pub session: i32,
    /// How far it is now.
    pub cursor: SessionCursor,
}

/// A session is over and its end was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionClosed {
    /// The session.
    pub session: i32,
}
