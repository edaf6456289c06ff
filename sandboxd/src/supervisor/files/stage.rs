//! File content on its way in.

use std::collections::BTreeMap;

use crate::protocol::{BlobPut, CHUNK_MAX, Digest, ErrorCode, RpcError, STAGE_BYTES};

/// Content by digest, complete or not.
#[derive(Debug, Default)]
pub(super) struct Stage {
    blobs: BTreeMap<[u8; 32], Blob>,
    promised: usize,
}

#[derive(Debug)]
struct Blob {
    size: usize,
    content: Vec<u8>,
}

impl Stage {
    /// Takes a piece. Returns how much of the content is there.
    pub(super) fn put(&mut self, piece: BlobPut) -> Result<u64, RpcError> {
        let BlobPut { sha256, size, offset, chunk } = piece;
        let key = *sha256.as_bytes();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let known = self.blobs.get(&key).map(|blob| blob.size);
        match known {
            None if self.promised.saturating_add(size) > STAGE_BYTES => {
                let message = format!("over {STAGE_BYTES} bytes of new content at once; change fewer files");
                return Err(RpcError::new(ErrorCode::LimitReached, message));
            }
            None => {
                self.promised += size;
                self.blobs.insert(key, Blob { size, content: Vec::new() });
            }
            Some(known) if known != size => return Err(invalid("the size is another than before")),
            Some(_) => {}
        }
        let Some(blob) = self.blobs.get_mut(&key) else { return Err(invalid("unknown content")) };
        let there = blob.content.len();
        let known = match usize::try_from(offset) {
            Ok(offset) if offset <= there => there - offset,
            Ok(_) | Err(_) => return Err(invalid("a piece is missing before this one")),
        };
        let fresh = chunk.0.get(known..).unwrap_or(&[]);
        if chunk.0.len() > CHUNK_MAX || there + fresh.len() > blob.size {
            return Err(invalid("the piece is too long"));
        }
        blob.content.extend_from_slice(fresh);
        let there = blob.content.len();
        if there == blob.size && !fresh.is_empty() && Digest::of(&blob.content) != sha256 {
            self.forget(&sha256);
            return Err(invalid("the content has another digest"));
        }
        Ok(there as u64)
    }

    /// Complete content.
    pub(super) fn get(&self, sha256: &Digest) -> Option<&[u8]> {
        let blob = self.blobs.get(sha256.as_bytes())?;
        (blob.content.len() == blob.size && (blob.size > 0 || *sha256 == Digest::of(b"")))
            .then_some(blob.content.as_slice())
    }

    /// Drops content.
    pub(super) fn forget(&mut self, sha256: &Digest) {
        if let Some(blob) = self.blobs.remove(sha256.as_bytes()) {
            self.promised -= blob.size;
        }
    }
}

fn invalid(message: &str) -> RpcError {
    RpcError::new(ErrorCode::InvalidParams, message)
}
