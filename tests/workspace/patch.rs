//! The patch, by example.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use podwright::workspace::{
    Change, OriginError, Patch, PatchBody, Staging, Worktree, apply_former, checkout, overlay,
};

use crate::support::{Server, Volumes, confined_git, git, plain_git, spec};

const PLENTY: u64 = 10 << 20;

/// The lines "A path", "M path" and so on; with "+" when setup touched it.
fn summary(patch: &Patch) -> Vec<String> {
    let letter = |change| match change {
        Change::Added => 'A',
        Change::Modified => 'M',
        Change::TypeChanged => 'T',
        Change::Deleted => 'D',
    };
    let mark = |touched| if touched { "+" } else { "" };
    patch
        .files
        .iter()
        .map(|file| format!("{} {}{}", letter(file.change), file.path, mark(file.touched_by_setup)))
        .collect()
}

fn text(patch: &Patch) -> &str {
    patch.text().unwrap()
}

/// What `git apply --index` makes of the patch in a fresh clone: the tree's id.
fn applied(server: &Server, patch: &Patch) -> String {
    let clone = tempfile::TempDir::new().unwrap();
    git(clone.path(), &["clone", "-q", server.url("open/app.git").as_str(), "."]);
    git(clone.path(), &["checkout", "-q", &patch.base_commit.to_string()]);
    let PatchBody::Whole(bytes) = &patch.body else { panic!("too large") };
    let contents = podwright::patch::read(bytes).expect("what git writes is what is read");
    assert_eq!(contents.files, patch.stats.files);
    if !bytes.is_empty() {
        let file = clone.path().join(".git/the.patch");
        std::fs::write(&file, bytes).unwrap();
        let output = plain_git(clone.path()).args(["apply", "--index"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    git(clone.path(), &["write-tree"])
}

async fn patch_of(worktree: &mut Worktree, baseline: podwright::workspace::ObjectId) -> Patch {
    worktree.patch(baseline, PLENTY).await.unwrap()
}

#[tokio::test]
async fn no_change_is_an_empty_patch() {
    let server = Server::start();
    server.repository("app.git").write("a.txt", "one\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    let baseline = worktree.snapshot().await.unwrap();
    assert_eq!(baseline.tree, fetched.base_tree);
    let patch = patch_of(&mut worktree, baseline.tree).await;
    assert_eq!(patch.body, PatchBody::Whole(Vec::new()));
    assert_eq!(patch.stats.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!((patch.files.len(), patch.skipped.count), (0, 0));
}

#[tokio::test]
async fn edits_of_every_kind_come_back() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("keep", "same\n").write("edit", "one\ntwo\n").write("gone", "x\n").write("dir/file", "in\n");
    source.write("mode", "run\n").write("binary", b"\0\x01").write("crlf", "a\r\nb\r\n");
    source.commit("first");
    let volumes = Volumes::new();
    let (_, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    let baseline = worktree.snapshot().await.unwrap().tree;
    let tree = volumes.worktree();
    volumes.write("edit", "one\nthree\nfour");
    std::fs::remove_file(tree.join("gone")).unwrap();
    std::fs::remove_dir_all(tree.join("dir")).unwrap();
    volumes.write("dir", "now a file\n");
    std::fs::set_permissions(tree.join("mode"), std::fs::Permissions::from_mode(0o755)).unwrap();
    volumes.write("binary", b"\0\x02\x03");
    volumes.write("crlf", "a\r\nc\r\n");
    volumes.write("new/file", "hello\n");
    symlink("keep", tree.join("link")).unwrap();

    let patch = patch_of(&mut worktree, baseline).await;
    assert_eq!(
        summary(&patch),
        ["M binary", "M crlf", "A dir", "D dir/file", "M edit", "D gone", "A link", "M mode", "A new/file"]
    );
    assert_eq!(applied(&server, &patch), patch.result_tree.to_string());
    assert_eq!((patch.stats.insertions, patch.stats.deletions), (6, 4));
    assert_eq!(patch.stats.bytes, text(&patch).len() as u64);
    // Again, from memory this time.
    assert_eq!(patch_of(&mut worktree, baseline).await, patch);
}

#[tokio::test]
async fn what_setup_made_is_not_the_agents_change() {
    let server = Server::start();
    let source = server.repository("app.git");
    source
        .write("lock", "1\n")
        .write("shared", "a\n")
        .write("plain", "p\n")
        .write("replaced/old", "o\n")
        .commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    // Setup.
    volumes.write("lock", "2\n");
    volumes.write("shared", "a\nsetup\n");
    volumes.write("generated", "g\n");
    std::fs::remove_dir_all(volumes.worktree().join("replaced")).unwrap();
    volumes.write("replaced", "setup's file\n");
    let baseline = worktree.snapshot().await.unwrap().tree;
    assert_ne!(baseline, fetched.base_tree);
    // The agent.
    volumes.write("shared", "a\nsetup\nagent\n");
    volumes.write("plain", "p\nagent\n");
    volumes.write("replaced", "the agent's file\n");

    let expected = ["M plain", "A replaced+", "D replaced/old+", "M shared+"];
    let patch = patch_of(&mut worktree, baseline).await;
    assert_eq!(summary(&patch), expected);
    assert!(text(&patch).contains("+setup\n+agent\n"));
    assert_eq!(applied(&server, &patch), patch.result_tree.to_string());
    // A restarted agent knows only the baseline's id.
    let mut again = Worktree::open(&volumes.layout, &confined_git(), &fetched, &[]).await.unwrap();
    assert_eq!(patch_of(&mut again, baseline).await, patch);
}

#[tokio::test]
async fn ignored_paths_stay_out_unless_they_are_tracked() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write(".gitignore", "*.log\n/build/\n").write("keep/.gitignore", "!*.log\n");
    source.write("build/tracked", "t\n").write("a.log", "tracked\n").commit("first");
    let volumes = Volumes::new();
    let fetched = volumes.prepare(&spec(server.url("open/app.git"), "main")).await.0;
    let excludes = ["*.tmp".to_owned()];
    let mut worktree = Worktree::open(&volumes.layout, &confined_git(), &fetched, &excludes).await.unwrap();
    for path in
        ["a.log", "b.log", "keep/c.log", "build/tracked", "build/new", "x.tmp", "deep/build/y", "deep/z.log"]
    {
        volumes.write(path, "changed\n");
    }
    // Rules of the work tree hide nothing.
    volumes.write("deep/.gitignore", "*\n");
    let patch = patch_of(&mut worktree, fetched.base_tree).await;
    assert_eq!(
        summary(&patch),
        ["M a.log", "M build/tracked", "A deep/.gitignore", "A deep/build/y", "A keep/c.log"]
    );
    assert_eq!(applied(&server, &patch), patch.result_tree.to_string());
}

#[tokio::test]
async fn content_that_is_not_utf8_becomes_binary_and_the_rest_stays_text() {
    let server = Server::start();
    let source = server.repository("app.git");
    source
        .write("latin", b"gr\xfcn\n")
        .write("odd [*] \"name\"\\x", b"\xe9\n")
        .write("text", "grün\n")
        .commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    volumes.write("latin", b"bl\xe4u\n");
    volumes.write("odd [*] \"name\"\\x", b"\xe8\n");
    volumes.write("text", "blau\n");
    volumes.write("new-latin", b"\xff\xfe\n");
    let patch = patch_of(&mut worktree, fetched.base_tree).await;
    let text = text(&patch);
    assert_eq!(text.matches("GIT binary patch").count(), 3);
    assert!(text.contains("-grün\n+blau\n"));
    assert_eq!(applied(&server, &patch), patch.result_tree.to_string());
}

#[tokio::test]
async fn a_symbolic_link_to_bytes_that_are_no_text_is_still_exact() {
    let server = Server::start();
    server.repository("app.git").write("a", "x\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    let target = std::ffi::OsString::from(String::from("t"));
    let mut bytes = target.into_encoded_bytes();
    bytes.push(0xff);
    symlink(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&bytes),
        volumes.worktree().join("l"),
    )
    .unwrap();
    let patch = patch_of(&mut worktree, fetched.base_tree).await;
    assert_eq!(patch.text(), None);
    assert_eq!(applied(&server, &patch), patch.result_tree.to_string());
}

#[tokio::test]
async fn a_patch_over_the_bound_keeps_its_figures() {
    let server = Server::start();
    server.repository("app.git").write("a", "x\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    volumes.write("a", "x\n".repeat(1000));
    volumes.write("b", "y\n".repeat(10));
    let whole = patch_of(&mut worktree, fetched.base_tree).await;
    let cut = worktree.patch(fetched.base_tree, whole.stats.bytes - 1).await.unwrap();
    assert_eq!(cut.body, PatchBody::TooLarge);
    assert_eq!((&cut.stats, &cut.files), (&whole.stats, &whole.files));
    let exact = worktree.patch(fetched.base_tree, whole.stats.bytes).await.unwrap();
    assert_eq!(exact, whole);
}

#[tokio::test]
async fn a_submodule_is_its_commit() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a", "x\n").commit("first");
    let id = source.git(&["rev-parse", "HEAD"]);
    source.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},sub")]);
    source.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},gone")]);
    source.git(&["commit", "-q", "-m", "submodules"]);
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    let nothing = patch_of(&mut worktree, fetched.base_tree).await;
    assert_eq!(summary(&nothing), Vec::<String>::new());
    volumes.write("sub/file", "not ours\n");
    std::fs::remove_dir(volumes.worktree().join("gone")).unwrap();
    let patch = patch_of(&mut worktree, fetched.base_tree).await;
    assert_eq!(summary(&patch), ["D gone"]);
}

#[tokio::test]
async fn a_nested_repository_comes_as_files() {
    let server = Server::start();
    server.repository("app.git").write("a", "x\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    std::fs::create_dir(volumes.worktree().join("nest")).unwrap();
    git(&volumes.worktree().join("nest"), &["init", "-q"]);
    volumes.write("nest/file", "in\n");
    let patch = patch_of(&mut worktree, fetched.base_tree).await;
    assert_eq!(summary(&patch), ["A nest/file"]);
    assert_eq!((patch.skipped.count, patch.skipped.named[0].path.as_path()), (1, Path::new("nest/.git")));
    assert_eq!(applied(&server, &patch), patch.result_tree.to_string());
}

#[tokio::test]
async fn a_change_that_hides_behind_old_stamps_is_seen() {
    let server = Server::start();
    server.repository("app.git").write("a", "one\n").commit("first");
    let volumes = Volumes::new();
    let (_, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    let path = volumes.worktree().join("a");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    // Long enough for the first state to be remembered.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let baseline = worktree.snapshot().await.unwrap().tree;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"two\n").unwrap();
    file.set_modified(modified).unwrap();
    let patch = patch_of(&mut worktree, baseline).await;
    assert!(text(&patch).contains("-one\n+two\n"));
    // Another file under the same name, with the first one's stamps.
    volumes.write("b", "six\n");
    let file = File::open(volumes.worktree().join("b")).unwrap();
    file.set_modified(modified).unwrap();
    std::fs::rename(volumes.worktree().join("b"), &path).unwrap();
    let patch = patch_of(&mut worktree, baseline).await;
    assert!(text(&patch).contains("-one\n+six\n"));
}

#[tokio::test]
async fn work_that_goes_on_starts_from_the_former_patch_and_delivers_both() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a.txt", "one\n").write("gone.txt", "x\n").write("b.txt", "two\n").commit("first");

    let before = Volumes::new();
    let spec = spec(server.url("open/app.git"), "main");
    let (fetched, mut worktree) = before.prepare(&spec).await;
    before.write("a.txt", "uno\n");
    before.write("new/c.bin", [0, 159, 146, 150]);
    std::fs::remove_file(before.worktree().join("gone.txt")).unwrap();
    let former = worktree.patch(fetched.base_tree, 1 << 20).await.unwrap();
    let PatchBody::Whole(body) = former.body else { panic!("whole") };

    let after = Volumes::new();
    let again = after.fetch(&spec).await.unwrap();
    let again = apply_former(again, body.clone(), &after.layout, &confined_git()).await.unwrap();
    assert_eq!(again.origin, Some(former.result_tree));
    assert_eq!(
        apply_former(again.clone(), b"no patch".to_vec(), &after.layout, &confined_git()).await.unwrap(),
        again
    );
    checkout(&again, &after.layout, &confined_git()).await.unwrap();
    let tree = after.worktree();
    assert_eq!(git(&tree, &["status", "--porcelain"]), "", "the setup script sees the base commit alone");
    // It changes one of the patch's files, and one that the patch leaves alone.
    after.write("a.txt", "one\nsetup\n");
    after.write("made.txt", "setup\n");
    overlay(&again, &after.layout, &confined_git(), Staging::Unstaged).await.unwrap();
    assert_eq!(git(&tree, &["status", "--porcelain"]), " M a.txt\n D gone.txt\n?? made.txt\n?? new/");
    assert_eq!(std::fs::read(tree.join("a.txt")).unwrap(), b"uno\n");
    git(&tree, &["fsck", "--full", "--strict"]);

    let mut worktree = Worktree::open(&after.layout, &confined_git(), &again, &[]).await.unwrap();
    let baseline = worktree.snapshot().await.unwrap().tree;
    let unchanged = worktree.patch(baseline, 1 << 20).await.unwrap();
    assert_eq!(
        unchanged.body,
        PatchBody::Whole(body),
        "nothing of the former work is lost, nor taken for setup's"
    );
    assert!(unchanged.files.iter().all(|file| !file.touched_by_setup));
    after.write("b.txt", "due\n");
    std::fs::remove_file(tree.join("new/c.bin")).unwrap();
    let patch = worktree.patch(baseline, 1 << 20).await.unwrap();
    let paths: Vec<String> = patch.files.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(paths, ["a.txt", "b.txt", "gone.txt"]);
}

#[tokio::test]
async fn a_former_patch_that_does_not_fit_says_so() {
    let server = Server::start();
    server.repository("app.git").write("a.txt", "one\n").commit("first");
    let volumes = Volumes::new();
    let fetched = volumes.fetch(&spec(server.url("open/app.git"), "main")).await.unwrap();
    let patch = b"diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-two\n+three\n".to_vec();
    let error = apply_former(fetched, patch, &volumes.layout, &confined_git()).await.unwrap_err();
    assert!(matches!(error, OriginError::Patch(_)), "{error}");
}
