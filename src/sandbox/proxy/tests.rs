use podwright_sandboxd::protocol::{ClientFrame, ClientNotice};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Builder;

use super::*;

fn open(lanes: &Lanes, accepted: &mut mpsc::Receiver<Guest>, connection: u64) -> GuestStream {
    lanes.opened(ProxyOpened { connection, process_id: None });
    accepted.try_recv().unwrap().stream
}

fn data(connection: u64, seq: u64, bytes: &[u8], end: bool) -> ProxyData {
    ProxyData { connection, seq, chunk: Bytes(bytes.to_vec()), end }
}

/// Everything that there is to send.
fn said(lanes: &Lanes) -> Vec<ClientNotice> {
    let lines = std::iter::from_fn(|| lanes.next_line());
    lines
        .map(|line| match ClientFrame::decode(&line).unwrap() {
            ClientFrame::Notice(notice) => notice,
            ClientFrame::Request { .. } => panic!("a request"),
        })
        .collect()
}

#[tokio::test]
async fn no_more_is_sent_than_there_is_credit_for_and_no_more_is_taken_than_waits() {
    let (lanes, mut accepted) = Lanes::new();
    let mut stream = open(&lanes, &mut accepted, 1);
    let writing = tokio::spawn(async move {
        stream.write_all(&vec![7; 3 * PROXY_WINDOW_BYTES]).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    let (mut sent, mut ended) = (0, false);
    while !ended {
        for notice in said(&lanes) {
            let ClientNotice::ProxyData(data) = notice else { panic!("{notice:?}") };
            assert_eq!((data.connection, data.seq), (1, sent));
            sent += data.chunk.0.len() as u64;
            ended = data.end;
        }
        if sent % PROXY_WINDOW_BYTES as u64 == 0 {
            assert!(said(&lanes).is_empty(), "{sent} bytes are all that there is credit for");
            lanes.ack(ProxyAck { connection: 1, seq: u64::MAX });
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(sent, 3 * PROXY_WINDOW_BYTES as u64);
    drop(writing.await.unwrap());
    assert_eq!(said(&lanes), [ClientNotice::ProxyClosed(ProxyClosed { connection: 1 })]);
}

#[tokio::test]
async fn what_is_read_makes_room_for_more_and_a_flood_is_no_protocol() {
    let (lanes, mut accepted) = Lanes::new();
    let mut stream = open(&lanes, &mut accepted, 1);
    let window = vec![1; PROXY_WINDOW_BYTES];
    assert!(lanes.data(data(1, 0, &window, false)));
    assert!(said(&lanes).is_empty());
    let mut read = vec![0; PROXY_WINDOW_BYTES / 2];
    stream.read_exact(&mut read).await.unwrap();
    let half = PROXY_WINDOW_BYTES as u64 / 2;
    assert_eq!(said(&lanes), [ClientNotice::ProxyAck(ProxyAck { connection: 1, seq: half })]);
    assert!(lanes.data(data(1, 2 * half, &window[..half as usize], true)));
    assert!(!lanes.data(data(1, 3 * half, b"x", false)), "after the end");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), PROXY_WINDOW_BYTES);
    let _other = open(&lanes, &mut accepted, 2);
    assert!(!lanes.data(data(2, 1, b"x", false)), "a gap");
    assert!(lanes.data(data(2, 0, &window, false)));
    assert!(!lanes.data(data(2, window.len() as u64, b"x", false)), "more than a window");
}

#[tokio::test]
async fn connections_send_in_turn() {
    let (lanes, mut accepted) = Lanes::new();
    let mut streams: Vec<GuestStream> = (1..=3).map(|number| open(&lanes, &mut accepted, number)).collect();
    for stream in &mut streams {
        stream.write_all(&vec![0; 2 * CHUNK_MAX]).await.unwrap();
    }
    let order: Vec<u64> = said(&lanes)
        .iter()
        .map(|notice| match notice {
            ClientNotice::ProxyData(data) => data.connection,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
}

#[tokio::test]
async fn an_end_of_the_stream_breaks_every_connection() {
    let (lanes, mut accepted) = Lanes::new();
    let mut reader = open(&lanes, &mut accepted, 1);
    assert!(lanes.data(data(1, 0, b"so far", false)));
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        (reader.read_to_end(&mut read).await.map_err(|error| error.kind()), read, reader)
    });
    tokio::task::yield_now().await;
    lanes.reset();
    let (result, read, mut reader) = reading.await.unwrap();
    assert_eq!((result, read.as_slice()), (Err(io::ErrorKind::ConnectionReset), &b"so far"[..]));
    assert_eq!(reader.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    // The next boot counts from 1 again, and an old stream has no hand in its connections.
    let _new = open(&lanes, &mut accepted, 1);
    drop(reader);
    assert!(said(&lanes).is_empty());
}

#[test]
fn more_connections_than_may_be_are_closed_at_once() {
    let (lanes, accepted) = Lanes::new();
    let most = PROXY_CONNECTIONS_MAX as u64;
    for connection in 1..=most + 1 {
        lanes.opened(ProxyOpened { connection, process_id: None });
    }
    assert_eq!(said(&lanes), [ClientNotice::ProxyClosed(ProxyClosed { connection: most + 1 })]);
    // Nobody accepts any: then they are closed with the last one who could.
    drop(accepted);
    assert_eq!(said(&lanes).len(), PROXY_CONNECTIONS_MAX);
}

proptest! {
    #[test]
    fn nothing_is_lost_or_reordered_however_it_is_cut(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..500), 1..30),
    ) {
        let runtime = Builder::new_current_thread().build().unwrap();
        let (there, back) = runtime.block_on(async {
            let (lanes, mut accepted) = Lanes::new();
            let mut stream = open(&lanes, &mut accepted, 1);
            let (mut seq, mut there, mut back) = (0, Vec::new(), Vec::new());
            for piece in &pieces {
                assert!(lanes.data(data(1, seq, piece, false)));
                seq += piece.len() as u64;
                stream.write_all(piece).await.unwrap();
                for notice in said(&lanes) {
                    if let ClientNotice::ProxyData(data) = notice {
                        assert_eq!(data.seq, back.len() as u64);
                        back.extend(data.chunk.0);
                    }
                }
            }
            assert!(lanes.data(data(1, seq, b"", true)));
            stream.read_to_end(&mut there).await.unwrap();
            (there, back)
        });
        prop_assert_eq!(&there, &pieces.concat());
        prop_assert_eq!(&back, &pieces.concat());
    }
}
