//! Terminals.

use std::io::Read;
use std::os::fd::AsFd;

use podwright_sandboxd::confine::{Exit, Launch, Launched, Terminal, TerminalMaster, kill_tree, read_exit};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};

use crate::inside::{Sandbox, reap};

fn launch(sandbox: &Sandbox, terminal: &Terminal, argv: &[&str]) -> Launched {
    let slave = || terminal.slave.try_clone().unwrap();
    let launch = Launch { tty: true, ..sandbox.launch_of(argv) };
    sandbox.nursery.launch(&launch, [slave(), slave(), slave()]).unwrap()
}

/// Runs a script on a terminal and returns what the terminal showed, and gives the terminal back.
fn shell_on(sandbox: &Sandbox, script: &str) -> (Exit, String) {
    let terminal = sandbox.nursery.open_terminal().unwrap();
    let launched = launch(sandbox, &terminal, &["/bin/bash", "-c", script]);
    let Terminal { master, slave } = terminal;
    drop(slave);
    let mut shown = Vec::new();
    // Ends with EIO when the last process has closed the terminal.
    let _ = file_of(&master).read_to_end(&mut shown);
    let exit = read_exit(&launched.exit).unwrap();
    drop(master);
    reap();
    (exit, String::from_utf8_lossy(&shown).replace('\r', ""))
}

fn file_of(master: &TerminalMaster) -> std::fs::File {
    master.as_fd().try_clone_to_owned().unwrap().into()
}

pub(super) fn other_terminals(sandbox: &Sandbox) {
    // A person's, opened after the phase began, with the same UID.
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&person).unwrap();
    let _held = ioctl_tiocgptpeer(&person, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let path = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
    sandbox.probe(&[
        (&format!("write('{path}', 'rm -rf')"), "EACCES"),
        (&format!("read('{path}')"), "EACCES"),
        (&format!("os.open('{path}', os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)"), "EACCES"),
        ("fcntl.ioctl(0, 0x5441, 0)  # the other end of what is no terminal", "ENOTTY"),
    ]);
    let (exit, shown) = shell_on(sandbox, &format!("echo x > {path}"));
    assert_eq!(exit, Exit::Code(1), "{shown}");
}

pub(super) fn a_command_on_a_terminal(sandbox: &Sandbox) {
    // More often than terminals were set aside: they are given back.
    for _ in 0..20 {
        let script = "tty >/dev/null && echo out && echo err >/dev/stderr && echo tty >/dev/tty && echo path >$(tty); \
                      stty size; kill -WINCH $$; exit 3";
        assert_eq!(shell_on(sandbox, script), (Exit::Code(3), "out\nerr\ntty\npath\n24 80\n".to_owned()));
    }
    // Nobody can spoil a terminal for the next command: neither by refusing that it be opened again...
    for _ in 0..10 {
        let (exit, shown) = shell_on(sandbox, "python3 -c 'import fcntl; fcntl.ioctl(0, 0x540C)'");
        assert_eq!((exit, shown), (Exit::Code(0), String::new()));
    }
    // ... nor by going on in a session whose terminal it is.
    let terminal = sandbox.nursery.open_terminal().unwrap();
    let keep = "exec sleep 4720 </dev/null >/dev/null 2>&1";
    let keeper = launch(sandbox, &terminal, &["/bin/sh", "-c", keep]);
    let Terminal { master, slave } = terminal;
    drop(slave);
    let _ = file_of(&master).read_to_end(&mut Vec::new());
    drop(master);
    assert_eq!(shell_on(sandbox, "tty >/dev/null"), (Exit::Code(0), String::new()));
    kill_tree(keeper.pid).unwrap();
    // Ctrl-C reaches the command, and only it.
    let terminal = sandbox.nursery.open_terminal().unwrap();
    let launched = launch(sandbox, &terminal, &["/bin/sh", "-c", "echo up; exec sleep 4718"]);
    let mut shown = [0; 4];
    file_of(&terminal.master).read_exact(&mut shown).unwrap();
    rustix::io::write(&terminal.master, b"\x03").unwrap();
    assert_eq!(read_exit(&launched.exit).unwrap(), Exit::Signal(2));
}

pub(super) fn terminals_of_a_commands_own(sandbox: &Sandbox) {
    let outcome = sandbox.python(
        r#"
import os, pty
master, slave = os.openpty(); os.write(slave, b'x'); assert os.read(master, 1) == b'x'
assert os.get_inheritable(slave) == False
pid, fd = pty.fork()
if pid == 0: os.execv('/bin/sh', ['sh', '-c', 'test -t 0 && echo yes >/dev/tty'])
assert os.read(fd, 100) == b'yes\r\n'
print(os.waitpid(pid, 0)[1])
"#,
    );
    assert_eq!((outcome.exit, outcome.output.as_str()), (Exit::Code(0), "0\n"));
}
