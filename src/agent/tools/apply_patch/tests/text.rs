use super::*;

const FILE: &str = "one\ntwo\nthree\n";

fn updated(file: &str, chunks: &str) -> Result<String, String> {
    let mut tree = tree([("a", file)]);
    apply(&update_a(chunks), &mut tree)?;
    Ok(String::from_utf8(tree["a"].clone()).expect("text"))
}

#[track_caller]
fn check(rows: &[(&str, &str, &str)]) {
    for (file, chunks, expected) in rows {
        assert_eq!(updated(file, chunks).as_deref(), Ok(*expected), "{chunks:?} on {file:?}");
    }
}

#[track_caller]
fn check_failures(rows: &[(&str, &str, &str)]) {
    for (file, chunks, expected) in rows {
        let expected = format!("apply_patch verification failed: {expected}");
        assert_eq!(updated(file, chunks), Err(expected), "{chunks:?} on {file:?}");
    }
}

#[test]
fn simple_replacements() {
    check(&[
        (FILE, "@@\n-one\n+1\n", "1\ntwo\nthree\n"),
        (FILE, "-one\n+1\n", "1\ntwo\nthree\n"),
        (FILE, "@@\n one\n-two\n three\n", "one\nthree\n"),
        (FILE, "@@\n one\n", FILE),
        (FILE, "@@\n-one\n-two\n-three\n", ""),
        (FILE, "@@\n-one\n+1\n@@\n-three\n+3\n", "1\ntwo\n3\n"),
        (FILE, "@@\n-one\n+*** End Patch\n", "*** End Patch\ntwo\nthree\n"),
        ("one\n\0\n", "@@\n-one\n+1\n", "1\n\0\n"),
    ]);
}

#[test]
fn the_old_lines_must_be_there_behind_the_cursor() {
    check_failures(&[
        (FILE, "@@\n-zzz\n yyy\n+2\n", "Failed to find expected lines in /workspace/main/a:\nzzz\nyyy"),
        (FILE, "@@\n-three\n+3\n@@\n-one\n+1\n", "Failed to find expected lines in /workspace/main/a:\none"),
        (
            FILE,
            "@@\n one\n two\n@@\n two\n-three\n",
            "Failed to find expected lines in /workspace/main/a:\ntwo\nthree",
        ),
        (FILE, "@@\n-one\n\n-two\n+2\n", "Failed to find expected lines in /workspace/main/a:\none\n\ntwo"),
        (FILE, "\n\n@@\n-one\n", "Failed to find expected lines in /workspace/main/a:\n\n"),
        ("\u{feff}one\n", "@@\n-one\n+1\n", "Failed to find expected lines in /workspace/main/a:\none"),
    ]);
}

#[test]
fn anchors() {
    check(&[
        ("x\nf\nx\n", "@@ f\n-x\n+y\n", "x\nf\ny\n"),
        ("x\n  f  \nx\n", "@@ f\n-x\n+y\n", "x\n  f  \ny\n"),
    ]);
    check_failures(&[
        (FILE, "@@ zzz\n-two\n+2\n", "Failed to find context 'zzz' in /workspace/main/a"),
        (FILE, "@@ on\n-two\n+2\n", "Failed to find context 'on' in /workspace/main/a"),
        (FILE, "@@ -1,2 +1,2 @@\n-two\n+2\n", "Failed to find context '-1,2 +1,2 @@' in /workspace/main/a"),
        (FILE, "@@ one\n one\n-two\n", "Failed to find expected lines in /workspace/main/a:\none\ntwo"),
        (FILE, "@@ two\n+n\n@@\n-one\n+1\n", "Failed to find expected lines in /workspace/main/a:\none"),
    ]);
}

#[test]
fn additions_alone_go_to_the_end_whatever_the_anchor() {
    check(&[
        (FILE, "@@\n+new\n", "one\ntwo\nthree\nnew\n"),
        (FILE, "@@ one\n+new\n", "one\ntwo\nthree\nnew\n"),
        (FILE, "@@ one\n+new\n@@\n-two\n+2\n", "one\n2\nthree\nnew\n"),
        (FILE, "@@\n+n1\n@@\n+n2\n", "one\ntwo\nthree\nn1\nn2\n"),
        (FILE, "@@\n+new\n*** End of File\n", "one\ntwo\nthree\nnew\n"),
        (FILE, "@@\n+a\n+\n", "one\ntwo\nthree\na\n\n"),
        ("", "@@\n+a\n", "a\n"),
        ("\n", "@@\n+a\n", "\na\n"),
        ("one\n\n", "@@\n+a\n", "one\n\na\n"),
        // Beside a change of the last lines, which comes where its old lines were.
        ("x\ny\n", "@@\n+new\n@@\n-y\n+z\n", "x\nz\nnew\n"),
        ("x\ny\n", "@@\n+new\n@@\n y\n+z\n", "x\ny\nnew\nz\n"),
    ]);
    check_failures(&[(FILE, "@@ zzz\n+n\n", "Failed to find context 'zzz' in /workspace/main/a")]);
}

#[test]
fn end_of_file_is_meant() {
    check(&[
        (FILE, "@@\n-three\n+3\n*** End of File\n", "one\ntwo\n3\n"),
        ("x\nx\n", "@@\n-x\n+3\n*** End of File\n", "x\n3\n"),
        ("x\ntwo\nx\n", "@@ two\n-x\n+3\n*** End of File\n", "x\ntwo\n3\n"),
        (FILE, "@@\n-three\n+3\n\n*** End of File\n", "one\ntwo\n3\n"),
    ]);
    check_failures(&[
        (FILE, "@@\n-two\n+2\n*** End of File\n", "Failed to find expected lines in /workspace/main/a:\ntwo"),
        (
            "x\ny\n",
            "@@\n x\n-y\n@@\n y\n+3\n*** End of File\n",
            "Failed to find expected lines in /workspace/main/a:\ny",
        ),
    ]);
}

#[test]
fn an_empty_last_line_may_be_missing() {
    check(&[
        (FILE, "@@\n-three\n+3\n \n", "one\ntwo\n3\n"),
        (FILE, "@@\n-three\n+3\n+\n \n", "one\ntwo\n3\n\n"),
        (FILE, "@@\n-three\n-\n+3\n", "one\ntwo\n3\n"),
        (FILE, "@@\n-three\n-\n+3\n+\n", "one\ntwo\n3\n"),
        (FILE, "@@\n-one\n+1\n\n@@\n-two\n+2\n", "1\n2\nthree\n"),
        ("one\n\ntwo\n", "@@\n-one\n+1\n\n@@\n-two\n+2\n", "1\n\n2\n"),
        (FILE, "\n@@\n-one\n+1\n", "1\ntwo\nthree\n"),
        (FILE, "@@\n+a\n\n", "a\none\ntwo\nthree\n"),
        (FILE, "\n", FILE),
    ]);
    check_failures(&[(
        FILE,
        "@@\n-one\n+1\n\n\n",
        "Failed to find expected lines in /workspace/main/a:\none\n\n",
    )]);
}

#[test]
fn context_keeps_the_text_of_the_file() {
    check(&[
        ("one  \n\ttwo\t\nthree\n", "@@\n-one\n+1\n two\n", "1\n\ttwo\t\nthree\n"),
        ("it’s — a “q”\nx\n", "@@\n it's - a \"q\"\n-x\n+y\n", "it’s — a “q”\ny\n"),
        ("it's - a\nx\n", "@@\n it’s — a\n-x\n+y\n", "it's - a\ny\n"),
        ("one \none\n", "@@\n-one\n+1\n", "one \n1\n"),
    ]);
}

#[test]
fn line_endings() {
    check(&[
        // Lines that stay keep theirs; new ones get that of the first line.
        ("one\r\ntwo\r\n", "@@\n one\n+new\n-two\n+2\n", "one\r\nnew\r\n2\r\n"),
        ("one\r\ntwo\nthree\n", "@@\n one\n+new\n two\n", "one\r\nnew\r\ntwo\nthree\n"),
        ("one\ntwo\r\nthree\r\n", "@@\n-two\n+new\n three\n", "one\nnew\nthree\r\n"),
        ("one\ntwo\r\nthree\r\n", "@@\n two\n+new\n", "one\ntwo\r\nnew\nthree\r\n"),
        ("one\rtwo\r", "@@\n-one\n+1\n", "1\rtwo\r"),
        ("one\n", "@@\n one\n+new\r\n", "one\nnew\n"),
        ("one\n", "@@\n-one\n+a\r\r\n", "a\n"),
        // A last line without one gets one.
        ("one", "@@\n-one\n+1\n", "1\n"),
        ("one\ntwo", "@@\n-one\n+1\n", "1\ntwo\n"),
        ("one\r\ntwo", "@@\n-one\n+1\n", "1\r\ntwo\r\n"),
        ("one\r\ntwo", "@@\n+new\n", "one\r\ntwo\r\nnew\r\n"),
    ]);
}
