//! Whether a patch is what the attempt's status says of it. Its agent may have been taken over: length and digest
//! are counted here, and nothing is unpacked further than the task allows.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::observed::ArtifactCheck;
use crate::api::attempt::PatchSummary;
use crate::artifacts::WINDOW_LOG_MAX;
use crate::names::PATCH_KEY;

/// How much is unpacked at a time.
const CHUNK: usize = 64 * 1024;

/// Compares a patch's summary with the patch itself: with the inline text and with the artifact, whichever
/// are there. `content` is the artifact as it is kept, packed. `limit` is the task's limits.patchBytes, or 0 where its mode leaves the repository alone.
pub(super) fn check(patch: &PatchSummary, content: Option<&[u8]>, limit: i64) -> ArtifactCheck {
    match fault(patch, content, limit) {
        Some(sentence) => ArtifactCheck::Wrong(sentence.to_owned()),
        None => ArtifactCheck::Good,
    }
}

fn fault(patch: &PatchSummary, content: Option<&[u8]>, limit: i64) -> Option<&'static str> {
    if patch.bytes > limit && (patch.inline.is_some() || patch.artifact.is_some()) {
        return Some("the patch it reported is longer than its task allows");
    }
    if let Some(inline) = &patch.inline {
        let same = inline.len() as i64 == patch.bytes && hex(Sha256::digest(inline)) == patch.sha256;
        if !same {
            return Some("the inline patch does not have the length and digest it reported");
        }
    }
    let artifact = patch.artifact.as_ref()?;
    let Some(content) = content.filter(|_| artifact.key == PATCH_KEY) else {
        return Some("the patch artifact it reported does not exist");
    };
    if artifact.bytes != patch.bytes || artifact.sha256 != patch.sha256 {
        return Some("the patch and its artifact are reported with different lengths or digests");
    }
    match unpack(content, patch.bytes.min(limit)) {
        Some((bytes, digest)) if bytes == patch.bytes && digest == patch.sha256 => None,
        Some(_) | None => Some("the patch artifact does not have the length and digest it reported"),
    }
}

/// Length and digest of what is packed; none when it is damaged or longer than `limit`.
pub(super) fn unpack(packed: &[u8], limit: i64) -> Option<(i64, String)> {
    let mut decoder = zstd::stream::read::Decoder::new(packed).ok()?;
    decoder.window_log_max(WINDOW_LOG_MAX).ok()?;
    let mut digest = Sha256::new();
    let mut total: i64 = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = decoder.read(&mut chunk).ok()?;
        if read == 0 {
            return Some((total, hex(digest.finalize())));
        }
        total += read as i64;
        if total > limit {
            return None;
        }
        digest.update(&chunk[..read]);
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::attempt::ArtifactRef;

    const PATCH: &str = "diff --git a/x b/x\n";

    fn summary() -> PatchSummary {
        let sha256 = hex(Sha256::digest(PATCH));
        let bytes = PATCH.len() as i64;
        PatchSummary {
            inline: Some(PATCH.into()),
            bytes,
            sha256: sha256.clone(),
            artifact: Some(ArtifactRef {
                config_map_name: "a-patch".into(),
                key: PATCH_KEY.into(),
                sha256,
                bytes,
                url: String::new(),
            }),
            ..PatchSummary::default()
        }
    }

    fn stored(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 3).unwrap()
    }

    fn is_good(patch: &PatchSummary, content: Option<&[u8]>, limit: i64) -> bool {
        check(patch, content, limit) == ArtifactCheck::Good
    }

    #[test]
    fn a_patch_that_is_what_it_says_is_good() {
        assert!(is_good(&summary(), Some(&stored(PATCH.as_bytes())), 1000));
    }

    #[test]
    fn whatever_was_changed_afterwards_is_noticed() {
        let there = stored(PATCH.as_bytes());
        assert!(!is_good(&summary(), None, 1000), "the artifact is missing");
        assert!(!is_good(&summary(), Some(&stored(b"something else\n")), 1000));
        assert!(!is_good(&summary(), Some(&[]), 1000));
        let mut inline = summary();
        inline.inline = Some("another patch\n".into());
        assert!(!is_good(&inline, Some(&there), 1000));
        let mut digest = summary();
        digest.sha256 = "00".repeat(32);
        digest.inline = None;
        assert!(!is_good(&digest, Some(&there), 1000));
        let mut damaged = stored(PATCH.as_bytes());
        damaged.truncate(8);
        assert!(!is_good(&summary(), Some(&damaged), 1000));
    }

    #[test]
    fn a_patch_is_not_unpacked_past_the_limit() {
        let zeros = vec![0; 8 << 20];
        let bytes = zeros.len() as i64;
        let sha256 = hex(Sha256::digest(&zeros));
        let mut patch = summary();
        patch.inline = None;
        patch.bytes = bytes;
        patch.sha256.clone_from(&sha256);
        let artifact = patch.artifact.as_mut().unwrap();
        artifact.bytes = bytes;
        artifact.sha256 = sha256;
        assert!(is_good(&patch, Some(&stored(&zeros)), bytes));
        let nothing = PatchSummary { bytes: 0, sha256: hex(Sha256::digest(b"")), ..PatchSummary::default() };
        assert!(is_good(&nothing, None, 0), "what leaves the repository alone has an empty patch");
        assert!(!is_good(&PatchSummary { artifact: None, ..summary() }, None, 0), "and no other");
        assert!(!is_good(&patch, Some(&stored(&zeros)), bytes - 1));
    }
}
