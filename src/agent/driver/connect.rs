//! How the sandbox is reached.

use std::path::Path;
use std::time::Duration;

use crate::sandbox::{Options, TokenFile};

/// How long the sandbox's container may take to start, its image's pull included: the largest images take this long
/// from a slow registry. A pod that cannot run at all is ended by the controller.
const SANDBOX_START: Duration = Duration::from_secs(30 * 60);

/// How long the sandbox may be out of reach: longer than the kubelet's longest pause between two starts of
/// a container (5 minutes).
const SANDBOX_PATIENCE: Duration = Duration::from_secs(330);

/// How the sandbox of an attempt is connected to. `state` is the directory of what outlives this process.
pub(super) fn options(client: &str, attempt: &str, state: &Path) -> Options {
    Options {
        client_name: format!("{client} {attempt}"),
        tokens: TokenFile::new(state.join("sandbox-token")),
        first_within: SANDBOX_START,
        give_up_after: SANDBOX_PATIENCE,
    }
}
