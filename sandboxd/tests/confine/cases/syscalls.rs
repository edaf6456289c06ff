//! System calls.

use podwright_sandboxd::confine::Exit;

use crate::inside::Sandbox;

/// Where a call would succeed or fail otherwise with these arguments, EPERM can only come from the filter.
const REFUSED: &[(i32, &str)] = &[
    (101, "ptrace"),
    (310, "process_vm_readv"),
    (311, "process_vm_writev"),
    (440, "process_madvise"),
    (448, "process_mrelease"),
    (438, "pidfd_getfd"),
    (312, "kcmp"),
    (250, "keyctl"),
    (248, "add_key"),
    (249, "request_key"),
    (321, "bpf"),
    (298, "perf_event_open"),
    (323, "userfaultfd"),
    (447, "memfd_secret"),
    (165, "mount"),
    (166, "umount2"),
    (155, "pivot_root"),
    (161, "chroot"),
    (428, "open_tree"),
    (467, "open_tree_attr"),
    (429, "move_mount"),
    (430, "fsopen"),
    (431, "fsconfig"),
    (432, "fsmount"),
    (433, "fspick"),
    (442, "mount_setattr"),
    (272, "unshare"),
    (308, "setns"),
    (303, "name_to_handle_at"),
    (304, "open_by_handle_at"),
    (300, "fanotify_init"),
    (279, "move_pages"),
    (256, "migrate_pages"),
    (154, "modify_ldt"),
    (179, "quotactl"),
    (443, "quotactl_fd"),
    (167, "swapon"),
    (168, "swapoff"),
    (163, "acct"),
    (246, "kexec_load"),
    (320, "kexec_file_load"),
    (175, "init_module"),
    (313, "finit_module"),
    (176, "delete_module"),
    (169, "reboot"),
];

/// These are "not there", so that callers fall back to older ones.
const MISSING: &[(i32, &str)] =
    &[(435, "clone3"), (425, "io_uring_setup"), (426, "io_uring_enter"), (427, "io_uring_register")];

pub(super) fn calls_that_are_refused(sandbox: &Sandbox) {
    let calls = calls();
    let table: Vec<(&str, &str)> = calls.iter().map(|(line, expected)| (line.as_str(), *expected)).collect();
    sandbox.probe(&table);
    sandbox.probe(&[
        ("syscall(56, 0x10000011, 0, 0, 0, 0)  # clone, user namespace", "EPERM"),
        ("syscall(56, 0x40000011, 0, 0, 0, 0)  # clone, network namespace", "EPERM"),
        ("syscall(56, 0x00020011, 0, 0, 0, 0)  # clone, mount namespace", "EPERM"),
        ("fcntl.ioctl(0, 0x5412, b'x')  # TIOCSTI", "EPERM"),
        ("fcntl.ioctl(0, 0x100005412, b'x') if False else syscall(16, 0, 0x100005412, SPACE)  # upper half", "EPERM"),
        ("fcntl.ioctl(0, 0x541C, b'x')  # TIOCLINUX", "EPERM"),
        ("fcntl.ioctl(0, 0x5423, b'xxxx')  # TIOCSETD", "EPERM"),
        ("fcntl.ioctl(0, 0x541D, b'xxxx')  # TIOCCONS", "EPERM"),
    ]);
}

/// Each of these calls as a line of the probe, and what it comes to.
pub(super) fn calls() -> Vec<(String, &'static str)> {
    let line = |(number, name): &(i32, &str)| format!("syscall({number}, 0, 0, 0, 0, 0)  # {name}");
    let refused = REFUSED.iter().map(|call| (line(call), "EPERM"));
    refused.chain(MISSING.iter().map(|call| (line(call), "ENOSYS"))).collect()
}

/// Ways to blind or starve the supervisor.
pub(super) const RESOURCES: &[(&str, &str)] = &[
    ("syscall(302, 1, 7, SPACE, 0)  # prlimit: no descriptors", "EPERM"),
    ("syscall(302, 1, 0, SPACE, 0)  # prlimit: no CPU time", "EPERM"),
    ("syscall(302, 1, 7, 0, SPACE)  # prlimit: looking", "EPERM"),
    ("syscall(302, os.getppid(), 7, SPACE, 0)  # prlimit of a sibling", "EPERM"),
    ("os.setpriority(os.PRIO_PROCESS, 1, 19)", "EPERM"),
    ("os.setpriority(os.PRIO_USER, os.getuid(), 19)", "EPERM"),
    ("os.setpriority(os.PRIO_PGRP, 0, 19)", "EPERM"),
    ("os.sched_setaffinity(1, {0})", "EPERM"),
    ("os.sched_setaffinity(supervisor_thread(), {0})", "EPERM"),
    ("os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))", "EPERM"),
    ("os.sched_setscheduler(supervisor_thread(), os.SCHED_IDLE, os.sched_param(0))", "EPERM"),
    ("os.sched_setparam(1, os.sched_param(0))", "EPERM"),
    ("syscall(314, 1, SPACE, 0)  # sched_setattr", "EPERM"),
    ("syscall(251, 1, 1, 3 << 13)  # ioprio_set of process 1", "EPERM"),
    ("syscall(251, 3, os.getuid(), 3 << 13)  # ioprio_set of the user", "EPERM"),
];

pub(super) fn the_supervisor_cannot_be_blinded_or_starved(sandbox: &Sandbox) {
    sandbox.probe(RESOURCES);
    assert!(rustix::process::getrlimit(rustix::process::Resource::Nofile).current != Some(0));
}

pub(super) fn the_supervisor_cannot_be_signalled(sandbox: &Sandbox) {
    sandbox.probe(&[
        ("os.kill(1, 0)", "EPERM"),
        ("os.kill(1, 9)", "EPERM"),
        ("os.kill(supervisor_thread(), 9)", "EPERM"),
        ("syscall(234, 1, supervisor_thread(), 9)  # tgkill", "EPERM"),
        ("syscall(200, supervisor_thread(), 9)  # tkill", "EPERM"),
        ("signal.pidfd_send_signal(os.pidfd_open(1), 9)", "EPERM"),
    ]);
}

pub(super) fn foreign_architectures(sandbox: &Sandbox) {
    sandbox.probe(&[
        ("i386_getpid()", "signal 31"),
        ("syscall(0x40000000 + 39)  # x32 getpid", "ENOSYS"),
        ("syscall(0x40000000 + 520)  # x32 execve", "ENOSYS"),
    ]);
}

pub(super) fn what_programs_need_still_works(sandbox: &Sandbox) {
    sandbox.probe(&[
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))", "ok None"),
        ("os.setpriority(os.PRIO_PROCESS, 0, 5)", "ok None"),
        ("os.sched_setaffinity(0, {0})", "ok None"),
        ("os.sched_setaffinity(os.getpid(), {0})  # as thread libraries do", "ok None"),
        ("syscall(251, 1, 0, 3 << 13)  # own ioprio", "ok 0"),
        ("os.write(os.memfd_create('x'), b'abc')", "ok 3"),
        ("os.kill(os.getpid(), 0)", "ok None"),
        ("os.pidfd_open(os.getpid()) > 2", "ok True"),
        ("len(socket.socketpair())", "ok 2"),
        ("syscall(444, 0, 0, 1) >= 3  # landlock's version", "ok True"),
    ]);
    let threads = "import threading; t = [threading.Thread(target=print) for _ in range(4)]; \
                   [x.start() for x in t]; [x.join() for x in t]; \
                   import subprocess; print(subprocess.run(['echo', 'hi'], capture_output=True).stdout)";
    let outcome = sandbox.python(threads);
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.output);
    assert!(outcome.output.contains("b'hi\\n'"), "{}", outcome.output);
}
