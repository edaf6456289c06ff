use std::collections::BTreeMap;

use super::*;

fn op(id: &str) -> OpId {
    OpId::new(id).unwrap()
}

fn start() -> Start {
    Start {
        process_id: op("t-1-7"),
        argv: vec!["/bin/sh".into(), "-c".into(), "echo \"a\nb\"".into()],
        cwd: "/workspace/main".into(),
        env: BTreeMap::from([("B".into(), "2".into()), ("A".into(), "1".into())]),
        tty: false,
        pipe_stdin: true,
        deadline_ms: Some(1500),
    }
}

#[test]
fn a_request_comes_back_as_it_was_sent_on_one_line() {
    let line = encode_request(9, &start()).unwrap();
    assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
    assert_eq!(line.last(), Some(&b'\n'));
    let ClientFrame::Request { id: 9, call: Ok(Call::Start(back)) } = ClientFrame::decode(&line).unwrap()
    else {
        panic!("another message");
    };
    assert_eq!(back, start());
    assert_eq!(back.digest(), start().digest());
}

#[test]
fn messages_have_the_exec_server_shape() {
    let line = encode_request(1, &start()).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(value["method"], "process/start");
    assert!(value.get("jsonrpc").is_none());
    assert_eq!(value["params"]["processId"], "t-1-7");
    assert_eq!(value["params"]["pipeStdin"], true);

    let output =
        Output { process_id: op("p"), seq: 5, stream: Stream::Stdout, chunk: Bytes(b"hi\n".to_vec()) };
    let value: serde_json::Value = serde_json::from_slice(&encode_notice(&output).unwrap()).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"method": "process/output", "params": {"processId": "p", "seq": 5, "stream": "stdout", "chunk": "aGkK"}})
    );
}

#[test]
fn responses_and_errors_come_back() {
    let line = encode_response::<Terminate>(3, &TerminateResult { running: true }).unwrap();
    let ServerFrame::Response { id: 3, result: Ok(result) } = ServerFrame::decode(&line).unwrap() else {
        panic!("another message");
    };
    assert!(serde_json::from_str::<TerminateResult>(result.get()).unwrap().running);

    let error = RpcError::new(ErrorCode::OpConflict, "no");
    let line = encode_error(4, &error).unwrap();
    let ServerFrame::Response { id: 4, result: Err(back) } = ServerFrame::decode(&line).unwrap() else {
        panic!("another message");
    };
    assert_eq!(back, error);
}

#[test]
fn every_error_code_has_its_own_number() {
    for number in -32800..-32000 {
        assert_eq!(ErrorCode::from_number(number).number(), number);
    }
    assert_eq!(ErrorCode::from_number(-32013), ErrorCode::OpConflict);
    assert_eq!(ErrorCode::Unconfinable.number(), -32023);
}

#[test]
fn the_fullest_chunk_fits_a_frame() {
    let longest = OpId::new("x".repeat(64)).unwrap();
    let chunk = Bytes(vec![0xff; CHUNK_MAX]);
    let output = Output { process_id: longest, seq: u64::MAX, stream: Stream::Stdout, chunk };
    let line = encode_notice(&output).unwrap();
    assert!(
        matches!(ServerFrame::decode(&line).unwrap(), ServerFrame::Notice(ServerNotice::Output(o)) if o == output)
    );
}

#[test]
fn the_fullest_piece_of_a_connection_fits_a_frame_both_ways() {
    let data =
        ProxyData { connection: u64::MAX, seq: u64::MAX, chunk: Bytes(vec![0xff; CHUNK_MAX]), end: true };
    let line = encode_notice(&data).unwrap();
    assert!(
        matches!(ServerFrame::decode(&line).unwrap(), ServerFrame::Notice(ServerNotice::ProxyData(d)) if d == data)
    );
    assert!(
        matches!(ClientFrame::decode(&line).unwrap(), ClientFrame::Notice(ClientNotice::ProxyData(d)) if d == data)
    );
    // Only the supervisor opens connections.
    let opened = encode_notice(&ProxyOpened { connection: 1, process_id: None }).unwrap();
    assert_eq!(ClientFrame::decode(&opened).unwrap_err().code, ErrorCode::UnknownMethod);
}

#[test]
fn a_message_over_the_frame_is_refused_by_both_ends() {
    let mut long = start();
    long.argv.push("x".repeat(FRAME_MAX));
    assert!(matches!(encode_request(1, &long), Err(EncodeError::TooLong { method: "process/start", .. })));
    let line =
        serde_json::to_vec(&serde_json::json!({"id": 1, "method": "x", "params": "y".repeat(FRAME_MAX)}));
    assert_eq!(ClientFrame::decode(&line.unwrap()).unwrap_err().code, ErrorCode::Malformed);
}

#[test]
fn what_is_not_understood_is_refused_by_kind() {
    let call = |line: &str| match ClientFrame::decode(line.as_bytes()) {
        Ok(ClientFrame::Request { call: Err(error), .. }) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(call(r#"{"id":1,"method":"process/fly","params":{}}"#), ErrorCode::UnknownMethod);
    assert_eq!(call(r#"{"id":1,"method":"process/terminate"}"#), ErrorCode::InvalidParams);
    assert_eq!(
        call(r#"{"id":1,"method":"process/terminate","params":{"processId":"a/b"}}"#),
        ErrorCode::InvalidParams
    );
    for line in ["", "{}", "[]", "nonsense", r#"{"id":1,"result":{}}"#, r#"{"id":-1,"method":"x"}"#] {
        assert_eq!(ClientFrame::decode(line.as_bytes()).unwrap_err().code, ErrorCode::Malformed, "{line}");
    }
}

#[test]
fn the_digest_tells_every_parameter_apart() {
    let variants: [fn(&mut Start); 6] = [
        |s| s.argv.push(String::new()),
        |s| s.cwd.push('/'),
        |s| drop(s.env.insert("C".into(), String::new())),
        |s| s.tty = true,
        |s| s.pipe_stdin = false,
        |s| s.deadline_ms = None,
    ];
    for change in variants {
        let mut other = start();
        change(&mut other);
        assert_ne!(other.digest(), start().digest());
    }
}

#[test]
fn secrets_do_not_show_in_debug_forms() {
    let mut command = start();
    command.env.insert("TOKEN_NAME".into(), "secret-value".into());
    let shown = format!("{command:?} {:?}", Token::from_random([7; 32]));
    assert!(shown.contains("TOKEN_NAME"));
    assert!(!shown.contains("secret-value") && !shown.contains("0707"));
}

#[test]
fn scalars_are_checked_where_they_enter() {
    assert!(OpId::new("").is_err() && OpId::new("x".repeat(65)).is_err() && OpId::new("a b").is_err());
    assert!(Digest::parse(&"A1".repeat(32)).is_ok() && Digest::parse("zz").is_err());
    assert_eq!(Digest::parse(&Digest::of(b"x").to_string()).unwrap(), Digest::of(b"x"));
    let token = Token::from_random([1; 32]);
    assert!(
        token.matches(&Token::new("01".repeat(32)).unwrap()) && !token.matches(&Token::from_random([2; 32]))
    );
}
