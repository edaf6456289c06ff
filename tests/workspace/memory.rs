//! Repositories and files that are small to send and large in memory.

use std::fs;
use std::path::Path;
use std::process::Command;

use podwright::workspace::{FetchError, GitError, PatchError};

use crate::support::{Server, Volumes, git, spec};

#[tokio::test]
async fn an_object_that_unpacks_to_more_than_git_may_have_ends_the_fetch_with_a_sentence() {
    let server = Server::start();
    let source = server.repository("app.git");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/delta_bomb.py");
    let bomb = Command::new("python3").arg(script).output().unwrap();
    let commit = String::from_utf8(bomb.stderr).unwrap();
    assert!(bomb.status.success(), "{commit}");
    assert!(bomb.stdout.len() < 64 << 10, "it is small: {}", bomb.stdout.len());
    let pack = source.path.join(".git/objects/pack/pack-bomb.pack");
    fs::write(&pack, bomb.stdout).unwrap();
    git(&source.path, &["index-pack", pack.to_str().unwrap()]);
    source.git(&["update-ref", "refs/heads/main", commit.trim()]);

    let volumes = Volumes::new();
    let error = volumes.fetch(&spec(server.url("open/app.git"), "main")).await.unwrap_err();
    assert!(matches!(error, FetchError::OutOfMemory { .. }), "{error:?}");
    assert!(error.to_string().starts_with("the repository takes more than 384 MiB of memory"), "{error}");
}

#[tokio::test]
async fn a_large_file_needs_no_memory() {
    let server = Server::start();
    let source = server.repository("app.git");
    fs::File::create(source.path.join("large")).unwrap().set_len(400 << 20).unwrap();
    source.write("small", "x\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    assert_eq!(fs::metadata(volumes.worktree().join("large")).unwrap().len(), 400 << 20);
    volumes.write("small", "y\n");
    let patch = worktree.patch(fetched.base_tree, 10 << 20).await.unwrap();
    assert!(patch.text().unwrap().contains("-x\n+y\n"));
}

#[tokio::test]
async fn a_file_with_too_many_lines_to_be_compared_ends_the_patch_alone() {
    let server = Server::start();
    server.repository("app.git").write("a", "x\n").commit("first");
    let volumes = Volumes::new();
    let (fetched, mut worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
    volumes.write("lines", vec![b'\n'; 32 << 20]);
    let error = worktree.patch(fetched.base_tree, 10 << 20).await.unwrap_err();
    assert!(matches!(error, PatchError::Git(GitError::OutOfMemory { .. })), "{error:?}");
    fs::remove_file(volumes.worktree().join("lines")).unwrap();
    assert!(worktree.patch(fetched.base_tree, 10 << 20).await.is_ok());
}
