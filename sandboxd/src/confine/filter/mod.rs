//! The system calls that a command may make.
//!
//! Default allow with a list of refusals, on top of the container runtime's own profile: the images are anybody's,
//! and what they need is not ours to enumerate. The list is what was found to reach the supervisor, other pods or
//! needless kernel surface from inside a confined command.

mod bpf;

use super::{Network, Support};
use bpf::{Case, Rule, Test, Verdict, assemble};
pub(super) use bpf::{Instruction, TooLong};

/// `open_tree_attr` (Linux 6.15) is not in libc's table yet; the number is the same on every architecture.
const SYS_OPEN_TREE_ATTR: i64 = 467;

/// `CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET`.
const CLONE_NAMESPACES: u32 = 0x7E02_0000;
/// TCP Fast Open: connects without `connect`, to any host.
const MSG_FASTOPEN: u32 = 0x2000_0000;
/// The part of a socket's type that is not a flag.
const SOCKET_TYPE: u32 = 0xF;

const EPERM: Verdict = Verdict::Errno(libc::EPERM);
const ENOSYS: Verdict = Verdict::Errno(libc::ENOSYS);

/// Builds the filter of a phase.
pub(super) fn build(network: Network, support: Support) -> Result<Vec<Instruction>, TooLong> {
    let mut rules = kernel_surface();
    rules.extend(other_processes());
    rules.extend(terminals());
    if support.profile() == super::Profile::Reduced {
        rules.extend(signals_to_the_supervisor());
    }
    rules.extend(match network {
        Network::Open => open_sockets(),
        Network::Loopback | Network::Proxied => mediated_sockets(support.confines_tcp()),
    });
    assemble(&rules)
}

/// Calls that only widen what an exploit can reach, or that undo a layer.
fn kernel_surface() -> Vec<Rule> {
    // "No such call" where callers fall back to an older one: clone3 because its flags lie in memory, where a filter
    // cannot see them; io_uring because its operations pass by every filter.
    let missing =
        [libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let refused = [
        // Other processes' memory and descriptors.
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_process_mrelease,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        libc::SYS_move_pages,
        libc::SYS_migrate_pages,
        // Keyrings are shared by everything with one UID.
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        // Kernel programs, counters and fault handling.
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_memfd_secret,
        // Mounts and namespaces: a user namespace would bring every capability of these back.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_open_tree,
        SYS_OPEN_TREE_ATTR,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_unshare,
        libc::SYS_setns,
        // Files by handle pass by path rules.
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_fanotify_init,
        // The machine's own business.
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_reboot,
    ];
    #[cfg(target_arch = "x86_64")]
    let x86 = [libc::SYS_modify_ldt, libc::SYS_kexec_file_load];
    #[cfg(not(target_arch = "x86_64"))]
    let x86 = [libc::SYS_kexec_file_load];
    let mut rules: Vec<Rule> = missing.into_iter().map(|call| Rule::always(call, ENOSYS)).collect();
    rules.extend(refused.into_iter().chain(x86).map(|call| Rule::always(call, EPERM)));
    rules.push(Rule::unless(libc::SYS_clone, [Test::AnyBit(0, CLONE_NAMESPACES)], EPERM));
    rules
}

/// Resource calls. Landlock does not cover them: without these rules a command could leave the supervisor without
/// descriptors, have the kernel kill it by a CPU limit, or starve it.
fn other_processes() -> Vec<Rule> {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    let own_process = [Test::Equals(0, libc::PRIO_PROCESS), Test::Equals(1, 0)];
    let own_io = [Test::Equals(0, IOPRIO_WHO_PROCESS), Test::Equals(1, 0)];
    let mut rules = vec![
        Rule::only_if(libc::SYS_prlimit64, [Test::Equals(0, 0)], EPERM),
        Rule::only_if(libc::SYS_setpriority, own_process, EPERM),
        Rule::only_if(libc::SYS_ioprio_set, own_io, EPERM),
    ];
    // Thread libraries pass a thread's number instead of 0, so the supervisor looks whose thread it is.
    let scheduling = [
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setaffinity,
    ];
    rules.extend(scheduling.map(|call| Rule::only_if(call, [Test::Equals(0, 0)], Verdict::Notify)));
    rules
}

/// Terminal controls that put words into another program's mouth, and the one by which a terminal's owner opens its
/// other end: the path of that end is outside the policy, so the supervisor opens it.
fn terminals() -> Vec<Rule> {
    const TIOCLINUX: u32 = 0x541C;
    const TIOCGPTPEER: u32 = 0x5441;
    let refused = [libc::TIOCSTI as u32, TIOCLINUX, libc::TIOCSETD as u32, libc::TIOCCONS as u32];
    let mut cases: Vec<Case> =
        refused.map(|request| Case { when: vec![Test::Equals(1, request)], then: EPERM }).into();
    cases.push(Case { when: vec![Test::Equals(1, TIOCGPTPEER)], then: Verdict::Notify });
    vec![Rule { call: libc::SYS_ioctl, cases, otherwise: Verdict::Allow }]
}

/// On kernels whose Landlock does not scope signals: nothing that names the supervisor or everybody. Its threads have
/// numbers of their own, so the supervisor looks whose any other one is. A pidfd does not show whom it names, so that way
/// is closed as a whole.
fn signals_to_the_supervisor() -> Vec<Rule> {
    const EVERYBODY: u32 = u32::MAX;
    let named = [
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
    ];
    let refused = [1, EVERYBODY].map(|target| Case { when: vec![Test::Equals(0, target)], then: EPERM });
    let mut rules: Vec<Rule> =
        named.map(|call| Rule { call, cases: refused.to_vec(), otherwise: Verdict::Notify }).into();
    rules.push(Rule::always(libc::SYS_pidfd_send_signal, EPERM));
    rules
}

/// Sockets of the setup phase: TCP, UDP for names, and the routing table that resolvers look at.
fn open_sockets() -> Vec<Rule> {
    let mut cases = vec![family(libc::AF_UNIX, &[], Verdict::Allow)];
    for inet in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [0, libc::IPPROTO_TCP] {
            cases.push(family(inet, &typed(libc::SOCK_STREAM, protocol), Verdict::Allow));
        }
        for protocol in [0, libc::IPPROTO_UDP] {
            cases.push(family(inet, &typed(libc::SOCK_DGRAM, protocol), Verdict::Allow));
        }
        cases.push(family(inet, &[], Verdict::Errno(libc::EPROTONOSUPPORT)));
    }
    let routes = [Test::Equals(2, libc::NETLINK_ROUTE.unsigned_abs())];
    cases.push(family(libc::AF_NETLINK, &routes, Verdict::Allow));
    vec![
        Rule { call: libc::SYS_socket, cases, otherwise: Verdict::Errno(libc::EAFNOSUPPORT) },
        socket_pairs(),
    ]
}

/// Sockets of a phase without network: UNIX ones, and TCP sockets that the supervisor makes. MPTCP, UDP, vsock and
/// everything else that connects by itself is refused.
fn mediated_sockets(tcp: bool) -> Vec<Rule> {
    let mut cases = vec![family(libc::AF_UNIX, &[], Verdict::Allow)];
    for inet in [libc::AF_INET, libc::AF_INET6] {
        if tcp {
            for protocol in [0, libc::IPPROTO_TCP] {
                cases.push(family(inet, &typed(libc::SOCK_STREAM, protocol), Verdict::Notify));
            }
        }
        cases.push(family(inet, &[], Verdict::Errno(libc::EPROTONOSUPPORT)));
    }
    let fast_open = |call, flags| {
        Rule::unless(call, [Test::AnyBit(flags, MSG_FASTOPEN)], Verdict::Errno(libc::EOPNOTSUPP))
    };
    vec![
        Rule { call: libc::SYS_socket, cases, otherwise: Verdict::Errno(libc::EAFNOSUPPORT) },
        socket_pairs(),
        Rule::always(libc::SYS_connect, Verdict::Notify),
        Rule::always(libc::SYS_bind, Verdict::Notify),
        fast_open(libc::SYS_sendto, 3),
        fast_open(libc::SYS_sendmsg, 2),
        fast_open(libc::SYS_sendmmsg, 3),
    ]
}

fn socket_pairs() -> Rule {
    let unix = [Test::Equals(0, libc::AF_UNIX.unsigned_abs())];
    Rule::only_if(libc::SYS_socketpair, unix, Verdict::Errno(libc::EAFNOSUPPORT))
}

fn family(family: i32, more: &[Test], then: Verdict) -> Case {
    let mut when = vec![Test::Equals(0, family.unsigned_abs())];
    when.extend_from_slice(more);
    Case { when, then }
}

fn typed(kind: i32, protocol: i32) -> [Test; 2] {
    [Test::Masked(1, SOCKET_TYPE, kind.unsigned_abs()), Test::Equals(2, protocol.unsigned_abs())]
}

#[cfg(test)]
mod tests;
