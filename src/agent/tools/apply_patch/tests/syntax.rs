use super::*;

const NO_BEGIN: &str = "invalid patch: The first line of the patch must be '*** Begin Patch'";
const NO_END: &str = "invalid patch: The last line of the patch must be '*** End Patch'";

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn hunks(text: &str) -> Vec<Hunk> {
    parse(text).unwrap_or_else(|error| panic!("{error}: {text}")).hunks
}

fn add(path: &str, content: &str) -> Hunk {
    Hunk { path: path.to_owned(), action: Action::Add { content: content.to_owned() } }
}

fn chunks(text: &str) -> Vec<Chunk> {
    match hunks(&update_a(text)).remove(0).action {
        Action::Update { chunks, .. } => chunks,
        Action::Add { .. } | Action::Delete => panic!("not an update: {text}"),
    }
}

#[test]
fn the_frame() {
    for (text, expected) in [
        ("", NO_END),
        (" \n\t", NO_END),
        ("junk", NO_BEGIN),
        ("*** Begin Patch", NO_END),
        ("*** End Patch", NO_BEGIN),
        ("*** begin patch\n*** Add File: x\n*** End Patch", NO_BEGIN),
        ("*** Begin Patch *** End Patch", NO_BEGIN),
        ("hello\n*** Begin Patch\n*** Add File: x\n*** End Patch", NO_BEGIN),
        ("```\n*** Begin Patch\n*** Add File: x\n*** End Patch\n```", NO_BEGIN),
        ("*** Begin Patch\n*** Add File: x\n+a", NO_END),
        ("*** Begin Patch\n*** Add File: x\n*** End Patch\njunk", NO_END),
        ("*** Begin Patch\n*** Add File: x\n*** End Patch\n*** Add File: y\n*** End Patch", NO_END),
        ("*** Begin Patch\n*** Add File: x\n*** End Patch\n*** End Patch\n*** End Patch", NO_END),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn whitespace_around_the_text_and_the_markers_is_ignored() {
    for text in [
        "\n\n*** Begin Patch\n*** Add File: x\n+a\n*** End Patch\n\n",
        "  *** Begin Patch  \n*** Add File: x\n+a\n  *** End Patch  ",
        "*** Begin Patch\n   *** Add File: x  \n+a\n*** End Patch",
        "*** Begin Patch\r\n*** Add File: x\r\n+a\r\n*** End Patch\r\n",
        "*** Begin Patch\n*** Add File: x\n+a\n*** End Patch\n\n*** End Patch",
    ] {
        assert_eq!(hunks(text), [add("x", "a\n")], "{text}");
    }
}

#[test]
fn a_here_document_is_tolerated_with_one_tag() {
    let inner = patch("*** Add File: x\n+a\n");
    for tag in ["EOF", "'EOF'", "\"EOF\""] {
        assert_eq!(hunks(&format!("<<{tag}\n{inner}EOF\n")), [add("x", "a\n")], "{tag}");
    }
    assert_eq!(error(&format!("<<PATCH\n{inner}PATCH")), NO_BEGIN);
    assert_eq!(error(&format!("<<'EOF' \n{inner}EOF")), NO_BEGIN);
    assert_eq!(error(&format!("<<EOF\n<<EOF\n{inner}EOF\nEOF")), NO_BEGIN);
    assert_eq!(error("<<EOF\n*** Begin Patch\n*** Add File: x\n+a\nEOF"), NO_END);
}

#[test]
fn headers() {
    const VALID: &str =
        "Valid hunk headers: '*** Add File: {path}', '*** Delete File: {path}', '*** Update File: {path}'";
    for (body, line, shown) in [
        ("*** Foo File: x\n", 2, "*** Foo File: x"),
        ("*** Add File:x\n", 2, "*** Add File:x"),
        ("*** Add File: \n", 2, "*** Add File:"),
        ("*** add file: x\n", 2, "*** add file: x"),
        ("+foo\n", 2, "+foo"),
        ("\n*** Add File: x\n", 2, ""),
        ("*** Add File: x\n+a\nb\n", 4, "b"),
        ("*** Add File: x\n+a\n\n+b\n", 4, ""),
        ("*** Delete File: x\n\n", 3, ""),
        ("*** Delete File: x\n-one\n", 3, "-one"),
        ("*** Begin Patch\n", 2, "*** Begin Patch"),
        ("*** Add File: x\n*** Environment ID: y\n", 3, "*** Environment ID: y"),
    ] {
        let expected = format!("invalid hunk at line {line}, '{shown}' is not a valid hunk header. {VALID}");
        assert_eq!(error(&patch(body)), expected, "{body}");
    }
}

#[test]
fn paths_are_taken_literally() {
    for (header, path) in [("  x", "  x"), ("\"x\"", "\"x\""), ("a b", "a b"), ("./x/../y", "./x/../y")] {
        assert_eq!(hunks(&patch(&format!("*** Add File: {header}\n"))), [add(path, "")]);
    }
}

#[test]
fn added_files() {
    for (body, content) in [("", ""), ("+\n", "\n"), ("+a\n+\n++b\n", "a\n\n+b\n"), ("+a\rb\n", "a\rb\n")] {
        assert_eq!(hunks(&patch(&format!("*** Add File: x\n{body}"))), [add("x", content)]);
    }
}

#[test]
fn no_hunks_parse() {
    assert_eq!(hunks(&patch("")), []);
}

#[test]
fn environments() {
    let with = |lines: &str| patch(&format!("{lines}*** Add File: x\n"));
    assert_eq!(parse(&with("")).expect("a patch").environment, None);
    assert_eq!(
        parse(&with("*** Environment ID: foo \n")).expect("a patch").environment.as_deref(),
        Some("foo")
    );
    assert_eq!(
        error(&with("*** Environment ID: \n")),
        "invalid patch: apply_patch environment_id cannot be empty"
    );
    assert_eq!(
        error(&with("*** Environment ID: a\n*** Environment ID: a\n")),
        "invalid patch: apply_patch environment_id cannot be specified more than once"
    );
}

#[test]
fn an_update_needs_a_chunk_and_a_chunk_needs_lines() {
    for (body, expected) in [
        ("", "invalid hunk at line 2, Update file hunk for path 'a' is empty"),
        ("*** Move to: b\n", "invalid hunk at line 2, Update file hunk for path 'a' is empty"),
        ("*** Delete File: b\n", "invalid hunk at line 2, Update file hunk for path 'a' is empty"),
        ("*** End of File\n", "invalid hunk at line 2, Update file hunk for path 'a' is empty"),
        ("@@\n", "invalid hunk at line 4, Update hunk does not contain any lines"),
        ("@@\n*** End of File\n", "invalid hunk at line 4, Update hunk does not contain any lines"),
        ("@@\n*** End Patch\n", "invalid hunk at line 4, Update hunk does not contain any lines"),
    ] {
        assert_eq!(error(&update_a(body)), expected, "{body}");
    }
}

#[test]
fn wrong_lines_in_an_update() {
    for (body, line, shown) in [
        ("foo\n", 3, "foo"),
        ("@@\nfoo\n", 4, "foo"),
        ("@@ one\n@@ two\n-three\n", 4, "@@ two"),
        ("@@one\n-two\n", 3, "@@one"),
        ("@@\n\tone\n", 4, "\tone"),
        ("@@\n*** Delete File: b \n", 4, "*** Delete File: b"),
        ("*** Move to: \n@@\n-a\n", 3, "*** Move to: "),
    ] {
        let expected = format!(
            "invalid hunk at line {line}, Unexpected line found in update hunk: '{shown}'. Every line should start \
             with ' ' (context line), '+' (added line), or '-' (removed line)"
        );
        assert_eq!(error(&update_a(body)), expected, "{body}");
    }
    for (body, line, shown) in [
        ("@@\n-one\nfoo\n", 5, "foo"),
        ("-one\n+1\n*** End of File\n-two\n", 6, "-two"),
        ("@@\n-one\n*** foo\n", 5, "*** foo"),
        ("@@\n-one\n*** Move to: b\n", 5, "*** Move to: b"),
        ("@@\n-one\n*** Add File: \n", 5, "*** Add File: "),
        ("@@\n-one\n*** End of File\n*** End of File\n", 6, "*** End of File"),
        ("-one\n\t@@\n", 4, "\t@@"),
    ] {
        let expected = format!(
            "invalid hunk at line {line}, Expected update hunk to start with a @@ context marker, got: '{shown}'"
        );
        assert_eq!(error(&update_a(body)), expected, "{body}");
    }
}

#[test]
fn chunks_and_their_lines() {
    let context = |text: &str| ChunkLine::Context(text.to_owned());
    let chunk = |anchor: Option<&str>, lines: &[ChunkLine], end_of_file| Chunk {
        anchor: anchor.map(str::to_owned),
        lines: lines.to_vec(),
        end_of_file,
    };
    for (body, expected) in [
        (" a\n", vec![chunk(None, &[context("a")], false)]),
        ("\n", vec![chunk(None, &[context("")], false)]),
        ("  @@ a\n", vec![chunk(None, &[context(" @@ a")], false)]),
        ("@@\n  *** Add File: x\n", vec![chunk(None, &[context(" *** Add File: x")], false)]),
        ("@@ \n a\n", vec![chunk(None, &[context("a")], false)]),
        ("@@\t\n a\n", vec![chunk(None, &[context("a")], false)]),
        ("@@   f  \n a\n", vec![chunk(Some("  f"), &[context("a")], false)]),
        ("@@ -1,2 +1,2 @@\n a\n", vec![chunk(Some("-1,2 +1,2 @@"), &[context("a")], false)]),
        ("@@\n a\n*** End of File  \n", vec![chunk(None, &[context("a")], true)]),
        (
            "@@\n a\n*** End of File\n\n \n@@\n b\n",
            vec![chunk(None, &[context("a")], true), chunk(None, &[context("b")], false)],
        ),
        ("*** End of File\n@@\n a\n", vec![chunk(None, &[context("a")], false)]),
        (
            "@@\n-a\n++b\n\n",
            vec![chunk(
                None,
                &[ChunkLine::Removed("a".into()), ChunkLine::Added("+b".into()), context("")],
                false,
            )],
        ),
    ] {
        assert_eq!(chunks(body), expected, "{body}");
    }
}

#[test]
fn moves() {
    for body in [
        "*** Move to: b \n a\n",
        "*** End of File\n*** Move to: b\n a\n",
        "*** Move to: b\n*** End of File\n a\n",
    ] {
        let [Hunk { action: Action::Update { move_to, .. }, .. }] = &hunks(&update_a(body))[..] else {
            panic!("{body}")
        };
        assert_eq!(move_to.as_deref(), Some("b"), "{body}");
    }
}
