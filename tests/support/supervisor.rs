//! The supervisor's program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program, built by the cargo that runs the tests.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package", "podwright-sandboxd", "--bin", "podwright-sandboxd"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the supervisor does not compile");
        // .../target/debug/deps/agent-1234 -> .../target/debug
        let tests = std::env::current_exe().expect("the test's own program");
        let folder = tests.ancestors().nth(2).expect("a folder of programs");
        folder.join("podwright-sandboxd")
    })
}
