//! Whether a patch is what the attempt's status says of it. Its agent may have been taken over: length, digest and
//! files are counted here, the text is read, and nothing is unpacked further than the task allows.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::observed::ArtifactCheck;
use crate::api::attempt::PatchSummary;
use crate::artifacts::WINDOW_LOG_MAX;
use crate::names::PATCH_KEY;
use crate::patch::{Contents, PatchFault, PatchReader};

/// How much is unpacked at a time.
const CHUNK: usize = 64 * 1024;

/// Compares a patch's summary with the patch itself: with the inline text and with the artifact, whichever
/// are there. `content` is the artifact as it is kept, packed. `limit` is the task's limits.patchBytes, or 0 where its mode leaves the repository alone.
pub(super) fn check(patch: &PatchSummary, content: Option<&[u8]>, limit: i64) -> ArtifactCheck {
    match contents(patch, content, limit) {
        Ok(contents) => ArtifactCheck::Good(contents.map(|contents| contents.flags)),
        Err(sentence) => ArtifactCheck::Wrong(sentence),
    }
}

fn contents(patch: &PatchSummary, content: Option<&[u8]>, limit: i64) -> Result<Option<Contents>, String> {
    if patch.bytes > limit && (patch.inline.is_some() || patch.artifact.is_some()) {
        return Err("the patch it reported is longer than its task allows".to_owned());
    }
    if let Some(inline) = &patch.inline {
        let same = inline.len() as i64 == patch.bytes && hex(Sha256::digest(inline)) == patch.sha256;
        if !same {
            return Err("the inline patch does not have the length and digest it reported".to_owned());
        }
    }
    let Some(artifact) = &patch.artifact else {
        return patch
            .inline
            .as_ref()
            .map(|inline| counted(patch, crate::patch::read(inline.as_bytes())))
            .transpose();
    };
    let Some(content) = content.filter(|_| artifact.key == PATCH_KEY) else {
        return Err("the patch artifact it reported does not exist".to_owned());
    };
    if artifact.bytes != patch.bytes || artifact.sha256 != patch.sha256 {
        return Err("the patch and its artifact are reported with different lengths or digests".to_owned());
    }
    match unpack(content, patch.bytes.min(limit)) {
        Some((bytes, digest, read)) if bytes == patch.bytes && digest == patch.sha256 => {
            counted(patch, read).map(Some)
        }
        Some(_) | None => {
            Err("the patch artifact does not have the length and digest it reported".to_owned())
        }
    }
}

/// What was read, if it is a patch and changes as many files as is said.
fn counted(patch: &PatchSummary, read: Result<Contents, PatchFault>) -> Result<Contents, String> {
    let contents = read.map_err(|fault| format!("what it reported is no patch ({fault})"))?;
    if i64::try_from(contents.files) == Ok(patch.files) {
        Ok(contents)
    } else {
        Err("the patch does not change as many files as it reported".to_owned())
    }
}

/// Length and digest of what is packed, and what it says as a patch; none when it is damaged or longer than `limit`.
pub(super) fn unpack(packed: &[u8], limit: i64) -> Option<(i64, String, Result<Contents, PatchFault>)> {
    let mut decoder = zstd::stream::read::Decoder::new(packed).ok()?;
    decoder.window_log_max(WINDOW_LOG_MAX).ok()?;
    let mut digest = Sha256::new();
    let mut reader = PatchReader::default();
    let mut so_far = Ok(());
    let mut total: i64 = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = decoder.read(&mut chunk).ok()?;
        if read == 0 {
            return Some((total, hex(digest.finalize()), so_far.and_then(|()| reader.finish())));
        }
        total += read as i64;
        if total > limit {
            return None;
        }
        digest.update(&chunk[..read]);
        so_far = so_far.and_then(|()| reader.push(&chunk[..read]));
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::attempt::ArtifactRef;

    const PATCH: &str = "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n";

    fn summary() -> PatchSummary {
        let sha256 = hex(Sha256::digest(PATCH));
        let bytes = PATCH.len() as i64;
        PatchSummary {
            files: 1,
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
        matches!(check(patch, content, limit), ArtifactCheck::Good(_))
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

    /// A patch that adds a file `.github/workflows/x` with one line, up to its end.
    fn added(line: &[u8]) -> Vec<u8> {
        let path = ".github/workflows/x";
        let head = format!(
            "diff --git a/{path} b/{path}\nnew file mode 100644\nindex {}..{}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+",
            "0".repeat(40),
            "1".repeat(40)
        );
        [head.as_bytes(), line].concat()
    }

    /// As an agent reports it that was taken over: everything fits but the text.
    fn claimed(text: &[u8], files: i64) -> (PatchSummary, Vec<u8>) {
        let (sha256, bytes) = (hex(Sha256::digest(text)), text.len() as i64);
        let artifact = ArtifactRef {
            config_map_name: "a-patch".into(),
            key: PATCH_KEY.into(),
            sha256: sha256.clone(),
            bytes,
            url: String::new(),
        };
        let summary =
            PatchSummary { files, bytes, sha256, artifact: Some(artifact), ..PatchSummary::default() };
        (summary, stored(text))
    }

    #[test]
    fn what_is_no_patch_is_not_passed_on_however_well_it_is_digested() {
        let verdict = |text: &[u8], files| {
            let (summary, there) = claimed(text, files);
            check(&summary, Some(&there), 1000)
        };
        let good = added(b"on: push\n");
        let ArtifactCheck::Good(Some(flags)) = verdict(&good, 1) else { panic!("refused") };
        assert_eq!(flags.count(), 1, "found here, whatever was reported");
        assert!(matches!(verdict(&good, 2), ArtifactCheck::Wrong(_)), "another number of files");
        let climbing = String::from_utf8(good).unwrap().replace(".github/workflows/x", "../../.bashrc");
        let ArtifactCheck::Wrong(sentence) = verdict(climbing.as_bytes(), 1) else { panic!("passed on") };
        assert!(sentence.contains("must not be in a patch"), "{sentence}");
        assert!(matches!(verdict(b"--- a/x\n+++ b/x\n", 1), ArtifactCheck::Wrong(_)));
    }

    #[test]
    fn a_patch_is_not_unpacked_past_the_limit() {
        let mut long = added(&[]);
        long.extend(vec![b'0'; 8 << 20]);
        long.push(b'\n');
        let bytes = long.len() as i64;
        let sha256 = hex(Sha256::digest(&long));
        let mut patch = summary();
        patch.inline = None;
        patch.bytes = bytes;
        patch.sha256.clone_from(&sha256);
        let artifact = patch.artifact.as_mut().unwrap();
        artifact.bytes = bytes;
        artifact.sha256 = sha256;
        assert!(is_good(&patch, Some(&stored(&long)), bytes));
        let nothing = PatchSummary { bytes: 0, sha256: hex(Sha256::digest(b"")), ..PatchSummary::default() };
        assert!(is_good(&nothing, None, 0), "what leaves the repository alone has an empty patch");
        assert!(!is_good(&PatchSummary { artifact: None, ..summary() }, None, 0), "and no other");
        assert!(!is_good(&patch, Some(&stored(&long)), bytes - 1));
    }
}
