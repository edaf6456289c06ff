//! Who may speak to the supervisor, and for how long.

use podwright::sandbox::protocol::{
    Ack, BootId, CREDIT_BYTES, ErrorCode, Network, PROTOCOL_VERSION, PhaseBegin, ServerFrame, ServerNotice,
    Start, Terminate, Token, encode_notice, encode_request,
};
use podwright::sandbox::{Known, Outcome};

use crate::harness::{INSIDE, RawStream, Supervisor, WORK, finish, initialize, op, shell};

fn token(digit: u8) -> Token {
    Token::from_random([digit; 32])
}

#[test]
fn a_newer_stream_fences_the_older_one() {
    let supervisor = Supervisor::boot();
    let mut old = supervisor.stream();
    assert_eq!(old.initialize(&token(1)).unwrap().stream, 1);
    old.call(&PhaseBegin { phase: op("phase"), network: Network::Loopback }).unwrap().unwrap();
    let mut new = supervisor.stream();
    assert_eq!(new.initialize(&token(1)).unwrap().stream, 2);

    old.send(&encode_request(7, &shell("late", "touch late")).unwrap());
    while old.next().is_some() {}
    let missing = new.call(&Terminate { process_id: op("late") }).unwrap().unwrap_err();
    assert_eq!(missing.code, ErrorCode::UnknownProcess);
    assert!(!supervisor.path(&format!("{WORK}/late")).exists());
}

#[test]
fn only_the_first_token_of_a_boot_is_any_good() {
    let supervisor = Supervisor::boot();
    supervisor.stream().initialize(&token(1)).unwrap();
    let mut stranger = supervisor.stream();
    let boot = stranger.hello().boot_id;
    let refused = |stream: &mut RawStream, request| stream.call(&request).unwrap().unwrap_err().code;
    assert_eq!(refused(&mut stranger, initialize(boot.clone(), &token(2))), ErrorCode::Unauthorized);
    let other_boot = BootId::from_random([9; 16]);
    assert_eq!(refused(&mut stranger, initialize(other_boot, &token(1))), ErrorCode::BootMismatch);
    let mut other_version = initialize(boot.clone(), &token(1));
    other_version.protocol_version = PROTOCOL_VERSION + 1;
    assert_eq!(refused(&mut stranger, other_version), ErrorCode::VersionMismatch);
    let before = stranger.call(&Terminate { process_id: op("a") }).unwrap().unwrap_err();
    assert_eq!(before.code, ErrorCode::Unauthorized);
    assert!(stranger.call(&initialize(boot, &token(1))).unwrap().is_ok());
}

#[test]
fn strangers_have_two_places_and_two_seconds() {
    let supervisor = Supervisor::boot();
    let (mut first, mut second) = (supervisor.stream(), supervisor.stream());
    first.hello();
    second.hello();
    assert!(supervisor.stream().next().is_none(), "a third one gets in");
    assert!(first.next().is_none() && second.next().is_none());
    assert!(supervisor.stream().initialize(&token(1)).is_ok());
}

#[test]
fn who_has_a_parent_in_the_sandbox_is_turned_away() {
    let supervisor = Supervisor::boot();
    // A shell gives what it starts in the background no input, and without input `attach` would end before a greeting.
    let script = format!("exec 3<&0; {INSIDE} attach <&3 & wait");
    let argv = supervisor.exec(&["/bin/sh", "-c", &script]);
    assert!(RawStream::open(&argv).next().is_none());
    supervisor.stream().hello();
}

#[test]
fn another_user_is_turned_away() {
    let supervisor = Supervisor::boot();
    let argv: Vec<String> = supervisor
        .exec(&[INSIDE, "attach"])
        .into_iter()
        .map(|word| if word == "1000321" { "1000322".into() } else { word })
        .collect();
    assert!(RawStream::open(&argv).next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_cannot_reach_the_supervisor() {
    let supervisor = Supervisor::boot();
    let (sandbox, boot) = supervisor.ready().await;
    let argv = vec![INSIDE.into(), "attach".into()];
    // With an input that stays open: it would wait for a greeting.
    let command = Start { argv, pipe_stdin: true, ..shell("a", "") };
    sandbox.start(&boot, command, 0).await.unwrap();
    let ended = finish(&sandbox, &op("a")).await;
    let said = String::from_utf8_lossy(&ended.output.head);
    assert!(said.contains("cannot reach the supervisor"), "{ended:?}");
    let Outcome::Exited(known) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!(known.exit, Known::Code(2));
}

#[test]
fn nonsense_ends_a_stream_and_nothing_else() {
    let supervisor = Supervisor::boot();
    for nonsense in [&b"nonsense\n"[..], &[b'x'; 70_000]] {
        let mut stream = supervisor.stream();
        stream.hello();
        stream.send(nonsense);
        assert!(stream.next().is_none());
    }
    assert!(supervisor.stream().initialize(&token(1)).is_ok());
}

#[test]
fn unacknowledged_output_stops_at_the_credit_and_answers_overtake_it() {
    let supervisor = Supervisor::boot();
    let mut stream = supervisor.stream();
    stream.initialize(&token(1)).unwrap();
    stream.call(&PhaseBegin { phase: op("phase"), network: Network::Loopback }).unwrap().unwrap();
    let command = Start { deadline_ms: Some(60_000), ..shell("a", "head -c 3000000 /dev/zero") };
    stream.send(&encode_request(1, &command).unwrap());
    let (mut pushed, mut record) = (0, None);
    // Everything that may be pushed, and the end, in whatever order they come.
    while pushed < CREDIT_BYTES || record.is_none() {
        match stream.next().unwrap() {
            ServerFrame::Notice(ServerNotice::Output(output)) => {
                assert_eq!(output.seq, pushed);
                pushed += output.chunk.0.len() as u64;
            }
            ServerFrame::Notice(ServerNotice::Exited(exited)) => record = Some(exited.record),
            ServerFrame::Response { .. } | ServerFrame::Notice(_) => {}
        }
    }
    assert_eq!((pushed, record.unwrap().bytes), (CREDIT_BYTES, 3_000_000));

    // The rest waits, and a question is answered all the same.
    stream.send(&encode_request(2, &Terminate { process_id: op("a") }).unwrap());
    loop {
        match stream.next().unwrap() {
            ServerFrame::Response { id: 2, result } => break assert!(result.is_ok()),
            ServerFrame::Notice(ServerNotice::Output(output)) => panic!("{} is over the credit", output.seq),
            ServerFrame::Response { .. } | ServerFrame::Notice(_) => {}
        }
    }
    // It goes on from where it stopped.
    stream.send(&encode_notice(&Ack { process_id: op("a"), seq: 1 }).unwrap());
    loop {
        if let ServerFrame::Notice(ServerNotice::Output(output)) = stream.next().unwrap() {
            break assert_eq!((output.seq, output.chunk.0.len()), (CREDIT_BYTES, 1));
        }
    }
}
