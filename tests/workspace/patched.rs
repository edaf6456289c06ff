//! The checkout of the pod that verifies: the base commit with the agent's patch.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use podwright::workspace::{CheckoutError, PatchBody, checkout_patched};

use crate::support::{Server, Volumes, confined_git, git, spec};

fn executable(path: &Path) -> bool {
    fs::metadata(path).unwrap().permissions().mode() & 0o111 != 0
}

#[tokio::test]
async fn a_patch_gives_the_same_files_and_is_staged() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("changed.txt", "one\n").write("gone.txt", "x\n").write("crlf.txt", "a\r\n");
    let base = source.write("mode.sh", "true\n").write("kept.txt", "kept\n").commit("first");
    let url = server.url("open/app.git");

    let work = Volumes::new();
    let (fetched, mut worktree) = work.prepare(&spec(url.clone(), "main")).await;
    let at = |name: &str| work.worktree().join(name);
    work.write("changed.txt", "two  \n");
    work.write("crlf.txt", "a\r\nb\r\n");
    work.write("new/binary", [0, 159, 146, 150, 10, 0]);
    work.write(".gitattributes", "* text eol=crlf filter=evil\n");
    fs::remove_file(at("gone.txt")).unwrap();
    fs::set_permissions(at("mode.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("changed.txt", at("link")).unwrap();
    let patch = worktree.patch(fetched.base_tree, 10 << 20).await.unwrap();
    let PatchBody::Whole(text) = patch.body else { panic!("it is small") };

    // The branch moves on; what is checked out is what the patch was made for.
    source.write("later.txt", "later\n").commit("second");
    let next = Volumes::new();
    let fetched = next.fetch(&spec(url, &base)).await.unwrap();
    // Once, and once more after a crash in the middle.
    for _ in 0..2 {
        checkout_patched(&fetched, &next.layout, &confined_git(), text.clone()).await.unwrap();
        let tree = next.worktree();
        for name in ["changed.txt", "crlf.txt", "new/binary", ".gitattributes", "mode.sh", "kept.txt"] {
            assert_eq!(fs::read(tree.join(name)).unwrap(), fs::read(at(name)).unwrap(), "{name}");
        }
        assert!(executable(&tree.join("mode.sh")) && !executable(&tree.join("kept.txt")));
        assert_eq!(fs::read_link(tree.join("link")).unwrap(), Path::new("changed.txt"));
        assert!(!tree.join("gone.txt").exists() && !tree.join("later.txt").exists());
        assert_eq!(git(&tree, &["rev-parse", "HEAD"]), base);
        assert_eq!(git(&tree, &["write-tree"]), patch.result_tree.to_string(), "it is staged whole");
        next.stop_in_the_middle_of_the_checkout();
    }
}

/// An artifact that somebody forged: git is confined to the new directory, and refuses on its own besides.
#[tokio::test]
async fn a_patch_that_reaches_out_of_the_work_tree_is_refused() {
    let server = Server::start();
    let source = server.repository("app.git");
    let base = source.write("a.txt", "one\n").commit("first");
    let outside = tempfile::tempdir().unwrap();
    let new = |path: &str, mode: &str, line: &str| {
        format!(
            "diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{line}\n\\ No newline at end of file\n"
        )
    };
    let through =
        new("link", "120000", &outside.path().display().to_string()) + &new("link/file", "100644", "x");
    for (case, patch) in [
        ("a path upwards", new("../file", "100644", "x")),
        ("git's own files", new(".git/hooks/post-checkout", "100755", "x")),
        ("through a link", through),
        (
            "another base",
            "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-two\n+three\n".into(),
        ),
        ("no patch", "something else".into()),
    ] {
        let volumes = Volumes::new();
        let fetched = volumes.fetch(&spec(server.url("open/app.git"), &base)).await.unwrap();
        let git = confined_git();
        let error = checkout_patched(&fetched, &volumes.layout, &git, patch.into_bytes()).await.unwrap_err();
        assert!(matches!(error, CheckoutError::Patch(_)), "{case}: {error:?}");
        assert!(!volumes.worktree().join("../file").exists(), "{case}");
        assert!(!volumes.worktree().join(".git/hooks/post-checkout").exists(), "{case}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{case}");
    }
}
