//! The work tree with which a verification or a continued task begins: the base commit, what the setup script made of it,
//! and the agent's patch over that.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use podwright::workspace::{
    Fetched, OriginError, OverlayError, PatchBody, Staging, apply_former, overlay, overlay_begun,
};

use crate::support::{Server, Volumes, confined_git, git, spec};

fn executable(path: &Path) -> bool {
    fs::metadata(path).unwrap().permissions().mode() & 0o111 != 0
}

async fn put(volumes: &Volumes, fetched: &Fetched) -> Result<(), OverlayError> {
    overlay(fetched, &volumes.layout, &confined_git(), Staging::Staged).await
}

#[tokio::test]
async fn a_patch_gives_the_same_files_and_is_staged() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("changed.txt", "one\n").write("gone.txt", "x\n").write("crlf.txt", "a\r\n");
    source.write("file/inside", "x\n").write("directory", "x\n").write("deep/er/only", "x\n");
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
    fs::remove_dir_all(at("deep")).unwrap();
    fs::set_permissions(at("mode.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("changed.txt", at("link")).unwrap();
    // A directory becomes a file, and a file a directory.
    fs::remove_dir_all(at("file")).unwrap();
    work.write("file", "no directory any more\n");
    fs::remove_file(at("directory")).unwrap();
    work.write("directory/inside", "");
    let patch = worktree.patch(fetched.base_tree, 10 << 20).await.unwrap();
    let PatchBody::Whole(text) = patch.body else { panic!("it is small") };

    // The branch moves on; what is checked out is what the patch was made for.
    source.write("later.txt", "later\n").commit("second");
    let next = Volumes::new();
    let fetched = next.prepare_with(&spec(url, &base), text).await;
    let tree = next.worktree();
    assert_eq!(git(&tree, &["status", "--porcelain"]), "", "before it, nothing of it is there");
    assert!(!overlay_begun(&next.layout).unwrap());
    // Once, and once more after a crash in the middle.
    for _ in 0..2 {
        put(&next, &fetched).await.unwrap();
        assert!(overlay_begun(&next.layout).unwrap());
        for name in [
            "changed.txt",
            "crlf.txt",
            "new/binary",
            ".gitattributes",
            "mode.sh",
            "kept.txt",
            "file",
            "directory/inside",
        ] {
            assert_eq!(fs::read(tree.join(name)).unwrap(), fs::read(at(name)).unwrap(), "{name}");
        }
        assert!(executable(&tree.join("mode.sh")) && !executable(&tree.join("kept.txt")));
        assert_eq!(fs::read_link(tree.join("link")).unwrap(), Path::new("changed.txt"));
        for gone in ["gone.txt", "later.txt", "deep"] {
            assert!(!tree.join(gone).exists(), "{gone}");
        }
        assert_eq!(git(&tree, &["rev-parse", "HEAD"]), base);
        assert_eq!(git(&tree, &["write-tree"]), patch.result_tree.to_string(), "it is staged whole");
        assert_eq!(git(&tree, &["diff", "--name-only"]), "");
        next.stop_in_the_middle_of_the_patch();
    }
    put(&next, &fetched).await.unwrap();
    // And then never again: the work tree is the sandbox's.
    next.write("changed.txt", "three\n");
    put(&next, &fetched).await.unwrap();
    assert_eq!(fs::read(tree.join("changed.txt")).unwrap(), b"three\n");
}

/// A patch that adds `new/file`, changes `a` and removes `b`.
const CHANGE: &str = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1,2 @@\n a\n+agent\n\
    diff --git a/b b/b\ndeleted file mode 100644\n--- a/b\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n\
    diff --git a/new/file b/new/file\nnew file mode 100644\n--- /dev/null\n+++ b/new/file\n@@ -0,0 +1 @@\n+new\n";

/// A checkout of `a` and `b`, with the patch above beside it.
async fn changed(server: &Server) -> (Volumes, Fetched) {
    let volumes = Volumes::new();
    let spec = spec(server.url("open/app.git"), "main");
    let fetched = volumes.prepare_with(&spec, CHANGE.as_bytes().to_vec()).await;
    (volumes, fetched)
}

fn serve() -> Server {
    let server = Server::start();
    server.repository("app.git").write("a", "a\n").write("b", "b\n").commit("first");
    server
}

#[tokio::test]
async fn what_setup_made_of_the_patchs_paths_gives_way_and_the_rest_stays() {
    let server = serve();
    let (volumes, fetched) = changed(&server).await;
    let at = |name: &str| volumes.worktree().join(name);
    // Hunks would not apply to these, or put lines in twice.
    volumes.write("a", "setup\na\nagent\n");
    volumes.write("b", "setup\n");
    volumes.write("new/file", "setup\n");
    volumes.write("new/other", "setup\n");
    // Read-only files and second names are replaced, not written.
    fs::set_permissions(at("new/file"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::hard_link(at("a"), at("second")).unwrap();
    put(&volumes, &fetched).await.unwrap();
    for (name, content) in [
        ("a", "a\nagent\n"),
        ("new/file", "new\n"),
        ("new/other", "setup\n"),
        ("second", "setup\na\nagent\n"),
    ] {
        assert_eq!(fs::read(at(name)).unwrap(), content.as_bytes(), "{name}");
    }
    assert!(!at("b").exists());
    assert_eq!(
        git(&volumes.worktree(), &["status", "--porcelain"]),
        "M  a\nD  b\nA  new/file\n?? new/other\n?? second"
    );
}

#[tokio::test]
async fn what_setup_left_leads_nowhere() {
    let server = serve();
    let outside = tempfile::tempdir().unwrap();
    let key = outside.path().join("file");
    fs::write(&key, "KEY").unwrap();

    // A link in a file's place is replaced.
    let (volumes, fetched) = changed(&server).await;
    fs::remove_file(volumes.worktree().join("a")).unwrap();
    symlink(&key, volumes.worktree().join("a")).unwrap();
    put(&volumes, &fetched).await.unwrap();
    assert_eq!(fs::read(volumes.worktree().join("a")).unwrap(), b"a\nagent\n");

    // One in a directory's place, or anything else there, ends it.
    for (case, path, told) in [
        ("a link", "new", "new is no directory"),
        ("a file", "new", "new is no directory"),
        ("a directory", "a", "a is a directory"),
    ] {
        let (volumes, fetched) = changed(&server).await;
        let place = volumes.worktree().join(path);
        match case {
            "a link" => symlink(outside.path(), &place).unwrap(),
            "a file" => fs::write(&place, "setup").unwrap(),
            _ => {
                fs::remove_file(&place).unwrap();
                volumes.write("a/in", "setup");
            }
        }
        let error = put(&volumes, &fetched).await.unwrap_err();
        assert!(matches!(error, OverlayError::InTheWay { .. }), "{case}: {error:?}");
        assert!(error.to_string().contains(told), "{case}: {error}");
        assert!(overlay_begun(&volumes.layout).unwrap(), "no script with Secrets runs after it");
    }

    // Nor does the whole work tree, or its repository.
    let (volumes, fetched) = changed(&server).await;
    fs::rename(volumes.worktree().join(".git"), outside.path().join("git")).unwrap();
    symlink(outside.path().join("git"), volumes.worktree().join(".git")).unwrap();
    let index = fs::read(outside.path().join("git/index")).unwrap();
    assert!(matches!(put(&volumes, &fetched).await, Err(OverlayError::InTheWay { .. })));
    assert_eq!(fs::read(outside.path().join("git/index")).unwrap(), index);
    let (volumes, fetched) = changed(&server).await;
    fs::rename(volumes.worktree(), outside.path().join("moved")).unwrap();
    symlink(outside.path().join("moved"), volumes.worktree()).unwrap();
    assert!(matches!(put(&volumes, &fetched).await, Err(OverlayError::InTheWay { .. })));
    assert_eq!(fs::read(outside.path().join("moved/a")).unwrap(), b"a\n");
    assert_eq!(fs::read(&key).unwrap(), b"KEY");
}

/// A patch that adds an empty file at each of these paths.
fn adding(paths: &[&str]) -> String {
    let one =
        |path: &&str| format!("diff --git a/{path} b/{path}\nnew file mode 100644\nindex 0000000..e69de29\n");
    paths.iter().map(one).collect()
}

/// A checkout of `a`, `b` and `directory/gone`, with this patch beside it.
async fn with_patch(patch: &str) -> (Server, Volumes, Fetched) {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a", "a\n").write("b", "b\n").write("directory/gone", "gone\n").commit("first");
    let volumes = Volumes::new();
    let spec = spec(server.url("open/app.git"), "main");
    let fetched = volumes.prepare_with(&spec, patch.as_bytes().to_vec()).await;
    (server, volumes, fetched)
}

#[tokio::test]
async fn no_name_is_the_writers_own() {
    let paths = ["conf.d/.podwright-new", "conf.d/a", ".podwright-new", "z", ".podwright-a", "new"];
    let (_server, volumes, fetched) = with_patch(&adding(&paths)).await;
    let others = ["conf.d/.podwright-old", ".podwright-old", "directory/.podwright-new"];
    for name in others {
        volumes.write(name, "setup\n");
    }
    put(&volumes, &fetched).await.unwrap();
    for name in paths {
        assert_eq!(fs::read(volumes.worktree().join(name)).unwrap(), b"", "{name}");
    }
    for name in others {
        assert_eq!(fs::read(volumes.worktree().join(name)).unwrap(), b"setup\n", "{name}");
    }
    let beside = fs::read_dir(volumes.layout.workspace()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(beside.collect::<Vec<_>>(), ["app"], "its own directory is gone");
}

const DELETION: &str = "diff --git a/directory/gone b/directory/gone\ndeleted file mode 100644\n\
    index f5a5be5..0000000\n--- a/directory/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n";

#[tokio::test]
async fn what_the_patch_deletes_is_not_left_behind_a_link() {
    let (_server, volumes, fetched) = with_patch(DELETION).await;
    let at = |name: &str| volumes.worktree().join(name);
    fs::rename(at("directory"), at("elsewhere")).unwrap();
    symlink("elsewhere", at("directory")).unwrap();
    let error = put(&volumes, &fetched).await.unwrap_err();
    assert!(matches!(error, OverlayError::InTheWay { .. }), "{error:?}");
    assert!(error.to_string().contains("directory is no directory"), "{error}");
    assert!(at("elsewhere/gone").exists());
}

#[tokio::test]
async fn what_the_patch_deletes_may_be_gone_before() {
    for other in ["nothing", "a file"] {
        let (_server, volumes, fetched) = with_patch(DELETION).await;
        fs::remove_dir_all(volumes.worktree().join("directory")).unwrap();
        if other == "a file" {
            volumes.write("directory", "setup\n");
        }
        put(&volumes, &fetched).await.unwrap();
        assert_eq!(volumes.worktree().join("directory").exists(), other == "a file");
    }
}

/// The patch makes a directory a link, and is put once more after a crash: what it deleted is behind its own link.
#[tokio::test]
async fn a_directory_that_the_patch_makes_a_link_is_made_one_again() {
    let link = "diff --git a/directory b/directory\nnew file mode 120000\n--- /dev/null\n+++ b/directory\n\
        @@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n";
    let (_server, volumes, fetched) = with_patch(&format!("{DELETION}{link}")).await;
    for _ in 0..2 {
        put(&volumes, &fetched).await.unwrap();
        assert_eq!(fs::read_link(volumes.worktree().join("directory")).unwrap(), Path::new("a"));
        volumes.stop_in_the_middle_of_the_patch();
    }
}

/// As an ordinary user, as in a pod; root is refused nothing.
#[test]
fn what_the_setup_script_made_read_only_is_named() {
    if rustix::process::getuid().is_root() {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=1234567", "--regid=1234567", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "patched::what_the_setup_script_made_read_only_is_named", "--nocapture"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (patch, locked, told) in [
            (adding(&["directory/x"]), "directory", "directory may not be written"),
            (adding(&["directory/in/x"]), "directory", "directory may not be written"),
            (adding(&["x"]), "", ". may not be written"),
            (DELETION.to_owned(), "directory", "directory may not be written"),
            (adding(&["x"]), "..", ". is where nothing may be written beside it"),
        ] {
            let (_server, volumes, fetched) = with_patch(&patch).await;
            let locked = volumes.worktree().join(locked);
            let give = |mode| fs::set_permissions(&locked, fs::Permissions::from_mode(mode)).unwrap();
            give(0o555);
            let error = put(&volumes, &fetched).await.unwrap_err();
            give(0o755);
            assert!(matches!(error, OverlayError::InTheWay { .. }), "{error:?}");
            assert!(error.to_string().contains(told), "{error}");
        }
    });
}

/// An artifact that somebody forged: git refuses it in the bare repository, before there is a work tree.
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
        ("what passes for git's own files", new(".GIT/config", "100644", "x")),
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
        let error = apply_former(fetched, patch.into_bytes(), &volumes.layout, &git).await.unwrap_err();
        assert!(matches!(error, OriginError::Patch(_)), "{case}: {error:?}");
        assert!(!volumes.worktree().exists(), "{case}");
    }
}
