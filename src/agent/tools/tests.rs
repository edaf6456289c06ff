use proptest::prelude::*;
use serde_json::{Value, json};

use super::apply_patch::{Place, Summary};
use super::exec::{ExecContext, ExecError, ExecReport, ExecState, aborted, chunk_id};
use super::plan::{PLAN_UPDATED, StepStatus};
use super::truncate::Captured;
use super::*;
use crate::llm::ToolDefinition;

mod surfaces;

const PATCH: &str = "*** Begin Patch\n*** Add File: x\n+x\n*** End Patch";

fn call(name: &str, arguments: &str) -> Result<ToolCall, String> {
    ToolCall::parse(CallKind::Function, name, arguments)
}

fn command(arguments: Value) -> ExecCommand {
    match call("exec_command", &arguments.to_string()) {
        Ok(ToolCall::ExecCommand(command)) => command,
        other => panic!("{arguments}: {other:?}"),
    }
}

fn write(arguments: Value) -> WriteStdin {
    match call("write_stdin", &arguments.to_string()) {
        Ok(ToolCall::WriteStdin(write)) => write,
        other => panic!("{arguments}: {other:?}"),
    }
}

fn patch(call: Result<ToolCall, String>) -> ApplyPatch {
    match call {
        Ok(ToolCall::ApplyPatch(patch)) => patch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_tools_are_answered() {
    assert_eq!(call("nope", "{}"), Err("unsupported call: nope".to_owned()));
    for name in ["nope", "exec_command"] {
        let answer = ToolCall::parse(CallKind::Custom, name, "x");
        assert_eq!(answer, Err(format!("unsupported custom tool call: {name}")));
    }
}

#[test]
fn wrong_arguments_are_answered() {
    for (name, arguments, reason) in [
        ("exec_command", "", "EOF while parsing a value at line 1 column 0"),
        ("exec_command", "{bad", "key must be a string at line 1 column 2"),
        ("exec_command", "{}", "missing field `cmd` at line 1 column 2"),
        ("exec_command", r#"{"cmd": 3}"#, "invalid type: integer `3`, expected a string at line 1 column 9"),
        ("exec_command", r#"{"cmd":"true","cmd":"false"}"#, "duplicate field `cmd` at line 1 column 19"),
        ("exec_command", r#"{"cmd":"true"} x"#, "trailing characters at line 1 column 16"),
        (
            "exec_command",
            r#"{"cmd": "ls", "yield_time_ms": -1}"#,
            "invalid value: integer `-1`, expected u64 at line 1 column 33",
        ),
        (
            "exec_command",
            r#"{"cmd": "ls", "yield_time_ms": 1.5}"#,
            "invalid type: floating point `1.5`, expected u64 at line 1 column 34",
        ),
        (
            "exec_command",
            r#"{"cmd": "true", "max_output_tokens": -1}"#,
            "invalid value: integer `-1`, expected usize at line 1 column 39",
        ),
        (
            "exec_command",
            r#"{"cmd": "true", "tty": null}"#,
            "invalid type: null, expected a boolean at line 1 column 27",
        ),
        (
            "exec_command",
            r#"{"cmd": "ls", "sandbox_permissions": "foo"}"#,
            "unknown variant `foo`, expected one of `use_default`, `require_escalated`, `with_additional_permissions` \
             at line 1 column 42",
        ),
        ("write_stdin", "{}", "missing field `session_id` at line 1 column 2"),
        (
            "write_stdin",
            r#"{"session_id": "12"}"#,
            "invalid type: string \"12\", expected i32 at line 1 column 19",
        ),
        (
            "write_stdin",
            r#"{"session_id": 9999999999}"#,
            "invalid value: integer `9999999999`, expected i32 at line 1 column 25",
        ),
        ("update_plan", "x", "expected value at line 1 column 1"),
        ("update_plan", "{}", "missing field `plan` at line 1 column 2"),
        ("update_plan", r#"{"plan": [{"step": "a"}]}"#, "missing field `status` at line 1 column 23"),
        (
            "update_plan",
            r#"{"plan": [{"step": "a", "status": "bad"}]}"#,
            "unknown variant `bad`, expected one of `pending`, `in_progress`, `completed` at line 1 column 39",
        ),
        (
            "update_plan",
            r#"{"plan": [{"step": "a", "status": "pending", "x": 1}]}"#,
            "unknown field `x`, expected `step` or `status` at line 1 column 48",
        ),
        ("apply_patch", "{}", "missing field `input` at line 1 column 2"),
    ] {
        assert_eq!(
            call(name, arguments),
            Err(format!("failed to parse function arguments: {reason}")),
            "{arguments}"
        );
    }
}

#[test]
fn a_command_and_its_defaults() {
    let plain = command(json!({"cmd": "ls"}));
    assert_eq!(
        plain,
        ExecCommand {
            cmd: "ls".to_owned(),
            workdir: None,
            shell: None,
            login: true,
            tty: false,
            yield_time: Duration::from_secs(10),
            max_output_tokens: 10_000,
            surface: Surface::Codex,
        }
    );
    let nulls = json!({"cmd": "ls", "workdir": null, "shell": null, "login": null, "max_output_tokens": null,
        "sandbox_permissions": null, "justification": null, "prefix_rule": null, "extra": 1});
    assert_eq!(command(nulls), plain);
    assert_eq!(command(json!({"cmd": "ls", "workdir": "", "sandbox_permissions": "use_default"})), plain);
}

#[test]
fn nobody_can_be_asked_for_more_rights() {
    for permissions in ["require_escalated", "with_additional_permissions"] {
        let arguments =
            json!({"cmd": "ls", "sandbox_permissions": permissions, "justification": "x"}).to_string();
        let expected = "approval policy is Never; reject command — you cannot ask for escalated permissions if the \
                        approval policy is Never";
        assert_eq!(call("exec_command", &arguments), Err(expected.to_owned()));
    }
}

#[test]
fn waits_are_clamped() {
    for (asked, expected) in
        [(0, 250), (249, 250), (251, 251), (30_000, 30_000), (30_001, 30_000), (u64::MAX, 30_000)]
    {
        let expected = Duration::from_millis(expected);
        assert_eq!(command(json!({"cmd": "ls", "yield_time_ms": asked})).yield_time, expected);
        assert_eq!(
            write(json!({"session_id": 1, "chars": "x", "yield_time_ms": asked})).yield_time,
            expected
        );
    }
    for (asked, expected) in [(0, 5_000), (5_001, 5_001), (300_001, 300_000)] {
        let polled = write(json!({"session_id": 1, "yield_time_ms": asked})).yield_time;
        assert_eq!(polled, Duration::from_millis(expected));
    }
    assert_eq!(write(json!({"session_id": 1, "chars": "x"})).yield_time, Duration::from_millis(250));
    assert_eq!(write(json!({"session_id": 1, "chars": null})).yield_time, Duration::from_secs(5));
}

#[test]
fn programs_and_places_of_commands() {
    let argv = |arguments| command(arguments).argv("/bin/bash");
    assert_eq!(argv(json!({"cmd": "a b"})), ["/bin/bash", "-lc", "a b"]);
    assert_eq!(argv(json!({"cmd": "a", "login": false})), ["/bin/bash", "-c", "a"]);
    assert_eq!(argv(json!({"cmd": "a", "shell": "zsh"})), ["zsh", "-lc", "a"]);
    assert_eq!(argv(json!({"cmd": "a", "shell": "/usr/bin/sh"})), ["/usr/bin/sh", "-lc", "a"]);
    assert_eq!(argv(json!({"cmd": "a", "shell": "python3"})), ["/bin/sh", "-lc", "a"]);

    let cwd = |workdir: Value| command(json!({"cmd": "a", "workdir": workdir})).cwd("/workspace/main");
    assert_eq!(cwd(Value::Null), "/workspace/main");
    assert_eq!(cwd(json!("sub/../x")), "/workspace/main/x");
    assert_eq!(cwd(json!("/tmp")), "/tmp");
}

#[test]
fn the_environment_says_where_it_is_in_our_own_name() {
    let context = ExecContext { thread_id: "t", call_id: "c", network: false };
    let variables = context.environment();
    let shown: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    COLORTERM=
    GH_PAGER=cat
    GIT_PAGER=cat
    LANG=C.UTF-8
    LC_ALL=C.UTF-8
    LC_CTYPE=C.UTF-8
    NO_COLOR=1
    PAGER=cat
    PODWRIGHT_CI=1
    PODWRIGHT_THREAD_ID=t
    PODWRIGHT_TOOL_CALL_ID=c
    TERM=dumb
    PODWRIGHT_SANDBOX_NETWORK_DISABLED=1
    ");
    let with_network = ExecContext { network: true, ..context }.environment();
    assert_eq!(with_network, variables[..variables.len() - 1]);
}

#[test]
fn what_is_said_of_a_command() {
    let report = ExecReport {
        chunk_id: "d374b5",
        wall: Duration::from_micros(12_345),
        state: ExecState::Exited(0),
        output: Captured { head: b"hi\n", ..Captured::default() },
        max_output_tokens: 10_000,
    };
    assert_eq!(
        report.text(),
        "Chunk ID: d374b5\nWall time: 0.0123 seconds\nProcess exited with code 0\nOriginal token count: 1\nOutput:\nhi\n"
    );
    let limit = Duration::from_secs(1800);
    for (state, line) in [
        (ExecState::Exited(3), "Process exited with code 3"),
        (ExecState::Signalled(9), "Process exited with code 137"),
        (ExecState::Signalled(200), "Process exited with code 328"),
        (ExecState::Running { session_id: 83_592 }, "Process running with session ID 83592"),
        (
            ExecState::DeadlineExceeded { limit },
            "Process exited with code 124 (ended by the harness: it ran longer than the limit of 1800 seconds a command)",
        ),
    ] {
        let text = ExecReport { state, output: Captured::default(), ..report }.text();
        let expected = format!(
            "Chunk ID: d374b5\nWall time: 0.0123 seconds\n{line}\nOriginal token count: 0\nOutput:\n"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn long_output_is_cut_and_counted_whole() {
    let long = "x".repeat(50_000);
    let text = ExecReport {
        chunk_id: "000000",
        wall: Duration::ZERO,
        state: ExecState::Exited(0),
        output: Captured { head: long.as_bytes(), ..Captured::default() },
        max_output_tokens: 500,
    }
    .text();
    let expected = "Original token count: 12500\nOutput:\nWarning: truncated output (original token count: 12500)\n\
                    Total output lines: 1\n\nxxx";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("x…12000 tokens truncated…x"), "{text}");
}

#[test]
fn commands_without_a_result() {
    insta::assert_snapshot!(
        [
            ExecError::Spawn("No such file or directory (os error 2)".to_owned()),
            ExecError::UnknownSession(12),
            ExecError::StdinClosed,
            ExecError::SandboxRestarted,
            ExecError::OutcomeUnknown,
            ExecError::TooManySessions(64),
        ]
        .map(|error| error.to_string())
        .join("\n"),
        @r#"
    exec_command failed: CreateProcess { message: "Rejected(\"Failed to create unified exec process: No such file or directory (os error 2)\")" }
    write_stdin failed: Unknown process id 12
    write_stdin failed: stdin is closed for this session; rerun exec_command with tty=true to keep stdin open
    The sandbox was restarted while this command ran. It may have partly run; its exit status is unknown. Check the state of the workspace before running it again.
    The outcome of this call is unknown: it may have run wholly, partly or not at all. Check the state of the workspace before repeating it.
    exec_command failed: 64 commands are running in sessions, which is the limit; end one with write_stdin or wait for it before starting another
    "#
    );
    let wall = Duration::from_millis(1_500);
    assert_eq!(aborted("exec_command", wall, "user"), "Wall time: 1.5 seconds\naborted by user");
    assert_eq!(aborted("apply_patch", wall, "user"), "aborted by user after 1.5s");
}

#[test]
fn chunk_ids_are_six_digits_of_the_operation() {
    assert_eq!(chunk_id("thread-1-7"), chunk_id("thread-1-7"));
    assert_ne!(chunk_id("thread-1-7"), chunk_id("thread-1-8"));
    let id = chunk_id("");
    assert!(id.len() == 6 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
}

#[test]
fn plans() {
    let arguments = r#"{"explanation": null, "plan": [{"step": "a", "status": "in_progress"}]}"#;
    let Ok(ToolCall::UpdatePlan(plan)) = call("update_plan", arguments) else { panic!("no plan") };
    assert_eq!(plan.explanation, None);
    assert_eq!(plan.plan[0].status, StepStatus::InProgress);
    assert!(call("update_plan", r#"{"plan": []}"#).is_ok());
    assert_eq!(PLAN_UPDATED, "Plan updated");
}

#[test]
fn patches_come_in_three_forms() {
    let function = json!({"input": PATCH}).to_string();
    let shell = json!({"cmd": format!("apply_patch <<'EOF'\n{PATCH}\nEOF")}).to_string();
    let custom = patch(ToolCall::parse(CallKind::Custom, "apply_patch", PATCH));
    assert_eq!(patch(call("apply_patch", &function)), custom);
    let intercepted = patch(call("exec_command", &shell));
    assert_eq!(intercepted, ApplyPatch { from_command: true, ..custom.clone() });

    let text = Summary { added: vec!["x".to_owned()], ..Summary::default() }.success(Duration::ZERO);
    assert_eq!(custom.output(&text, Duration::ZERO), text);
    assert_eq!(
        intercepted.output(&text, Duration::ZERO),
        format!("Wall time: 0.0000 seconds\nOutput:\n{text}")
    );
}

#[test]
fn an_intercepted_patch_counts_from_the_directory_of_its_command() {
    for (workdir, cd, expected) in [
        (None, "", "/workspace/main"),
        (Some("sub"), "", "/workspace/main/sub"),
        (None, "cd sub && ", "/workspace/main/sub"),
        (Some("sub"), "cd x && ", "/workspace/main/sub/x"),
        (Some("sub"), "cd /workspace && ", "/workspace"),
    ] {
        let arguments = json!({"cmd": format!("{cd}apply_patch <<'EOF'\n{PATCH}\nEOF"), "workdir": workdir});
        let patch = patch(call("exec_command", &arguments.to_string()));
        assert_eq!(patch.cwd("/workspace/main"), expected, "{arguments}");
    }
}

#[test]
fn patches_that_are_none_are_answered() {
    let answer = "apply_patch verification failed: invalid patch: The first line of the patch must be '*** Begin Patch'";
    assert_eq!(ToolCall::parse(CallKind::Custom, "apply_patch", "junk"), Err(answer.to_owned()));
    let shell = json!({"cmd": "apply_patch <<'EOF'\njunk\nEOF"}).to_string();
    assert_eq!(call("exec_command", &shell), Err(answer.to_owned()));
    let bare = json!({"cmd": PATCH}).to_string();
    let expected = "apply_patch verification failed: patch detected without explicit call to apply_patch. Rerun as \
                    [\"apply_patch\", \"<patch>\"]";
    assert_eq!(call("exec_command", &bare), Err(expected.to_owned()));
}

#[test]
fn classes() {
    let class = |call: Result<ToolCall, String>| call.expect("a call").class();
    assert_eq!(class(call("exec_command", r#"{"cmd":""}"#)), CallClass::Shared);
    assert_eq!(class(call("write_stdin", r#"{"session_id":1}"#)), CallClass::Shared);
    assert_eq!(class(call("view_image", r#"{"path":"a"}"#)), CallClass::Shared);
    assert_eq!(class(call("update_plan", r#"{"plan":[]}"#)), CallClass::Exclusive);
    assert_eq!(class(ToolCall::parse(CallKind::Custom, "apply_patch", PATCH)), CallClass::Exclusive);
}

#[test]
fn definitions_are_sorted_and_closed() {
    let definitions = definitions::of(Surface::Codex, true);
    let names: Vec<&str> = definitions
        .iter()
        .map(|(ToolDefinition::Function { name, .. } | ToolDefinition::Custom { name, .. })| name.as_str())
        .collect();
    assert_eq!(names, ["apply_patch", "exec_command", "update_plan", "view_image", "write_stdin"]);
    assert!(definitions.iter().any(|tool| matches!(tool, ToolDefinition::Custom { .. })));
    for definition in &definitions {
        if let ToolDefinition::Function { parameters, .. } = definition {
            closed_and_sorted(parameters);
        }
    }
    let without = definitions::of(Surface::Codex, false);
    assert_eq!(without, [&definitions[..3], &definitions[4..]].concat());

    let generic = definitions::of(Surface::Generic, true);
    let functions = generic.iter().map(|tool| match tool {
        ToolDefinition::Function { name, parameters, .. } => (name.as_str(), parameters),
        ToolDefinition::Custom { name, .. } => panic!("free text needs training: {name}"),
    });
    let (names, schemas): (Vec<_>, Vec<_>) = functions.unzip();
    assert_eq!(names, ["plan", "shell", "shell_input", "str_replace", "view_image", "write_file"]);
    schemas.into_iter().for_each(closed_and_sorted);
    assert_eq!(definitions::of(Surface::Generic, false), [&generic[..4], &generic[5..]].concat());
}

fn closed_and_sorted(schema: &Value) {
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], json!(false), "{schema}");
        assert!(properties.keys().is_sorted(), "{schema}");
        for required in schema["required"].as_array().expect("a list") {
            assert!(properties.contains_key(required.as_str().expect("a name")), "{schema}");
        }
        properties.values().for_each(closed_and_sorted);
    }
    if let Some(items) = schema.get("items") {
        closed_and_sorted(items);
    }
}

#[test]
fn every_declared_argument_is_understood() {
    for definition in [Surface::Codex, Surface::Generic].into_iter().flat_map(|of| definitions::of(of, true))
    {
        let ToolDefinition::Function { name, parameters, .. } = definition else { continue };
        let sample = |schema: &Value| match schema["type"].as_str() {
            Some("string") => json!("x"),
            Some("number") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([{"step": "x", "status": "pending"}]),
            other => panic!("{other:?}"),
        };
        let properties = parameters["properties"].as_object().expect("properties");
        let all: Value = properties.iter().map(|(name, schema)| (name.clone(), sample(schema))).collect();
        assert!(call(&name, &all.to_string()).is_ok(), "{name} {all}");
    }
}

proptest! {
    #[test]
    fn no_call_makes_the_parser_panic(
        name in "(shell|str_replace|write_file|exec_command|write_stdin|update_plan|apply_patch|view_image|[a-z_]{0,9})",
        arguments in "\\PC{0,40}",
        custom in any::<bool>(),
    ) {
        let kind = if custom { CallKind::Custom } else { CallKind::Function };
        if let Ok(ToolCall::ApplyPatch(call)) = ToolCall::parse(kind, &name, &arguments) {
            let place = Place { root: "/workspace/main", cwd: "/workspace/main" };
            let _ = call.edit.paths_to_read(place);
        }
    }
}
