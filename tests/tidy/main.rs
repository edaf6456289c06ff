//! What the compiler does not check: the promises of docs/architecture.md, read off the source.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that only decide. Each is `src/<name>.rs` or the folder `src/<name>/`.
const PURE: &[&str] = &[
    "agent/agents_md",
    "agent/budget",
    "agent/history",
    "agent/machine",
    "agent/prompt",
    "agent/recover",
    "agent/tools",
    "api",
    "controller/backoff",
    "controller/build",
    "controller/plan",
    "controller/status",
    "controller/validate",
    "llm/error",
    "llm/event",
    "llm/failure",
    "llm/fold",
    "llm/item",
    "llm/request",
    "llm/retry",
    "llm/sse",
    "llm/tool",
    "llm/wire",
    "names",
    "scripted/capture",
    "scripted/condition",
    "scripted/render",
    "scripted/script",
    "scripted/seen",
    "scripted/template",
    "scripted/threads",
];

/// What a pure module has no business with.
const IMPURE: &[&str] = &[
    "async fn",
    ".await",
    "tokio::",
    "reqwest::",
    "kube::Client",
    "kube::Api",
    "kube::api::Api",
    "Timestamp::now",
    "SystemTime::now",
    "Instant::now",
    "env::var",
    "std::fs",
    "std::process::Command",
    "rand::",
    "tracing::",
    "println!",
];

#[test]
fn pure_modules_reach_for_nothing_outside() {
    let mut offences = Vec::new();
    for module in PURE {
        let files = files_of(module);
        assert!(!files.is_empty(), "the pure module {module} is gone: mend the list in tests/tidy");
        for file in files {
            for (number, line) in code_lines(&file) {
                for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                    offences.push(format!("{}:{number}: {word}", file.display()));
                }
            }
        }
    }
    assert!(offences.is_empty(), "pure modules that reach outside:\n{}", offences.join("\n"));
}

#[test]
fn controller_and_agent_do_not_know_each_other() {
    assert_unmentioned("src/controller", &["crate::agent", "podwright::agent"]);
    assert_unmentioned("src/agent", &["crate::controller", "podwright::controller"]);
}

#[test]
fn the_api_depends_on_nothing_of_ours() {
    let others =
        ["agent", "artifacts", "controller", "llm", "names", "sandbox", "scripted", "telemetry", "workspace"];
    let paths: Vec<String> = others.iter().map(|module| format!("crate::{module}")).collect();
    assert_unmentioned("src/api", &paths.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn unsafe_stands_in_one_module() {
    let allowed = root().join("sandboxd/src/confine/sys.rs");
    for file in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("sandboxd/src"))) {
        if file == allowed || file.starts_with(allowed.with_extension("")) {
            continue;
        }
        for (number, line) in code_lines(&file) {
            assert!(
                !line.contains("unsafe ") && !line.contains("allow(unsafe_code"),
                "{}:{number}: unsafe outside {}",
                file.display(),
                allowed.display()
            );
        }
    }
}

fn assert_unmentioned(folder: &str, words: &[&str]) {
    let files = rust_files(&root().join(folder));
    assert!(!files.is_empty(), "{folder} is gone: mend tests/tidy");
    for file in files {
        for (number, line) in code_lines(&file) {
            for word in words {
                assert!(!line.contains(word), "{}:{number} mentions {word}", file.display());
            }
        }
    }
}

/// The lines that are code, up to the tests at the end of a file.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).expect("a source file can be read");
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let base = root().join("src").join(module);
    let mut files = rust_files(&base);
    files.extend(Some(base.with_extension("rs")).filter(|file| file.is_file()));
    files
}

/// Source files below a folder, those of its unit tests left out.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.map(|entry| entry.expect("a folder can be listed").path()) {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if entry.is_dir() && name != "tests" {
            files.extend(rust_files(&entry));
        } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
            files.push(entry);
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
