//! The first checkout.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use podwright::workspace::{CheckoutError, Depth, FetchSpec, checkout};

use crate::support::{Server, Volumes, all_bytes, confined_git, contains, git, spec};

#[tokio::test]
async fn the_work_tree_is_an_ordinary_clone_of_the_branch() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("src/a.txt", "one\n").commit("first");
    source.git(&["branch", "team/feature"]);
    let last = source.write("src/a.txt", "two\n").commit("second");
    source.git(&["branch", "-f", "team/feature"]);

    for depth in [Depth::Shallow(std::num::NonZeroU32::MIN), Depth::Full] {
        let volumes = Volumes::new();
        let spec = FetchSpec { depth, ..spec(server.url("open/app.git"), "team/feature") };
        volumes.prepare(&spec).await;
        let tree = volumes.worktree();
        assert_eq!(
            git(&tree, &["status", "--porcelain=v2", "--branch"]).lines().collect::<Vec<_>>(),
            [
                &format!("# branch.oid {last}"),
                "# branch.head team/feature",
                "# branch.upstream origin/team/feature",
                "# branch.ab +0 -0",
            ]
        );
        assert_eq!(git(&tree, &["remote", "get-url", "origin"]), spec.url.as_str());
        let count = if depth == Depth::Full { "2" } else { "1" };
        assert_eq!(git(&tree, &["rev-list", "--count", "HEAD"]), count);
        git(&tree, &["fsck", "--full", "--strict"]);
        git(&tree, &["commit", "-q", "--allow-empty", "-m", "mine"]);
        own_files(&tree.join(".git"));
        assert!(!tree.join(".git/objects/info/alternates").exists());
    }
}

/// No file has a second name, so nothing written here reaches the bare repository.
fn own_files(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            own_files(&entry.path());
        } else {
            assert_eq!(metadata.nlink(), 1, "{}", entry.path().display());
        }
    }
}

#[tokio::test]
async fn a_tag_is_checked_out_on_no_branch() {
    let server = Server::start();
    let source = server.repository("app.git");
    let first = source.write("a.txt", "one\n").commit("first");
    source.git(&["tag", "-a", "v1", "-m", "one"]);
    source.write("a.txt", "two\n").commit("second");
    let volumes = Volumes::new();
    volumes.prepare(&spec(server.url("open/app.git"), "v1")).await;
    assert_eq!(git(&volumes.worktree(), &["rev-parse", "HEAD"]), first);
    assert_eq!(git(&volumes.worktree(), &["branch", "--show-current"]), "");
    assert_eq!(git(&volumes.worktree(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn files_are_the_blobs_bytes_whatever_the_attributes_say() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("lf.txt", "one\n$Id$\n").write("crlf.txt", "one\r\n").write("run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(source.path.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("lf.txt", source.path.join("link")).unwrap();
    source.commit("first");
    let attributes = "*.txt text eol=crlf ident filter=evil working-tree-encoding=UTF-16\n";
    source.write(".gitattributes", attributes);
    // Not `add -A`: these attributes would change the blobs.
    source.git(&["add", ".gitattributes"]);
    source.git(&["commit", "-q", "-m", "attributes"]);

    let volumes = Volumes::new();
    volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    let read = |path: &str| std::fs::read(volumes.worktree().join(path)).unwrap();
    assert_eq!(read("lf.txt"), b"one\n$Id$\n");
    assert_eq!(read("crlf.txt"), b"one\r\n");
    assert_eq!(std::fs::read_link(volumes.worktree().join("link")).unwrap(), Path::new("lf.txt"));
    assert_eq!(std::fs::metadata(volumes.worktree().join("run.sh")).unwrap().mode() & 0o111, 0o111);
    assert_eq!(git(&volumes.worktree(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn hooks_and_filters_of_the_repository_do_not_run() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a", "x\n").write(".gitattributes", "* filter=evil\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, _) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;

    let tree = volumes.worktree();
    let marker = volumes.directory.path().join("ran");
    let touch = format!("touch {}", marker.display());
    let hook = tree.join(".git/hooks/post-index-change");
    volumes.write(".git/hooks/post-index-change", format!("#!/bin/sh\n{touch}-hook\n"));
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    volumes.write(".git/info/attributes", "* filter=evil\n");
    git(&tree, &["config", "filter.evil.smudge", &format!("{touch}-filter; cat")]);
    let ran = |name: &str| std::fs::remove_file(volumes.directory.path().join(format!("ran-{name}"))).is_ok();
    // An ordinary git runs both.
    std::fs::remove_file(tree.join("a")).unwrap();
    git(&tree, &["read-tree", "--reset", "-u", "HEAD"]);
    assert!(ran("hook") && ran("filter"));

    volumes.stop_in_the_middle_of_the_checkout();
    checkout(&fetched, &volumes.layout, &confined_git()).await.unwrap();
    assert!(!ran("hook") && !ran("filter"));
    assert_eq!(std::fs::read(tree.join("a")).unwrap(), b"x\n");
}

#[tokio::test]
async fn it_happens_once() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a.txt", "one\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, _) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    volumes.write("a.txt", "changed");
    volumes.write(".git/hooks/post-checkout", "#!/bin/sh\n");
    checkout(&fetched, &volumes.layout, &confined_git()).await.unwrap();
    assert_eq!(std::fs::read(volumes.worktree().join("a.txt")).unwrap(), b"changed");
}

#[tokio::test]
async fn files_without_a_record_are_not_touched() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a.txt", "one\n").commit("first");
    let volumes = Volumes::new();
    let fetched = volumes.fetch(&spec(server.url("open/app.git"), "main")).await.unwrap();
    std::os::unix::fs::symlink("/etc", volumes.worktree()).unwrap();
    let error = checkout(&fetched, &volumes.layout, &confined_git()).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Foreign), "{error:?}");
    assert!(volumes.worktree().is_symlink());
}

#[tokio::test]
async fn half_a_checkout_is_made_again() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a.txt", "one\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, _) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    volumes.stop_in_the_middle_of_the_checkout();
    std::fs::remove_file(volumes.worktree().join(".git/HEAD")).unwrap();
    checkout(&fetched, &volumes.layout, &confined_git()).await.unwrap();
    assert_eq!(git(&volumes.worktree(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn the_sandbox_gets_no_trace_of_the_bare_repository() {
    let server = Server::start();
    let source = server.repository("app.git");
    source.write("a.txt", "one\n").commit("first");
    let volumes = Volumes::new();
    volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    let bare = volumes.directory.path().join("repo");
    assert!(!contains(&all_bytes(&volumes.worktree().join(".git")), bare.as_os_str().as_encoded_bytes()));
}
