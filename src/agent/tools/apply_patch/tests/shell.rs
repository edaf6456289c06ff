use super::*;

const PATCH: &str = "*** Begin Patch\n*** Add File: x\n+x\n*** End Patch\n";

fn call(command: &str) -> Option<(Option<String>, String)> {
    match shell_form(command)? {
        ShellForm::Call { directory, patch } => Some((directory.map(str::to_owned), patch.to_owned())),
        ShellForm::Bare => panic!("bare: {command}"),
    }
}

#[test]
fn calls_that_are_taken_for_the_tool() {
    for (head, foot, directory) in [
        ("apply_patch <<'EOF'\n", "EOF", None),
        ("apply_patch <<EOF\n", "EOF\n", None),
        ("apply_patch <<\"PATCH\"\n", "PATCH\n\n", None),
        ("applypatch <<'EOF'\n", "EOF", None),
        ("  apply_patch   << 'EOF'\n", "EOF", None),
        ("apply_patch<<'EOF'\n", "EOF", None),
        ("apply_patch <<-EOF\n", "EOF", None),
        ("apply_patch <<'EOF'\n", "", None),
        ("cd sub && apply_patch <<'EOF'\n", "EOF", Some("sub")),
        ("cd sub&&apply_patch <<'EOF'\n", "EOF", Some("sub")),
        ("cd 'su b' && apply_patch <<'EOF'\n", "EOF", Some("su b")),
        ("cd \"sub\" && apply_patch <<'EOF'\n", "EOF", Some("sub")),
        ("cd sub/../ && apply_patch <<'EOF'\n", "EOF", Some("sub/../")),
        ("cd /workspace/main && apply_patch <<'EOF'\n", "EOF", Some("/workspace/main")),
    ] {
        let expected = Some((directory.map(str::to_owned), PATCH.to_owned()));
        assert_eq!(call(&format!("{head}{PATCH}{foot}")), expected, "{head}");
    }
}

#[test]
fn everything_else_is_the_shells() {
    for (head, foot) in [
        ("cd sub; apply_patch <<'EOF'\n", "EOF"),
        ("cd sub && cd .. && apply_patch <<'EOF'\n", "EOF"),
        ("echo hi && apply_patch <<'EOF'\n", "EOF"),
        ("apply_patch foo <<'EOF'\n", "EOF"),
        ("apply_patch <<'EOF' && echo x\n", "EOF"),
        ("apply_patch <<'EOF' > /dev/null\n", "EOF"),
        ("apply_patch <<'EOF'\n", "EOF\necho hi"),
        ("apply_patch <<'EOF'\n", "EOF\n# c"),
        ("apply_patch_all <<'EOF'\n", "EOF"),
        ("cat <<'EOF'\n", "EOF"),
        ("cd <<'EOF'\n", "EOF"),
        ("bash -lc \"apply_patch <<'EOF'\n", "EOF\""),
        // The reference agent takes the next two literally: the shell would expand them.
        ("cd ~ && apply_patch <<'EOF'\n", "EOF"),
        ("cd \"$HOME\" && apply_patch <<'EOF'\n", "EOF"),
    ] {
        assert_eq!(call(&format!("{head}{PATCH}{foot}")), None, "{head}");
    }
    for command in
        ["", "ls", "apply_patch", "apply_patch '*** Begin Patch'", "apply_patch <<", "cd", "cd x &&\n"]
    {
        assert_eq!(call(command), None, "{command}");
    }
}

#[test]
fn a_patch_without_a_call_is_seen() {
    assert_eq!(shell_form(PATCH), Some(ShellForm::Bare));
    assert_eq!(shell_form(PATCH.trim_end()), Some(ShellForm::Bare));
}

#[test]
fn what_is_no_patch_goes_through_to_the_parser_when_called() {
    assert_eq!(call("apply_patch <<'EOF'\njunk\nEOF"), Some((None, "junk\n".to_owned())));
}
