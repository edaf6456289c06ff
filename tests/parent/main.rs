//! The parent of the agent's process, as process of its own, and this program as an agent's process that ends as it is
//! told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The argument that makes this program the agent's process.
const PROCESS: &str = "process";

/// How the agent's processes end, one after the other, divided by commas; the last one holds for all that follow.
const ENDS: &str = "PARENT_TEST_ENDS";

/// The file that gets a line from each process.
const STARTS: &str = "PARENT_TEST_STARTS";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(PROCESS) => process(),
        // Whatever else a test runner asks for.
        _ => {
            an_end_that_is_published_or_moot_is_final();
            a_process_that_dies_is_started_again();
            one_that_dies_again_and_again_is_left_to_the_kubelet();
            the_end_of_the_container_reaches_the_process_and_is_final();
            a_program_that_is_not_there_is_said();
            ExitCode::SUCCESS
        }
    }
}

fn an_end_that_is_published_or_moot_is_final() {
    assert_eq!(outcome("0"), (Some(0), 1));
    assert_eq!(outcome("3"), (Some(3), 1));
}

fn a_process_that_dies_is_started_again() {
    assert_eq!(outcome("1,0"), (Some(0), 2));
    assert_eq!(outcome("killed,101,0"), (Some(0), 3));
}

fn one_that_dies_again_and_again_is_left_to_the_kubelet() {
    assert_eq!(outcome("1"), (Some(1), 3));
}

fn the_end_of_the_container_reaches_the_process_and_is_final() {
    let stage = Stage::new();
    let mut parent = stage.parent("waits");
    while stage.starts() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = Command::new("kill").args(["-TERM", &parent.id().to_string()]).status().unwrap();
    assert!(ended.success());
    assert_eq!(parent.wait().unwrap().code(), Some(1));
    assert_eq!(stage.starts(), 1);
}

fn a_program_that_is_not_there_is_said() {
    for (arguments, words) in [(&["/not/there"][..], "/not/there"), (&[], "usage: podwright-parent PROGRAM")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_podwright-parent")).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(words), "{said}");
    }
}

/// The parent's exit code, and how many processes it started.
fn outcome(ends: &str) -> (Option<i32>, usize) {
    let stage = Stage::new();
    let code = stage.parent(ends).wait().unwrap().code();
    (code, stage.starts())
}

struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("starts")
    }

    fn parent(&self, ends: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_podwright-parent"))
            .arg(std::env::current_exe().unwrap())
            .arg(PROCESS)
            .env(ENDS, ends)
            .env(STARTS, self.file())
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn starts(&self) -> usize {
        fs::read_to_string(self.file()).unwrap_or_default().lines().count()
    }
}

/// The agent's process.
fn process() -> ExitCode {
    let file = std::env::var_os(STARTS).unwrap();
    let number = fs::read_to_string(&file).unwrap_or_default().lines().count();
    let mut starts = OpenOptions::new().create(true).append(true).open(file).unwrap();
    writeln!(starts, "started").unwrap();
    let ends = std::env::var(ENDS).unwrap();
    let ends: Vec<&str> = ends.split(',').collect();
    match ends[number.min(ends.len() - 1)] {
        // SIGTERM ends it, as it ends an agent that is between two things.
        "waits" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        "killed" => {
            let own = std::process::id().to_string();
            Command::new("kill").args(["-KILL", &own]).status().unwrap();
            loop {
                std::thread::park();
            }
        }
        code => ExitCode::from(code.parse::<u8>().unwrap()),
    }
}
