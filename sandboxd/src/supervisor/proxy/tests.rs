use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::*;
use crate::protocol::{ServerFrame, ServerNotice};

const STREAM: Option<u64> = Some(1);

/// A connection that the first stream has been told of, its command's end, and the time.
fn opened() -> (Connections, UnixStream, Instant) {
    let mut connections = Connections::default();
    let command = open(&mut connections);
    let now = Instant::now();
    assert_eq!(connections.lines(STREAM, now).count(), 1);
    (connections, command, now)
}

fn open(connections: &mut Connections) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    connections.open(ours.into(), None);
    theirs
}

/// Something has come from the command of a connection.
fn ready(connections: &mut Connections, number: u64, now: Instant) {
    connections.happened(number, PollFlags::IN, now);
}

fn take_all(connections: &mut Connections) -> Vec<ProxyData> {
    let mut buffer = vec![0; 64 * 1024];
    std::iter::from_fn(|| connections.next_data(&mut buffer)).collect()
}

fn notices(connections: &mut Connections, now: Instant) -> Vec<ServerNotice> {
    let lines = connections.lines(STREAM, now);
    lines
        .map(|line| match ServerFrame::decode(&line).unwrap() {
            ServerFrame::Notice(notice) => notice,
            ServerFrame::Response { .. } => panic!("an answer"),
        })
        .collect()
}

fn data(connection: u64, seq: u64, bytes: &[u8], end: bool) -> ProxyData {
    ProxyData { connection, seq, chunk: Bytes(bytes.to_vec()), end }
}

#[test]
fn no_more_is_sent_than_there_is_credit_for() {
    let (mut connections, command, now) = opened();
    let writing = std::thread::spawn(move || (&command).write_all(&vec![7; 4 * PROXY_WINDOW_BYTES]));
    let mut sent = 0;
    while sent < PROXY_WINDOW_BYTES as u64 {
        ready(&mut connections, 1, now);
        for piece in take_all(&mut connections) {
            assert_eq!(piece.seq, sent);
            sent += piece.chunk.0.len() as u64;
        }
    }
    ready(&mut connections, 1, now);
    assert!(!connections.has_data() && take_all(&mut connections).is_empty());
    // A word about what was never sent gives no more credit than there is.
    connections.ack(ProxyAck { connection: 1, seq: u64::MAX });
    while sent < 2 * PROXY_WINDOW_BYTES as u64 {
        ready(&mut connections, 1, now);
        sent += take_all(&mut connections).iter().map(|piece| piece.chunk.0.len() as u64).sum::<u64>();
    }
    assert_eq!(sent, 2 * PROXY_WINDOW_BYTES as u64);
    drop(connections);
    assert!(writing.join().unwrap().is_err());
}

#[test]
fn connections_send_in_turn() {
    let (mut connections, first, now) = opened();
    let second = open(&mut connections);
    assert_eq!(connections.lines(STREAM, now).count(), 1);
    for (number, mut command) in [(1, &first), (2, &second)] {
        command.write_all(&vec![0; 2 * CHUNK_MAX]).unwrap();
        ready(&mut connections, number, now);
    }
    let order: Vec<u64> = take_all(&mut connections).iter().map(|piece| piece.connection).collect();
    assert_eq!(order, [1, 2, 1, 2]);
}

#[test]
fn what_goes_on_is_told_and_both_ends_close_it() {
    let (mut connections, mut command, now) = opened();
    let half = PROXY_WINDOW_BYTES / 2;
    connections.data(data(1, 0, &vec![b'x'; half], true), now);
    let mut got = Vec::new();
    while got.len() < half {
        let mut buffer = vec![0; half];
        let length = command.read(&mut buffer).unwrap();
        got.extend_from_slice(&buffer[..length]);
        connections.happened(1, PollFlags::OUT, now);
    }
    assert_eq!(command.read(&mut [0; 1]).unwrap(), 0, "the end comes after the bytes");
    let expected = ServerNotice::ProxyAck(ProxyAck { connection: 1, seq: half as u64 });
    assert_eq!(notices(&mut connections, now), [expected]);
    drop(command);
    ready(&mut connections, 1, now);
    assert_eq!(take_all(&mut connections), [data(1, 0, b"", true)]);
    let expected = ServerNotice::ProxyClosed(ProxyClosed { connection: 1 });
    assert_eq!(notices(&mut connections, now), [expected]);
    assert!(connections.all.is_empty());
}

#[test]
fn last_words_arrive_although_the_command_is_still_talking() {
    let (mut connections, mut command, now) = opened();
    command.write_all(b"more than anybody reads").unwrap();
    connections.data(data(1, 0, b"refused", false), now);
    connections.closed(ProxyClosed { connection: 1 }, now);
    assert!(notices(&mut connections, now).is_empty(), "who closes is not told so");
    ready(&mut connections, 1, now);
    let mut said = String::new();
    command.read_to_string(&mut said).unwrap();
    assert_eq!(said, "refused");
    // It is cut when the command does not leave by itself.
    assert_eq!(connections.next_deadline(), Some(now + LINGER));
    assert!(notices(&mut connections, now + LINGER).is_empty());
    assert!(connections.all.is_empty());
}

#[test]
fn who_sends_too_much_or_out_of_order_is_cut_off() {
    let full = vec![0; PROXY_WINDOW_BYTES + 1];
    for wrong in [data(1, 1, b"x", false), data(1, 0, &full, false)] {
        let (mut connections, _command, now) = opened();
        connections.data(wrong, now);
        assert!(matches!(notices(&mut connections, now)[..], [ServerNotice::ProxyClosed(_)]));
        assert!(connections.all.is_empty());
    }
}

#[test]
fn another_stream_knows_only_what_it_was_told_of() {
    let (mut connections, mut command, now) = opened();
    assert!(connections.lines(None, now).next().is_none());
    assert_eq!(command.read(&mut [0; 1]).unwrap(), 0, "a connection does not outlive its stream");
    // What comes meanwhile waits for the next stream.
    let _command = open(&mut connections);
    assert!(connections.lines(None, now).next().is_none());
    assert_eq!(connections.lines(Some(2), now).count(), 1);
    connections.data(data(1, 0, b"late", false), now);
    connections.ack(ProxyAck { connection: 1, seq: 4 });
    connections.closed(ProxyClosed { connection: 1 }, now);
    assert_eq!(connections.all.len(), 1);
}

proptest! {
    #[test]
    fn nothing_is_lost_or_reordered_however_it_is_cut(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20)) {
        let (mut connections, mut command, now) = opened();
        let (mut seq, mut there, mut back) = (0, Vec::new(), Vec::new());
        for piece in &pieces {
            command.write_all(piece).unwrap();
            ready(&mut connections, 1, now);
            for sent in take_all(&mut connections) {
                prop_assert_eq!(sent.seq, there.len() as u64);
                there.extend(sent.chunk.0);
            }
            connections.data(data(1, seq, piece, false), now);
            seq += piece.len() as u64;
        }
        connections.data(data(1, seq, b"", true), now);
        command.read_to_end(&mut back).unwrap();
        prop_assert_eq!(&there, &pieces.concat());
        prop_assert_eq!(&back, &pieces.concat());
    }
}
