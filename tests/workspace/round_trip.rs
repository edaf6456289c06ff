//! Whatever is done to a work tree: the patch turns the base, in a fresh clone, into the same tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use podwright::workspace::PatchBody;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Server, Volumes, git, plain_git, spec};

#[derive(Clone, Debug, PartialEq)]
enum Node {
    File { bytes: Vec<u8>, executable: bool },
    Link(Vec<u8>),
}

/// Names that make trouble: prefixes of each other, quoting, patterns, bytes that are no text.
const NAMES: [&[u8]; 20] = [
    b"a",
    b"a.b",
    b"a/b",
    b"a/b/c",
    b"a-b",
    b"dir/x",
    b"dir/y",
    b"dir/deep/z",
    b"with space",
    b"tab\there",
    b"new\nline",
    "gr\u{fc}n".as_bytes(),
    b"\xff\xfe",
    b"quo\"te",
    b"back\\slash",
    b"star*",
    b"[set]",
    b"-dash",
    b" lead",
    b"\x1b[31m",
];

type Files = BTreeMap<Vec<u8>, Node>;

fn content() -> impl Strategy<Value = Vec<u8>> {
    let lines = |end: &'static str| {
        prop::collection::vec(
            prop::sample::select(vec!["one", "two", "", "drei\u{fc}", "diff --git a/x b/x", "-- "]),
            0..12,
        )
        .prop_map(move |lines| lines.iter().flat_map(|line| [*line, end]).collect::<String>().into_bytes())
    };
    let mixed = (lines("\n"), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(a, b)| [a, b].concat());
    prop_oneof![4 => lines("\n"), 1 => lines("\r\n"), 2 => mixed, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        5 => (content(), any::<bool>()).prop_map(|(bytes, executable)| Node::File { bytes, executable }),
        1 => prop::sample::select(vec![&b"dir"[..], b"../up", b"/etc/passwd", b"\xff"]).prop_map(|target| Node::Link(target.to_vec())),
    ]
}

/// Later entries take the place of what is in their way.
fn files() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Node>)>> {
    prop::collection::vec(
        (prop::sample::select(NAMES.to_vec()).prop_map(<[u8]>::to_vec), prop::option::weighted(0.8, node())),
        0..14,
    )
}

fn apply(files: &mut Files, edits: &[(Vec<u8>, Option<Node>)]) {
    for (path, node) in edits {
        let in_the_way = |other: &[u8]| {
            let below = |a: &[u8], b: &[u8]| a.strip_prefix(b).is_some_and(|rest| rest.starts_with(b"/"));
            below(other, path) || below(path, other)
        };
        files.retain(|other, _| !in_the_way(other));
        match node {
            Some(node) => files.insert(path.clone(), node.clone()),
            None => files.remove(path),
        };
    }
}

/// Makes the directory's files exactly these, but for `.git`. What stays the same is not touched.
fn materialise(directory: &Path, before: &Files, after: &Files) {
    for path in before.keys().filter(|path| before.get(*path) != after.get(*path)) {
        fs::remove_file(directory.join(OsStr::from_bytes(path))).unwrap();
        // A directory that has become empty is no part of a tree.
        for parent in
            Path::new(OsStr::from_bytes(path)).ancestors().skip(1).filter(|parent| parent != &Path::new(""))
        {
            let _ = fs::remove_dir(directory.join(parent));
        }
    }
    for (path, node) in after.iter().filter(|(path, node)| before.get(*path) != Some(node)) {
        let path = directory.join(OsStr::from_bytes(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File { bytes, executable } => {
                fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Node::Link(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
        }
    }
}

/// The tree that git itself makes of these files, with nothing ignored and nothing converted.
fn tree_of(files: &Files) -> String {
    let directory = tempfile::TempDir::new().unwrap();
    git(directory.path(), &["init", "-q"]);
    materialise(directory.path(), &Files::new(), files);
    git(directory.path(), &["add", "-A", "-f"]);
    git(directory.path(), &["write-tree"])
}

#[test]
fn any_edits_come_back_exactly() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let number = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 20, failure_persistence: None, ..Config::default() });
    let cases = (files(), files(), files());
    runner
        .run(&cases, |(base, setup, agent)| {
            number.set(number.get() + 1);
            let name = format!("{}.git", number.get());
            let source = server.repository(&name);
            let mut first = Files::new();
            apply(&mut first, &base);
            materialise(&source.path, &Files::new(), &first);
            source.commit("base");
            let mut prepared = first.clone();
            apply(&mut prepared, &setup);
            let mut last = prepared.clone();
            apply(&mut last, &agent);

            runtime.block_on(async {
                let volumes = Volumes::new();
                let (fetched, mut worktree) =
                    volumes.prepare(&spec(server.url(&format!("open/{name}")), "main")).await;
                // Against the base: the result is the work tree.
                materialise(&volumes.worktree(), &first, &last);
                let patch = worktree.patch(fetched.base_tree, u64::MAX).await.unwrap();
                assert_eq!(patch.result_tree.to_string(), tree_of(&last));
                assert_eq!(applied(&source.path, &patch.body), tree_of(&last));
                // Against what setup left: only what the agent did differently from it.
                materialise(&volumes.worktree(), &last, &prepared);
                let baseline = worktree.snapshot().await.unwrap().tree;
                assert_eq!(baseline.to_string(), tree_of(&prepared));
                materialise(&volumes.worktree(), &prepared, &last);
                let patch = worktree.patch(baseline, u64::MAX).await.unwrap();
                let expected = tree_of(&merged(&first, &prepared, &last));
                assert_eq!(patch.result_tree.to_string(), expected);
                assert_eq!(applied(&source.path, &patch.body), expected);
            });
            Ok(())
        })
        .unwrap();
}

/// The base with what the agent did: removals first, then what it put there, over what is in the way.
fn merged(base: &Files, baseline: &Files, last: &Files) -> Files {
    let mut result = base.clone();
    for path in baseline.keys().filter(|path| !last.contains_key(*path)) {
        result.remove(path);
    }
    let put: Vec<(Vec<u8>, Option<Node>)> = last
        .iter()
        .filter(|(path, node)| baseline.get(*path) != Some(node))
        .map(|(path, node)| (path.clone(), Some(node.clone())))
        .collect();
    apply(&mut result, &put);
    result
}

fn applied(source: &Path, patch: &PatchBody) -> String {
    let clone = tempfile::TempDir::new().unwrap();
    git(clone.path(), &["clone", "-q", source.to_str().unwrap(), "."]);
    let PatchBody::Whole(bytes) = patch else { panic!("too large") };
    podwright::patch::read(bytes).expect("what git writes is what is read");
    if !bytes.is_empty() {
        let file = clone.path().join(".git/the.patch");
        fs::write(&file, bytes).unwrap();
        let output = plain_git(clone.path()).args(["apply", "--index"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    git(clone.path(), &["write-tree"])
}
