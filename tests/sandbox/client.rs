//! What the client promises of commands and files: nothing twice, nothing lost, nothing made up.

use std::fs;
use std::time::Duration;

use podwright::sandbox::protocol::{
    Digest, EndedBy, ErrorCode, FileImage, FileState, Network, PathState, Start,
};
use podwright::sandbox::{Edit, Known, NewFile, Outcome};

use crate::harness::{Supervisor, WORK, exit_of, finish, op, run, shell, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_tells_its_output_code_and_digest() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let ended = run(&sandbox, &boot, shell("a", "echo one; echo two >&2; echo three; exit 3")).await;
    assert_eq!(text(&ended), "one\ntwo\nthree\n");
    assert_eq!(exit_of(&ended), (Known::Code(3), EndedBy::Itself));
    let Outcome::Exited(known) = &ended.outcome else { unreachable!() };
    assert_eq!(known.record.bytes, 14);
    assert_eq!(known.record.sha256, Digest::of(b"one\ntwo\nthree\n"));
    assert_eq!(ended.seen, 14);
    sandbox.acknowledge(&boot, &op("a")).await.unwrap();

    let again = sandbox.start(&boot, shell("a", "echo one; echo two >&2; echo three; exit 3"), 0).await;
    assert_eq!(again.unwrap_err().code(), Some(ErrorCode::AlreadyAcknowledged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_told_as_a_signal() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let ended = run(&sandbox, &boot, shell("a", "kill -9 $$")).await;
    assert_eq!(exit_of(&ended), (Known::Signal(9), EndedBy::Itself));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_carried_out_once_and_only_with_the_same_parameters() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let command = || shell("a", "echo ran >> log; cat log; sleep 0.2");
    assert!(!sandbox.start(&boot, command(), 0).await.unwrap().existing);
    assert!(sandbox.start(&boot, command(), 0).await.unwrap().existing);
    let other = sandbox.start(&boot, shell("a", "echo other >> log"), 0).await;
    assert_eq!(other.unwrap_err().code(), Some(ErrorCode::OpConflict));
    assert_eq!(text(&run(&sandbox, &boot, command()).await), "ran\n");
    assert_eq!(fs::read_to_string(supervisor.path(&format!("{WORK}/log"))).unwrap(), "ran\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_the_requests_alone_and_input_is_closed() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let mut command = shell("env", "");
    command.argv = vec!["/usr/bin/env".into()];
    assert_eq!(text(&run(&sandbox, &boot, command).await), "PATH=/usr/local/bin:/usr/bin:/bin\n");
    let read = run(&sandbox, &boot, shell("read", "read line; echo $?; cat /proc/self/oom_score_adj")).await;
    assert_eq!(text(&read), "1\n1000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_so_and_was_not_run() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let mut no_program = shell("a", "");
    no_program.argv[0] = "/bin/no-such-shell".into();
    let mut no_directory = shell("b", "true");
    no_directory.cwd = "/no/such/directory".into();
    for command in [no_program, no_directory] {
        let id = command.process_id.clone();
        let error = sandbox.start(&boot, command, 0).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::LaunchFailed), "{error}");
        let outcome = sandbox.observe(&id, Duration::ZERO).await.unwrap().outcome;
        assert!(matches!(outcome, Outcome::Unknown { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_takes_what_is_there_and_the_next_one_goes_on() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    sandbox
        .start(&boot, shell("a", "echo one; until test -e go; do sleep 0.01; done; echo two"), 0)
        .await
        .unwrap();
    let mut first = String::new();
    while first.is_empty() {
        let look = sandbox.observe(&op("a"), Duration::from_millis(20)).await.unwrap();
        assert_eq!(look.outcome, Outcome::Running);
        first = text(&look).to_owned();
    }
    assert_eq!(first, "one\n");
    fs::write(supervisor.path(&format!("{WORK}/go")), "").unwrap();
    let last = finish(&sandbox, &op("a")).await;
    assert_eq!(text(&last), "two\n");
    assert_eq!(last.seen, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_is_written_once_however_often_it_is_sent() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let command = Start { pipe_stdin: true, ..shell("a", "cat > got") };
    sandbox.start(&boot, command, 0).await.unwrap();
    assert_eq!(sandbox.write(&op("a"), 0, b"hello ", false).await.unwrap(), 6);
    assert_eq!(sandbox.write(&op("a"), 0, b"hello ", false).await.unwrap(), 6);
    assert_eq!(
        sandbox.write(&op("a"), 9, b"x", false).await.unwrap_err().code(),
        Some(ErrorCode::SequenceGap)
    );
    let long = vec![b'x'; 1_000_000];
    assert_eq!(sandbox.write(&op("a"), 3, &[b"lo ", &long[..]].concat(), true).await.unwrap(), 1_000_006);
    let ended = finish(&sandbox, &op("a")).await;
    assert_eq!(exit_of(&ended), (Known::Code(0), EndedBy::Itself));
    let got = fs::read(supervisor.path(&format!("{WORK}/got"))).unwrap();
    assert_eq!(Digest::of(&got), Digest::of(&[b"hello ", &long[..]].concat()));

    sandbox.start(&boot, shell("b", "sleep 0.1"), 0).await.unwrap();
    let refused = sandbox.write(&op("b"), 0, b"x", false).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::StdinClosed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_an_echo_and_an_interrupt() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let script = "tty -s && stty size; read line; echo \"got $line\"; sleep 1000";
    let command = Start { tty: true, ..shell("a", script) };
    sandbox.start(&boot, command, 0).await.unwrap();
    sandbox.write(&op("a"), 0, b"hello\n", false).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("got hello") {
        let look = sandbox.observe(&op("a"), Duration::from_millis(20)).await.unwrap();
        assert_eq!(look.outcome, Outcome::Running);
        seen.push_str(text(&look));
    }
    assert!(seen.contains("24 80\r\n") && seen.matches("hello\r\n").count() == 2, "{seen:?}");
    sandbox.write(&op("a"), 6, b"\x03", false).await.unwrap();
    assert_eq!(exit_of(&finish(&sandbox, &op("a")).await).0, Known::Signal(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_what_ignores_the_request_to_end() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let mut command = shell("a", "trap '' TERM; sleep 1000 & wait; sleep 1000");
    command.deadline_ms = Some(200);
    assert_eq!(exit_of(&run(&sandbox, &boot, command).await), (Known::Signal(9), EndedBy::Deadline));

    let mut command = shell("b", "trap 'echo bye; exit 7' TERM; while :; do sleep 0.01; done");
    command.deadline_ms = Some(200);
    let ended = run(&sandbox, &boot, command).await;
    assert!(text(&ended).ends_with("bye\n"));
    assert_eq!(exit_of(&ended), (Known::Code(7), EndedBy::Deadline));
}

#[tokio::test(flavor = "multi_thread")]
async fn terminate_ends_children_in_sessions_of_their_own() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; (sleep 54321 &); sleep 54321' & sleep 54321";
    sandbox.start(&boot, shell("a", script), 0).await.unwrap();
    while sleepers(&supervisor) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(sandbox.terminate(&op("a")).await.unwrap());
    let (_, by) = exit_of(&finish(&sandbox, &op("a")).await);
    assert_eq!(by, EndedBy::Terminate);
    while sleepers(&supervisor) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!sandbox.terminate(&op("a")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_escapes_by_killing_its_watcher_is_ended_and_nobody_else() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    sandbox.start(&boot, shell("server", "echo up; exec sleep 1000"), 0).await.unwrap();
    // Each in a session of its own, one of them two forks away.
    let script = "trap '' TERM HUP; setsid sleep 54321 & (setsid sh -c 'sleep 54321 & sleep 54321' &); \
                  until test -e go; do sleep 0.01; done; kill -9 $PPID; sleep 54321";
    sandbox.start(&boot, shell("a", script), 0).await.unwrap();
    while sleepers(&supervisor) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fs::write(supervisor.path(&format!("{WORK}/go")), "").unwrap();
    // Nobody saw how it ended, and it has no deadline: what it left is ended all the same, and at once.
    assert!(matches!(finish(&sandbox, &op("a")).await.outcome, Outcome::Unknown { .. }));
    for _ in 0..2000 {
        if sleepers(&supervisor) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sleepers(&supervisor), 0);
    let server = sandbox.observe(&op("server"), Duration::ZERO).await.unwrap();
    assert_eq!(server.outcome, Outcome::Running);
    assert_eq!(exit_of(&run(&sandbox, &boot, shell("b", "exit 4")).await).0, Known::Code(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_terminal_of_a_phase_can_be_opened_by_its_path() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    // More than are set aside, one after the other: the last one still gets one of them.
    for round in 0..20 {
        let id = format!("tty-{round}");
        let script = "echo x >$(tty) && echo y >/dev/stderr";
        let command = Start { tty: true, ..shell(&id, script) };
        let ended = run(&sandbox, &boot, command).await;
        assert_eq!((exit_of(&ended).0, text(&ended)), (Known::Code(0), "x\r\ny\r\n"), "round {round}");
        sandbox.acknowledge(&boot, &op(&id)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_left_in_the_background_lives_on_until_the_phase_ends() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let started =
        run(&sandbox, &boot, shell("a", "(while :; do echo x; sleep 0.01; done) & echo $! > pid; echo up"))
            .await;
    assert!(text(&started).contains("up\n"));
    sandbox.acknowledge(&boot, &op("a")).await.unwrap();
    let found = run(&sandbox, &boot, shell("b", "sleep 0.2; kill -0 $(cat pid) && echo alive")).await;
    assert_eq!(text(&found), "alive\n");

    let command = shell("c", "echo left > /tmp/left; setsid sleep 54321 & sleep 54321");
    sandbox.start(&boot, command, 0).await.unwrap();
    while sleepers(&supervisor) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let end = sandbox.end_phase(&boot, op("phase")).await.unwrap();
    assert!(end.killed >= 4 && end.wiped >= 1 && end.left == 0, "{end:?}");
    assert_eq!(sandbox.end_phase(&boot, op("phase")).await.unwrap(), end);
    assert_eq!(sleepers(&supervisor), 0);
    assert!(!supervisor.path("/tmp/left").exists());
    // Its watcher was killed with it, or saw it die first.
    match finish(&sandbox, &op("c")).await.outcome {
        Outcome::Exited(ended) => {
            assert_eq!((ended.exit, ended.record.ended_by), (Known::Signal(9), EndedBy::PhaseEnd))
        }
        Outcome::Unknown { .. } => {}
        other @ (Outcome::Running | Outcome::Interrupted { .. }) => panic!("{other:?}"),
    }

    let refused = sandbox.start(&boot, shell("d", "true"), 0).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::PhaseConflict));
    sandbox.begin_phase(&boot, op("second"), Network::Loopback).await.unwrap();
    let mut command = shell("e", "echo on");
    command.cwd = "/tmp".into();
    assert_eq!(text(&run(&sandbox, &boot, command).await), "on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_of_output_takes_bounded_memory_and_keeps_both_ends() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let ended = run(&sandbox, &boot, shell("a", "echo first; head -c 1073741824 /dev/zero; echo last")).await;
    assert_eq!(exit_of(&ended), (Known::Code(0), EndedBy::Itself));
    let Outcome::Exited(known) = &ended.outcome else { unreachable!() };
    assert_eq!(known.record.bytes, 1_073_741_824 + 11);
    assert_eq!(ended.output.total(), known.record.bytes);
    assert!(ended.output.head.starts_with(b"first\n\0") && ended.output.tail.ends_with(b"\0last\n"));
    let peak = supervisor.status_kib("VmHWM");
    assert!(peak < 16 * 1024, "{peak} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_changed_once_and_only_as_they_were() {
    let supervisor = Supervisor::boot();
    let (sandbox, _) = supervisor.ready().await;
    fs::write(supervisor.path(&format!("{WORK}/a")), "one").unwrap();
    let long = vec![b'y'; 300_000];
    let edits = [
        Edit {
            path: "a".into(),
            before: FileImage::File { sha256: Digest::of(b"one"), executable: None },
            after: NewFile::Absent,
        },
        Edit {
            path: "dir/b".into(),
            before: FileImage::Absent,
            after: NewFile::File { content: long.clone(), executable: Some(true) },
        },
    ];
    let done = sandbox.fs_apply(op("apply"), WORK, &edits).await.unwrap();
    assert_eq!(done.changed, 2);
    assert_eq!(sandbox.fs_apply(op("apply"), WORK, &edits).await.unwrap(), done);
    assert_eq!(fs::read(supervisor.path(&format!("{WORK}/dir/b"))).unwrap(), long);
    let paths: Vec<String> = ["a", "dir/b"].map(Into::into).to_vec();
    let states = sandbox.fs_state(WORK, &paths).await.unwrap();
    let (sha256, size) = (Digest::of(&long), long.len() as u64);
    let found = [FileState::Absent, FileState::File { sha256, size, executable: true }];
    let expected: Vec<PathState> =
        paths.into_iter().zip(found).map(|(path, state)| PathState { path, state }).collect();
    assert_eq!(states, expected);

    fs::write(supervisor.path(&format!("{WORK}/a")), "edited").unwrap();
    let refused = sandbox.fs_apply(op("again"), WORK, &edits).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::ImageMismatch));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_conversation_is_lost_however_late_it_is_listened_to() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let script =
        "head -c 3000000 /dev/zero | tr '\\0' x; echo written > written; read line; echo \"<$line>\"";
    let command = Start { pipe_stdin: true, ..shell("a", script) };
    sandbox.start(&boot, command, 0).await.unwrap();
    // As much comes as is kept, and no more: it waits in its pipe.
    let other = run(&sandbox, &boot, shell("b", "sleep 0.3; test -e written; echo $?")).await;
    assert_eq!(text(&other), "1\n");
    let mut said = Vec::new();
    let mut answered = false;
    let outcome = loop {
        let heard = sandbox.listen(&op("a")).await.unwrap();
        assert_eq!(heard.output.omitted, 0);
        said.extend_from_slice(&heard.output.head);
        if said.len() >= 3_000_000 && !answered {
            answered = true;
            assert_eq!(sandbox.write(&op("a"), 0, b"yes\n", false).await.unwrap(), 4);
        }
        if heard.outcome != Outcome::Running {
            break heard.outcome;
        }
    };
    assert!(said[..3_000_000].iter().all(|byte| *byte == b'x'));
    assert_eq!(&said[3_000_000..], b"<yes>\n");
    let Outcome::Exited(ended) = outcome else { panic!("{outcome:?}") };
    assert_eq!(ended.exit, Known::Code(0));
}

/// Processes of the container that sleep for 54321 s.
fn sleepers(supervisor: &Supervisor) -> usize {
    let processes = fs::read_dir(supervisor.path("/proc")).unwrap().flatten();
    processes.filter(|p| fs::read(p.path().join("cmdline")).is_ok_and(|c| c == b"sleep\x0054321\0")).count()
}
