//! The profile of older kernels, as far as this one can stand in for them.

use podwright_sandboxd::confine::{Exit, Profile, Support};

use crate::inside::Sandbox;

pub(super) fn linux_6_10_without_scopes(sandbox: &Sandbox) {
    let reduced = sandbox.reduced(5);
    assert_eq!((reduced.nursery.profile(), reduced.nursery.loopback()), (Profile::Reduced, true));
    reduced.probe(&[
        ("os.kill(1, 9)", "EPERM"),
        ("os.kill(-1, 9)", "EPERM"),
        ("syscall(234, 1, 1, 9)  # tgkill", "EPERM"),
        ("syscall(200, 1, 9)  # tkill", "EPERM"),
        ("signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0)", "EPERM"),
        ("os.kill(os.getpid(), 0)", "ok None"),
        ("os.listdir('/proc/1/fd')", "EACCES"),
        ("read('/proc/1/mem')", "EACCES"),
        ("read('/proc/1/environ')", "EACCES"),
        ("os.readlink('/proc/1/exe')", "EACCES"),
        ("syscall(302, 1, 7, SPACE, 0)  # prlimit", "EPERM"),
        ("read(os.environ['DIR'] + '/outside/secret')", "EACCES"),
        ("connect((POD, POD_PORT))", "ENETUNREACH"),
        ("connect(('127.0.0.1', LOOPBACK_PORT))", "ECONNREFUSED"),
        ("[(s := tcp()).bind(('', 0)), s.listen(), connect(s.getsockname())[0]][2]", "ok 127.0.0.1"),
    ]);
    assert_eq!(reduced.shell("sleep 1 & kill $! && exit 3").exit, Exit::Code(3));
}

pub(super) fn linux_6_2_without_tcp_rules(sandbox: &Sandbox) {
    let reduced = sandbox.reduced(3);
    assert_eq!((reduced.nursery.profile(), reduced.nursery.loopback()), (Profile::Reduced, false));
    reduced.probe(&[
        ("tcp()", "EPROTONOSUPPORT"),
        ("tcp(socket.AF_INET6)", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "EPROTONOSUPPORT"),
        ("[(s := socket.socket(socket.AF_UNIX)).bind('own.sock'), s.listen(), socket.socket(socket.AF_UNIX).connect('own.sock')][2]", "ok None"),
        ("read(os.environ['DIR'] + '/outside/secret')", "EACCES"),
        ("write(os.environ['DIR'] + '/outside/new', 'x')", "EACCES"),
        ("os.kill(1, 9)", "EPERM"),
    ]);
    assert!(Support::probe().unwrap().at_most(2).is_err());
}
