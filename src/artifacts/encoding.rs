//! The form of an artifact: zstd, bounded, with the digest of what was put in.

use std::io::Read;

use podwright_sandboxd::protocol::Digest;

use crate::api::conditions::is_plain;

/// Bytes of an encoded artifact. A ConfigMap takes 1 MiB, etcd 1.5 MiB with everything around it.
pub const ENCODED_MAX: usize = 900 * 1024;

/// Bytes of a patch that is repeated in the status, as JSON. The whole status stays under 32 KiB.
pub const INLINE_MAX: usize = 12 * 1024;

/// Bytes that are unpacked from an artifact: far more than any patch, and an end to a bomb.
const DECODED_MAX: u64 = 256 << 20;

/// The largest window, as a power of two, that an artifact may ask for. Those that are packed here ask for 2 MiB; what
/// somebody else put there could ask whoever unpacks it for 128 MiB.
pub const WINDOW_LOG_MAX: u32 = 22;

/// zstd's own default: 900 KiB hold some 4 MiB of patch, packed in 20 ms.
const LEVEL: i32 = 3;

/// An artifact ready to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Compressed.
    pub data: Vec<u8>,
    /// SHA-256 of the content before compression, in hexadecimal.
    pub sha256: String,
    /// Bytes before compression.
    pub bytes: u64,
}

/// Content that does not fit an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes take {encoded} compressed, and an artifact holds {ENCODED_MAX}")]
pub struct TooLarge {
    /// Bytes of the content.
    pub bytes: u64,
    /// Bytes compressed.
    pub encoded: usize,
}

/// Why an artifact cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is not zstd.
    #[error("the artifact cannot be unpacked: {0}")]
    Unpack(#[source] std::io::Error),
    /// It unpacks to more than an artifact holds.
    #[error("the artifact unpacks to more than {DECODED_MAX} bytes")]
    TooLarge,
    /// It is not what the digest was made of.
    #[error("the artifact was changed: its digest is {found} and should be {expected}")]
    Digest {
        /// As in the status.
        expected: String,
        /// Of the content found.
        found: String,
    },
}

/// Compresses and digests `content`.
///
/// # Errors
/// [`TooLarge`] over [`ENCODED_MAX`].
pub fn encode(content: &[u8]) -> Result<Encoded, TooLarge> {
    let bytes = content.len() as u64;
    // Compressing memory into memory fails for want of memory alone; that is too large as well.
    let data =
        zstd::bulk::compress(content, LEVEL).map_err(|_| TooLarge { bytes, encoded: content.len() })?;
    if data.len() > ENCODED_MAX {
        return Err(TooLarge { bytes, encoded: data.len() });
    }
    Ok(Encoded { data, sha256: Digest::of(content).to_string(), bytes })
}

/// The content of an artifact whose digest is `expected`.
///
/// # Errors
/// [`DecodeError`]
pub fn decode(data: &[u8], expected: &str) -> Result<Vec<u8>, DecodeError> {
    let mut content = Vec::new();
    let mut decoder = zstd::stream::Decoder::new(data).map_err(DecodeError::Unpack)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(DecodeError::Unpack)?;
    decoder.take(DECODED_MAX + 1).read_to_end(&mut content).map_err(DecodeError::Unpack)?;
    if content.len() as u64 > DECODED_MAX {
        return Err(DecodeError::TooLarge);
    }
    let found = Digest::of(&content).to_string();
    if found == expected {
        Ok(content)
    } else {
        Err(DecodeError::Digest { expected: expected.to_owned(), found })
    }
}

/// Whether `text` may be repeated in a status: it is small enough, as JSON, and steers no terminal. It can't be cleaned
/// there, since it has to fit its digest.
pub fn inline(text: &str) -> bool {
    // Escapes only make it longer, so what is over the bound by itself need not be encoded.
    text.len() <= INLINE_MAX
        && is_plain(text)
        && serde_json::to_string(text).is_ok_and(|json| json.len() <= INLINE_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(content in prop::collection::vec(any::<u8>(), 0..5000)) {
            let encoded = encode(&content).unwrap();
            prop_assert_eq!(encoded.bytes, content.len() as u64);
            prop_assert_eq!(decode(&encoded.data, &encoded.sha256).unwrap(), content);
        }
    }

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_does_not_fit_says_by_how_much() {
        let content = noise(ENCODED_MAX + 1);
        let error = encode(&content).unwrap_err();
        assert_eq!(error.bytes, content.len() as u64);
        assert!(error.encoded > ENCODED_MAX);
        assert!(encode(&vec![b'x'; 20 << 20]).is_ok(), "it is the compressed size that counts");
    }

    #[test]
    fn a_change_is_noticed() {
        let encoded = encode(b"patch").unwrap();
        let other = encode(b"another").unwrap();
        assert!(matches!(decode(&other.data, &encoded.sha256), Err(DecodeError::Digest { .. })));
        assert!(matches!(decode(b"no zstd", &encoded.sha256), Err(DecodeError::Unpack(_))));
        assert!(decode(&encoded.data[..encoded.data.len() - 1], &encoded.sha256).is_err());
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 1 << 20];
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        for _ in 0..257 {
            std::io::Write::write_all(&mut encoder, &zeros).unwrap();
        }
        assert!(matches!(decode(&encoder.finish().unwrap(), ""), Err(DecodeError::TooLarge)));
    }

    #[test]
    fn who_unpacks_is_not_asked_for_more_than_a_window() {
        let packed = |window: u32| {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), LEVEL).unwrap();
            encoder.window_log(window).unwrap();
            // More than a window, and of unknown length, so that the frame does not say a smaller one.
            std::io::Write::write_all(&mut encoder, &vec![b'x'; 1 << 20]).unwrap();
            encoder.finish().unwrap()
        };
        let digest = Digest::of(&vec![b'x'; 1 << 20]).to_string();
        assert!(decode(&packed(WINDOW_LOG_MAX), &digest).is_ok());
        assert!(matches!(decode(&packed(WINDOW_LOG_MAX + 1), &digest), Err(DecodeError::Unpack(_))));
        let largest = encode(&noise(ENCODED_MAX / 2).repeat(40)).unwrap();
        assert!(decode(&largest.data, &largest.sha256).is_ok(), "what is packed here asks for less");
    }

    #[test]
    fn the_inline_bound_counts_json() {
        assert!(inline(&"a".repeat(INLINE_MAX - 2)));
        assert!(!inline(&"a".repeat(INLINE_MAX - 1)));
        assert!(inline(&"\n".repeat(INLINE_MAX / 2 - 1)));
        assert!(!inline(&"\n".repeat(INLINE_MAX / 2)));
    }
}
