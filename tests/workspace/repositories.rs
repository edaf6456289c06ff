//! Repositories that were made to hurt whoever fetches them, served by a real server: each is refused with a sentence, or
//! its work tree is harmless.
//!
//! Git's own commands refuse to make most of these, so their objects are written byte by byte.

mod cases;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use podwright::workspace::{Fetched, PatchBody, ReadError, Reader, Worktree, checkout};

use crate::support::{Server, Source, Volumes, all_bytes, confined_git, contains, plain_git, spec};
use cases::{Case, FILES, LOOKALIKES, MODULES, OBJECTS};

const CANARY: &str = "MODEL-KEY-CANARY";

/// What becomes of a repository.
#[derive(Clone, Copy)]
enum Expected {
    /// It is not fetched or not checked out, and the sentence has these words.
    Refused(&'static str),
    /// It is checked out, and this is there.
    There(&'static str),
    /// Whatever this version of git makes of it, it is no harm.
    Harmless,
}

use Expected::{Harmless, Refused, There};

/// A repository that is served, and what its author aims at.
struct Maker {
    source: Source,
    secret: PathBuf,
    marker: PathBuf,
}

/// Entries of a tree: mode, name, object.
type Entries<'a> = &'a [(&'a str, &'a [u8], &'a str)];

impl Maker {
    /// An object of any content whatever.
    fn object(&self, kind: &str, content: &[u8]) -> String {
        let mut child = plain_git(&self.source.path)
            .args(["hash-object", "-t", kind, "-w", "--literally", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn blob(&self, content: impl AsRef<[u8]>) -> String {
        self.object("blob", content.as_ref())
    }

    fn tree(&self, entries: Entries<'_>) -> String {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend_from_slice(mode.as_bytes());
            content.push(b' ');
            content.extend_from_slice(name);
            content.push(0);
            let pairs = id.as_bytes().chunks_exact(2);
            content.extend(
                pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()),
            );
        }
        self.object("tree", &content)
    }

    /// A directory with one file that runs something if it is taken for what its name says.
    fn trap(&self, name: &[u8]) -> String {
        let script = self.blob(self.script());
        self.tree(&[("100755", name, &script)])
    }

    fn script(&self) -> String {
        format!("#!/bin/sh\ntouch {}\ncat\n", self.marker.display())
    }

    /// What a configuration of git's would run.
    fn configuration(&self) -> String {
        let marker = self.marker.display();
        format!(
            "[core]\n\tfsmonitor = touch {marker}\n\tsshCommand = touch {marker}\n\thooksPath = hooks\n\
             [filter \"evil\"]\n\tclean = touch {marker}; cat\n\tsmudge = touch {marker}; cat\n\tprocess = touch {marker}\n\
             [diff]\n\texternal = touch {marker}\n[credential]\n\thelper = !touch {marker}\n"
        )
    }

    fn serve_commit(&self, content: &str) {
        let id = self.object("commit", content.as_bytes());
        fs::write(self.source.path.join(".git/refs/heads/main"), format!("{id}\n")).unwrap();
    }

    /// Makes `main` a commit of this tree.
    fn serve(&self, tree: &str) {
        let who = "Eve <eve@example.com> 1767225600 +0000";
        self.serve_commit(&format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nfirst\n"));
    }

    fn serve_one(&self, mode: &str, name: &[u8], id: &str) {
        self.serve(&self.tree(&[(mode, name, id)]));
    }

    fn serve_files(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            self.source.write(path, content);
        }
        self.source.commit("first");
    }

    fn modules(&self, content: &str) {
        let commit = "1".repeat(40);
        let modules = self.blob(content);
        let file = self.blob("x\n");
        self.serve(&self.tree(&[
            ("100644", b".gitmodules", &modules),
            ("100644", b"a", &file),
            ("160000", b"sub", &commit),
        ]));
    }
}

#[tokio::test]
async fn names_that_look_like_git() {
    try_all(LOOKALIKES).await;
}

#[tokio::test]
async fn lists_of_submodules() {
    try_all(MODULES).await;
}

#[tokio::test]
async fn damaged_and_odd_objects() {
    try_all(OBJECTS).await;
}

#[tokio::test]
async fn files_that_lead_elsewhere_or_tell_git_what_to_run() {
    try_all(FILES).await;
}

#[test]
fn there_are_enough_of_them() {
    let cases: Vec<&str> =
        [LOOKALIKES, MODULES, OBJECTS, FILES].concat().into_iter().map(|(name, ..)| name).collect();
    let different: BTreeSet<&str> = cases.iter().copied().collect();
    assert_eq!(different.len(), cases.len());
    assert!(cases.len() >= 40, "{}", cases.len());
}

async fn try_all(cases: &[Case]) {
    let server = Server::start();
    let mut wrong = Vec::new();
    for (number, (name, expected, make)) in cases.iter().enumerate() {
        if let Err(why) = try_one(&server, &format!("{number}.git"), *expected, *make).await {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn try_one(server: &Server, name: &str, expected: Expected, make: fn(&Maker)) -> Result<(), String> {
    let volumes = Volumes::new();
    let root = volumes.directory.path();
    let maker =
        Maker { source: server.repository(name), secret: root.join("state"), marker: root.join("state/ran") };
    fs::create_dir(&maker.secret).unwrap();
    fs::write(maker.secret.join("key"), CANARY).unwrap();
    make(&maker);
    let result = prepared(&volumes, server, name).await;
    // Whatever came of it.
    if maker.marker.exists() {
        return Err("it ran something".to_owned());
    }
    let outside: BTreeSet<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    if outside != ["repo", "state", "workspace"].map(Into::into).into() {
        return Err(format!("it wrote outside: {outside:?}"));
    }
    for volume in ["repo", "workspace"] {
        if contains(&all_bytes(&root.join(volume)), CANARY.as_bytes()) {
            return Err(format!("the secret is in {volume}"));
        }
        let top: Vec<_> =
            fs::read_dir(root.join(volume)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        if top.iter().any(|name| name != "app") {
            return Err(format!("{volume} has {top:?}"));
        }
    }
    match (expected, result) {
        (Refused(words), Err(said)) if said.contains(words) => is_a_sentence(&said),
        (Refused(words), Err(said)) => Err(format!("refused, but without {words:?}: {said}")),
        (Refused(_), Ok(_)) => Err("it was taken".to_owned()),
        (There(_), Err(said)) => Err(format!("it was refused: {said}")),
        (Harmless, Err(said)) => is_a_sentence(&said),
        (There(path), Ok(fetched)) if fs::symlink_metadata(volumes.worktree().join(path)).is_ok() => {
            patched(&volumes, &fetched, &maker).await
        }
        (There(path), Ok(_)) => Err(format!("{path} is not there")),
        (Harmless, Ok(fetched)) => patched(&volumes, &fetched, &maker).await,
    }
}

async fn prepared(volumes: &Volumes, server: &Server, name: &str) -> Result<Fetched, String> {
    let fetched = volumes.fetch(&spec(server.url(&format!("open/{name}")), "main")).await;
    let fetched = fetched.map_err(|error| error.to_string())?;
    checkout(&fetched, &volumes.layout, &confined_git()).await.map_err(|error| error.to_string())?;
    Ok(fetched)
}

fn is_a_sentence(said: &str) -> Result<(), String> {
    if said.len() < 10 || said.chars().any(char::is_control) || said.contains('\u{202e}') {
        return Err(format!("that is no sentence for people: {said:?}"));
    }
    Ok(())
}

/// Two patches with a change in between, and files read as instructions are.
async fn patched(volumes: &Volumes, fetched: &Fetched, maker: &Maker) -> Result<(), String> {
    let tree = volumes.worktree();
    check_files(&tree)?;
    let opened = Worktree::open(&volumes.layout, &confined_git(), fetched, &[]).await;
    let mut worktree = opened.map_err(|error| error.to_string())?;
    for content in ["one\n", "two\n"] {
        fs::write(tree.join("written"), content).unwrap();
        let patch = worktree.patch(fetched.base_tree, 1 << 20).await.map_err(|error| error.to_string())?;
        let PatchBody::Whole(bytes) = &patch.body else { return Err("the patch is too large".to_owned()) };
        podwright::patch::read(bytes).map_err(|error| error.to_string())?;
        if patch.files.len() != 1 || contains(bytes, CANARY.as_bytes()) {
            return Err(format!("the patch has more than what was written: {:?}", patch.files));
        }
    }
    let reader = Reader::open(volumes.layout.workspace()).unwrap();
    for name in ["AGENTS.md", "l", "D/key", ".gitignore"] {
        match reader.read(&Path::new("app").join(name), 1000) {
            Ok(content) if contains(&content.bytes, CANARY.as_bytes()) => {
                return Err(format!("{name} was followed"));
            }
            Ok(_) | Err(ReadError::Missing | ReadError::Leads) => {}
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    if maker.marker.exists() { Err("a patch ran something".to_owned()) } else { Ok(()) }
}

/// Nothing special, nothing with rights of its own, no configuration but ours.
fn check_files(tree: &Path) -> Result<(), String> {
    let config = fs::read_to_string(tree.join(".git/config")).unwrap();
    if ["filter", "fsmonitor", "hooksPath", "sshCommand", "submodule", "lfs", "@"]
        .iter()
        .any(|word| config.contains(word))
    {
        return Err(format!("the configuration has more than ours: {config}"));
    }
    if tree.join(".git/hooks").exists() || tree.join(".git/modules").exists() {
        return Err("there are hooks or modules".to_owned());
    }
    for entry in fs::read_dir(tree).unwrap() {
        let entry = entry.unwrap();
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let kind = metadata.file_type();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) || metadata.mode() & 0o7000 != 0 {
            return Err(format!("{:?} is special", entry.file_name()));
        }
    }
    Ok(())
}
