//! The names of artifacts in an object store.
//!
//! A name holds the digest of the content, so the same content again is the same object, and whoever reads one knows
//! what it has to be.

use crate::names::ArtifactKind;

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The name of an attempt's artifact with this digest.
    #[must_use]
    pub fn new(namespace: &str, attempt_uid: &str, kind: ArtifactKind, sha256: &str) -> Self {
        Self(format!("{namespace}/{attempt_uid}/{}", kind.file(sha256)))
    }

    /// The name as it was written, if it is one of this namespace's.
    #[must_use]
    pub(super) fn read(name: &str, namespace: &str) -> Option<Self> {
        let is_own = name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'));
        (is_own && !name.contains("..")).then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}
