//! Arguments that another process changes while a call is being decided.

use std::io::ErrorKind;

use podwright_sandboxd::confine::Exit;

use crate::inside::Sandbox;

/// One process changes an address in shared memory all the time, another makes calls with it. `ATTACK` makes one call
/// and returns what it came to; the counts are printed.
const FLIPPER: &str = r#"
import collections, ctypes, errno, mmap, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
POD = socket.inet_aton('10.99.0.1'); PORT = int(os.environ['POD_PORT'])
server = socket.create_server(('127.0.0.1', 0), backlog=1000); server.setblocking(False)
ours = struct.pack('=H', 2) + struct.pack('>H', server.getsockname()[1]) + socket.inet_aton('127.0.0.1') + bytes(8)
theirs = struct.pack('=H', 2) + struct.pack('>H', PORT) + POD + bytes(8)
wild = struct.pack('=H', 2) + struct.pack('>H', 0) + bytes(4) + bytes(8)
unix = struct.pack('=H', 1) + bytes(14)
shared = mmap.mmap(-1, 4096)
where = ctypes.addressof(ctypes.c_char.from_buffer(shared))
def flip(a, b):
    shared[:16] = a
    pid = os.fork()
    if pid == 0:
        while True: shared[:16] = a; shared[:16] = b
    return pid
def called(result): return 'ok' if result == 0 else errno.errorcode[ctypes.get_errno()]
def drain():
    try:
        while True: server.accept()[0].close()
    except BlockingIOError: pass
counts = collections.Counter()
"#;

fn race(sandbox: &Sandbox, attack: &str) -> String {
    let outcome = sandbox.python(&format!("{FLIPPER}\n{attack}"));
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.output);
    sandbox.pod.set_nonblocking(true).unwrap();
    let bypass = sandbox.pod.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(bypass, Err(ErrorKind::WouldBlock), "a connection came through: {}", outcome.output);
    println!("    {}", outcome.output.trim());
    outcome.output
}

pub(super) fn address_flipped_during_connect(sandbox: &Sandbox) {
    let counts = race(
        sandbox,
        r"
child = flip(ours, theirs)
for i in range(20000):
    s = socket.socket()
    counts[called(libc.connect(s.fileno(), ctypes.c_void_p(where), 16))] += 1
    s.close()
    if i % 100 == 0: drain()
os.kill(child, 9); print(dict(counts))
",
    );
    // Both addresses were seen, or nothing was tried.
    assert!(counts.contains("'ok'") && counts.contains("ENETUNREACH"), "{counts}");
}

pub(super) fn family_flipped_during_connect(sandbox: &Sandbox) {
    let counts = race(
        sandbox,
        r"
child = flip(unix, theirs)
for i in range(20000):
    s = socket.socket()
    counts[called(libc.connect(s.fileno(), ctypes.c_void_p(where), 16))] += 1
    s.close()
os.kill(child, 9); print(dict(counts))
",
    );
    // EACCES is Landlock's word: the kernel had read a TCP address after the supervisor had read a UNIX one.
    assert!(
        counts.contains("ENETUNREACH") && counts.contains("EACCES") && !counts.contains("'ok'"),
        "{counts}"
    );
}

pub(super) fn family_flipped_during_bind(sandbox: &Sandbox) {
    let counts = race(
        sandbox,
        r"
child = flip(unix, wild)
for i in range(10000):
    s = socket.socket()
    counts[called(libc.bind(s.fileno(), ctypes.c_void_p(where), 16))] += 1
    s.listen(); counts[s.getsockname()[0]] += 1
    s.close()
os.kill(child, 9); print(dict(counts))
",
    );
    assert!(counts.contains("'127.0.0.1': 10000") && counts.contains("'ok'"), "{counts}");
}

pub(super) fn descriptor_flipped_during_connect(sandbox: &Sandbox) {
    // A thread puts other sockets under the number that the call names.
    let counts = race(
        sandbox,
        r"
import threading
shared[:16] = theirs
fd = socket.socket().detach(); stop = False
def swap():
    while not stop:
        a, b = socket.socket(socket.AF_UNIX), socket.socket()
        for s in (a, b): os.dup2(s.fileno(), fd)
        a.close(); b.close()
thread = threading.Thread(target=swap); thread.start()
for i in range(5000):
    counts[called(libc.connect(fd, ctypes.c_void_p(where), 16))] += 1
    counts[called(libc.listen(fd, 5))] += 1
stop = True; thread.join(); print(dict(counts))
",
    );
    assert!(counts.contains("ENETUNREACH"), "{counts}");
}
