//! What commands may connect to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of hosts that commands may reach through the proxy.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Preset {
    /// PyPI: pip, uv, Poetry.
    Python,
    /// The npm registry: npm, yarn, pnpm.
    JavaScript,
    /// crates.io and the toolchains of rustup.
    Rust,
    /// The Go module proxy and its checksum database.
    Go,
    /// Maven Central and Gradle's plugins and distributions.
    Java,
    /// RubyGems.
    Ruby,
    /// NuGet.
    DotNet,
    /// Packages of Debian.
    Debian,
    /// Packages of Ubuntu.
    Ubuntu,
    /// Packages of Alpine.
    Alpine,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Python,
        Self::JavaScript,
        Self::Rust,
        Self::Go,
        Self::Java,
        Self::Ruby,
        Self::DotNet,
        Self::Debian,
        Self::Ubuntu,
        Self::Alpine,
    ];
}

/// Which requests commands may make, for the modes Allowlist and Full: All when left out. ReadOnly: GET, HEAD and OPTIONS
/// without a body, as far as requests can be seen, which is plain http; https is not looked into, and tunnels must be
/// encrypted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Methods {
    /// Any.
    #[default]
    All,
    /// Those that only read, as far as requests can be seen.
    ReadOnly,
}
