use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;
use crate::protocol::Bytes;

fn op(id: &str) -> OpId {
    OpId::new(id).unwrap()
}

fn file(content: &str) -> FileImage {
    FileImage::File { sha256: Digest::of(content.as_bytes()), executable: None }
}

fn change(path: &str, before: FileImage, after: FileImage) -> FileChange {
    FileChange { path: path.into(), before, after }
}

fn apply(
    files: &mut Files,
    root: &Path,
    id: &str,
    changes: Vec<FileChange>,
) -> Result<FsApplyResult, RpcError> {
    files.apply(&FsApply { op_id: op(id), root: root.to_str().unwrap().into(), changes })
}

fn stage(files: &mut Files, content: &str) {
    let chunk = Bytes(content.as_bytes().to_vec());
    let piece = BlobPut { sha256: Digest::of(&chunk.0), size: chunk.0.len() as u64, offset: 0, chunk };
    assert_eq!(files.stage(piece).unwrap().next_offset, content.len() as u64);
}

#[test]
fn makes_changes_and_repeats_the_answer() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("old"), "one").unwrap();
    fs::write(root.path().join("gone"), "x").unwrap();
    let mut files = Files::default();
    stage(&mut files, "two");
    stage(&mut files, "");
    let changes = vec![
        change("old", file("one"), file("two")),
        change("gone", file("x"), FileImage::Absent),
        change("new/deep/empty", FileImage::Absent, file("")),
    ];
    let first = apply(&mut files, root.path(), "a", changes.clone()).unwrap();
    assert_eq!(first.changed, 3);
    assert_eq!(fs::read_to_string(root.path().join("old")).unwrap(), "two");
    assert!(!root.path().join("gone").exists());
    assert_eq!(fs::read(root.path().join("new/deep/empty")).unwrap(), b"");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "no temporary file is left");

    // The staged content is used up, so neither of these could write again.
    assert_eq!(apply(&mut files, root.path(), "a", changes.clone()).unwrap(), first);
    assert_eq!(apply(&mut files, root.path(), "b", changes).unwrap().changed, 0);
    let other = vec![change("old", file("two"), FileImage::Absent)];
    assert_eq!(apply(&mut files, root.path(), "a", other).unwrap_err().code, ErrorCode::OpConflict);
}

#[test]
fn changes_nothing_when_one_image_does_not_fit() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "one").unwrap();
    fs::write(root.path().join("b"), "edited").unwrap();
    let mut files = Files::default();
    stage(&mut files, "two");
    let changes = vec![change("a", file("one"), file("two")), change("b", file("one"), file("two"))];
    let error = apply(&mut files, root.path(), "a", changes).unwrap_err();
    assert_eq!(error.code, ErrorCode::ImageMismatch);
    assert!(error.message.ends_with(": b"), "{error}");
    assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "one");
}

#[test]
fn content_must_be_staged_whole_and_genuine() {
    let root = tempfile::tempdir().unwrap();
    let mut files = Files::default();
    let new = || vec![change("n", FileImage::Absent, file("abc"))];
    assert_eq!(apply(&mut files, root.path(), "a", new()).unwrap_err().code, ErrorCode::InvalidParams);

    let piece = |offset, text: &str| BlobPut {
        sha256: Digest::of(b"abc"),
        size: 3,
        offset,
        chunk: Bytes(text.as_bytes().to_vec()),
    };
    assert_eq!(files.stage(piece(1, "b")).unwrap_err().code, ErrorCode::InvalidParams);
    assert_eq!(files.stage(piece(0, "ab")).unwrap().next_offset, 2);
    assert_eq!(files.stage(piece(0, "a")).unwrap().next_offset, 2, "a repeated piece is skipped");
    assert!(apply(&mut files, root.path(), "a", new()).is_err(), "incomplete");
    assert_eq!(files.stage(piece(2, "x")).unwrap_err().code, ErrorCode::InvalidParams, "another digest");
    assert_eq!(files.stage(piece(0, "ab")).unwrap().next_offset, 2);
    assert_eq!(files.stage(piece(1, "bc")).unwrap().next_offset, 3);
    assert_eq!(apply(&mut files, root.path(), "a", new()).unwrap().changed, 1);

    let huge = BlobPut { sha256: Digest::of(b"h"), size: u64::MAX, offset: 0, chunk: Bytes::default() };
    assert_eq!(files.stage(huge).unwrap_err().code, ErrorCode::LimitReached);
}

#[test]
fn modes_are_kept_and_only_execution_is_changed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s");
    fs::write(&path, "one").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    let mut files = Files::default();
    stage(&mut files, "two");
    apply(&mut files, root.path(), "a", vec![change("s", file("one"), file("two"))]).unwrap();
    assert_eq!(mode(), 0o750);
    let image = |executable| FileImage::File { sha256: Digest::of(b"two"), executable: Some(executable) };
    apply(&mut files, root.path(), "b", vec![change("s", image(true), image(false))]).unwrap();
    assert_eq!(mode(), 0o640);
    apply(&mut files, root.path(), "c", vec![change("s", file("two"), image(true))]).unwrap();
    assert_eq!(mode(), 0o750);
}

#[test]
fn no_link_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    let root = tempfile::tempdir().unwrap();
    symlink(outside.path(), root.path().join("dir")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("leaf")).unwrap();
    let mut files = Files::default();
    stage(&mut files, "mine");

    let looks = FsState {
        root: root.path().to_str().unwrap().into(),
        paths: vec!["dir/secret".into(), "leaf".into(), "dir".into(), "none/x".into()],
    };
    let states: Vec<_> = files.state(&looks).unwrap().files.into_iter().map(|f| f.state).collect();
    assert_eq!(states, [FileState::Special, FileState::Special, FileState::Special, FileState::Absent]);

    for (id, path) in [("a", "dir/secret"), ("b", "leaf"), ("c", "dir/new")] {
        let changes = vec![change(path, FileImage::Absent, file("mine"))];
        assert_eq!(apply(&mut files, root.path(), id, changes).unwrap_err().code, ErrorCode::ImageMismatch);
    }
    let linked = root.path().join("dir");
    assert_eq!(open_root(linked.to_str().unwrap()).unwrap_err().code, ErrorCode::Io);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "s");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn paths_that_are_not_plain_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut files = Files::default();
    for path in ["", "/etc/x", "../x", "a/../b", "a//b", "./a", "a/", "a\0b"] {
        let changes = vec![change(path, FileImage::Absent, FileImage::Absent)];
        assert_eq!(apply(&mut files, root.path(), "a", changes).unwrap_err().code, ErrorCode::InvalidParams);
    }
    let twice = vec![change("a", FileImage::Absent, FileImage::Absent); 2];
    assert_eq!(apply(&mut files, root.path(), "a", twice).unwrap_err().code, ErrorCode::InvalidParams);
    assert_eq!(open_root("relative").unwrap_err().code, ErrorCode::InvalidParams);
}

#[test]
fn pipes_and_directories_are_never_read() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let looks =
        FsState { root: root.path().to_str().unwrap().into(), paths: vec!["d".into(), "pipe".into()] };
    for found in Files::default().state(&looks).unwrap().files {
        assert_eq!(found.state, FileState::Special, "{}", found.path);
    }
}
