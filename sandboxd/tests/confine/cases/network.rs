//! Connections and listeners.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use podwright_sandboxd::confine::{Exit, Network, Nursery, kill_all};

use crate::inside::{Sandbox, policy, reap};

/// Nobody has knocked at somebody else's listener.
fn assert_untouched(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
}

pub(super) fn other_hosts_and_other_listeners(sandbox: &Sandbox) {
    sandbox.probe(&[
        ("connect((POD, POD_PORT))", "ENETUNREACH"),
        ("connect(('::ffff:' + POD, POD_PORT), socket.AF_INET6)", "ENETUNREACH"),
        ("connect(('192.0.2.1', 80))", "ENETUNREACH"),
        ("connect(('169.254.169.254', 80))", "ENETUNREACH"),
        ("connect(('fd00::1', 80), socket.AF_INET6)", "ENETUNREACH"),
        ("connect(('255.255.255.255', 80))", "ENETUNREACH"),
        ("connect(('127.0.0.1', LOOPBACK_PORT))", "ECONNREFUSED"),
        ("connect(('127.0.0.2', LOOPBACK_PORT))", "ECONNREFUSED"),
        ("connect(('0.0.0.0', LOOPBACK_PORT))", "ECONNREFUSED"),
        ("connect(('::ffff:127.0.0.1', LOOPBACK_PORT), socket.AF_INET6)", "ECONNREFUSED"),
        ("connect(('::1', LOOPBACK_PORT), socket.AF_INET6)", "ECONNREFUSED"),
        // A socket option that defers the connection, and one that starts it early.
        (
            "[(s := tcp()).setsockopt(6, 30, 1), s.connect((POD, POD_PORT))]  # TCP_FASTOPEN_CONNECT",
            "ENETUNREACH",
        ),
    ]);
    assert_untouched(&sandbox.loopback);
    assert_untouched(&sandbox.pod);
}

/// A port is not a command's for good because it once had it.
pub(super) fn a_port_that_passed_to_somebody_else(sandbox: &Sandbox) {
    let bind = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])";
    let port: u16 = sandbox.python(bind).output.trim().parse().unwrap();
    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    sandbox.probe(&[(&format!("connect(('127.0.0.1', {port}))"), "ECONNREFUSED")]);
    assert_untouched(&other);
    // Nor while it is bound but another listens on all addresses.
    let wild = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = wild.local_addr().unwrap().port();
    sandbox.probe(&[(
        &format!("[(s := tcp()).setsockopt(1, 2, 1), s.bind(('127.0.0.1', {port})), connect(('127.0.0.1', {port}))]"),
        "EADDRINUSE",
    )]);
    assert_untouched(&wild);
}

pub(super) fn socket_families_and_protocols(sandbox: &Sandbox) {
    sandbox.probe(&[
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)  # ping", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # MPTCP", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)  # SCTP", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)  # UDP-Lite", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)", "EAFNOSUPPORT"),
        ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EAFNOSUPPORT"),
        ("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EAFNOSUPPORT"),
        ("socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)", "EAFNOSUPPORT"),
        ("socket.socket(43, socket.SOCK_STREAM)  # SMC", "EAFNOSUPPORT"),
        ("syscall(53, 2, 1, 0, SPACE)  # socketpair of the network", "EAFNOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 6).family.name", "ok AF_INET"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_STREAM).family.name", "ok AF_INET6"),
    ]);
}

pub(super) fn ways_to_connect_without_connect(sandbox: &Sandbox) {
    sandbox.probe(&[
        ("tcp().sendto(b'x', 0x20000000, (POD, POD_PORT))", "ENOTSUP"),
        ("tcp().sendmsg([b'x'], [], 0x20000000, (POD, POD_PORT))", "ENOTSUP"),
        ("syscall(307, tcp().detach(), SPACE, 1, 0x20000000)  # sendmmsg", "ENOTSUP"),
        ("tcp().sendto(b'x', 0, (POD, POD_PORT))", "EPIPE"),
    ]);
    assert_untouched(&sandbox.pod);
}

pub(super) fn listeners_stay_on_loopback(sandbox: &Sandbox) {
    sandbox.probe(&[
        (
            "[(s := tcp()).bind(('', 0)), s.listen(), s.getsockname()[0], s.getsockname()[1] > 0][2:]",
            "ok ['127.0.0.1', True]",
        ),
        ("[(s := tcp()).bind(('127.0.0.5', 0)), s.listen(), s.getsockname()[0]][2]", "ok 127.0.0.5"),
        ("[(s := tcp(10)).bind(('::', 0)), s.listen(), s.getsockname()[0]][2]", "ok ::ffff:127.0.0.1"),
        ("[(s := tcp(10)).bind(('::1', 0)), s.listen(), s.getsockname()[0]][2]", "ok ::1"),
        // Without a bind the kernel would choose all addresses.
        ("[(s := tcp()).listen(), s.getsockname()[0]][1]", "ok 127.0.0.1"),
        ("[(s := tcp(10)).listen(), s.getsockname()[0]][1]", "ok ::ffff:127.0.0.1"),
        // Nor does a socket lose its address when it is dissolved.
        (
            "[s := tcp(), libc.connect(s.fileno(), space, 16), s.listen(), s.getsockname()[0]][3]",
            "ok 127.0.0.1",
        ),
        ("tcp().bind((POD, 0))", "EADDRNOTAVAIL"),
        ("tcp(10).bind(('::ffff:' + POD, 0))", "EADDRNOTAVAIL"),
        ("tcp().bind(('127.0.0.1', LOOPBACK_PORT))", "EADDRINUSE"),
        ("[(s := tcp()).bind(('', 0)), s.bind(('', 0))]", "EINVAL"),
        ("libc.bind(0, space, 16)", "ok -1"),
    ]);
}

pub(super) fn unix_sockets(sandbox: &Sandbox) {
    let name = SocketAddr::from_abstract_name("supervisor").unwrap();
    let listener = UnixListener::bind_addr(&name).unwrap();
    let name = SocketAddr::from_abstract_name("datagrams").unwrap();
    let datagrams = UnixDatagram::bind_addr(&name).unwrap();
    sandbox.probe(&[
        ("socket.socket(socket.AF_UNIX).connect('\\0supervisor')", "EPERM"),
        ("socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', '\\0datagrams')", "EPERM"),
        ("[(s := socket.socket(socket.AF_UNIX)).bind('own.sock'), s.listen(), socket.socket(socket.AF_UNIX).connect('own.sock')][2]", "ok None"),
        ("[(s := socket.socket(socket.AF_UNIX)).bind('\\0own'), s.listen(), socket.socket(socket.AF_UNIX).connect('\\0own')][2]", "ok None"),
    ]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    datagrams.set_nonblocking(true).unwrap();
    assert!(datagrams.recv(&mut [0; 8]).is_err());
}

pub(super) fn sockets_behave_as_usual(sandbox: &Sandbox) {
    let outcome = sandbox.python(
        r#"
import errno, os, select, socket, threading
def server(family=socket.AF_INET, address='127.0.0.1', port=0):
    s = socket.socket(family, socket.SOCK_STREAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port)); s.listen(); return s

s = server(); port = s.getsockname()[1]
# Options, flags and event registrations that were there before a connect are there afterwards.
c = socket.socket()
c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b'\x07' + b'\0' * 15)
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
poll = select.epoll(); poll.register(c, select.EPOLLOUT | select.EPOLLIN | select.EPOLLET)
poll.poll(0)
c.connect(('127.0.0.1', port))
assert c.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)[0] == 7
assert c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
assert poll.poll(5)[0][0] == c.fileno()
assert not os.get_inheritable(c.fileno()) and os.get_blocking(c.fileno())
try: c.connect(('127.0.0.1', port)); assert False
except OSError as e: assert e.errno == errno.EISCONN, e

# Without blocking: in progress, then connected, and said so when asked again.
n = socket.socket(); n.setblocking(False)
assert n.connect_ex(('127.0.0.1', port)) in (0, errno.EINPROGRESS)
select.select([], [n], [], 5)
assert n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
assert n.connect_ex(('127.0.0.1', port)) == errno.EISCONN
assert not os.get_blocking(n.fileno())

# Refused, and the same socket can be used again.
r = socket.socket()
try: r.connect(('127.0.0.1', 1)); assert False
except ConnectionRefusedError: pass
r.connect(('127.0.0.1', port))

# A closed listener refuses, and its port is free again.
t = server(); free = t.getsockname()[1]; t.close()
try: socket.create_connection(('127.0.0.1', free)); assert False
except ConnectionRefusedError: pass
f = socket.socket(); f.bind(('', 0)); free = f.getsockname()[1]; f.close()
again = server(port=free)
try: server(port=free); assert False, "taken twice"
except OSError as e: assert e.errno == errno.EADDRINUSE
a, b = socket.socket(), socket.socket()
for x in (a, b): x.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
a.bind(('', 0)); b.bind(('', a.getsockname()[1])); a.listen(); b.listen()

# A client with an address of its own.
w = socket.create_connection(('127.0.0.1', port), source_address=('127.0.0.1', 0))
assert w.getpeername() == ('127.0.0.1', port)

# A server on all addresses is reached by all names; on IPv6's alone, by that one.
for host in ('0.0.0.0', '::'):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    s2 = server(family, host); p2 = s2.getsockname()[1]
    socket.create_connection(('127.0.0.1', p2)); socket.create_connection(('localhost', p2))
    if family == socket.AF_INET6: socket.create_connection(('::1', p2))
v = socket.socket(socket.AF_INET6); v.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1); v.bind(('::', 0)); v.listen()
socket.create_connection(('::1', v.getsockname()[1]))
try: socket.create_connection(('127.0.0.1', v.getsockname()[1])); assert False
except ConnectionRefusedError: pass
# An IPv6 socket that was refused on ::1 can still try IPv4.
print('done')
"#,
    );
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Code(0), "done\n"));
}

pub(super) fn servers_and_clients(sandbox: &Sandbox) {
    let outcome = sandbox.python(
        r#"
import asyncio, http.server, multiprocessing, socketserver, threading, urllib.request
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass
class Dual(http.server.ThreadingHTTPServer):
    import socket; address_family = socket.AF_INET6
for kind, host in ((http.server.ThreadingHTTPServer, ''), (Dual, '::')):
    server = kind((host, 0), Quiet); threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ('localhost', '127.0.0.1'):
        for _ in range(20):
            assert urllib.request.urlopen(f'http://{name}:{server.server_port}/').status == 200
    server.shutdown()

async def echo():
    async def handle(r, w): w.write(await r.readline()); await w.drain(); w.close()
    server = await asyncio.start_server(handle, None, 0)
    port = server.sockets[0].getsockname()[1]
    async def client(i):
        r, w = await asyncio.open_connection('localhost' if i % 2 else '127.0.0.1', server.sockets[0].getsockname()[1])
        w.write(b'hello\n'); assert await r.readline() == b'hello\n'; w.close()
    server2 = await asyncio.start_server(handle, '127.0.0.1', 0)
    async def client2():
        r, w = await asyncio.open_connection('127.0.0.1', server2.sockets[0].getsockname()[1])
        w.write(b'hello\n'); assert await r.readline() == b'hello\n'; w.close()
    await asyncio.gather(*[client2() for _ in range(100)])
asyncio.run(echo())

def work(x): return x * x
if __name__ == '__main__':
    with multiprocessing.Pool(2) as pool: assert pool.map(work, range(5)) == [0, 1, 4, 9, 16]
    with multiprocessing.Manager() as manager:
        shared = manager.list([1]); shared.append(2); assert list(shared) == [1, 2]
    print('done')
"#,
    );
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Code(0), "done\n"));
    // A server that one command left running answers the next.
    let (server, mut output) = sandbox
        .start_command(&sandbox.launch_of(&[
            "/usr/bin/python3",
            "-u",
            "-c",
            "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1]); s.accept()[0].send(b'across')",
        ]))
        .unwrap();
    let mut port = [0; 16];
    let read = output.read(&mut port).unwrap();
    let port = String::from_utf8_lossy(&port[..read]).trim().to_owned();
    let client = format!("import socket; print(socket.create_connection(('localhost', {port})).recv(10))");
    assert_eq!(sandbox.python(&client).output, "b'across'\n");
    drop(server);
}

pub(super) fn a_stuck_connection_holds_up_nobody(sandbox: &Sandbox) {
    // The queue of a listener that nobody serves is full after two; the third connection hangs.
    let outcome = sandbox.python(
        r#"
import os, socket, time
s = socket.socket(); s.bind(('', 0)); s.listen(0); port = s.getsockname()[1]
keep = []
for _ in range(8):
    if os.fork() == 0:
        socket.create_connection(('127.0.0.1', port)); time.sleep(100)
time.sleep(0.5)
other = socket.create_server(('', 0))
begun = time.monotonic()
for _ in range(50): socket.create_connection(other.getsockname()).close(); other.accept()[0].close()
assert time.monotonic() - begun < 5
n = socket.socket(); n.setblocking(False); n.connect_ex(('127.0.0.1', port))
print('done', flush=True)
os.kill(0, 9)
"#,
    );
    assert_eq!(outcome.output, "done\n");
}

pub(super) fn the_setup_phase_has_the_pods_network(sandbox: &Sandbox) {
    let loopback_only = &sandbox.nursery;
    let setup = Sandbox {
        nursery: Nursery::start(&policy(&sandbox.dir, Network::Open)).unwrap(),
        dir: sandbox.dir.clone(),
        loopback: sandbox.loopback.try_clone().unwrap(),
        pod: sandbox.pod.try_clone().unwrap(),
    };
    setup.probe(&[
        ("connect((POD, POD_PORT))[0]", "ok 10.99.0.1"),
        ("connect(('127.0.0.1', LOOPBACK_PORT))[0]", "ok 127.0.0.1"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (POD, 53))", "ok 1"),
        ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).family.name", "ok AF_NETLINK"),
        ("[(s := tcp()).bind((POD, 0)), s.listen(), s.getsockname()[0]][2]", "ok 10.99.0.1"),
        // Everything but the network is as in other phases.
        ("socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)", "EAFNOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)", "EPROTONOSUPPORT"),
        ("read(os.environ['DIR'] + '/outside/secret')", "EACCES"),
        ("os.kill(1, 0)", "EPERM"),
        ("syscall(302, 1, 7, SPACE, 0)", "EPERM"),
        ("syscall(272, 0)  # unshare", "EPERM"),
        // Nor can it reach another phase's processes.
        (&format!("os.kill({}, 0)", loopback_only.pid().as_raw_pid()), "EPERM"),
    ]);
    kill_all().unwrap();
    reap();
}
