//! The one port of the supervisor's that commands of some phases may connect to.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use podwright_sandboxd::confine::{Gate, Guest, Network, Nursery, kill_all};

use crate::inside::{Sandbox, policy, reap};

/// A phase whose commands may connect to a proxy.
fn proxied(sandbox: &Sandbox) -> (Sandbox, Arc<Gate>) {
    let gate = Arc::new(Gate::open().unwrap());
    let nursery = Nursery::start_at(&policy(&sandbox.dir, Network::Proxied), gate.clone()).unwrap();
    let proxied = Sandbox {
        nursery,
        dir: sandbox.dir.clone(),
        loopback: sandbox.loopback.try_clone().unwrap(),
        pod: sandbox.pod.try_clone().unwrap(),
    };
    (proxied, gate)
}

fn guests(gate: &Gate) -> Vec<Guest> {
    std::iter::from_fn(|| gate.accept().unwrap()).collect()
}

pub(super) fn the_proxy_is_the_only_way_out(sandbox: &Sandbox) {
    let (phase, gate) = proxied(sandbox);
    let port = gate.port();
    let at_gate =
        |address: &str| format!("connect({})[1] == {port}", address.replace("PORT", &port.to_string()));
    phase.probe(&[
        (&at_gate("('127.0.0.1', PORT)"), "ok True"),
        (&at_gate("('0.0.0.0', PORT)"), "ok True"),
        (&at_gate("('::ffff:127.0.0.1', PORT), socket.AF_INET6"), "ok True"),
        // Its number leads nowhere else.
        (&format!("connect((POD, {port}))"), "ENETUNREACH"),
        (&format!("connect(('127.0.0.2', {port}))"), "ECONNREFUSED"),
        (&format!("connect(('::1', {port}), socket.AF_INET6)"), "ECONNREFUSED"),
        (&format!("connect(('192.0.2.1', {port}))"), "ENETUNREACH"),
        (&format!("tcp().bind(('127.0.0.1', {port}))"), "EADDRINUSE"),
        (
            &format!("[(s := tcp()).setsockopt(1, 15, 1), s.bind(('127.0.0.1', {port}))]  # SO_REUSEPORT"),
            "EADDRINUSE",
        ),
        // And nothing else is otherwise than without it.
        ("connect((POD, POD_PORT))", "ENETUNREACH"),
        ("connect(('127.0.0.1', LOOPBACK_PORT))", "ECONNREFUSED"),
        ("connect(('169.254.169.254', 80))", "ENETUNREACH"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "EPROTONOSUPPORT"),
        ("tcp().sendto(b'x', 0x20000000, (POD, POD_PORT))", "ENOTSUP"),
    ]);
    let guests = guests(&gate);
    assert_eq!(guests.len(), 3);
    assert!(guests.iter().all(|guest| guest.tree.is_some()), "{guests:?}");
    // A phase without it does not even see it.
    sandbox.probe(&[(&format!("connect(('127.0.0.1', {port}))"), "ECONNREFUSED")]);
    // Nor is anybody let in whom no mediator has brought.
    let _stranger = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(gate.accept().unwrap().is_none());
    kill_all().unwrap();
    reap();
}

pub(super) fn connections_of_the_proxy_are_known_by_their_command(sandbox: &Sandbox) {
    let (phase, gate) = proxied(sandbox);
    let port = gate.port();
    // From a session of its own, whose parent has gone, with a connection begun without waiting.
    let far = format!(
        "import os, socket, select\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n\
         s = socket.socket(); s.setblocking(False); s.connect_ex(('127.0.0.1', {port}))\n\
         select.select([], [s], [], 5); assert s.getsockopt(1, 4) == 0; s.setblocking(True)\n\
         print(s.recv(10).decode(), flush=True)"
    );
    let launch = phase.launch_of(&["/usr/bin/python3", "-c", &far]);
    let (launched, output) = phase.start_command(&launch).unwrap();
    let guest = loop {
        if let Some(guest) = gate.accept().unwrap() {
            break guest;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert_eq!(guest.tree, Some(launched.pid.as_raw_pid()));
    rustix::io::write(&guest.socket, b"welcome").unwrap();
    assert_eq!(std::io::read_to_string(output).unwrap(), "welcome\n");
    drop::<OwnedFd>(guest.socket);
    kill_all().unwrap();
    reap();
}
