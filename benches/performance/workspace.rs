//! The workspace against git alone, on this machine without a cluster.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use podwright::workspace::{Bounds, Depth, FetchSpec, Git, Layout, Worktree, checkout, fetch};

use crate::Rounds;
use crate::git::{GitServer, git};
use crate::report::Row;
use crate::samples::Samples;

/// A repository of 2,000 files of about 4 KiB and 60 commits: that of a middling service.
const FOLDERS: usize = 50;
const FILES_EACH: usize = 40;
const COMMITS: usize = 60;
const DEPTH: u32 = 50;

/// Longest patch that is made, in bytes.
const PATCH_MAX: u64 = 10 << 20;

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    let server = GitServer::start(Ipv4Addr::LOCALHOST);
    history(&server);
    let [mut prepared, mut cloned, mut patched, mut diffed] = std::array::from_fn(|_| Samples::default());
    for round in 0..rounds.workspaces {
        if round % 2 == 0 {
            cloned.add(clone(&server));
        }
        let (preparation, patch, diff) = ours(&server).await;
        prepared.add(preparation);
        patched.add(patch);
        diffed.add(diff);
        if round % 2 == 1 {
            cloned.add(clone(&server));
        }
    }
    let what = format!("{} files, {COMMITS} commits", FOLDERS * FILES_EACH);
    vec![
        Row::ratio("Workspace preparation over `git clone`", &prepared, &cloned, 1.15).note(format!(
            "A repository of {what} from a git server on loopback at depth {DEPTH}: the confined fetch into the bare repository and \
             the checkout with a `.git` of its own, against `git clone --depth {DEPTH}`. Alternating."
        )),
        Row::ratio("Patch over `git diff` in place", &patched, &diffed, 1.5).note(
            "Ten files changed and one added: reading the whole work tree from outside, the result tree, the patch, and the proof \
             that it gives that tree; against `git diff HEAD` in the work tree, which leaves the new file out.",
        ),
    ]
}

/// Pushes the repository, made by a fixed rule.
fn history(server: &GitServer) {
    let files: Vec<(String, String)> = (0..FOLDERS * FILES_EACH)
        .map(|number| (format!("src/part{:02}/file{number:04}.txt", number % FOLDERS), content(number, 0)))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let bare = server.repository("large", &files);
    let work = tempfile::tempdir().expect("a folder");
    git(work.path(), &["clone", "-q", bare.to_str().expect("a path in UTF-8"), "."]);
    for commit in 1..COMMITS {
        for number in (0..5).map(|step| (commit * 37 + step * 101) % files.len()) {
            fs::write(work.path().join(files[number].0), content(number, commit)).expect("a file");
        }
        git(work.path(), &["commit", "-q", "-a", "-m", &format!("Change {commit}")]);
    }
    git(work.path(), &["push", "-q", "origin", "main"]);
}

/// About 4 KiB of lines that differ from file to file.
fn content(number: usize, commit: usize) -> String {
    let mut text = String::new();
    let mut state = number as u64 * 7919 + commit as u64 + 1;
    for line in 0..80 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "line {line} of file {number}: {:016x} {:08x}", state, state >> 40);
    }
    text
}

fn clone(server: &GitServer) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("clone");
    let depth = DEPTH.to_string();
    let url = server.url("large");
    let begun = Instant::now();
    git(
        folder.path(),
        &[
            "clone",
            "-q",
            "--depth",
            &depth,
            "--branch",
            "main",
            &url,
            target.to_str().expect("a path in UTF-8"),
        ],
    );
    begun.elapsed()
}

/// Times of the preparation, of the patch and of `git diff` in the same work tree.
async fn ours(server: &GitServer) -> (Duration, Duration, Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["repo", "workspace"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let confined = Git::with_helper(env!("CARGO_BIN_EXE_podwright").into()).expect("git is there");
    let layout =
        Layout::new(folder.path().join("repo"), folder.path().join("workspace"), "app").expect("a good name");
    let spec = FetchSpec {
        url: server.url("large").parse().expect("a URL"),
        reference: "main".parse().expect("a branch"),
        depth: Depth::Shallow(NonZeroU32::new(DEPTH).expect("a depth")),
        credential: None,
        ca_bundle: None,
        bounds: Bounds::default(),
    };
    let begun = Instant::now();
    let fetched = fetch(&spec, &layout, &confined).await.expect("the repository is fetched");
    checkout(&fetched, &layout, &confined).await.expect("the repository is checked out");
    let preparation = begun.elapsed();

    let mut worktree = Worktree::open(&layout, &confined, &fetched, &[]).await.expect("the work tree opens");
    let baseline = worktree.snapshot().await.expect("the work tree is read").tree;
    change(&layout.worktree());
    let begun = Instant::now();
    let patch = worktree.patch(baseline, PATCH_MAX).await.expect("a patch");
    let patch_time = begun.elapsed();
    assert_eq!(patch.stats.files, 11, "ten files changed and one added");
    let begun = Instant::now();
    git(&layout.worktree(), &["diff", "HEAD"]);
    (preparation, patch_time, begun.elapsed())
}

fn change(worktree: &Path) {
    for number in (0..10).map(|step| step * 173 % (FOLDERS * FILES_EACH)) {
        let file = worktree.join(format!("src/part{:02}/file{number:04}.txt", number % FOLDERS));
        let text = fs::read_to_string(&file).expect("a file");
        fs::write(&file, text.replace("line 7 ", "line seven ")).expect("a file");
    }
    fs::write(worktree.join("new.txt"), "new\n").expect("a file");
}
