use super::super::Profile;
use super::bpf::{KILL_PROCESS, NATIVE, interpret};
use super::*;

const I386: u32 = 0x4000_0003;

fn support(landlock: i32) -> Support {
    Support::judge(landlock, true).unwrap()
}

fn judge(network: Network, landlock: i32, call: i64, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let program = build(network, support(landlock)).unwrap();
    interpret(&program, NATIVE, u32::try_from(call).unwrap(), all)
}

fn loopback(call: i64, arguments: &[u64]) -> u32 {
    judge(Network::Loopback, 7, call, arguments)
}

fn errno(errno: i32) -> u32 {
    Verdict::Errno(errno).encode()
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const MINUS_ONE: u64 = u64::MAX;

#[test]
fn a_foreign_architecture_is_killed_whatever_it_calls() {
    for network in [Network::Open, Network::Loopback] {
        let program = build(network, support(7)).unwrap();
        for number in [0, 1, 20, 102, 0x4000_0000, u32::MAX] {
            assert_eq!(interpret(&program, I386, number, [0; 6]), KILL_PROCESS);
        }
    }
}

#[test]
fn x32_calls_do_not_exist() {
    let program = build(Network::Loopback, support(7)).unwrap();
    for number in [0x4000_0000, 0x4000_0000 + 42, 0x4000_0000 + 520, u32::MAX] {
        assert_eq!(interpret(&program, NATIVE, number, [0; 6]), errno(libc::ENOSYS), "{number:#x}");
    }
    assert_eq!(interpret(&program, NATIVE, 0x3FFF_FFFF, [0; 6]), ALLOW);
}

#[test]
fn ordinary_calls_are_allowed() {
    for network in [Network::Open, Network::Loopback] {
        for call in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_openat,
            libc::SYS_memfd_create,
            libc::SYS_pidfd_open,
            libc::SYS_seccomp,
            libc::SYS_landlock_restrict_self,
            libc::SYS_listen,
            libc::SYS_accept4,
            libc::SYS_kill,
        ] {
            assert_eq!(judge(network, 7, call, &[1, 9]), ALLOW, "{call}");
        }
    }
}

#[test]
fn arguments_decide() {
    let table: [(&str, i64, &[u64], u32); 26] = [
        ("own limits", libc::SYS_prlimit64, &[0, 7], ALLOW),
        ("the supervisor's limits", libc::SYS_prlimit64, &[1, 7], errno(libc::EPERM)),
        ("own priority", libc::SYS_setpriority, &[0, 0, 5], ALLOW),
        ("another's priority", libc::SYS_setpriority, &[0, 1, 5], errno(libc::EPERM)),
        ("the user's priority", libc::SYS_setpriority, &[2, 0, 5], errno(libc::EPERM)),
        ("own io priority", libc::SYS_ioprio_set, &[1, 0, 3], ALLOW),
        ("another's io priority", libc::SYS_ioprio_set, &[1, 1, 3], errno(libc::EPERM)),
        ("own scheduling", libc::SYS_sched_setscheduler, &[0, 5], ALLOW),
        ("a thread's scheduling", libc::SYS_sched_setaffinity, &[4711, 8], NOTIFY),
        ("a thread", libc::SYS_clone, &[0x3D_0F00], ALLOW),
        ("a user namespace", libc::SYS_clone, &[0x1000_0011], errno(libc::EPERM)),
        ("a mount namespace", libc::SYS_clone, &[0x2_0011], errno(libc::EPERM)),
        ("the upper half does not count", libc::SYS_clone, &[0xFFFF_FFFF_1000_0011], errno(libc::EPERM)),
        ("typing for others", libc::SYS_ioctl, &[0, 0x5412], errno(libc::EPERM)),
        ("typing, upper half set", libc::SYS_ioctl, &[0, 0x1_0000_5412], errno(libc::EPERM)),
        ("the other end of a terminal", libc::SYS_ioctl, &[3, 0x5441], NOTIFY),
        ("terminal size", libc::SYS_ioctl, &[0, 0x5413], ALLOW),
        ("fast open", libc::SYS_sendto, &[3, 0, 0, 0x2000_0000], errno(libc::EOPNOTSUPP)),
        ("fast open", libc::SYS_sendmsg, &[3, 0, 0x2000_4000], errno(libc::EOPNOTSUPP)),
        ("fast open", libc::SYS_sendmmsg, &[3, 0, 1, 0x2000_0000], errno(libc::EOPNOTSUPP)),
        ("send", libc::SYS_sendto, &[3, 0, 0, 0x4000], ALLOW),
        ("socket pair", libc::SYS_socketpair, &[1, 1, 0], ALLOW),
        ("network socket pair", libc::SYS_socketpair, &[2, 1, 0], errno(libc::EAFNOSUPPORT)),
        ("connect", libc::SYS_connect, &[3], NOTIFY),
        ("bind", libc::SYS_bind, &[3], NOTIFY),
        ("clone3", libc::SYS_clone3, &[0], errno(libc::ENOSYS)),
    ];
    for (what, call, arguments, expected) in table {
        assert_eq!(loopback(call, arguments), expected, "{what}");
    }
}

/// (family, type, protocol) -> what a phase without network and the setup phase say.
#[test]
fn socket_families_types_and_protocols() {
    const STREAM: u64 = 1;
    const FLAGS: u64 = 0o2_004_000;
    let no_protocol = errno(libc::EPROTONOSUPPORT);
    let no_family = errno(libc::EAFNOSUPPORT);
    let table = [
        ("unix", [1, STREAM, 0], ALLOW, ALLOW),
        ("unix datagrams", [1, 2, 0], ALLOW, ALLOW),
        ("tcp", [2, STREAM, 0], NOTIFY, ALLOW),
        ("tcp with flags", [2, STREAM | FLAGS, 6], NOTIFY, ALLOW),
        ("tcp over IPv6", [10, STREAM, 6], NOTIFY, ALLOW),
        ("udp", [2, 2, 0], no_protocol, ALLOW),
        ("udp over IPv6", [10, 2 | FLAGS, 17], no_protocol, ALLOW),
        ("mptcp", [2, STREAM, 262], no_protocol, no_protocol),
        ("sctp", [2, STREAM, 132], no_protocol, no_protocol),
        ("udplite", [2, 2, 136], no_protocol, no_protocol),
        ("icmp", [2, 2, 1], no_protocol, no_protocol),
        ("raw", [2, 3, 6], no_protocol, no_protocol),
        ("routes", [16, 3, 0], no_family, ALLOW),
        ("socket diagnosis", [16, 3, 4], no_family, no_family),
        ("packets", [17, 3, 0], no_family, no_family),
        ("vsock", [40, STREAM, 0], no_family, no_family),
        ("bluetooth", [31, STREAM, 3], no_family, no_family),
        ("kernel crypto", [38, 5, 0], no_family, no_family),
        ("smc", [43, STREAM, 0], no_family, no_family),
        ("family -1", [MINUS_ONE, STREAM, 0], no_family, no_family),
    ];
    for (what, arguments, in_loopback, in_open) in table {
        assert_eq!(loopback(libc::SYS_socket, &arguments), in_loopback, "{what}");
        assert_eq!(judge(Network::Open, 7, libc::SYS_socket, &arguments), in_open, "{what} in setup");
    }
    assert_eq!(judge(Network::Open, 7, libc::SYS_connect, &[3]), ALLOW);
}

#[test]
fn without_tcp_rules_in_landlock_there_are_no_network_sockets() {
    assert_eq!(judge(Network::Loopback, 3, libc::SYS_socket, &[2, 1, 0]), errno(libc::EPROTONOSUPPORT));
    assert_eq!(judge(Network::Loopback, 3, libc::SYS_socket, &[10, 1, 6]), errno(libc::EPROTONOSUPPORT));
    assert_eq!(judge(Network::Loopback, 3, libc::SYS_socket, &[1, 1, 0]), ALLOW);
}

#[test]
fn without_signal_scopes_the_supervisor_is_out_of_reach_by_number() {
    assert_eq!(support(5).profile(), Profile::Reduced);
    for call in [libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo] {
        for target in [1, MINUS_ONE] {
            assert_eq!(judge(Network::Loopback, 5, call, &[target, 9]), errno(libc::EPERM), "{call}");
        }
        // The supervisor looks whether that is one of its own threads.
        assert_eq!(judge(Network::Loopback, 5, call, &[4711, 9]), NOTIFY, "{call}");
        assert_eq!(judge(Network::Loopback, 7, call, &[4711, 9]), ALLOW, "{call}");
    }
    assert_eq!(judge(Network::Loopback, 5, libc::SYS_pidfd_send_signal, &[3, 9]), errno(libc::EPERM));
    assert_eq!(judge(Network::Loopback, 7, libc::SYS_pidfd_send_signal, &[3, 9]), ALLOW);
}

#[test]
fn refused_calls_are_refused_in_every_phase() {
    for network in [Network::Open, Network::Loopback] {
        for call in [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_pidfd_getfd,
            libc::SYS_keyctl,
            libc::SYS_bpf,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_chroot,
            libc::SYS_open_by_handle_at,
            SYS_OPEN_TREE_ATTR,
            libc::SYS_reboot,
        ] {
            assert_eq!(judge(network, 7, call, &[]), errno(libc::EPERM), "{call}");
        }
        for call in [libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter] {
            assert_eq!(judge(network, 7, call, &[]), errno(libc::ENOSYS), "{call}");
        }
    }
}

#[test]
fn rules_that_do_not_fit_are_refused() {
    let many = (0..5000).map(|call| Rule::always(call, EPERM)).collect::<Vec<_>>();
    assert_eq!(assemble(&many), Err(TooLong));
    let wide = Rule::unless(1, (0..200).map(|value| Test::Equals(0, value)), EPERM);
    assert_eq!(assemble(&[wide]), Err(TooLong));
}
