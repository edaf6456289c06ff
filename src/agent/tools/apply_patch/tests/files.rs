use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::*;

fn verification(text: &str) -> Result<String, String> {
    Err(format!("apply_patch verification failed: {text}"))
}

fn changes(patch: &str, files: &[(&str, FileBefore)]) -> Changes {
    let files = files.iter().map(|(path, before)| ((*path).to_owned(), before.clone())).collect();
    parse(patch).expect("a patch").changes(PLACE, &files).expect("changes")
}

fn file(content: &str, executable: bool) -> FileBefore {
    FileBefore::File { content: content.as_bytes().to_vec(), executable }
}

fn image(content: &str, executable: Option<bool>) -> FileImage {
    FileImage::File { sha256: Sha256::digest(content).into(), executable }
}

#[test]
fn the_summary_lists_added_then_modified_then_deleted_as_written() {
    let mut files = tree([("a", "1\n"), ("b", "1\n"), ("c", "1\n")]);
    let patch = patch(
        "*** Delete File: a\n*** Update File: ./b\n@@\n-1\n+2\n*** Add File: z\n*** Update File: c\n*** Move to: d/e\n@@\n-1\n+2\n\
         *** Add File: /workspace/main/y\n",
    );
    assert_eq!(apply(&patch, &mut files).as_deref(), Ok("A z, A /workspace/main/y, M ./b, M d/e, D a"));
    assert_eq!(files, tree([("b", "2\n"), ("d/e", "2\n"), ("y", ""), ("z", "")]));
}

#[test]
fn texts_for_the_model() {
    let summary = Summary { added: vec!["x".into()], modified: vec!["a.txt".into()], deleted: vec![] };
    assert_eq!(
        summary.success(Duration::ZERO),
        "Exit code: 0\nWall time: 0 seconds\nOutput:\nSuccess. Updated the following files:\nA x\nM a.txt\n"
    );
    assert!(summary.success(Duration::from_millis(149)).contains("Wall time: 0.1 seconds\n"));
    assert!(summary.success(Duration::from_millis(1_960)).contains("Wall time: 2 seconds\n"));
    assert_eq!(
        failure("Failed to write file /workspace/main/sub", Duration::ZERO),
        "Exit code: 1\nWall time: 0 seconds\nOutput:\nFailed to write file /workspace/main/sub\n"
    );
}

#[test]
fn files_that_are_not_as_they_should_be() {
    for (body, expected) in [
        (
            "*** Update File: nope\n@@\n-z\n",
            "Failed to read file to update /workspace/main/nope: No such file or directory (os error 2)",
        ),
        (
            "*** Delete File: nope\n",
            "Failed to read /workspace/main/nope: No such file or directory (os error 2)",
        ),
        (
            "*** Delete File: sub\n",
            "Failed to read /workspace/main/sub: path `/workspace/main/sub` is not a file",
        ),
        (
            "*** Update File: sub\n@@\n-x\n",
            "Failed to read file to update /workspace/main/sub: path `/workspace/main/sub` is not a file",
        ),
        (
            "*** Update File: bin\n@@\n-x\n",
            "Failed to read file to update /workspace/main/bin: invalid utf-8 sequence of 1 bytes from index 0",
        ),
        (
            "*** Add File: sub\n",
            "Failed to write file /workspace/main/sub: path `/workspace/main/sub` is not a file",
        ),
        ("*** Add File: a/x\n", "Failed to write file /workspace/main/a/x: Not a directory (os error 20)"),
        (
            "*** Add File: n\n*** Add File: n/x\n",
            "Failed to write file /workspace/main/n/x: path `/workspace/main/n` is not a directory",
        ),
        (
            "*** Add File: n/x\n*** Add File: n\n",
            "Failed to write file /workspace/main/n: path `/workspace/main/n` is not a file",
        ),
    ] {
        let mut files = tree([("a", "1\n"), ("sub/x", "")]);
        files.insert("bin".to_owned(), vec![0xff, b'\n']);
        let untouched = files.clone();
        assert_eq!(apply(&patch(body), &mut files), verification(expected), "{body}");
        assert_eq!(files, untouched);
    }
}

#[test]
fn a_bad_hunk_leaves_no_trace_of_the_good_ones() {
    let mut files = tree([("a", "1\n")]);
    let result = apply(&patch("*** Add File: x\n+1\n*** Update File: a\n@@\n-2\n+3\n"), &mut files);
    assert_eq!(result, verification("Failed to find expected lines in /workspace/main/a:\n2"));
    assert_eq!(files, tree([("a", "1\n")]));
}

/// The reference agent's program does the same; its harness refuses a second operation on a path.
#[test]
fn later_hunks_see_what_earlier_ones_did() {
    for (body, expected) in [
        ("*** Add File: x\n+1\n*** Update File: x\n@@\n-1\n+2\n", tree([("a", "1\n"), ("x", "2\n")])),
        ("*** Update File: a\n@@\n-1\n+2\n*** Update File: a\n@@\n-2\n+3\n", tree([("a", "3\n")])),
        ("*** Delete File: a\n*** Add File: a\n+9\n", tree([("a", "9\n")])),
        ("*** Delete File: a\n*** Add File: a/b\n+9\n", tree([("a/b", "9\n")])),
        ("*** Add File: x\n+1\n*** Delete File: x\n", tree([("a", "1\n")])),
        (
            "*** Update File: a\n*** Move to: b\n@@\n-1\n+2\n*** Update File: b\n@@\n-2\n+3\n",
            tree([("b", "3\n")]),
        ),
    ] {
        let mut files = tree([("a", "1\n")]);
        apply(&patch(body), &mut files).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(files, expected, "{body}");
    }
    let mut files = tree([("a", "1\n")]);
    let moved_away = patch("*** Update File: a\n*** Move to: b\n@@\n-1\n+2\n*** Delete File: a\n");
    assert_eq!(
        apply(&moved_away, &mut files),
        verification("Failed to read /workspace/main/a: No such file or directory (os error 2)")
    );
}

#[test]
fn adding_and_moving_overwrite() {
    let mut files = tree([("a", "1\r\n"), ("b", "old")]);
    assert_eq!(apply(&patch("*** Add File: a\n+z\n"), &mut files).as_deref(), Ok("A a"));
    assert_eq!(
        apply(&patch("*** Update File: a\n*** Move to: b\n@@\n z\n"), &mut files).as_deref(),
        Ok("M b")
    );
    assert_eq!(files, tree([("b", "z\n")]));
}

/// Not as the reference agent, which deletes the file and reports success.
#[test]
fn a_move_to_the_same_path_keeps_the_file() {
    let mut files = tree([("d/a", "1\n")]);
    let body = "*** Update File: d/a\n*** Move to: d/../d/./a\n@@\n-1\n+2\n";
    assert_eq!(apply(&patch(body), &mut files).as_deref(), Ok("M d/../d/./a"));
    assert_eq!(files, tree([("d/a", "2\n")]));
}

/// Not as the reference agent's harness, which reads what it deletes as text.
#[test]
fn a_file_that_is_no_text_can_be_deleted_and_overwritten() {
    let mut files = tree([]);
    files.insert("a".to_owned(), vec![0xff]);
    files.insert("b".to_owned(), vec![0xff]);
    assert_eq!(apply(&patch("*** Delete File: a\n*** Add File: b\n"), &mut files).as_deref(), Ok("A b, D a"));
    assert_eq!(files, tree([("b", "")]));
}

#[test]
fn nothing_outside_the_repository_is_named() {
    let outside =
        Err("patch rejected: writing outside of the project; rejected by user approval settings".to_owned());
    for body in [
        "*** Add File: ../x\n",
        "*** Add File: /etc/x\n",
        "*** Add File: /workspace/main2/x\n",
        "*** Add File: sub/../../x\n",
        "*** Delete File: /etc/passwd\n",
        "*** Update File: a\n*** Move to: /tmp/x\n@@\n-1\n",
        "*** Add File: x\n*** Add File: ../x\n",
        "*** Add File: .git/hooks/pre-commit\n",
        "*** Add File: sub/../.git/config\n",
    ] {
        let mut files = tree([("a", "1\n")]);
        assert_eq!(apply(&patch(body), &mut files), outside, "{body}");
        assert_eq!(files, tree([("a", "1\n")]));
    }
    for body in [
        "*** Add File: /workspace/main/x\n",
        "*** Add File: ../main/x\n",
        "*** Add File: /workspace/x/../main/x\n",
    ] {
        let mut files = tree([]);
        apply(&patch(body), &mut files).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(files, tree([("x", "")]), "{body}");
    }
    for path in [".gitignore", ".github/x", "sub/.git"] {
        let added = parse(&patch(&format!("*** Add File: {path}\n"))).expect("a patch");
        assert_eq!(added.paths_to_read(PLACE), Ok(vec![path.to_owned()]));
    }
}

#[test]
fn relative_paths_count_from_the_working_directory() {
    let place = Place { cwd: "/workspace/main/sub", ..PLACE };
    let patch = parse(&patch("*** Add File: x\n*** Add File: ../y\n*** Delete File: x\n")).expect("a patch");
    assert_eq!(patch.paths_to_read(place), Ok(vec!["sub/x".to_owned(), "y".to_owned()]));
}

#[test]
fn refusals_without_a_look_at_files() {
    assert_eq!(apply(&patch(""), &mut tree([])), Err("patch rejected: empty patch".to_owned()));
    assert_eq!(
        apply(&patch("*** Environment ID: foo\n*** Add File: x\n"), &mut tree([])),
        Err("apply_patch environment selection is unavailable for this turn".to_owned())
    );
}

#[test]
fn images_before_and_after() {
    let changes = changes(
        &patch("*** Update File: a\n@@\n-1\n+2\n*** Add File: n\n+x\n*** Delete File: c\n"),
        &[("a", file("1\n", true)), ("n", FileBefore::Absent), ("c", file("z", false))],
    );
    let change = |path: &str, before, after, content: Option<&str>| FileChange {
        path: path.to_owned(),
        before,
        after,
        content: content.map(|content| content.as_bytes().to_vec()),
    };
    assert_eq!(
        changes.files,
        [
            change("a", image("1\n", None), image("2\n", None), Some("2\n")),
            change("n", FileImage::Absent, image("x\n", None), Some("x\n")),
            change("c", image("z", None), FileImage::Absent, None),
        ]
    );
}

#[test]
fn a_moved_file_stays_executable_and_is_written_before_the_old_one_goes() {
    let moved = patch("*** Update File: a\n*** Move to: b\n@@\n-1\n+2\n");
    let changes = changes(&moved, &[("a", file("1\n", true)), ("b", file("old", false))]);
    let [target, source] = &changes.files[..] else { panic!("{:?}", changes.files) };
    assert_eq!((&*target.path, target.after), ("b", image("2\n", Some(true))));
    assert_eq!((&*source.path, source.after), ("a", FileImage::Absent));
}

#[test]
fn each_path_is_changed_once_and_not_at_all_when_it_ends_as_it_was() {
    let there_and_back = patch(
        "*** Update File: a\n@@\n-1\n+2\n*** Update File: a\n@@\n-2\n+1\n*** Add File: n\n*** Delete File: n\n",
    );
    let changes = changes(&there_and_back, &[("a", file("1\n", false)), ("n", FileBefore::Absent)]);
    assert_eq!(changes.files, []);
    assert_eq!(changes.summary.modified, ["a", "a"]);
}

#[test]
fn a_path_that_was_not_read_is_not_guessed_at() {
    let patch = parse(&patch("*** Add File: x\n")).expect("a patch");
    let rejection = patch.changes(PLACE, &BTreeMap::new()).expect_err("nothing was read").to_string();
    assert_eq!(
        rejection,
        "apply_patch verification failed: Failed to write file /workspace/main/x: it was not read"
    );
}
