//! The repository of the task, and the server that it is fetched from.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A repository with a script that greets the wrong way, and a branch on which it greets in another one.
pub(crate) fn repository(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("greet.sh"), "#!/bin/sh\necho hullo\n").unwrap();
    fs::write(path.join("AGENTS.md"), "Greet politely.\n").unwrap();
    for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "first"]] {
        git(path, args);
    }
    git(path, &["checkout", "-q", "-b", "feature"]);
    fs::write(path.join("greet.sh"), "#!/bin/sh\necho salve\n").unwrap();
    git(path, &["commit", "-q", "-a", "-m", "Greet in Latin"]);
    git(path, &["checkout", "-q", "main"]);
}

/// Runs git in a directory, as somebody who may commit.
pub(crate) fn git(directory: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let status = Command::new("git").args(identity).args(args).current_dir(directory).status().unwrap();
    assert!(status.success());
}

/// Serves the repositories of a folder, and gives the port.
pub(super) fn git_server(root: &Path) -> (Child, u16) {
    let mut server = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/git_server.py"))
        .arg(root)
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (server, line.trim().parse().unwrap())
}
