use super::*;

#[test]
fn the_generic_surface_comes_to_the_same_calls() {
    let Ok(ToolCall::ExecCommand(shell)) = call("shell", r#"{"command":"ls","workdir":"a","terminal":true}"#)
    else {
        panic!("no command")
    };
    let same = command(json!({"cmd": "ls", "workdir": "a", "tty": true}));
    assert_eq!(shell, ExecCommand { yield_time: Duration::from_secs(60), surface: Surface::Generic, ..same });
    let input = |arguments: &str| match call("shell_input", arguments) {
        Ok(ToolCall::WriteStdin(write)) => (write.session_id, write.chars, write.yield_time.as_secs_f64()),
        other => panic!("{other:?}"),
    };
    assert_eq!(input(r#"{"session_id":7}"#), (7, String::new(), 10.0));
    assert_eq!(input(r#"{"session_id":7,"input":"y\n"}"#), (7, "y\n".to_owned(), 2.0));
    assert_eq!(input(r#"{"session_id":7,"wait_seconds":1.5}"#).2, 1.5);
    assert_eq!(input(r#"{"session_id":7,"wait_seconds":1e300}"#).2, 300.0);
    assert_eq!(input(r#"{"session_id":7,"wait_seconds":-1}"#).2, 1.0);

    let replaced = patch(call("str_replace", r#"{"path":"a","old_str":"b","new_str":"c"}"#));
    assert!(matches!(replaced.edit, Edit::Replace(replace) if !replace.all && replace.old == "b"));
    let written = patch(call("write_file", r#"{"path":"a","content":"b"}"#));
    assert_eq!(written.output("x", Duration::ZERO), "x");
    assert!(matches!(written.edit, Edit::Write(write) if write.content == "b"));
    let steps = r#"{"steps":[{"step":"a","status":"pending"}]}"#;
    assert_eq!(call("plan", steps), call("update_plan", &steps.replace("steps", "plan")));

    let missing = "failed to parse function arguments: missing field `command` at line 1 column 2";
    assert_eq!(call("shell", "{}"), Err(missing.to_owned()));
    let heredoc = json!({"command": format!("apply_patch <<'EOF'\n{PATCH}\nEOF")}).to_string();
    assert!(patch(call("shell", &heredoc)).from_command);
}

#[test]
fn errors_name_the_tools_of_their_surface() {
    let errors = [
        ExecError::Spawn("no".to_owned()),
        ExecError::UnknownSession(12),
        ExecError::StdinClosed,
        ExecError::SandboxRestarted,
        ExecError::OutcomeUnknown,
        ExecError::TooManySessions(64),
    ];
    for error in errors {
        assert_eq!(error.text(Surface::Codex), error.to_string());
        let generic = error.text(Surface::Generic);
        assert!(
            !["exec_command", "write_stdin", "tty"].iter().any(|word| generic.contains(word)),
            "{generic}"
        );
    }
}

#[test]
fn a_picture_is_an_image_in_the_output_and_its_failure_text() {
    let view = call("view_image", r#"{"path": "a.png"}"#);
    assert_eq!(view, Ok(ToolCall::ViewImage(ViewImage { path: "a.png".to_owned() })));
    let parts = |name, ok| output_parts(name, ok, "data:x".to_owned());
    assert_eq!(parts("view_image", true), [ContentPart::Image { url: "data:x".to_owned() }]);
    for (name, ok) in [("view_image", false), ("exec_command", true)] {
        assert_eq!(parts(name, ok), [ContentPart::Text { text: "data:x".to_owned() }]);
    }
}

#[test]
fn an_answer_that_is_too_long_loses_its_middle() {
    let answer = |text: &str| output_parts("apply_patch", false, text.to_owned());
    let (limit, half) = ("x".repeat(48_000), "x".repeat(24_000));
    assert_eq!(answer(&limit), [ContentPart::Text { text: limit.clone() }]);
    let text = format!("{half}…1 tokens truncated…{half}");
    assert_eq!(answer(&format!("{limit}x")), [ContentPart::Text { text }]);
}
