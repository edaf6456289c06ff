//! The supervisor as a process.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::Supervisor;
use crate::program::program;

#[test]
fn ends_at_once_with_status_1_on_sigterm() {
    let mut supervisor = Supervisor::boot();
    supervisor.signal("-TERM");
    assert_eq!(supervisor.end().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_on_sigterm_while_commands_run_and_write() {
    let mut supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    sandbox.start(&boot, crate::harness::shell("a", "cat /dev/zero"), 0).await.unwrap();
    supervisor.signal("-TERM");
    assert_eq!(supervisor.end().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn collects_orphans_and_stays_small() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    for round in 0..20 {
        let script = "for i in 1 2 3 4 5; do (setsid sh -c '(true &)' &); done";
        let id = format!("orphans-{round}");
        crate::harness::run(&sandbox, &boot, crate::harness::shell(&id, script)).await;
        sandbox.acknowledge(&boot, &crate::harness::op(&id)).await.unwrap();
    }
    // A subreaper ends after its command was reported, so it may still wait to be reaped; 10 s is for a busy machine.
    let begun = Instant::now();
    while zombies(&supervisor) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} zombies", zombies(&supervisor));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Each of 20 commands that were remembered would keep its output and 2,000 of 100 bytes; 8 MiB is twice what a
    // supervisor takes that has never run anything, in a build without optimisation.
    let resident = supervisor.status_kib("VmRSS");
    assert!(resident < 8 * 1024, "{resident} KiB");
    sandbox.end_phase(&boot, crate::harness::op("phase")).await.unwrap();
    assert_eq!(zombies(&supervisor), 0);
}

/// Ended processes of the container that nobody has reaped.
fn zombies(supervisor: &Supervisor) -> usize {
    let processes = std::fs::read_dir(supervisor.path("/proc")).unwrap().flatten();
    let ended = |process: &std::fs::DirEntry| {
        std::fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| stat.contains(") Z "))
    };
    processes.filter(ended).count()
}

#[test]
fn refuses_to_run_as_anything_but_process_1() {
    let output = Command::new(program()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("process 1"));
}

#[test]
fn attach_says_when_nobody_listens() {
    let output = Command::new("unshare").arg("--net").arg(program()).arg("attach").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot reach the supervisor"));
}

/// A static glibc loads the image's own libraries into whoever looks up a user, a host or a character set, so the
/// program that is PID 1 of a hostile image must not contain any of these.
#[test]
fn the_static_program_can_look_nobody_up() {
    // The same call as the image's, so that it is built once for both.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "podwright-sandboxd", "--bin", "podwright-sandboxd"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir", "target/sandboxd"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success());
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/sandboxd/x86_64-unknown-linux-gnu/debug/podwright-sandboxd");
    let listed = Command::new("nm").arg(&program).output().unwrap();
    let symbols = String::from_utf8(listed.stdout).unwrap();
    let defined = |name: &str| symbols.lines().any(|line| line.rsplit(' ').next() == Some(name));
    assert!(defined("main"), "no symbol table");
    for name in [
        "getaddrinfo",
        "gethostbyname",
        "getpwuid_r",
        "getpwnam_r",
        "getgrgid_r",
        "getgrnam_r",
        "iconv_open",
        "setlocale",
        "__nss_lookup",
    ] {
        assert!(!defined(name), "{name} is linked in");
    }
}
