//! What of an agent's report may stand in the status of its task, and how much. The agent may have been taken over:
//! the schema bounds the *characters* of what it reports, of which one takes up to six bytes as JSON.

use serde_json::Value;

use crate::answer::ANSWER_MAX;
use crate::api::AgentTaskStatus;
use crate::api::attempt::{ArtifactRef, PatchFlag, PatchFlagKind, PatchSummary, SkippedPath};
use crate::api::conditions::{is_plain, plain};
use crate::patch::Flags;

/// The whole status, encoded, is at most this long: etcd rewrites all of it at every change.
pub(super) const MAX_BYTES: usize = 32 * 1024;

/// The longest name of an image with its digest, in bytes.
pub(super) const MAX_IMAGE: usize = 512;

/// The longest inline patch, as JSON with its quotes: an agent puts no longer one there.
const MAX_INLINE: usize = 12 * 1024;

/// Digests and commits are at most this long: SHA-256 in hex.
const MAX_HEX: usize = 64;

/// The schema's bounds on the lists and texts of a patch.
const MAX_FLAGS: usize = 52;
const MAX_REPORTED_FLAGS: usize = 16;
const MAX_SKIPPED: usize = 32;
const MAX_PATHS: usize = 64;
const MAX_PATH: usize = 256;
const MAX_WHY: usize = 128;
const MAX_NAME: usize = 253;

/// A reported patch as the task's status may show it. Only the inline patch is taken as it is, or not at all: it has to
/// fit its digest. Flags that follow from the text are those that were found in it (`found`), whatever the agent says.
pub(super) fn patch(reported: &PatchSummary, found: Option<&Flags>) -> PatchSummary {
    let path = |path: &String| plain(path, MAX_PATH);
    let is_reported = |flag: &&PatchFlag| {
        found.is_none() || matches!(flag.kind, PatchFlagKind::TouchedBySetup | PatchFlagKind::Dropped)
    };
    let most = if found.is_some() { MAX_REPORTED_FLAGS } else { MAX_FLAGS };
    let flags = reported.flags.iter().filter(is_reported).take(most);
    let mut flags: Vec<_> = flags.map(|flag| PatchFlag { kind: flag.kind, path: path(&flag.path) }).collect();
    flags.extend(found.iter().flat_map(|found| found.shown()));
    let least = found.map_or(0, |found| i64::try_from(found.count()).unwrap_or(i64::MAX));
    PatchSummary {
        inline: reported
            .inline
            .clone()
            .filter(|inline| encoded_bytes(inline) <= MAX_INLINE && is_plain(inline)),
        files: reported.files,
        insertions: reported.insertions,
        deletions: reported.deletions,
        bytes: reported.bytes,
        sha256: hex(&reported.sha256),
        base_commit: hex(&reported.base_commit),
        artifact: reported.artifact.as_ref().map(|artifact| ArtifactRef {
            config_map_name: plain(&artifact.config_map_name, MAX_NAME),
            key: plain(&artifact.key, MAX_NAME),
            sha256: hex(&artifact.sha256),
            bytes: artifact.bytes,
            // Where the controller has put it, only the controller knows.
            url: String::new(),
        }),
        flag_count: reported.flag_count.max(least).max(flags.len() as i64),
        flags,
        skipped: reported
            .skipped
            .iter()
            .take(MAX_SKIPPED)
            .map(|skipped| SkippedPath { path: path(&skipped.path), reason: plain(&skipped.reason, MAX_WHY) })
            .collect(),
        skipped_count: reported.skipped_count,
        paths: reported.paths.iter().take(MAX_PATHS).map(path).collect(),
    }
}

/// Whether an answer is no longer than one may be: an agent reports no longer one.
pub(super) fn fits(output: &Value) -> bool {
    encoded_bytes(output) <= ANSWER_MAX
}

/// A digest or a commit; nothing when it is none.
pub(super) fn hex(text: &str) -> String {
    let is_hex = text.len() <= MAX_HEX && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { text.to_owned() } else { String::new() }
}

/// Keeps the status below its bound: what goes first is what the AgentAttempt and the artifact have as well. What is
/// left without the patch's lists and its text (two sentences of 4 KiB, which as JSON may take twice that, an answer of
/// 8 KiB, names and figures) fits always.
pub(super) fn shrink(status: &mut AgentTaskStatus) {
    let steps: [fn(&mut PatchSummary); 4] = [
        |patch| patch.paths.clear(),
        |patch| patch.skipped.clear(),
        |patch| patch.flags.clear(),
        |patch| patch.inline = None,
    ];
    for step in steps {
        if encoded_bytes(status) <= MAX_BYTES {
            return;
        }
        if let Some(patch) = status.result.as_mut().and_then(|result| result.patch.as_mut()) {
            step(patch);
        }
    }
}

/// Length as JSON.
pub(super) fn encoded_bytes<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}
