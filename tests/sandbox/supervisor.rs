//! The supervisor as a process.

use crate::harness::{Supervisor, binary};

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
    // Ends every process but the supervisor and the next `attach`, and waits for it.
    sandbox.end_phase(&boot, crate::harness::op("phase")).await.unwrap();
    let left = std::fs::read_dir(supervisor.path("/proc")).unwrap().flatten();
    let zombies = left.filter(|process| {
        std::fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert_eq!(zombies.count(), 0);
}

#[test]
fn refuses_to_run_as_anything_but_process_1() {
    let output = std::process::Command::new(binary()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("process 1"));
}

#[test]
fn attach_says_when_nobody_listens() {
    let output =
        std::process::Command::new("unshare").arg("--net").arg(binary()).arg("attach").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot reach the supervisor"));
}
