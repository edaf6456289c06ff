//! What the compiler does not check: the promises of docs/architecture.md, read off the source.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects")]

mod doors;
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use imports::{alternatives, spelt_out};

/// Modules that only decide. Each is `src/<name>.rs` or the folder `src/<name>/`.
const PURE: &[&str] = &[
    "agent/agents_md",
    "agent/budget",
    "agent/compaction",
    "agent/driver/verify/verdict",
    "agent/events/replay",
    "agent/events/streaming",
    "agent/history",
    "agent/machine",
    "agent/prompt",
    "agent/recover",
    "agent/review",
    "agent/state",
    "agent/thread",
    "agent/tools",
    "agent/transcript",
    "answer",
    "api",
    "controller/backoff",
    "controller/build",
    "controller/inbox",
    "controller/observed",
    "controller/plan",
    "controller/pod_state",
    "controller/queue",
    "controller/refusal",
    "controller/selection",
    "controller/status",
    "controller/validate",
    "doctor/diagnosis",
    "egress/address",
    "egress/name",
    "egress/presets",
    "egress/rules",
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
    "patch",
    "scripted/capture",
    "scripted/condition",
    "scripted/render",
    "scripted/script",
    "scripted/seen",
    "scripted/template",
    "scripted/threads",
    "scripted/trace",
];

/// What a pure module has no business with.
const IMPURE: &[&str] = &[
    "async fn",
    "async move",
    "async {",
    "async |",
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
    "crate::apiserver",
    "crate::artifacts",
    "crate::config",
    "crate::sandbox",
    "crate::server",
    "crate::telemetry",
    "agent::driver",
    "super::driver",
    "llm::client",
];

#[test]
fn pure_modules_reach_for_nothing_outside() {
    let mut offences = Vec::new();
    for module in PURE {
        let files = files_of(module);
        assert!(!files.is_empty(), "the pure module {module} is gone: mend the list in tests/tidy");
        for file in files {
            let found = impure(&read(&file));
            offences
                .extend(found.iter().map(|(number, word)| format!("{}:{number}: {word}", file.display())));
        }
    }
    assert!(offences.is_empty(), "pure modules that reach outside:\n{}", offences.join("\n"));
}

#[test]
fn what_reaches_outside_is_found_however_it_is_written() {
    let text = "use kube::{Client, ResourceExt};\nuse std::{\n    fmt,\n    fs::{self, File},\n};\nuse crate::{api, sandbox::Link};\n\
                // std::fs in words\nlet later = async { 1 };\nlet handle = tokio::spawn(async move { later.await });\n\
                fn fine(config: &Config) -> &str { config.names() }\n";
    let expected = [
        (1, "kube::Client"),
        (2, "std::fs"),
        (2, "std::fs"),
        (6, "crate::sandbox"),
        (8, "async {"),
        (9, "async move"),
        (9, ".await"),
        (9, "tokio::"),
    ];
    assert_eq!(impure(text), expected);
}

#[test]
fn controller_and_agent_do_not_know_each_other() {
    assert_unmentioned("src/controller", &["crate::agent", "podwright::agent"]);
    assert_unmentioned("src/agent", &["crate::controller", "podwright::controller"]);
}

#[test]
fn the_api_depends_on_nothing_of_ours() {
    for (file, number, line) in code_of("src/api") {
        let others = line.matches("crate::").count() - line.matches("crate::api").count();
        assert!(others == 0 && !line.contains("podwright::"), "{}:{number}: {line}", file.display());
    }
}

#[test]
fn the_code_of_a_file_is_all_but_its_tests() {
    let text =
        "mod a;\n#[cfg(test)]\nmod b;\n// no code\nfn c() {}\n#[cfg(test)]\nmod tests {\n    use d;\n}\n";
    let lines: Vec<usize> = code_lines(text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(lines, [1, 2, 3, 5]);
}

#[test]
fn the_tests_that_the_docs_name_are_there() {
    let folders = ["src", "sandboxd/src", "sandboxd/tests", "tests"];
    let sources = folders.map(|folder| sources_of(&root().join(folder))).concat();
    for page in ["docs/testing.md", "docs/reliability.md"] {
        let text = read(&root().join(page));
        let is_test = |word: &&str| {
            let is_name = word.chars().all(|it| it == '_' || it.is_ascii_lowercase() || it.is_ascii_digit());
            is_name && (word.matches('_').count() > 2 || word.starts_with("search_"))
        };
        let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
        assert!(named.len() > 20, "{named:?}");
        for name in named {
            let begins = format!("fn {name}(");
            assert!(sources.iter().any(|source| source.contains(&begins)), "{page} names {name}");
        }
    }
}

#[test]
fn the_tests_that_the_security_page_names_are_there() {
    let page = read(&root().join("docs/security.md"));
    let is_test = |word: &&str| {
        word.matches('_').count() > 1 && word.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    };
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 40, "{named:?}");
    let folders = ["src", "sandboxd/src", "sandboxd/tests", "tests"];
    let sources: Vec<String> = folders.map(|folder| sources_of(&root().join(folder))).concat();
    for name in named {
        let begins = format!("fn {name}(");
        assert!(sources.iter().any(|source| source.contains(&begins)), "docs/security.md names {name}");
    }
}

#[test]
fn the_code_map_is_true() {
    let page = read(&root().join("docs/architecture.md"));
    let (_, map) = page.split_once("## Code map").expect("the page has a code map");
    let rows = map.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let named: Vec<String> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).flat_map(alternatives).collect();
    assert!(named.len() > 20, "{named:?}");
    for path in &named {
        let file = root().join(path);
        assert!(file.exists() || file.with_extension("rs").is_file(), "the code map names {path}");
    }
    for module in ["src", "src/agent", "tests"].into_iter().flat_map(modules) {
        let is_it = |path: &String| path.trim_end_matches('/').trim_end_matches(".rs") == module;
        let within = format!("{module}/");
        let found = named.iter().any(|path| is_it(path) || path.starts_with(&within));
        assert!(found, "the code map does not name {module}");
    }
}

#[test]
fn unsafe_stands_in_one_module() {
    let allowed = root().join("sandboxd/src/confine/sys.rs");
    for file in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("sandboxd/src"))) {
        if file == allowed || file.starts_with(allowed.with_extension("")) {
            continue;
        }
        for (number, line) in code_lines(&read(&file)) {
            assert!(
                !line.contains("unsafe ") && !line.contains("allow(unsafe_code"),
                "{}:{number}: unsafe outside {}",
                file.display(),
                allowed.display()
            );
        }
    }
}

/// Where a source file says what a pure module has no business with.
fn impure(text: &str) -> Vec<(usize, &'static str)> {
    let lines = spelt_out(code_lines(text));
    let words = |line: &str| IMPURE.iter().filter(|word| line.contains(**word)).collect::<Vec<_>>();
    lines.iter().flat_map(|(number, line)| words(line).into_iter().map(|word| (*number, *word))).collect()
}

fn assert_unmentioned(folder: &str, words: &[&str]) {
    for (file, number, line) in code_of(folder) {
        for word in words {
            assert!(!line.contains(word), "{}:{number} mentions {word}", file.display());
        }
    }
}

/// Every line of code below a folder: its file, its number, itself.
fn code_of(folder: &str) -> Vec<(PathBuf, usize, String)> {
    let files = rust_files(&root().join(folder));
    assert!(!files.is_empty(), "{folder} is gone: mend tests/tidy");
    let lines = |file: PathBuf| {
        let text = read(&file);
        code_lines(&text)
            .into_iter()
            .map(|(number, line)| (file.clone(), number, line.to_owned()))
            .collect::<Vec<_>>()
    };
    files.into_iter().flat_map(lines).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a source file can be read")
}

/// The lines that are code, up to the tests at the end of a file. Tests in a file of their own are only declared.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let opens_tests =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
    let code = lines[..end].iter().enumerate().map(|(index, line)| (index + 1, *line));
    code.filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
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

/// The modules right in a folder, without those that only hold the others together.
fn modules(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder can be listed");
    let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
    let stems = paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let modules = stems.filter(|stem| !["lib", "main", "mod"].contains(&stem.as_str()));
    modules.map(|module| format!("{folder}/{module}")).collect()
}

/// The text of every source file below a folder, tests too.
fn sources_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder can be listed");
    let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
    let sources = paths.filter(|path| path.is_dir() || path.extension().is_some_and(|it| it == "rs"));
    sources.flat_map(|path| if path.is_dir() { sources_of(&path) } else { vec![read(&path)] }).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
