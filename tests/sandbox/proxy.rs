//! Connections of confined commands through the supervisor's port, the stream and the proxy, to real sockets. The names and
//! public addresses of these tests lead to listeners of their own; what decides is the product's.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use podwright::api::network::Methods;
use podwright::egress::proxy::Proxy;
use podwright::egress::refusals::Refusals;
use podwright::egress::rules::Rules;
use podwright::sandbox::protocol::{BootId, Network, PROXY_CONNECTIONS_MAX, Start};
use podwright::sandbox::{Known, Sandbox};

use crate::harness::{Supervisor, exit_of, finish, op, run, shell, text};
use crate::hosts::Hosts;

struct Stage {
    supervisor: Supervisor,
    sandbox: Sandbox,
    boot: BootId,
    port: u16,
    refusals: Refusals,
}

impl Stage {
    /// A phase whose commands may reach what `hosts` has, as far as `names` lists it.
    async fn new(hosts: Hosts, names: &[&str]) -> Self {
        let supervisor = Supervisor::boot();
        let sandbox = supervisor.connect();
        let boot = sandbox.ready().await.unwrap().id;
        let begun = sandbox.begin_phase(&boot, op("phase"), Network::Proxied).await.unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let rules = Rules::listed(&[], &names, Methods::All).unwrap();
        let refusals = Refusals::default();
        let proxy = Arc::new(Proxy::new(rules, Arc::new(hosts), refusals.clone()));
        tokio::spawn(proxy.serve(sandbox.clone()));
        Self { supervisor, sandbox, boot, port: begun.proxy.unwrap(), refusals }
    }

    fn command(&self, id: &str, script: &str) -> Start {
        let mut command = shell(id, script);
        let proxy = format!("http://127.0.0.1:{}", self.port);
        for name in ["http_proxy", "https_proxy"] {
            command.env.insert(name.into(), proxy.clone());
        }
        command.env.insert("PORT".into(), self.port.to_string());
        command
    }

    fn python(&self, id: &str, source: &str) -> Start {
        let mut command = self.command(id, "");
        command.argv = ["/usr/bin/python3", "-c", source].map(Into::into).to_vec();
        command
    }
}

/// A host that gives so many bytes for each connection and reads to its end first when asked for that.
fn serving(answer: impl Fn(StdStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn head(stream: &mut StdStream) {
    let (mut got, mut buffer) = (Vec::new(), [0; 1024]);
    while !got.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => got.extend_from_slice(&buffer[..length]),
        }
    }
}

fn hello() -> SocketAddr {
    serving(|mut stream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
    })
}

/// Reads and writes a tunnel to its ends, and prints the digest of what came.
const TUNNEL: &str = r#"
import hashlib, os, socket, threading
def tunnel(host):
    s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
    s.sendall(f"CONNECT {host} HTTP/1.1\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"): head += s.recv(1)
    assert b" 200 " in head.split(b"\r\n")[0] + b" ", head
    return s
def rest(s):
    whole = b"".join(iter(lambda: s.recv(65536), b""))
    return len(whole), hashlib.sha256(whole).hexdigest()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reaches_what_is_listed_and_hears_what_is_not() {
    let hosts = Hosts::default().at("a.example", 80, hello()).at("b.example", 80, hello());
    let stage = Stage::new(hosts, &["a.example"]).await;
    let id = op("a");
    stage.refusals.watch(&id);
    let source = r#"
import urllib.request, urllib.error
print(urllib.request.urlopen("http://a.example/").read().decode(), end="")
for url in "http://b.example/", "http://169.254.169.254/latest", "https://b.example/":
    try: print(urllib.request.urlopen(url).read())
    except urllib.error.HTTPError as error: print(error.code, error.reason)
    except urllib.error.URLError as error: print(error.reason)
"#;
    let ended = run(&stage.sandbox, &stage.boot, stage.python("a", source)).await;
    let said = text(&ended);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "hello", "{said}");
    assert!(lines[1].starts_with("403 Refused by the sandbox's proxy: b.example:80: this name is"), "{said}");
    assert!(lines[2].contains("169.254.169.254:80: addresses are on no list"), "{said}");
    assert!(lines[3].contains("403 Refused by the sandbox's proxy: b.example:443"), "{said}");
    let note = stage.refusals.take(&id).unwrap();
    assert_eq!(note.lines().count(), 4, "{note}");
    assert_eq!(stage.refusals.total().count, 3);
    // Nor is there any other way.
    let direct = "import socket; socket.create_connection(('192.0.2.1', 80))";
    let ended = run(&stage.sandbox, &stage.boot, stage.python("b", direct)).await;
    assert!(text(&ended).contains("Network is unreachable"), "{}", text(&ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_left_behind_has_no_command() {
    let stage = Stage::new(Hosts::default(), &["a.example"]).await;
    let source = "import os, time\nif os.fork(): os._exit(0)\nwhile not os.path.exists('go'): time.sleep(0.01)\n\
                  import urllib.request\ntry: urllib.request.urlopen('http://b.example/')\nexcept Exception: pass\nopen('done', 'w')";
    let id = op("a");
    stage.refusals.watch(&id);
    run(&stage.sandbox, &stage.boot, stage.python("a", source)).await;
    stage.sandbox.acknowledge(&stage.boot, &id).await.unwrap();
    stage.refusals.leave(&id);
    let wait = "touch go; while [ ! -e done ]; do sleep 0.01; done";
    run(&stage.sandbox, &stage.boot, stage.command("b", wait)).await;
    assert!(stage.refusals.take(&op("b")).unwrap().contains("b.example:80"));
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_arrive_whole_both_ways_and_at_once() {
    const SIZE: usize = 3_000_000;
    let echo = serving(|mut stream| {
        let mut whole = Vec::new();
        let _ = stream.read_to_end(&mut whole);
        let _ = stream.write_all(&whole);
    });
    let stage = Stage::new(Hosts::default().at("echo.example", 443, echo), &["echo.example"]).await;
    let source = format!(
        "{TUNNEL}\ndef one(n):\n    data = bytes([n]) * {SIZE}\n    s = tunnel('echo.example:443')\n    \
         s.sendall(data); s.shutdown(1)\n    assert rest(s) == (len(data), hashlib.sha256(data).hexdigest()), n\n\
         threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]\n\
         [t.start() for t in threads]; [t.join() for t in threads]; print('whole')"
    );
    let ended = run(&stage.sandbox, &stage.boot, stage.python("a", &source)).await;
    assert_eq!(text(&ended), "whole\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_reads_holds_up_nothing() {
    let flood = serving(|mut stream| while stream.write_all(&[b'x'; 65536]).is_ok() {});
    let hosts = Hosts::default().at("flood.example", 443, flood).at("a.example", 80, hello());
    let stage = Stage::new(hosts, &["flood.example", "a.example"]).await;
    let source = format!(
        "{TUNNEL}\nimport time\nkeep = [tunnel('flood.example:443') for _ in range(8)]\nprint('open', flush=True)\ntime.sleep(600)"
    );
    let id = op("flooded");
    stage.sandbox.start(&stage.boot, stage.python("flooded", &source), 0).await.unwrap();
    let mut seen = Vec::new();
    while seen != b"open\n" {
        let look = stage.sandbox.observe(&id, Duration::from_millis(50)).await.unwrap();
        seen.extend_from_slice(&look.output.head);
    }
    // Commands, their output and other connections go on.
    let fetch = "import urllib.request; print(urllib.request.urlopen('http://a.example/').read())";
    for number in 0..5 {
        let name = format!("fetch-{number}");
        assert_eq!(
            text(&run(&stage.sandbox, &stage.boot, stage.python(&name, fetch)).await),
            "b'hello\\n'\n"
        );
    }
    // What waits is bounded, in the supervisor as well.
    assert!(stage.supervisor.status_kib("VmRSS") < 16 * 1024);
    stage.sandbox.terminate(&id).await.unwrap();
    finish(&stage.sandbox, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_are_served_wait_for_their_turn() {
    let stage = Stage::new(Hosts::default().at("a.example", 80, hello()), &["a.example"]).await;
    let many = PROXY_CONNECTIONS_MAX + 40;
    let source = format!(
        "import os, socket\nport = int(os.environ['PORT'])\n\
         all = [socket.create_connection(('127.0.0.1', port)) for _ in range({many})]\n\
         for s in all:\n    s.sendall(b'GET http://a.example/ HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n')\n    \
         assert b'hello' in b''.join(iter(lambda: s.recv(4096), b''))\n    s.close()\nprint('served')"
    );
    let ended = run(&stage.sandbox, &stage.boot, stage.python("a", &source)).await;
    assert_eq!(text(&ended), "served\n");
    assert_eq!(exit_of(&ended).0, Known::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_with_their_stream_and_new_ones_wait_for_the_next() {
    let silent = serving(|stream| {
        std::thread::sleep(Duration::from_secs(600));
        drop(stream);
    });
    let hosts = Hosts::default().at("silent.example", 443, silent).at("a.example", 80, hello());
    let stage = Stage::new(hosts, &["silent.example", "a.example"]).await;
    let source = format!(
        "{TUNNEL}\nimport urllib.request\ns = tunnel('silent.example:443'); print('open', flush=True)\n\
         try: print('ended', s.recv(1) == b'')\nexcept ConnectionError: print('ended', True)\n\
         print(urllib.request.urlopen('http://a.example/').read())"
    );
    let id = op("a");
    stage.sandbox.start(&stage.boot, stage.python("a", &source), 0).await.unwrap();
    let mut seen = Vec::new();
    while seen != b"open\n" {
        let look = stage.sandbox.observe(&id, Duration::from_millis(50)).await.unwrap();
        seen.extend_from_slice(&look.output.head);
    }
    // The supervisor's end of the stream is killed, as when an API server goes away.
    let pattern = format!("/proc/{}/root/proc", stage.supervisor.pid);
    let mut killed = 0;
    for entry in std::fs::read_dir(&pattern).unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains("attach") {
            let name = entry.file_name();
            let argv = stage.supervisor.exec(&["kill", "-KILL", name.to_str().unwrap()]);
            std::process::Command::new(&argv[0]).args(&argv[1..]).status().unwrap();
            killed += 1;
        }
    }
    assert!(killed > 0);
    let ended = finish(&stage.sandbox, &id).await;
    assert_eq!(text(&ended), "ended True\nb'hello\\n'\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_takes_its_port_and_connections_with_it() {
    let stage = Stage::new(Hosts::default(), &["a.example"]).await;
    let again = stage.sandbox.begin_phase(&stage.boot, op("phase"), Network::Proxied).await.unwrap();
    assert_eq!(again.proxy, Some(stage.port), "the same port for whoever begins it again");
    stage.sandbox.end_phase(&stage.boot, op("phase")).await.unwrap();
    let next = stage.sandbox.begin_phase(&stage.boot, op("next"), Network::Loopback).await.unwrap();
    assert_eq!(next.proxy, None);
    let knock = "import os, socket; socket.create_connection(('127.0.0.1', int(os.environ['PORT'])))";
    // Their directory was wiped with the phase.
    let command = Start { cwd: "/".into(), ..stage.python("a", knock) };
    let ended = run(&stage.sandbox, &stage.boot, command).await;
    assert!(text(&ended).contains("Connection refused"), "{}", text(&ended));
}
