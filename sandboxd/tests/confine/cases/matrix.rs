//! Every attempt in every network mode, under every profile that this kernel can stand in for.
//!
//! What is in the other cases by what it attacks is here by class, and counted: a way that is closed in one mode only is open.

use podwright_sandboxd::confine::{Network, Profile};

use crate::cases::syscalls;
use crate::inside::Sandbox;

/// A line of the probe, and what it comes to.
type Attempt = (&'static str, &'static str);

/// The kernels: with everything, without scopes for signals and sockets, without rules for TCP.
const KERNELS: [i32; 3] = [7, 5, 3];

/// Namespaces, foreign architectures, terminals.
const ESCAPES: &[Attempt] = &[
    ("syscall(56, 0x10000011, 0, 0, 0, 0)  # clone, user namespace", "EPERM"),
    ("syscall(56, 0x40000011, 0, 0, 0, 0)  # clone, network namespace", "EPERM"),
    ("syscall(56, 0x00020011, 0, 0, 0, 0)  # clone, mount namespace", "EPERM"),
    ("syscall(56, 0x20000011, 0, 0, 0, 0)  # clone, process namespace", "EPERM"),
    ("syscall(56, 0x08000011, 0, 0, 0, 0)  # clone, IPC namespace", "EPERM"),
    ("i386_getpid()", "signal 31"),
    ("syscall(0x40000000 + 39)  # x32 getpid", "ENOSYS"),
    ("syscall(0x40000000 + 520)  # x32 execve", "ENOSYS"),
    ("fcntl.ioctl(0, 0x5412, b'x')  # TIOCSTI", "EPERM"),
    ("syscall(16, 0, 0x100005412, SPACE)  # TIOCSTI, upper half", "EPERM"),
    ("fcntl.ioctl(0, 0x541C, b'x')  # TIOCLINUX", "EPERM"),
    ("fcntl.ioctl(0, 0x5423, b'xxxx')  # TIOCSETD", "EPERM"),
    ("fcntl.ioctl(0, 0x541D, b'xxxx')  # TIOCCONS", "EPERM"),
];

/// Files of the image, of the supervisor, of others.
const FILES: &[Attempt] = &[
    ("read(os.environ['DIR'] + '/outside/secret')", "EACCES"),
    ("read(os.environ['DIR'] + '/workspace/../outside/secret')", "EACCES"),
    ("write(os.environ['DIR'] + '/outside/secret', 'x')", "EACCES"),
    ("write(os.environ['DIR'] + '/outside/new', 'x')", "EACCES"),
    ("os.truncate(os.environ['DIR'] + '/outside/secret', 0)", "EACCES"),
    ("os.remove(os.environ['DIR'] + '/outside/secret')", "EACCES"),
    ("os.mkdir(os.environ['DIR'] + '/outside/d')", "EACCES"),
    ("os.rmdir(os.environ['DIR'] + '/outside')", "EACCES"),
    ("os.mkfifo(os.environ['DIR'] + '/outside/f')", "EACCES"),
    ("os.mknod(os.environ['DIR'] + '/outside/n')", "EACCES"),
    ("os.symlink('/', os.environ['DIR'] + '/outside/l')", "EACCES"),
    ("os.rename(os.environ['DIR'] + '/outside/secret', 'stolen')", "EACCES"),
    ("os.rename('/etc/hostname', 'stolen')", "EACCES"),
    ("read(os.environ['DIR'] + '/supervisor')", "EACCES"),
    ("os.execv(os.environ['DIR'] + '/supervisor', ['x'])", "EACCES"),
    ("write(os.environ['DIR'] + '/supervisor', 'x')", "EACCES"),
    ("write('/tmp/x', 'x')", "EACCES"),
    ("write('/etc/x', 'x')", "EACCES"),
    ("write('/etc/ld.so.preload', 'x')", "EACCES"),
    ("write('/usr/bin/x', 'x')", "EACCES"),
    ("read('/dev/kmsg')", "EACCES"),
    ("open('/dev/tty1', 'wb')", "EACCES"),
];

/// What `/proc` and `/sys` would tell or take.
const PROC: &[Attempt] = &[
    ("read('/proc/1/environ')", "EACCES"),
    ("read('/proc/1/mem')", "EACCES"),
    ("read('/proc/1/maps')", "EACCES"),
    ("read('/proc/1/fd/0')", "EACCES"),
    ("read('/proc/1/fdinfo/0')", "EACCES"),
    ("read('/proc/1/task/1/environ')", "EACCES"),
    ("read('/proc/1/task/1/mem')", "EACCES"),
    ("read(f'/proc/{supervisor_thread()}/environ')", "EACCES"),
    ("read('/proc/1/root/etc/hostname')", "EACCES"),
    ("read('/proc/1/cwd/etc/hostname')", "EACCES"),
    ("read('/proc/1/stack')", "EACCES"),
    ("read('/proc/1/syscall')", "EACCES"),
    ("os.readlink('/proc/1/exe')", "EACCES"),
    ("os.readlink('/proc/1/cwd')", "EACCES"),
    ("os.listdir('/proc/1/fd')", "EACCES"),
    ("os.listdir('/proc/1/map_files')", "EACCES"),
    ("write('/proc/1/oom_score_adj', '1000')", "EACCES"),
    ("write('/proc/1/comm', 'x')", "EACCES"),
    ("write('/proc/self/oom_score_adj', '0')", "EACCES"),
    ("write('/proc/self/mem', 'x')", "EACCES"),
    ("write('/proc/self/uid_map', '0 0 1')", "EACCES"),
    ("write('/proc/sys/kernel/hostname', 'x')", "EACCES"),
    ("write('/proc/sys/kernel/core_pattern', '|x')", "EACCES"),
    ("write('/proc/self/setgroups', 'deny')", "EACCES"),
];

/// The supervisor's processes and threads.
const SIGNALS: &[Attempt] = &[
    ("os.kill(1, 0)", "EPERM"),
    ("os.kill(1, 9)", "EPERM"),
    ("os.kill(1, 15)", "EPERM"),
    ("os.kill(supervisor_thread(), 9)", "EPERM"),
    ("os.kill(supervisor_thread(), 15)  # by which it would end", "EPERM"),
    ("syscall(234, 1, supervisor_thread(), 15)  # tgkill", "EPERM"),
    ("syscall(200, supervisor_thread(), 15)  # tkill", "EPERM"),
    ("syscall(200, 1, 15)  # tkill", "EPERM"),
    (
        "[ctypes.memmove(space, struct.pack('iiii', 15, 0, -1, 0), 16), syscall(129, supervisor_thread(), 15, SPACE)]  # rt_sigqueueinfo",
        "EPERM",
    ),
    ("[ctypes.memmove(space, struct.pack('iiii', 15, 0, -1, 0), 16), syscall(129, 1, 15, SPACE)]", "EPERM"),
    (
        "[ctypes.memmove(space, struct.pack('iiii', 15, 0, -1, 0), 16), syscall(297, 1, supervisor_thread(), 15, SPACE)]  # rt_tgsigqueueinfo",
        "EPERM",
    ),
    ("signal.pidfd_send_signal(os.pidfd_open(1), 15)", "EPERM"),
];

/// Sockets that no mode has.
const SOCKETS: &[Attempt] = &[
    ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)  # ping", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # MPTCP", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)  # SCTP", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)  # UDP-Lite", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)", "EAFNOSUPPORT"),
    ("socket.socket(socket.AF_VSOCK, socket.SOCK_DGRAM)", "EAFNOSUPPORT"),
    ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)  # audit", "EAFNOSUPPORT"),
    ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)  # uevents", "EAFNOSUPPORT"),
    ("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EAFNOSUPPORT"),
    ("socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)", "EAFNOSUPPORT"),
    ("socket.socket(43, socket.SOCK_STREAM)  # SMC", "EAFNOSUPPORT"),
    ("socket.socket(44, socket.SOCK_RAW)  # XDP", "EAFNOSUPPORT"),
    ("syscall(53, 2, 1, 0, SPACE)  # socketpair of the network", "EAFNOSUPPORT"),
];

/// Ways out of a phase without network.
const CONNECTIONS: &[Attempt] = &[
    ("connect((POD, POD_PORT))", "ENETUNREACH"),
    ("connect(('::ffff:' + POD, POD_PORT), socket.AF_INET6)", "ENETUNREACH"),
    ("connect(('192.0.2.1', 80))", "ENETUNREACH"),
    ("connect(('10.0.0.1', 443))", "ENETUNREACH"),
    ("connect(('172.16.0.1', 6443))", "ENETUNREACH"),
    ("connect(('192.168.0.1', 10250))", "ENETUNREACH"),
    ("connect(('100.64.0.1', 80))", "ENETUNREACH"),
    ("connect(('169.254.169.254', 80))", "ENETUNREACH"),
    ("connect(('fd00::1', 80), socket.AF_INET6)", "ENETUNREACH"),
    ("connect(('fe80::1', 80), socket.AF_INET6)", "ENETUNREACH"),
    ("connect(('2001:db8::1', 80), socket.AF_INET6)", "ENETUNREACH"),
    ("connect(('64:ff9b::a00:1', 80), socket.AF_INET6)", "ENETUNREACH"),
    ("connect(('255.255.255.255', 80))", "ENETUNREACH"),
    ("connect(('127.0.0.1', LOOPBACK_PORT))", "ECONNREFUSED"),
    ("connect(('127.1.2.3', LOOPBACK_PORT))", "ECONNREFUSED"),
    ("connect(('0.0.0.0', LOOPBACK_PORT))", "ECONNREFUSED"),
    ("connect(('::1', LOOPBACK_PORT), socket.AF_INET6)", "ECONNREFUSED"),
    ("connect(('::ffff:127.0.0.1', LOOPBACK_PORT), socket.AF_INET6)", "ECONNREFUSED"),
    ("tcp().sendto(b'x', 0x20000000, (POD, POD_PORT))  # TCP Fast Open", "ENOTSUP"),
    ("tcp().sendmsg([b'x'], [], 0x20000000, (POD, POD_PORT))", "ENOTSUP"),
    ("syscall(307, tcp().detach(), SPACE, 1, 0x20000000)  # sendmmsg", "ENOTSUP"),
    (
        "[(s := tcp()).setsockopt(6, 30, 1), s.connect((POD, POD_PORT))]  # TCP_FASTOPEN_CONNECT",
        "ENETUNREACH",
    ),
    ("tcp().bind((POD, 0))", "EADDRNOTAVAIL"),
    ("tcp(10).bind(('::ffff:' + POD, 0))", "EADDRNOTAVAIL"),
    ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)", "EPROTONOSUPPORT"),
    ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EAFNOSUPPORT"),
];

pub(super) fn attempts_in_every_mode_and_profile(sandbox: &Sandbox) {
    let calls = syscalls::calls();
    let calls: Vec<(&str, &str)> = calls.iter().map(|(line, expected)| (line.as_str(), *expected)).collect();
    for kernel in KERNELS {
        for network in [Network::Loopback, Network::Open] {
            let stage = sandbox.in_mode(network, kernel);
            let expected = if kernel >= 6 { Profile::Strict } else { Profile::Reduced };
            assert_eq!(stage.nursery.profile(), expected);
            let mut classes: Vec<(&str, &[(&str, &str)])> = vec![
                ("system calls", &calls),
                ("escapes", ESCAPES),
                ("files", FILES),
                ("/proc", PROC),
                ("signals", SIGNALS),
                ("resources", syscalls::RESOURCES),
                ("sockets", SOCKETS),
            ];
            // Without rules for TCP there are no such sockets to try anything with.
            if network == Network::Loopback && stage.nursery.loopback() {
                classes.push(("connections", CONNECTIONS));
            }
            let mut count = 0;
            let mut told = Vec::new();
            for (class, attempts) in classes {
                stage.probe(attempts);
                count += attempts.len();
                told.push(format!("{class} {}", attempts.len()));
            }
            println!(
                "  {network:?}, {expected:?} (Landlock {kernel}): {count} attempts, none got through: {}",
                told.join(", ")
            );
            assert!(count >= 150, "{count}");
        }
    }
}
