use proptest::prelude::*;

use super::*;
use crate::api::attempt::PatchFlagKind;

const A: &str = "1111111111111111111111111111111111111111";
const B: &str = "2222222222222222222222222222222222222222";
const NONE: &str = "0000000000000000000000000000000000000000";

fn modified(path: &str) -> String {
    format!(
        "diff --git a/{path} b/{path}\nindex {A}..{B} 100644\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n"
    )
}

fn created(path: &str, mode: &str, line: &str) -> String {
    format!(
        "diff --git a/{path} b/{path}\nnew file mode {mode}\nindex {NONE}..{A}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{line}\n"
    )
}

fn deleted(path: &str, mode: &str) -> String {
    format!(
        "diff --git a/{path} b/{path}\ndeleted file mode {mode}\nindex {A}..{NONE}\n--- a/{path}\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n\\ No newline at end of file\n"
    )
}

fn kinds(patch: &str) -> Vec<PatchFlagKind> {
    read(patch.as_bytes()).unwrap().flags.named().map(|(kind, _)| kind).collect()
}

#[test]
fn every_form_that_git_writes_is_read() {
    let binary = format!(
        "diff --git a/bin b/bin\nindex {A}..{B} 100644\nGIT binary patch\nliteral 4\nLcmZQzX5s<>02=@h\n\nliteral 3\nKcmZQzWC8#H2LJ>B\n\n"
    );
    let quoted = format!(
        "diff --git \"a/q\\\"\\303\\274\" \"b/q\\\"\\303\\274\"\nindex {A}..{B} 100644\n--- \"a/q\\\"\\303\\274\"\n+++ \"b/q\\\"\\303\\274\"\n@@ -1,2 +1,3 @@ fn x()\n a\n-b\n+c\n+d\n\\ No newline at end of file\n"
    );
    let spaced = format!(
        "diff --git a/sp ace b/sp ace\nold mode 100644\nnew mode 100755\nindex {A}..{B}\n--- a/sp ace\t\n+++ b/sp ace\t\n@@ -1 +1 @@\n-a\n+b\n"
    );
    let empty = format!("diff --git a/empty b/empty\nnew file mode 100644\nindex {NONE}..{A}\n");
    let mode = "diff --git a/run b/run\nold mode 100644\nnew mode 100755\n";
    let patch = [
        binary.as_str(),
        &empty,
        &quoted,
        mode,
        &spaced,
        &deleted("t", "100644"),
        &created("t", "120000", "y"),
    ];
    let contents = read(patch.concat().as_bytes()).unwrap();
    assert_eq!(contents.files, 6);
    let shown: Vec<String> = contents.flags.named().map(|(kind, path)| format!("{kind:?} {path}")).collect();
    assert_eq!(shown, ["Symlink t", "ModeChange run", "ModeChange sp ace", "ModeChange t"]);
    assert_eq!(read(b"").unwrap(), Contents::default());
}

#[test]
fn what_another_program_would_take_for_more_is_no_patch() {
    let good = modified("a");
    let cases = [
        ("no header", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n".to_owned()),
        ("words before it", format!("see below\n{good}")),
        ("words behind it", format!("{good}see above\n")),
        ("an empty line behind it", format!("{good}\n")),
        (
            "a second patch in the old form",
            format!("{good}--- a/.git/config\n+++ b/.git/config\n@@ -0,0 +1 @@\n+x\n"),
        ),
        ("other names", good.replace("+++ b/a", "+++ b/b")),
        ("no names", good.replace("--- a/a\n", "")),
        ("a name that is none", good.replace("+++ b/a", "+++ /dev/null")),
        ("a rename", "diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n".to_owned()),
        ("a copy", "diff --git a/a b/a\ncopy from a\ncopy to .git/x\n".to_owned()),
        ("short ids", good.replace(A, "1111111")),
        ("more lines than the hunk has", good.replace("+b\n", "+b\n+c\n")),
        ("fewer lines", good.replace("+b\n", "")),
        ("a hunk of nothing", good.replace("@@ -1 +1 @@\n-a\n+b\n", "@@ -0,0 +0,0 @@\n")),
        ("a hunk that counts too far", good.replace("-1 +1", "-1 +99999999999999999999")),
        ("a mode that git has not", created("a", "104755", "x")),
        ("a device", created("a", "060000", "x")),
        (
            "a changed kind in one section",
            "diff --git a/a b/a\nold mode 100644\nnew mode 120000\n".to_owned(),
        ),
        ("half a mode", "diff --git a/a b/a\nold mode 100644\n".to_owned()),
        ("no line feed at the end", good.trim_end().to_owned()),
        (
            "half a binary patch",
            format!(
                "diff --git a/a b/a\nindex {A}..{B} 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\n"
            ),
        ),
        ("twice the same", format!("{good}{good}")),
        ("not in order", format!("{}{good}", modified("b"))),
        ("created over what is there", format!("{}{}", modified("a"), created("a", "100644", "x"))),
        ("a path without quotes that needs them", modified("a\u{1b}[2J")),
    ];
    for (what, patch) in cases {
        assert!(read(patch.as_bytes()).is_err(), "{what} was taken:\n{patch}");
    }
}

#[test]
fn paths_that_must_not_be_written_are_refused() {
    let names = [
        "../x",
        "a/../../x",
        "./x",
        "a//x",
        "a/.",
        ".git/config",
        "sub/.git/hooks/pre-commit",
        ".GIT/config",
        ".Git/x",
        "git~1/config",
        "GIT~1/config",
        ".git /x",
        ".git./x",
        ".git::$INDEX_ALLOCATION/x",
        ".git:x",
        "a/.git...",
        "/etc/passwd",
    ];
    for name in names {
        let fault = read(created(name, "100644", "x").as_bytes()).unwrap_err();
        assert!(matches!(fault, PatchFault::Path { .. }), "{name}: {fault}");
    }
    let quoted =
        [r"a\\.git/config", r".g\342\200\214it/config", r".gi\357\273\277t/x", r"a\000b", r"a\\..\\.git\\x"];
    for name in quoted {
        let patch = created("NAME", "100644", "x")
            .replace("a/NAME b/NAME", &format!("\"a/{name}\" \"b/{name}\""))
            .replace("+++ b/NAME", &format!("+++ \"b/{name}\""));
        let fault = read(patch.as_bytes()).unwrap_err();
        assert!(matches!(fault, PatchFault::Path { .. }), "{name}: {fault}");
    }
    for name in [".gitmodules", "gitmod~1", "GI7EBA~1", ".GitModules"] {
        assert!(read(created(name, "120000", "x").as_bytes()).is_err(), "a link named {name}");
        assert!(read(created(name, "100644", "x").as_bytes()).is_ok(), "{name}");
    }
    let long = format!("{}x", "d/".repeat(2100));
    assert!(read(created(&long, "100644", "x").as_bytes()).is_err());
}

#[test]
fn nothing_is_written_through_a_link_of_the_same_patch() {
    let patch =
        |second: &str| format!("{}{}", created("a", "120000", "/etc"), created(second, "100644", "x"));
    assert!(matches!(read(patch("a/passwd").as_bytes()), Err(PatchFault::Beyond(_))));
    assert!(matches!(read(patch("a/b/c").as_bytes()), Err(PatchFault::Beyond(_))));
    assert!(read(patch("ab").as_bytes()).is_ok());
    // A directory may become a link.
    let instead = format!("{}{}", created("a", "120000", "elsewhere"), deleted("a/b", "100644"));
    assert_eq!(read(instead.as_bytes()).map(|contents| contents.files), Ok(2));
}

#[test]
fn hidden_characters_are_found_where_they_are_added_only() {
    let hidden = "if level != \"user\u{202e} \u{2066}// admin\u{2069} \u{2066}\" {";
    assert_eq!(kinds(&created("a", "100644", hidden)), [PatchFlagKind::HiddenCharacters]);
    assert_eq!(kinds(&created("a", "100644", "harmful\rharmless")), [PatchFlagKind::HiddenCharacters]);
    assert_eq!(kinds(&created("a", "100644", "plain\r")), []);
    let taken_away = modified("a").replace("-a", &format!("-{hidden}"));
    assert_eq!(kinds(&taken_away), []);
}

#[test]
fn a_line_is_not_held_in_memory() {
    let mut reader = PatchReader::default();
    reader.push(created("a", "100644", "x").trim_end().as_bytes()).unwrap();
    for _ in 0..100 {
        reader.push(&[b'x'; 10_000]).unwrap();
        assert!(reader.line.capacity() <= LINE_MAX);
    }
    reader.push(b"\n").unwrap();
    assert_eq!(reader.finish().unwrap().files, 1);
    let mut endless = PatchReader::default();
    let refused = (0..10).any(|_| endless.push(&[b'd'; 10_000]).is_err());
    assert!(refused, "a header of any length");
}

proptest! {
    #[test]
    fn the_cuts_never_matter(cuts in prop::collection::vec(0..4000_usize, 0..40)) {
        let patch = [
            created(".github/workflows/ci.yml", "100644", "on:\u{202e} push"), modified("Cargo.lock"),
            deleted("t", "100644"), created("t", "120000", "y"),
        ].concat();
        let bytes = patch.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
        cuts.sort_unstable();
        let mut reader = PatchReader::default();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            reader.push(&bytes[from..cut]).unwrap();
            from = cut;
        }
        prop_assert_eq!(reader.finish().unwrap(), read(bytes).unwrap());
    }

    /// Whatever stands between the lines of a patch, reading it ends, and what is taken has safe paths.
    #[test]
    fn no_text_breaks_it(lines in prop::collection::vec(prop::sample::select(vec![
        "diff --git a/a b/a", "diff --git a/b b/b", "diff --git a/../c b/../c", "new file mode 100644", "old mode 100644",
        "new mode 100755", "deleted file mode 120000", "--- a/a", "+++ b/a", "--- /dev/null", "+++ /dev/null",
        "@@ -1 +1 @@", "@@ -0,0 +1 @@", "@@ -1 +0,0 @@", "-a", "+b", " c", "", "GIT binary patch", "literal 1",
        "IcmZPo000310RR91", "\\ No newline at end of file", "rename from a",
        "index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222",
        "index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222 100644",
    ]), 0..24), garbage in prop::collection::vec(any::<u8>(), 0..64)) {
        let text = lines.join("\n") + "\n";
        if let Ok(contents) = read(text.as_bytes()) {
            prop_assert!(!text.contains("rename") && contents.files <= 2);
        }
        let _ = read(&[text.as_bytes(), &garbage].concat());
        let _ = read(&garbage);
    }
}
