//! Who opens files, and that nobody but the reader, the writer and the first checkout opens those of the workspace.
//!
//! The sandbox can make any path of the workspace lead anywhere, while it is opened too. So a module that opens files by
//! path stands in a list with what it opens, and the few that may open workspace paths are the only ones in it that are
//! ever told where the workspace is.

use std::collections::BTreeSet;

use crate::imports::spelt_out;
use crate::{code_lines, read, root, rust_files};

/// The doors: the first two open beneath a descriptor and follow nothing, the third runs before anything in the sandbox.
const DOORS: &[&str] = &["src/workspace/reader.rs", "src/workspace/writer.rs", "src/workspace/checkout.rs"];

/// What else opens files by path.
const OTHERS: &[(&str, &str)] = &[
    ("src/agent/driver/mcp/start.rs", "the agent's state volume"),
    ("src/agent/install.rs", "the volume of tools"),
    ("src/agent/journal", "the agent's state volume"),
    ("src/cli.rs", "files that a person names"),
    ("src/doctor", "files that a person names"),
    ("src/files.rs", "small files of the agent's own volumes"),
    ("src/main.rs", "files that a person names"),
    ("src/sandbox/token.rs", "the agent's state volume"),
    ("src/scripted", "the script"),
    ("src/workspace/askpass.rs", "an inherited descriptor"),
    ("src/workspace/confine.rs", "standard input"),
    ("src/workspace/fetch", "the volume of the bare repository"),
    ("src/workspace/git.rs", "git itself, and the packs that it fetches"),
    ("src/workspace/object.rs", "the objects of the bare repository"),
    ("src/workspace/origin.rs", "the volume of the bare repository"),
    ("src/workspace/overlay.rs", "the volume of the bare repository"),
    ("src/workspace/patch/diff.rs", "the volume of the bare repository"),
];

/// What opens, lists or asks about a path.
const OPENING: &[&str] = &[
    "std::fs",
    "std::os::unix::fs",
    "tokio::fs",
    "rustix::fs",
    "tempfile",
    "memmap",
    "use nix::",
    "libc::open",
    "image::open",
    "UnixStream::connect",
    "UnixListener::bind",
    ".exists()",
    ".is_file()",
    ".is_dir()",
    ".is_symlink()",
    ".metadata()",
    ".symlink_metadata()",
    ".canonicalize()",
    ".read_dir()",
    ".read_link()",
];

/// Mere types.
const HARMLESS: &[&str] = &["use rustix::fs::FileType;", "use rustix::fs::Stat;"];

/// How the workspace's place is asked for.
const PLACE: &[&str] = &[".worktree()", "layout.workspace()", "layout().workspace()"];

#[test]
fn workspace_paths_are_opened_at_the_doors_alone() {
    let mut met = BTreeSet::new();
    let mut offences = Vec::new();
    for file in rust_files(&root().join("src")) {
        let name = file.strip_prefix(root()).expect("a file of the repository").display().to_string();
        let text = read(&file);
        let lines = code_lines(&text);
        let opens = opening(&text);
        if DOORS.contains(&name.as_str()) {
            met.insert(name);
            continue;
        }
        let listed = OTHERS.iter().find(|(listed, _)| is_within(&name, listed));
        match (listed, opens.first()) {
            (None, Some((number, line))) => offences.push(format!("{name}:{number} opens files: {line}")),
            (Some((listed, _)), Some(_)) => {
                met.insert((*listed).to_owned());
                let told = lines.iter().filter(|(_, line)| PLACE.iter().any(|place| line.contains(place)));
                offences.extend(told.map(|(number, line)| {
                    format!("{name}:{number} opens files and is told where the workspace is: {}", line.trim())
                }));
            }
            (_, None) => {}
        }
    }
    assert!(
        offences.is_empty(),
        "paths of the workspace are opened by {DOORS:?} alone, and what opens others is in the list of tests/tidy:\n{}",
        offences.join("\n")
    );
    for listed in DOORS.iter().copied().chain(OTHERS.iter().map(|(listed, _)| *listed)) {
        // These open nothing in some states of the tree; a line that says nothing any more is no harm there.
        if matches!(listed, "src/cli.rs" | "src/doctor" | "src/scripted") {
            continue;
        }
        assert!(met.contains(listed), "{listed} opens nothing any more: mend the list in tests/tidy");
    }
}

/// The doors themselves hold to what makes them doors.
#[test]
fn the_doors_follow_nothing() {
    let reader = read(&root().join("src/workspace/reader.rs"));
    for flag in ["BENEATH", "NO_SYMLINKS", "NO_MAGICLINKS", "NO_XDEV", "NONBLOCK", "NOFOLLOW", "NOCTTY"] {
        assert!(reader.contains(flag), "the reader opens without {flag}");
    }
    for door in ["src/workspace/reader.rs", "src/workspace/writer.rs"] {
        let text = read(&root().join(door));
        for (number, line) in code_lines(&text) {
            let by_path =
                ["File::open", "File::create", "OpenOptions", "fs::read", "fs::write", "mmap", "CWD, "];
            let found = by_path.iter().find(|word| line.contains(**word));
            let is_root = line.contains("openat2(CWD, root,") || line.trim_start().starts_with("use ");
            assert!(found.is_none() || is_root, "{door}:{number} opens by path: {line}");
        }
    }
}

#[test]
fn what_opens_is_found_however_it_is_written() {
    let text = "use std::{\n    fmt,\n    fs::File,\n};\nuse rustix::fs::{FileType, Stat};\nuse rustix::fs::{openat, Stat};\n\
                // std::fs in words\nif path.exists() {}\nlet fine = file.len();\n";
    let found: Vec<usize> = opening(text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(found, [1, 6, 8]);
}

fn opening(text: &str) -> Vec<(usize, String)> {
    let lines = spelt_out(code_lines(text));
    let opens = |line: &str| OPENING.iter().any(|word| line.contains(word)) && !HARMLESS.contains(&line);
    lines.into_iter().filter(|(_, line)| opens(line)).collect()
}

fn is_within(name: &str, listed: &str) -> bool {
    name == listed || name.strip_prefix(listed).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}
