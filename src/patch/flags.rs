//! What of a patch a reviewer should look at first.

use crate::api::attempt::{PatchFlag, PatchFlagKind};
use crate::api::conditions::plain;
use crate::workspace::object::Mode;
use crate::workspace::path::RepoPath;

/// How many paths of one kind are named, so that a hundred of one kind hide none of another.
const NAMED: usize = 4;

/// Bytes of a path in a status, as in the schema.
const SHOWN_PATH: usize = 256;

/// Flags of a patch: the first paths of each kind, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    named: Vec<(PatchFlagKind, RepoPath)>,
    count: u64,
}

/// Directories, wherever they are, and what everything in them is.
const DIRECTORIES: &[(&str, PatchFlagKind)] = &[
    (".github/workflows", PatchFlagKind::CiFile),
    (".github/actions", PatchFlagKind::CiFile),
    (".gitea", PatchFlagKind::CiFile),
    (".forgejo", PatchFlagKind::CiFile),
    (".gitlab", PatchFlagKind::CiFile),
    (".circleci", PatchFlagKind::CiFile),
    (".buildkite", PatchFlagKind::CiFile),
    (".teamcity", PatchFlagKind::CiFile),
    (".tekton", PatchFlagKind::CiFile),
    (".woodpecker", PatchFlagKind::CiFile),
    (".husky", PatchFlagKind::Hook),
    (".githooks", PatchFlagKind::Hook),
    (".devcontainer", PatchFlagKind::Hook),
    (".vscode", PatchFlagKind::Hook),
    (".cargo", PatchFlagKind::Hook),
    (".claude", PatchFlagKind::Instructions),
    (".agents", PatchFlagKind::Instructions),
    (".codex", PatchFlagKind::Instructions),
    (".cursor", PatchFlagKind::Instructions),
];

/// Names of files in any directory, in lower case.
const FILES: &[(&str, PatchFlagKind)] = &[
    (".gitlab-ci.yml", PatchFlagKind::CiFile),
    (".travis.yml", PatchFlagKind::CiFile),
    (".drone.yml", PatchFlagKind::CiFile),
    (".woodpecker.yml", PatchFlagKind::CiFile),
    (".cirrus.yml", PatchFlagKind::CiFile),
    (".appveyor.yml", PatchFlagKind::CiFile),
    ("appveyor.yml", PatchFlagKind::CiFile),
    ("azure-pipelines.yml", PatchFlagKind::CiFile),
    ("bitbucket-pipelines.yml", PatchFlagKind::CiFile),
    ("cloudbuild.yaml", PatchFlagKind::CiFile),
    ("cloudbuild.yml", PatchFlagKind::CiFile),
    ("buildspec.yml", PatchFlagKind::CiFile),
    ("jenkinsfile", PatchFlagKind::CiFile),
    ("codeowners", PatchFlagKind::CiFile),
    ("dependabot.yml", PatchFlagKind::CiFile),
    ("renovate.json", PatchFlagKind::CiFile),
    (".pre-commit-config.yaml", PatchFlagKind::Hook),
    (".pre-commit-config.yml", PatchFlagKind::Hook),
    (".pre-commit-hooks.yaml", PatchFlagKind::Hook),
    ("lefthook.yml", PatchFlagKind::Hook),
    ("lefthook.yaml", PatchFlagKind::Hook),
    (".overcommit.yml", PatchFlagKind::Hook),
    (".envrc", PatchFlagKind::Hook),
    (".npmrc", PatchFlagKind::Hook),
    (".yarnrc", PatchFlagKind::Hook),
    (".yarnrc.yml", PatchFlagKind::Hook),
    (".pnpmfile.cjs", PatchFlagKind::Hook),
    (".bazelrc", PatchFlagKind::Hook),
    ("pip.conf", PatchFlagKind::Hook),
    ("sitecustomize.py", PatchFlagKind::Hook),
    ("rust-toolchain", PatchFlagKind::Hook),
    ("rust-toolchain.toml", PatchFlagKind::Hook),
    ("agents.md", PatchFlagKind::Instructions),
    ("agents.override.md", PatchFlagKind::Instructions),
    ("claude.md", PatchFlagKind::Instructions),
    ("gemini.md", PatchFlagKind::Instructions),
    ("copilot-instructions.md", PatchFlagKind::Instructions),
    (".cursorrules", PatchFlagKind::Instructions),
    (".windsurfrules", PatchFlagKind::Instructions),
    (".mcp.json", PatchFlagKind::Instructions),
    (".gitattributes", PatchFlagKind::GitConfiguration),
    (".gitmodules", PatchFlagKind::GitConfiguration),
    (".lfsconfig", PatchFlagKind::GitConfiguration),
    ("cargo.lock", PatchFlagKind::Lockfile),
    ("package-lock.json", PatchFlagKind::Lockfile),
    ("npm-shrinkwrap.json", PatchFlagKind::Lockfile),
    ("yarn.lock", PatchFlagKind::Lockfile),
    ("pnpm-lock.yaml", PatchFlagKind::Lockfile),
    ("bun.lock", PatchFlagKind::Lockfile),
    ("bun.lockb", PatchFlagKind::Lockfile),
    ("deno.lock", PatchFlagKind::Lockfile),
    ("go.sum", PatchFlagKind::Lockfile),
    ("go.work.sum", PatchFlagKind::Lockfile),
    ("poetry.lock", PatchFlagKind::Lockfile),
    ("pipfile.lock", PatchFlagKind::Lockfile),
    ("uv.lock", PatchFlagKind::Lockfile),
    ("pdm.lock", PatchFlagKind::Lockfile),
    ("gemfile.lock", PatchFlagKind::Lockfile),
    ("composer.lock", PatchFlagKind::Lockfile),
    ("mix.lock", PatchFlagKind::Lockfile),
    ("pubspec.lock", PatchFlagKind::Lockfile),
    ("podfile.lock", PatchFlagKind::Lockfile),
    ("package.resolved", PatchFlagKind::Lockfile),
    ("packages.lock.json", PatchFlagKind::Lockfile),
    ("gradle.lockfile", PatchFlagKind::Lockfile),
    ("flake.lock", PatchFlagKind::Lockfile),
    ("chart.lock", PatchFlagKind::Lockfile),
    (".terraform.lock.hcl", PatchFlagKind::Lockfile),
    ("module.bazel.lock", PatchFlagKind::Lockfile),
];

impl Flags {
    /// The first paths of each kind, in the order of kinds and paths.
    pub fn named(&self) -> impl Iterator<Item = (PatchFlagKind, &RepoPath)> {
        self.named.iter().map(|(kind, path)| (*kind, path))
    }

    /// As a status has them.
    pub fn shown(&self) -> impl Iterator<Item = PatchFlag> {
        self.named().map(|(kind, path)| PatchFlag { kind, path: plain(&path.to_string(), SHOWN_PATH) })
    }

    /// How many there are in all.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Looks at one path: what was there, what is there, and whether lines were added that do not show what they do.
    pub(super) fn see(
        &mut self,
        path: &RepoPath,
        before: Option<Mode>,
        after: Option<Mode>,
        type_changed: bool,
        hides: bool,
    ) {
        let mode_changed = before.zip(after).is_some_and(|(before, after)| before != after);
        let is_module = before == Some(Mode::Gitlink) || after == Some(Mode::Gitlink);
        let by_mode = [
            (is_module, PatchFlagKind::Submodule),
            (after == Some(Mode::Symlink), PatchFlagKind::Symlink),
            (type_changed || mode_changed, PatchFlagKind::ModeChange),
            (hides, PatchFlagKind::HiddenCharacters),
        ];
        let kinds = by_mode.into_iter().filter(|(is_so, _)| *is_so).map(|(_, kind)| kind);
        // The creation that follows a deletion of the same path has the same name.
        let by_name = by_name(path.as_bytes()).filter(|_| !type_changed);
        for kind in kinds.chain(by_name) {
            self.add(kind, path);
        }
    }

    fn add(&mut self, kind: PatchFlagKind, path: &RepoPath) {
        self.count += 1;
        if self.named.iter().filter(|(named, _)| *named == kind).count() < NAMED {
            let at = self.named.partition_point(|(named, _)| *named <= kind);
            self.named.insert(at, (kind, path.clone()));
        }
    }
}

fn by_name(path: &[u8]) -> Option<PatchFlagKind> {
    // File systems that fold case take them for the same.
    let path = path.to_ascii_lowercase();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let file = FILES.iter().find(|(file, _)| file.as_bytes() == name);
    let directory = || {
        DIRECTORIES.iter().find(|(directory, _)| {
            let ends =
                path.windows(directory.len()).enumerate().filter(|(_, found)| *found == directory.as_bytes());
            ends.into_iter().any(|(at, _)| {
                let begins = at == 0 || path.get(at - 1) == Some(&b'/');
                begins && path.get(at + directory.len()) == Some(&b'/')
            })
        })
    };
    file.or_else(directory).map(|(_, kind)| *kind)
}

/// Looks for characters that steer a terminal, turn the direction of writing or do not show, in lines that come in pieces.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    found: bool,
    /// The last bytes of the line.
    window: u32,
}

impl Hidden {
    pub(super) fn is_found(&self) -> bool {
        self.found
    }

    pub(super) fn line_begins(&mut self) {
        self.window = 0;
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.found {
            return;
        }
        for byte in bytes {
            // A carriage return belongs to the end of a line.
            self.found |= self.window & 0xff == 0x0d;
            self.window = (self.window << 8) | u32::from(*byte);
            self.found |= hides(self.window);
        }
    }
}

/// Whether the bytes end with such a character in UTF-8. A byte order mark is none: honest files begin with one.
fn hides(window: u32) -> bool {
    let [_, second, third, last] = window.to_be_bytes();
    let control = (last < 0x20 && !matches!(last, b'\t' | b'\r')) || last == 0x7f;
    let two = matches!((third, last), (0xc2, 0x80..=0x9f) | (0xd8, 0x9c));
    let three = matches!(
        (second, third, last),
        (0xe2, 0x80, 0x8b | 0x8e | 0x8f | 0xa8..=0xae)
            | (0xe2, 0x81, 0xa0..=0xaf)
            | (0xef, 0xbf, 0xb9..=0xbb)
    );
    let tag = window & 0xffff_fe00 == 0xf3a0_8000 && window & 0xc0 == 0x80;
    control || two || three || tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::steers;

    #[test]
    fn what_hides_in_bytes_is_what_steers_as_characters() {
        for c in (0..=0x10_ffff)
            .filter_map(char::from_u32)
            .filter(|c| !matches!(c, '\u{feff}' | '\t' | '\r' | '\n'))
        {
            let mut buffer = [0; 4];
            let mut hidden = Hidden::default();
            for byte in c.encode_utf8(&mut buffer).as_bytes() {
                hidden.push(&[*byte]);
            }
            assert_eq!(hidden.is_found(), steers(c), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn a_carriage_return_is_plain_at_the_end_of_a_line_only() {
        let found = |line: &[u8]| {
            let mut hidden = Hidden::default();
            hidden.push(line);
            hidden.is_found()
        };
        assert!(!found(b"a\tb\r"));
        assert!(found(b"harmful\rharmless"));
        assert!(found(b"\x1b[2K"));
    }

    #[test]
    fn names_are_known_wherever_and_however_they_are_written() {
        let kind = |path: &str| by_name(path.as_bytes());
        assert_eq!(kind(".github/workflows/ci.yml"), Some(PatchFlagKind::CiFile));
        assert_eq!(kind("sub/.GitHub/Workflows/x/y.yml"), Some(PatchFlagKind::CiFile));
        assert_eq!(kind("x.github/workflows/ci.yml"), None);
        assert_eq!(kind(".github/workflows"), None);
        assert_eq!(kind(".husky/pre-commit"), Some(PatchFlagKind::Hook));
        assert_eq!(kind("a/b/Cargo.lock"), Some(PatchFlagKind::Lockfile));
        assert_eq!(kind("docs/AGENTS.md"), Some(PatchFlagKind::Instructions));
        assert_eq!(kind(".gitattributes"), Some(PatchFlagKind::GitConfiguration));
        assert_eq!(kind("src/main.rs"), None);
    }

    #[test]
    fn one_kind_hides_no_other() {
        let mut flags = Flags::default();
        for number in 0..100 {
            let path = RepoPath::new(format!("{number:03}/yarn.lock"));
            flags.see(&path, None, Some(Mode::File), false, false);
        }
        flags.see(&RepoPath::new("z/Jenkinsfile"), Some(Mode::File), Some(Mode::Executable), false, true);
        let shown: Vec<_> = flags.named().map(|(kind, path)| (kind, path.to_string())).collect();
        assert_eq!(flags.count(), 103);
        assert_eq!(shown.len(), 7);
        assert_eq!(shown[0], (PatchFlagKind::CiFile, "z/Jenkinsfile".to_owned()));
        assert_eq!(shown[1].0, PatchFlagKind::ModeChange);
        assert_eq!(shown[2].0, PatchFlagKind::HiddenCharacters);
        assert_eq!(shown[6], (PatchFlagKind::Lockfile, "003/yarn.lock".to_owned()));
    }
}
