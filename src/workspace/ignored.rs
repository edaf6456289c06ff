//! Which untracked paths are no part of a change: the base commit's own ignore rules, and the environment's.
//!
//! The rules come from the base commit's blobs and never from the work tree, where a command could hide
//! its changes with them.

use std::collections::HashMap;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::git::{Git, GitError};
use super::object::{Mode, ObjectId};
use super::path::RepoPath;
use super::tree::Tree;

/// More files of rules than any repository has that was looked at; further ones are left out.
const FILES_MAX: usize = 10_000;

/// The rules of one file: more is no list that a person wrote, and compiling it costs memory.
const FILE_MAX: usize = 256 * 1024;

/// All files of rules together.
const TOTAL_MAX: usize = 64 << 20;

/// Ignore rules by directory.
#[derive(Debug)]
pub struct IgnoreRules {
    by_directory: HashMap<RepoPath, Gitignore>,
    excludes: Gitignore,
}

/// A pattern of the environment's `patchExcludes` that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("patchExcludes: {pattern:?} is no gitignore pattern: {problem}")]
pub struct InvalidPattern {
    pattern: String,
    problem: String,
}

impl IgnoreRules {
    /// Rules from files' contents by their directory, and from patterns that hold everywhere.
    ///
    /// # Errors
    /// [`InvalidPattern`] for one of `excludes`. In a repository's file a line that cannot be understood
    /// is left out, as git does.
    pub fn new(
        files: impl IntoIterator<Item = (RepoPath, Vec<u8>)>,
        excludes: &[String],
    ) -> Result<Self, InvalidPattern> {
        let mut by_directory = HashMap::new();
        for (directory, content) in files {
            let mut builder = GitignoreBuilder::new("");
            let text = String::from_utf8_lossy(&content);
            for line in text.trim_start_matches('\u{feff}').lines() {
                let _ = builder.add_line(None, line);
            }
            // Too many or too large patterns: then no rule of this file holds, so more is shown, not less.
            if let Ok(rules) = builder.build() {
                by_directory.insert(directory, rules);
            }
        }
        let mut builder = GitignoreBuilder::new("");
        for pattern in excludes {
            let invalid = |error: ignore::Error| InvalidPattern {
                pattern: pattern.clone(),
                problem: error.to_string(),
            };
            builder.add_line(None, pattern).map_err(invalid)?;
        }
        let excludes = builder
            .build()
            .map_err(|error| InvalidPattern { pattern: excludes.join(" "), problem: error.to_string() })?;
        Ok(Self { by_directory, excludes })
    }

    /// Whether one of the directories around `path` is ignored: then everything in it is.
    pub fn ignore_a_parent(&self, path: &RepoPath) -> bool {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.filter_map(|end| bytes.get(..end)).any(|parent| self.ignores(&RepoPath::new(parent), true))
    }

    /// Whether an untracked path is ignored, given that none of its parent directories is.
    pub fn ignores(&self, path: &RepoPath, is_dir: bool) -> bool {
        if self.excludes.matched(path.as_path(), is_dir).is_ignore() {
            return true;
        }
        // The innermost directory's rules win.
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in slashes.map(Some).chain([None]) {
            let (directory, rest) = match end {
                Some(at) => (bytes.get(..at), bytes.get(at + 1..)),
                None => (Some(&[][..]), Some(bytes)),
            };
            let (Some(directory), Some(rest)) = (directory, rest) else { continue };
            let Some(rules) = self.by_directory.get(directory) else { continue };
            match rules.matched(RepoPath::new(rest).as_path(), is_dir) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

/// The contents of the `.gitignore` files in `tree`, by directory.
pub(crate) async fn files_of(
    tree: &Tree,
    git: &Git,
    git_dir: &Path,
) -> Result<Vec<(RepoPath, Vec<u8>)>, GitError> {
    let mut directories = Vec::new();
    let mut request = String::new();
    for (path, entry) in &tree.entries {
        let bytes = path.as_bytes();
        let Some(directory) = bytes.strip_suffix(b".gitignore") else { continue };
        let whole_name = directory.is_empty() || directory.ends_with(b"/");
        // A symbolic link is not followed, as in git.
        if whole_name && matches!(entry.mode, Mode::File | Mode::Executable) && directories.len() < FILES_MAX
        {
            directories.push(RepoPath::new(directory.strip_suffix(b"/").unwrap_or_default()));
            request.push_str(&format!("{}\n", entry.id));
        }
    }
    if directories.is_empty() {
        return Ok(Vec::new());
    }
    let run = git.run_in(git_dir, ["cat-file", "--batch"]).env("GIT_DIR", git_dir);
    let output = match run.input(request.into_bytes()).output(TOTAL_MAX).await {
        // Rules of such a size are an attack on memory. Without them more is shown, not less.
        Err(GitError::OutputTooLarge { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let contents = parse_batch(&output).ok_or_else(|| GitError::Unexpected {
        command: "cat-file".to_owned(),
        what: "not the objects that were asked for".to_owned(),
    })?;
    Ok(directories.into_iter().zip(contents).filter(|(_, content)| content.len() <= FILE_MAX).collect())
}

/// The contents in the answer of `cat-file --batch`: "<id> <type> <size>", the content, a line feed.
fn parse_batch(mut output: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut contents = Vec::new();
    while !output.is_empty() {
        let end = output.iter().position(|byte| *byte == b'\n')?;
        let head = std::str::from_utf8(output.get(..end)?).ok()?;
        let mut fields = head.split(' ');
        let _id: ObjectId = fields.next()?.parse().ok()?;
        let size: usize = fields.nth(1)?.parse().ok()?;
        let content = output.get(end + 1..)?.get(..size)?;
        contents.push(content.to_owned());
        output = output.get(end + 1 + size + 1..)?;
    }
    Some(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(files: &[(&str, &str)], excludes: &[&str]) -> IgnoreRules {
        let files =
            files.iter().map(|(path, text)| (RepoPath::new(path.as_bytes()), text.as_bytes().to_vec()));
        IgnoreRules::new(files, &excludes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn ignores(rules: &IgnoreRules, path: &str) -> bool {
        rules.ignores(&RepoPath::new(path.as_bytes()), false)
    }

    #[test]
    fn inner_rules_win_and_stay_inside() {
        let rules = rules(&[("", "*.log\n/build\n"), ("keep", "!*.log\n")], &["*.tmp"]);
        assert!(ignores(&rules, "a.log"));
        assert!(ignores(&rules, "deep/er/a.log"));
        assert!(!ignores(&rules, "keep/a.log"));
        assert!(!ignores(&rules, "keep/in/a.log"));
        assert!(ignores(&rules, "build"));
        assert!(!ignores(&rules, "sub/build"));
        assert!(ignores(&rules, "keep/x.tmp"));
        assert!(!ignores(&rules, "plain"));
    }

    #[test]
    fn directories_only_patterns_are_for_directories() {
        let rules = rules(&[("", "target/\n")], &[]);
        let path = RepoPath::new(&b"a/target"[..]);
        assert!(rules.ignores(&path, true));
        assert!(!rules.ignores(&path, false));
    }

    #[test]
    fn what_is_in_an_ignored_directory_cannot_be_taken_back() {
        let rules = rules(&[("", "out/\n!keep\n")], &[]);
        let path = |text: &str| RepoPath::new(text.as_bytes());
        assert!(rules.ignore_a_parent(&path("a/out/b/keep")));
        assert!(!rules.ignore_a_parent(&path("a/out")));
    }

    #[test]
    fn a_bad_exclude_is_named() {
        let error = IgnoreRules::new([], &["{".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("\"{\""), "{error}");
    }

    #[test]
    fn batches_are_parsed_whole() {
        let id = "ce013625030ba8dba906f756967f9e9ca394464a";
        let batch = format!("{id} blob 2\na\n\n{id} blob 0\n\n");
        assert_eq!(parse_batch(batch.as_bytes()), Some(vec![b"a\n".to_vec(), vec![]]));
        assert_eq!(parse_batch(b"x missing\n"), None);
        assert_eq!(parse_batch(&batch.as_bytes()[..45]), None);
    }
}
