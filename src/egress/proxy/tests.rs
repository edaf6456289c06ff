use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use tokio::io::{DuplexStream, duplex};
use tokio::net::TcpListener;

use super::*;
use crate::api::network::Methods;

/// A world of names and public addresses, behind each of which is a listener of this test's.
#[derive(Default)]
struct World {
    names: HashMap<&'static str, Vec<IpAddr>>,
    doors: HashMap<SocketAddr, SocketAddr>,
    looked_up: AtomicUsize,
    connected: AtomicUsize,
}

impl Route for World {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        let found = self.names.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into());
        Box::pin(async move { found })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.connected.fetch_add(1, Ordering::Relaxed);
        let door = self.doors.get(&address).copied();
        Box::pin(async move { TcpStream::connect(door.ok_or(io::ErrorKind::HostUnreachable)?).await })
    }
}

/// A host that answers each connection with what it was sent, and ends it when that was a whole request's first part.
async fn echo_host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut got = Vec::new();
                while !got.windows(4).any(|window| window == b"\r\n\r\n") {
                    if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Own: 1\r\n\r\n", got.len());
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&got).await;
            });
        }
    });
    address
}

struct Stage {
    world: Arc<World>,
    refusals: Refusals,
    proxy: Arc<Proxy>,
}

impl Stage {
    async fn new(rules: Rules) -> Self {
        let host = echo_host().await;
        let public: IpAddr = "93.184.215.14".parse().unwrap();
        let mut world = World::default();
        world.names.insert("a.example", vec![public]);
        world.names.insert("b.example", vec!["10.0.0.1".parse().unwrap(), public]);
        world.names.insert("inside.example", vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()]);
        world.names.insert("down.example", vec!["93.184.215.15".parse().unwrap()]);
        world.doors.insert(SocketAddr::new(public, 80), host);
        world.doors.insert(SocketAddr::new(public, 443), host);
        let (world, refusals) = (Arc::new(world), Refusals::default());
        let proxy = Arc::new(Proxy::new(rules, world.clone(), refusals.clone()));
        Self { world, refusals, proxy }
    }

    async fn listed(methods: Methods) -> Self {
        let names = ["a.example", "b.example", "inside.example", "down.example", "gone.example"];
        Self::new(Rules::listed(&[], &names.map(str::to_owned), methods).unwrap()).await
    }

    fn visit(&self) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        tokio::spawn(self.proxy.clone().receive(None, ours));
        theirs
    }

    /// What comes back for these bytes until the connection ends.
    async fn said(&self, request: &str) -> String {
        let mut visit = self.visit();
        visit.write_all(request.as_bytes()).await.unwrap();
        visit.shutdown().await.unwrap();
        let mut said = Vec::new();
        visit.read_to_end(&mut said).await.unwrap();
        String::from_utf8(said).unwrap()
    }

    fn touched(&self) -> (usize, usize) {
        (self.world.looked_up.load(Ordering::Relaxed), self.world.connected.load(Ordering::Relaxed))
    }
}

fn get(url: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[tokio::test]
async fn a_plain_request_is_passed_on_as_one_of_our_own() {
    let stage = Stage::listed(Methods::All).await;
    let said = stage
        .said(
            "GET http://A.example./path?q=1 HTTP/1.1\r\nHost: evil.example\r\nProxy-Connection: keep-alive\r\n\
             Proxy-Authorization: Basic eDp5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n",
        )
        .await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("X-Own: 1\r\n"), "{said}");
    let (_, passed) = said.split_once("\r\n\r\n").unwrap();
    assert!(passed.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{passed}");
    let lower = passed.to_ascii_lowercase();
    assert!(lower.contains("host: a.example\r\n") && lower.contains("connection: close\r\n"), "{passed}");
    assert!(lower.contains("x-end: 2\r\n"), "{passed}");
    for gone in ["evil", "proxy-", "x-hop"] {
        assert!(!lower.contains(gone), "{passed}");
    }
}

#[tokio::test]
async fn each_request_of_a_connection_is_judged_by_itself() {
    let stage = Stage::listed(Methods::All).await;
    let requests =
        [get("http://a.example/1"), get("http://evil.example/2"), get("http://a.example/3")].concat();
    let said = stage.said(&requests).await;
    assert!(said.contains("GET /1 ") && said.contains("403 Refused by the sandbox's proxy"), "{said}");
    assert!(!said.contains("GET /2 "), "{said}");
    assert_eq!(stage.refusals.total().count, 1);
}

#[tokio::test]
async fn a_tunnel_carries_anything_both_ways() {
    let stage = Stage::listed(Methods::All).await;
    let mut visit = stage.visit();
    visit.write_all(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").await.unwrap();
    let mut granted = [0; 15];
    visit.read_exact(&mut granted).await.unwrap();
    assert_eq!(&granted, b"HTTP/1.1 200 OK");
    visit.write_all(b"\x16\x03 anything").await.unwrap();
    visit.shutdown().await.unwrap();
    let mut said = Vec::new();
    visit.read_to_end(&mut said).await.unwrap();
    assert!(said.ends_with(b"\x16\x03 anything"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn what_is_refused_is_told_counted_and_never_touched() {
    let stage = Stage::listed(Methods::All).await;
    let id = OpId::new("p").unwrap();
    stage.refusals.watch(&id);
    for (request, kind) in [
        ("CONNECT evil.example:443 HTTP/1.1\r\n\r\n".to_owned(), "not-listed"),
        ("CONNECT a.example:22 HTTP/1.1\r\n\r\n".to_owned(), "not-listed"),
        ("CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n".to_owned(), "not-listed"),
        (get("http://a.example.evil.example/"), "not-listed"),
        (get("http://2130706433/"), "not-listed"),
        (get("http://[::ffff:10.0.0.1]/"), "not-listed"),
        (get("http://kubernetes.default.svc/"), "not-listed"),
    ] {
        let said = stage.said(&request).await;
        assert!(said.starts_with("HTTP/1.1 403 Refused by the sandbox's proxy: "), "{request}: {said}");
        assert!(said.contains(&format!("x-podwright-refused: {kind}\r\n")), "{request}: {said}");
        assert!(said.contains("The sandbox's network proxy has refused "), "{request}: {said}");
    }
    assert_eq!((stage.touched(), stage.refusals.total().count), ((0, 0), 7));
    assert!(stage.refusals.take(&id).unwrap().contains("\n- evil.example:443: this name is not on"), "told");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_wherever_it_is_listed() {
    let stage = Stage::listed(Methods::All).await;
    for request in ["CONNECT inside.example:443 HTTP/1.1\r\n\r\n".to_owned(), get("http://inside.example/")] {
        let said = stage.said(&request).await;
        assert!(
            said.starts_with("HTTP/1.1 403 ") && said.contains("10.0.0.1 is a private address"),
            "{said}"
        );
        assert!(said.contains("x-podwright-refused: not-public\r\n"), "{said}");
    }
    assert_eq!(stage.touched(), (2, 0));
    // Of a name that leads to both, only what is public is connected to.
    assert!(stage.said(&get("http://b.example/x")).await.contains("GET /x "));
    assert_eq!(stage.touched(), (3, 1));
    let everything = Stage::new(Rules::public(Methods::All)).await;
    for url in ["http://10.0.0.1/", "http://[fd00::1]/", "http://0x7f.1/", "http://inside.example/"] {
        assert!(everything.said(&get(url)).await.starts_with("HTTP/1.1 403 "), "{url}");
    }
    assert_eq!(everything.touched(), (1, 0));
}

#[tokio::test]
async fn what_cannot_be_reached_is_no_refusal() {
    let stage = Stage::listed(Methods::All).await;
    let said = stage.said(&get("http://gone.example/")).await;
    assert!(
        said.starts_with("HTTP/1.1 502 Not reached: gone.example:80: the name is not known\r\n"),
        "{said}"
    );
    let said = stage.said("CONNECT down.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 502 Not reached: down.example:443: "), "{said}");
    assert_eq!(stage.refusals.total().count, 0);
}

#[tokio::test]
async fn nonsense_is_answered_or_cut_and_leads_nowhere() {
    let stage = Stage::new(Rules::public(Methods::All)).await;
    let long = format!("GET http://a.example/{} HTTP/1.1\r\n\r\n", "x".repeat(2 * HEAD_MAX));
    for request in [
        "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET https://a.example/ HTTP/1.1\r\n\r\n",
        "GET ftp://a.example/ HTTP/1.1\r\n\r\n",
        "GET http://user@a.example/ HTTP/1.1\r\n\r\n",
        "GET http://a.example:0/ HTTP/1.1\r\n\r\n",
        "GET http://a.example:/ HTTP/1.1\r\n\r\n",
        "GET http://a.example:99999/ HTTP/1.1\r\n\r\n",
        "GET http://a_b..c/ HTTP/1.1\r\n\r\n",
        "GET http://a.example%2eb/ HTTP/1.1\r\n\r\n",
        "CONNECT a.example HTTP/1.1\r\n\r\n",
        "CONNECT http://a.example:443/ HTTP/1.1\r\n\r\n",
        "CONNECT user@a.example:443 HTTP/1.1\r\n\r\n",
        "CONNECT * HTTP/1.1\r\n\r\n",
        "GET http://a.example/ HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "\r\n\r\n\r\n",
        "",
        &long,
    ] {
        let said = stage.said(request).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{request}: {said}");
    }
    assert_eq!(stage.touched(), (0, 0));
}

#[tokio::test]
async fn reading_only_lets_nothing_else_through() {
    let stage = Stage::listed(Methods::ReadOnly).await;
    assert!(stage.said(&get("http://a.example/x")).await.contains("GET /x "));
    let touched = stage.touched();
    let body = "Content-Length: 1\r\n\r\nx";
    for request in [
        format!("POST http://a.example/ HTTP/1.1\r\n{body}"),
        "DELETE http://a.example/ HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET http://a.example/ HTTP/1.1\r\n{body}"),
        "GET http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".to_owned(),
    ] {
        let said = stage.said(&request).await;
        assert!(
            said.starts_with("HTTP/1.1 403 ") && said.contains("refused: method\r\n"),
            "{request}: {said}"
        );
    }
    assert_eq!(stage.touched(), touched);
    // What comes behind a request that may pass is a request, too.
    let two = format!("{}POST http://a.example/2 HTTP/1.1\r\n{body}", get("http://a.example/1"));
    let said = stage.said(&two).await;
    assert!(said.contains("GET /1 ") && !said.contains("POST /2"), "{said}");

    let before = stage.refusals.total().count;
    for (beginning, passes) in [(&b"POST / HTTP/1.1\r\n\r\n"[..], false), (b"\x16\x03\x01\r\n\r\n", true)] {
        let mut visit = stage.visit();
        visit.write_all(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n").await.unwrap();
        let mut granted = [0; 15];
        visit.read_exact(&mut granted).await.unwrap();
        visit.write_all(beginning).await.unwrap();
        visit.shutdown().await.unwrap();
        let mut said = Vec::new();
        visit.read_to_end(&mut said).await.unwrap();
        assert_eq!(said.ends_with(beginning), passes, "{}", String::from_utf8_lossy(&said));
    }
    let total = stage.refusals.total();
    assert_eq!(total.count, before + 1);
    assert!(total.last.contains("nothing but an encrypted connection"), "{}", total.last);
}
