//! What a git child can reach: with other programs in git's place, which try what git should not.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The hidden subcommand, told to become `program`, which may write `own` and read and run the system's.
fn run(own: &Path, program: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> Output {
    let mut instructions = json!({
        "program": program,
        "args": args,
        "environment": [["MARK", "1"]],
        "directory": own,
        "access": {
            "read": ["/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"],
            "execute": [program, "/lib64/ld-linux-x86-64.so.2"],
            "write": [own, "/dev/null"],
            "connect": [],
        },
        "confinement": "Required",
        "file_max": 1 << 20,
        "memory_max": 64 << 20,
        "credential": null,
    });
    change(&mut instructions);
    let body = instructions.to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_podwright"))
        .arg("git-child")
        .env_clear()
        .env("MODEL_KEY", "MODEL-KEY-CANARY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{:08x}{body}what follows", body.len()).as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn nothing(_: &mut Value) {}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn its_own_directory_and_its_input_are_there() {
    let own = TempDir::new().unwrap();
    let output = run(own.path(), "/bin/cat", &["-"], nothing);
    assert_eq!(output.stdout, b"what follows", "{}", stderr(&output));
    let file = own.path().join("file");
    let output = run(own.path(), "/usr/bin/touch", &[file.to_str().unwrap()], nothing);
    assert!(output.status.success() && file.exists(), "{}", stderr(&output));
}

#[test]
fn the_environment_is_what_it_is_told() {
    let own = TempDir::new().unwrap();
    let output = run(own.path(), "/usr/bin/env", &[], nothing);
    assert_eq!(output.stdout, b"MARK=1\n");
}

#[test]
fn other_files_cannot_be_read_or_written() {
    let (own, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let secret = other.path().join("key");
    std::fs::write(&secret, "CANARY").unwrap();
    for path in [secret.to_str().unwrap(), "/proc/1/environ", "/etc/passwd"] {
        let output = run(own.path(), "/bin/cat", &[path], nothing);
        assert!(!output.status.success() && output.stdout.is_empty(), "{path}");
    }
    let new = other.path().join("new");
    for program in ["/usr/bin/touch", "/bin/mkdir"] {
        assert!(!run(own.path(), program, &[new.to_str().unwrap()], nothing).status.success());
    }
    assert!(!run(own.path(), "/bin/rm", &[secret.to_str().unwrap()], nothing).status.success());
    assert!(
        !run(own.path(), "/usr/bin/truncate", &["-s0", secret.to_str().unwrap()], nothing).status.success()
    );
    assert_eq!(std::fs::read(&secret).unwrap(), b"CANARY");
    assert!(!new.exists());
}

#[test]
fn other_programs_cannot_be_run() {
    let own = TempDir::new().unwrap();
    let mine = own.path().join("mine");
    std::fs::copy("/usr/bin/true", &mine).unwrap();
    // A program that it wrote itself, one of the system, and by way of the loader.
    for command in [mine.to_str().unwrap(), "/usr/bin/true", "/lib64/ld-linux-x86-64.so.2 /usr/bin/true"] {
        let output = run(own.path(), "/bin/sh", &["-c", command], nothing);
        assert!(!output.status.success(), "{command} ran");
    }
}

#[test]
fn only_the_listed_ports_can_be_connected_to() {
    let own = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let output = run(own.path(), "/bin/bash", &["-c", &connect], nothing);
    assert!(stderr(&output).contains("Permission denied"), "{}", stderr(&output));
    let listed = |instructions: &mut Value| instructions["access"]["connect"] = json!([port]);
    let output = run(own.path(), "/bin/bash", &["-c", &connect], listed);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn it_can_signal_nobody_outside() {
    let own = TempDir::new().unwrap();
    let mut other = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let output = run(own.path(), "/bin/bash", &["-c", &format!("kill -9 {}", other.id())], nothing);
    assert!(stderr(&output).contains("not permitted"), "{}", stderr(&output));
    assert_eq!(other.try_wait().unwrap(), None);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_file_cannot_grow_without_end() {
    let own = TempDir::new().unwrap();
    let big = own.path().join("big");
    let output =
        run(own.path(), "/bin/sh", &["-c", "while echo 0123456789 >> big; do :; done"], |instructions| {
            instructions["file_max"] = json!(4096);
        });
    assert!(!output.status.success());
    assert!(std::fs::metadata(big).unwrap().len() <= 4096);
}

#[test]
fn its_memory_cannot_grow_without_end() {
    let own = TempDir::new().unwrap();
    let take = |mebibytes: usize| {
        let program = format!("x = b'x' * ({mebibytes} << 20); print(len(x) >> 20)");
        let output = run(own.path(), "/usr/bin/python3", &["-I", "-S", "-c", &program], nothing);
        (String::from_utf8_lossy(&output.stdout).trim().to_owned(), stderr(&output))
    };
    assert_eq!(take(16).0, "16");
    let (told, error) = take(64);
    assert!(told.is_empty() && error.contains("MemoryError"), "{told} {error}");
}

#[test]
fn a_credential_reaches_the_questioner_and_nothing_else() {
    let own = TempDir::new().unwrap();
    let binary = env!("CARGO_BIN_EXE_podwright");
    let ask = format!(
        "{binary} \"Username for 'https://x': \"; {binary} \"Password for 'https://x': \"; {binary} other"
    );
    let output = run(own.path(), "/bin/sh", &["-c", &ask], |instructions| {
        instructions["credential"] = json!({ "username": "ada", "password": "s3cret" });
        let execute = instructions["access"]["execute"].as_array_mut().unwrap();
        execute.push(json!(binary));
    });
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ada\ns3cret\n", "{}", stderr(&output));
    let output = run(own.path(), "/bin/sh", &["-c", "cat /proc/self/environ; set"], |instructions| {
        instructions["credential"] = json!({ "username": "ada", "password": "s3cret" });
        let access = &mut instructions["access"];
        access["execute"].as_array_mut().unwrap().push(json!("/bin/cat"));
        access["read"].as_array_mut().unwrap().push(json!("/proc"));
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("GIT_ASKPASS") && !text.contains("s3cret"), "{text}");
}

#[test]
fn garbage_is_refused_with_a_sentence() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podwright"))
        .arg("git-child")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"ffffffff{}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(121));
    assert!(stderr(&output).contains("cannot read what to run"), "{}", stderr(&output));
}
