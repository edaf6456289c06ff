//! What kind of work a task is.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of work a task is. Change: the repository is changed, and the result has the patch. Ask: a question is
/// answered. Review: what repositories[].ref adds to review.base is reviewed. Ask and Review leave the repository
/// alone: their patch is empty, and what the model changed all the same is dropped and flagged.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Mode {
    /// The repository is changed, and the result has the patch.
    #[default]
    Change,
    /// A question is answered; the repository is left alone.
    Ask,
    /// What `ref` adds to the base is reviewed; the repository is left alone.
    Review,
}

impl Mode {
    /// Whether files may be changed by work of this kind.
    #[must_use]
    pub const fn changes(self) -> bool {
        match self {
            Self::Change => true,
            Self::Ask | Self::Review => false,
        }
    }
}

/// What a review compares with.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Branch, tag or full commit id of the same repository that repositories[].ref would be merged into. It is fetched
    /// beside ref, to the same depth, and compared from the last commit that both have.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[^-\x00-\x20~^:?*\[\\][^\x00-\x20~^:?*\[\\]*$")
    )]
    #[serde(default = "super::default_ref")]
    pub base: String,
}

impl Default for Review {
    fn default() -> Self {
        Self { base: super::default_ref() }
    }
}
