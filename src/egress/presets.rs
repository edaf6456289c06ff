//! Names that package managers need, by what they are for: the whole list.
//!
//! Only what is needed to look up and download. Hosts that serve people's uploads on addresses of their own are left
//! out; where a registry takes uploads under the same name as downloads (npm, RubyGems), that cannot be told apart in
//! an encrypted connection.

use crate::api::network::Preset;

/// The names of a preset.
#[must_use]
pub fn names(preset: Preset) -> &'static [&'static str] {
    match preset {
        Preset::Python => &["pypi.org", "files.pythonhosted.org"],
        Preset::JavaScript => &["registry.npmjs.org", "registry.yarnpkg.com"],
        Preset::Rust => &["index.crates.io", "static.crates.io", "static.rust-lang.org"],
        Preset::Go => &["proxy.golang.org", "sum.golang.org"],
        Preset::Java => &[
            "repo.maven.apache.org",
            "repo1.maven.org",
            "plugins.gradle.org",
            "plugins-artifacts.gradle.org",
            "services.gradle.org",
            "downloads.gradle.org",
        ],
        Preset::Ruby => &["rubygems.org", "index.rubygems.org"],
        Preset::DotNet => &["api.nuget.org"],
        Preset::Debian => &["deb.debian.org", "security.debian.org"],
        Preset::Ubuntu => {
            &["archive.ubuntu.com", "*.archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com"]
        }
        Preset::Alpine => &["dl-cdn.alpinelinux.org"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::name::Pattern;

    #[test]
    fn the_page_names_them_all() {
        let page = include_str!("../../docs/network.md");
        for preset in Preset::ALL {
            let hosts: Vec<String> = names(preset).iter().map(|name| format!("`{name}`")).collect();
            let row = format!("| `{preset:?}` | {} |\n", hosts.join(", "));
            assert!(page.contains(&row), "docs/network.md lacks: {row}");
        }
    }

    #[test]
    fn every_name_of_every_preset_can_be_listed() {
        for preset in Preset::ALL {
            assert!(!names(preset).is_empty());
            for name in names(preset) {
                assert!(name.parse::<Pattern>().is_ok(), "{name}");
            }
        }
    }
}
