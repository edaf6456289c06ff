//! Two trees to a patch, and the proof that the patch gives the second tree.

use std::fs;
use std::io;
use std::path::Path;

use podwright_sandboxd::protocol::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{PatchBody, PatchError, PatchStats};
use crate::workspace::Layout;
use crate::workspace::fetch::ATTRIBUTES;
use crate::workspace::git::{Git, GitError, Run};
use crate::workspace::object::ObjectId;
use crate::workspace::path::{RepoPath, quoted, shown};
use crate::workspace::tree::Difference;

/// How scratch repositories' names begin.
const SCRATCH: &str = "run-";

/// The line that begins a path's section; no line of content begins like it.
const SECTION: &[u8] = b"diff --git ";

/// The lines before the patch, two figures and a name for each path.
const NUMSTAT_MAX: usize = 256 << 20;

/// Renames are not looked for: applying one depends on finding the other file unchanged, and a patch
/// without them always gives the result.
const DIFF: [&str; 11] = [
    "diff-tree",
    "-r",
    "--numstat",
    "--patch",
    "--binary",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--ignore-submodules=none",
];

/// What to compare.
pub(super) struct Request<'a> {
    pub(super) git: &'a Git,
    pub(super) layout: &'a Layout,
    pub(super) base: ObjectId,
    pub(super) result: ObjectId,
    pub(super) differences: &'a [Difference<'a>],
    pub(super) max: u64,
}

/// A patch and its figures.
pub(super) struct Diff {
    pub(super) body: PatchBody,
    pub(super) stats: PatchStats,
}

impl Request<'_> {
    /// Makes the patch and proves it.
    pub(super) async fn run(&self) -> Result<Diff, PatchError> {
        let files = self.differences.len() as u64;
        if self.base == self.result {
            return Ok(Reading::new(self.max).finish(files));
        }
        let directory = scratch(self.layout)?;
        let mut diff = self.diff(directory.path()).await?.finish(files);
        if let PatchBody::Whole(bytes) = &diff.body
            && std::str::from_utf8(bytes).is_err()
        {
            // Content that is not UTF-8 fits no JSON. As binary it is ASCII.
            let attributes = self.not_text(bytes);
            fs::write(directory.path().join("info/attributes"), format!("{ATTRIBUTES}{attributes}"))?;
            diff = self.diff(directory.path()).await?.finish(files);
        }
        if let PatchBody::Whole(bytes) = &diff.body {
            self.prove(directory.path(), bytes.clone()).await?;
        }
        Ok(diff)
    }

    async fn diff(&self, directory: &Path) -> Result<Reading, PatchError> {
        let trees = [self.base.to_string(), self.result.to_string()];
        let mut reading = Reading::new(self.max);
        let run = self.local(directory, DIFF.into_iter().map(str::to_owned).chain(trees));
        run.stream(|bytes| reading.push(bytes)).await?;
        if reading.head.len() > NUMSTAT_MAX {
            return Err(GitError::OutputTooLarge { command: "diff-tree".to_owned(), max: NUMSTAT_MAX }.into());
        }
        Ok(reading)
    }

    /// Applies the patch to the base, in a private index, and compares the tree that comes out.
    async fn prove(&self, directory: &Path, patch: Vec<u8>) -> Result<(), PatchError> {
        fs::copy(self.layout.base_index(), directory.join("index"))?;
        let apply = ["apply", "--cached", "--whitespace=nowarn", "-"].map(str::to_owned);
        match self.local(directory, apply).input(patch).output(0).await {
            Err(GitError::Failed { stderr, .. }) => {
                return Err(PatchError::Proof(shown(&stderr)));
            }
            other => other?,
        };
        let tree = self.local(directory, ["write-tree".to_owned()]).output(64).await?;
        if tree.trim_ascii() == self.result.to_string().as_bytes() {
            Ok(())
        } else {
            let tree = String::from_utf8_lossy(tree.trim_ascii()).into_owned();
            Err(PatchError::Proof(format!("it gives the tree {tree} and not {}", self.result)))
        }
    }

    /// A run with the scratch repository, which reads the bare one's objects and writes none of them.
    fn local(&self, directory: &Path, args: impl IntoIterator<Item = String>) -> Run<'_> {
        let objects = self.layout.git_dir().join("objects");
        self.git
            .run_in(directory, args)
            .read(&objects)
            .env("GIT_DIR", directory)
            .env("GIT_INDEX_FILE", directory.join("index"))
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects)
    }

    /// Attributes that make git write those paths as binary whose sections are not UTF-8.
    fn not_text(&self, patch: &[u8]) -> String {
        // A path that became another kind of thing has two sections, a deletion and a creation.
        let owners = self.differences.iter().flat_map(|Difference { path, before, after }| {
            let one = before.zip(*after).is_none_or(|(before, after)| before.mode.same_type(after.mode));
            std::iter::repeat_n(*path, if one { 1 } else { 2 })
        });
        let mut paths: Vec<&RepoPath> = sections(patch)
            .zip(owners)
            .filter(|(section, _)| std::str::from_utf8(section).is_err())
            .map(|(_, path)| path)
            .collect();
        paths.dedup();
        paths
            .into_iter()
            .map(|path| format!("\"/{}\" -diff\n", quoted(&escape_pattern(path.as_bytes()))))
            .collect()
    }
}

/// Removes the scratch repositories of an agent that was killed.
pub(super) fn remove_leftovers(layout: &Layout) -> io::Result<()> {
    for entry in fs::read_dir(layout.private())? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A repository for one run: private index, private attributes, private new objects.
fn scratch(layout: &Layout) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(layout.private())?;
    for name in ["objects", "refs", "info"] {
        fs::create_dir(directory.path().join(name))?;
    }
    fs::write(directory.path().join("HEAD"), "ref: refs/heads/none\n")?;
    fs::copy(layout.git_dir().join("config"), directory.path().join("config"))?;
    fs::write(directory.path().join("info/attributes"), ATTRIBUTES)?;
    Ok(directory)
}

/// The output of `diff-tree --numstat --patch` as it comes: figures, an empty line, the patch.
struct Reading {
    max: u64,
    head: Vec<u8>,
    head_done: bool,
    patch: Vec<u8>,
    bytes: u64,
    digest: Sha256,
}

impl Reading {
    fn new(max: u64) -> Self {
        Self { max, head: Vec::new(), head_done: false, patch: Vec::new(), bytes: 0, digest: Sha256::new() }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !self.head_done && !bytes.is_empty() && self.head.len() <= NUMSTAT_MAX {
            // The empty line is a line feed at the beginning of a line.
            let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let (line, rest) = bytes.split_at(end);
            self.head_done = line == b"\n" && (self.head.is_empty() || self.head.ends_with(b"\n"));
            self.head.extend_from_slice(line);
            bytes = rest;
        }
        if !self.head_done {
            return;
        }
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        if self.bytes <= self.max {
            self.patch.extend_from_slice(bytes);
        } else {
            self.patch = Vec::new();
        }
    }

    fn finish(self, files: u64) -> Diff {
        let (mut insertions, mut deletions) = (0_u64, 0_u64);
        for line in self.head.split(|byte| *byte == b'\n') {
            let mut fields =
                line.split(|byte| *byte == b'\t').map(|field| std::str::from_utf8(field).unwrap_or_default());
            // "-" for a binary file.
            let mut figure = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            insertions = insertions.saturating_add(figure());
            deletions = deletions.saturating_add(figure());
        }
        let sha256 = Digest::from_bytes(self.digest.finalize().into()).to_string();
        let body = if self.bytes <= self.max { PatchBody::Whole(self.patch) } else { PatchBody::TooLarge };
        Diff { body, stats: PatchStats { files, insertions, deletions, bytes: self.bytes, sha256 } }
    }
}

/// A patch cut at the lines that begin a section.
fn sections(patch: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = patch;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let starts_next = |at: &usize| rest[*at..].starts_with(b"\n") && rest[at + 1..].starts_with(SECTION);
        let end = (0..rest.len()).find(starts_next).map_or(rest.len(), |at| at + 1);
        let (section, after) = rest.split_at(end);
        rest = after;
        Some(section)
    })
}

/// A path as a pattern that matches just it.
fn escape_pattern(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        if matches!(byte, b'*' | b'?' | b'[' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_split_wherever_it_is_cut() {
        let output = b"3\t1\ta\n-\t-\tb\n\ndiff --git a/a b/a\n\n+x\n";
        for cut in 0..output.len() {
            let mut reading = Reading::new(1000);
            reading.push(&output[..cut]);
            reading.push(&output[cut..]);
            let diff = reading.finish(2);
            assert_eq!(diff.body, PatchBody::Whole(b"diff --git a/a b/a\n\n+x\n".to_vec()), "cut at {cut}");
            assert_eq!((diff.stats.insertions, diff.stats.deletions, diff.stats.files), (3, 1, 2));
        }
    }

    #[test]
    fn too_much_is_counted_and_digested() {
        let whole = |max| {
            let mut reading = Reading::new(max);
            reading.push(b"1\t0\ta\n\n");
            reading.push(b"0123456789");
            reading.push(b"0123456789");
            reading.finish(1)
        };
        let (kept, cut) = (whole(20), whole(19));
        assert_eq!(cut.body, PatchBody::TooLarge);
        assert_eq!(cut.stats, kept.stats);
        assert_eq!(kept.body, PatchBody::Whole(b"01234567890123456789".to_vec()));
    }

    #[test]
    fn sections_are_cut_at_their_first_line() {
        let patch = b"diff --git a/a b/a\n+diff --git \ndiff --git a/b b/b\n-x\n";
        let cut: Vec<&[u8]> = sections(patch).collect();
        assert_eq!(cut, [&patch[..32], &patch[32..]]);
    }
}
