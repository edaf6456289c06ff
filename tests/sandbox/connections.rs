//! The same over connections that break, and for an agent or a sandbox that was restarted.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podwright::sandbox::protocol::{Digest, ErrorCode, Start};
use podwright::sandbox::{
    ChildDial, Dial, DialError, Known, Link, Options, Outcome, Sandbox, SandboxError, TokenFile, Transport,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::harness::{Supervisor, WORK, finish, op, shell, text};

/// Dials through pipes that can be cut as a lost exec connection is: reads never end, writes go on succeeding, and
/// only the transport's own word tells.
struct CutDial {
    inner: ChildDial,
    cuts: watch::Receiver<u32>,
}

impl Dial for CutDial {
    async fn dial(&self) -> Result<Transport, DialError> {
        let mut inner = self.inner.dial().await?;
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let mut cuts = self.cuts.clone();
        cuts.mark_unchanged();
        let ended = async move {
            let (mut from_us, mut to_us) = tokio::io::split(theirs);
            let (mut up, mut down) = (vec![0; 1000], vec![0; 1000]);
            loop {
                tokio::select! {
                    _ = cuts.changed() => break,
                    reason = &mut inner.ended => return reason,
                    read = from_us.read(&mut up) => {
                        let length = read.unwrap_or(0);
                        if length == 0 || inner.writer.write_all(&up[..length]).await.is_err() {
                            break;
                        }
                    }
                    read = inner.reader.read(&mut down) => {
                        let length = read.unwrap_or(0);
                        if length == 0 || to_us.write_all(&down[..length]).await.is_err() {
                            break;
                        }
                    }
                }
            }
            // Kept open, so that nobody sees an end of the pipes.
            std::mem::forget((from_us, to_us));
            "cut".to_owned()
        };
        let (reader, writer) = tokio::io::split(ours);
        Ok(Transport { reader: Box::new(reader), writer: Box::new(writer), ended: Box::pin(ended) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_in_the_middle_of_a_command_lose_and_repeat_nothing() {
    let supervisor = Supervisor::boot();
    let (cut, cuts) = watch::channel(0);
    let (sandbox, boot) = supervisor.ready_over(CutDial { inner: supervisor.dial(), cuts }).await;
    let script = "echo run >> runs; i=0; while test $i -lt 3000; do echo line $i of a command that writes on and on; \
                  i=$((i+1)); test $((i % 100)) -eq 0 && sleep 0.05; done; exit 5";
    let expected: String =
        (0..3000).map(|i| format!("line {i} of a command that writes on and on\n")).collect();
    let command = shell("a", script);
    let mut link = sandbox.link();
    let cutter = tokio::spawn(async move {
        // By their numbers: a connection can be there again before anybody has looked at its loss.
        for stream in 1..=10 {
            link.wait_for(|link| matches!(link, Link::Up(boot) if boot.stream == stream)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            cut.send_modify(|count| *count += 1);
        }
        link.wait_for(|link| matches!(link, Link::Up(boot) if boot.stream == 11)).await.unwrap();
        cut
    });
    sandbox.start(&boot, command.clone(), 0).await.unwrap();
    let mut output = Vec::new();
    let outcome = loop {
        let look = sandbox.observe(&op("a"), Duration::from_millis(10)).await.unwrap();
        output.extend_from_slice(&look.output.head);
        if look.outcome != Outcome::Running {
            break look.outcome;
        }
    };
    let _cut = cutter.await.unwrap();
    assert_eq!(String::from_utf8(output).unwrap(), expected);
    let Outcome::Exited(ended) = outcome else { panic!("{outcome:?}") };
    assert_eq!((ended.exit, ended.record.sha256), (Known::Code(5), Digest::of(expected.as_bytes())));
    assert_eq!(fs::read_to_string(supervisor.path(&format!("{WORK}/runs"))).unwrap(), "run\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_restarted_finds_its_command_again() {
    let supervisor = Supervisor::boot();
    let command = || shell("a", "echo run >> runs; seq 1 100000; echo end");
    let (sandbox, boot) = supervisor.ready().await;
    sandbox.start(&boot, command(), 0).await.unwrap();
    let ended = finish(&sandbox, &op("a")).await;
    drop(sandbox);

    let (second, same) = supervisor.ready().await;
    assert_eq!(same, boot);
    assert!(second.start(&boot, command(), 0).await.unwrap().existing);
    let again = finish(&second, &op("a")).await;
    assert_eq!(again, ended);
    assert!(text(&again).starts_with("1\n2\n") && text(&again).ends_with("100000\nend\n"));
    drop(second);

    let (third, _) = supervisor.ready().await;
    third.start(&boot, command(), ended.seen - 4).await.unwrap();
    assert_eq!(text(&finish(&third, &op("a")).await), "end\n");
    assert_eq!(fs::read_to_string(supervisor.path(&format!("{WORK}/runs"))).unwrap(), "run\n");
}

/// Dials whatever supervisor is there now.
#[derive(Clone)]
struct CurrentDial(Arc<Mutex<ChildDial>>);

impl Dial for CurrentDial {
    async fn dial(&self) -> Result<Transport, DialError> {
        let current = self.0.lock().unwrap().clone();
        current.dial().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_sandbox_a_command_is_interrupted_and_never_run_again() {
    let first = Supervisor::boot();
    let current = CurrentDial(Arc::new(Mutex::new(first.dial())));
    let (sandbox, boot) = first.ready_over(current.clone()).await;
    sandbox.start(&boot, shell("a", "echo before; sleep 1000"), 0).await.unwrap();
    while sandbox.observe(&op("a"), Duration::from_millis(5)).await.unwrap().seen == 0 {}
    let second = Supervisor::boot();
    *current.0.lock().unwrap() = second.dial();
    first.signal("-KILL");

    let observed = sandbox.observe(&op("a"), Duration::from_secs(60)).await.unwrap();
    let Outcome::Interrupted { boot: now } = observed.outcome else { panic!("{:?}", observed.outcome) };
    assert_ne!(now, boot);
    let refused = sandbox.start(&boot, shell("b", "touch ran"), 0).await.unwrap_err();
    assert!(matches!(refused, SandboxError::Restarted { boot } if boot == now));
    assert!(!second.path(&format!("{WORK}/ran")).exists());
    sandbox.acknowledge(&boot, &op("a")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_another_token_is_told_that_it_will_never_get_in() {
    let supervisor = Supervisor::boot();
    let sandbox = supervisor.connect();
    sandbox.ready().await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let options = Options { tokens: TokenFile::new(elsewhere.path().join("token")), ..supervisor.options() };
    let stranger = Sandbox::connect(supervisor.dial(), options);
    assert!(matches!(stranger.ready().await, Err(SandboxError::Lost(reason)) if reason.contains("token")));
    assert!(matches!(&*stranger.link().borrow(), Link::Lost(_)));
    assert!(matches!(&*sandbox.link().borrow(), Link::Up(_)), "the stranger fenced the owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_started_it_a_command_is_ended_and_forgotten() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    sandbox.end(&boot, &op("unknown")).await.unwrap();
    let command = Start { pipe_stdin: true, ..shell("a", "cat; sleep 100") };
    sandbox.start(&boot, command.clone(), 0).await.unwrap();
    // Another agent knows no more of it than its name.
    drop(sandbox);
    let (next, same) = supervisor.ready().await;
    assert_eq!(same, boot);
    next.end(&boot, &op("a")).await.unwrap();
    let again = next.start(&boot, command, 0).await.unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::AlreadyAcknowledged));
    next.end(&boot, &op("a")).await.unwrap();
}
