//! Starting, watching and ending commands.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use podwright_sandboxd::confine::{
    Exit, LaunchError, Network, Profile, Support, kill_all, kill_strays, kill_tree, read_exit, strays,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::inside::{Sandbox, processes_with, reap};

pub(super) fn exits_are_reported(sandbox: &Sandbox) {
    assert_eq!(sandbox.nursery.profile(), Profile::Strict);
    assert_eq!(Support::probe().unwrap().profile(), Profile::Strict);
    assert_eq!(sandbox.shell("exit 0").exit, Exit::Code(0));
    assert_eq!(sandbox.shell("exit 7").exit, Exit::Code(7));
    assert_eq!(sandbox.shell("exit 255").exit, Exit::Code(255));
    assert_eq!(sandbox.shell("kill -9 $$").exit, Exit::Signal(9));
    assert_eq!(sandbox.shell("kill -SEGV $$").exit, Exit::Signal(11));
    // The exit is known while a descendant lives on, and the subreaper stays with that.
    let (launched, _output) =
        sandbox.start_command(&sandbox.launch_of(&["/bin/sh", "-c", "sleep 4711 & exit 3"])).unwrap();
    assert_eq!(read_exit(&launched.exit).unwrap(), Exit::Code(3));
    test_kill_process(launched.pid).unwrap();
    kill_tree(launched.pid).unwrap();
    assert_eq!(processes_with("4711"), Vec::<i32>::new());
    wait_for_end(launched.pid);
}

pub(super) fn a_command_that_kills_its_subreaper(sandbox: &Sandbox) {
    let script = "trap '' HUP; setsid sleep 4712 & kill -9 $PPID; sleep 4712";
    let (launched, _output) = sandbox.start_command(&sandbox.launch_of(&["/bin/sh", "-c", script])).unwrap();
    let (innocent, _pipe) = sandbox.start_command(&sandbox.launch_of(&["/bin/sleep", "4713"])).unwrap();
    assert_eq!(read_exit(&launched.exit).unwrap(), Exit::Lost);
    wait_for_end(launched.pid);
    assert!(!processes_with("4712").is_empty());
    // Both sleepers, and the shell if it did not become one.
    let known = [sandbox.nursery.pid(), innocent.pid].map(Pid::as_raw_pid).into();
    let found = strays(&known).unwrap();
    assert!(!found.is_empty());
    kill_strays(&found).unwrap();
    reap();
    assert_eq!(processes_with("4712"), Vec::<i32>::new());
    assert!(strays(&known).unwrap().is_empty());
    // Nobody else was hurt.
    assert_eq!(processes_with("4713").len(), 1);
    test_kill_process(innocent.pid).unwrap();
    assert_eq!(sandbox.shell("exit 5").exit, Exit::Code(5));
}

pub(super) fn a_command_that_kills_its_nursery(sandbox: &Sandbox) {
    let nursery = sandbox.nursery.pid();
    sandbox.shell(&format!("kill -9 {}", nursery.as_raw_pid()));
    wait_for_end(nursery);
    let refused = sandbox.start_command(&sandbox.launch_of(&["/bin/true"])).map(drop);
    assert!(matches!(refused, Err(LaunchError::NurseryGone)), "{refused:?}");
    let refused = sandbox.start_command(&sandbox.launch_of(&["/bin/true"])).map(drop);
    assert!(matches!(refused, Err(LaunchError::NurseryGone)), "{refused:?}");
    let again = Sandbox::start(&sandbox.dir, Network::Loopback);
    assert_eq!(again.shell("exit 4").exit, Exit::Code(4));
}

pub(super) fn a_command_that_stops_its_nursery(sandbox: &Sandbox) {
    sandbox.shell(&format!("kill -STOP {}", sandbox.nursery.pid().as_raw_pid()));
    let witness = sandbox.dir.join("workspace/witness").display().to_string();
    let refused = sandbox.start_command(&sandbox.launch_of(&["/bin/touch", &witness])).map(drop);
    assert!(matches!(refused, Err(LaunchError::NurseryGone)), "{refused:?}");
    wait_for_end(sandbox.nursery.pid());
    // A command that was given up does not run later.
    assert!(!std::path::Path::new(&witness).exists());
    let again = Sandbox::start(&sandbox.dir, Network::Loopback);
    assert_eq!(again.shell("exit 4").exit, Exit::Code(4));
    assert!(!std::path::Path::new(&witness).exists());
}

pub(super) fn commands_that_cannot_start(sandbox: &Sandbox) {
    let start = |argv: &[&str], change: fn(&mut podwright_sandboxd::confine::Launch)| {
        let mut launch = sandbox.launch_of(argv);
        change(&mut launch);
        sandbox.start_command(&launch).map(drop).unwrap_err()
    };
    let unchanged = |_: &mut podwright_sandboxd::confine::Launch| {};
    assert!(
        matches!(start(&["no-such-program"], unchanged), LaunchError::NotFound(name) if name == "no-such-program")
    );
    assert!(matches!(start(&["/no/such/program"], unchanged), LaunchError::NotFound(_)));
    assert!(matches!(start(&["../image/probe.py"], unchanged), LaunchError::PermissionDenied(_)));
    assert!(matches!(start(&["../outside/secret"], unchanged), LaunchError::PermissionDenied(_)));
    assert!(matches!(start(&["/etc"], unchanged), LaunchError::PermissionDenied(_)));
    assert!(matches!(start(&["true"], |l| l.cwd = "/no/such/place".into()), LaunchError::Cwd { .. }));
    assert!(matches!(start(&["true"], |l| l.cwd = "/etc/hostname".into()), LaunchError::Cwd { .. }));
    assert!(matches!(start(&[], unchanged), LaunchError::Invalid(_)));
    assert!(matches!(start(&["true", "a\0b"], unchanged), LaunchError::Invalid(_)));
    let big = |l: &mut podwright_sandboxd::confine::Launch| l.argv.push("x".repeat(1 << 20));
    assert!(matches!(start(&["true"], big), LaunchError::Invalid(_)));
    let huge = |l: &mut podwright_sandboxd::confine::Launch| l.argv.push("x".repeat(5 << 20));
    assert!(matches!(start(&["true"], huge), LaunchError::Invalid(_)));
    let own = sandbox.dir.join("workspace/not-a-program");
    std::fs::write(&own, "neither script nor program").unwrap();
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(start(&["./not-a-program"], unchanged), LaunchError::Exec { .. }));
    // After all of these it still works, by the PATH of the request.
    assert_eq!(sandbox.output(&["true"]).exit, Exit::Code(0));
}

pub(super) fn commands_of_a_phase_signal_each_other(sandbox: &Sandbox) {
    let (server, output) =
        sandbox.start_command(&sandbox.launch_of(&["/bin/sh", "-c", "echo $$; exec sleep 4714"])).unwrap();
    let mut pid = String::new();
    BufReader::new(output).read_line(&mut pid).unwrap();
    assert_eq!(sandbox.shell(&format!("kill -TERM {pid}")).exit, Exit::Code(0));
    assert_eq!(read_exit(&server.exit).unwrap(), Exit::Signal(15));
    // And see whose they are, as `lsof` and `fuser` do.
    let (_other, output) =
        sandbox.start_command(&sandbox.launch_of(&["/bin/sh", "-c", "echo $$; exec sleep 4714"])).unwrap();
    pid.clear();
    BufReader::new(output).read_line(&mut pid).unwrap();
    assert_eq!(sandbox.shell(&format!("readlink /proc/{}/exe", pid.trim())).exit, Exit::Code(0));
}

pub(super) fn whole_trees_are_killed(sandbox: &Sandbox) {
    let script = "setsid sleep 4715 & (setsid sh -c 'setsid sleep 4715 & sleep 4715' &) ; \
                  trap '' TERM INT HUP; sh -c 'kill -STOP $$' & echo ready; sleep 4715";
    let (launched, mut output) =
        sandbox.start_command(&sandbox.launch_of(&["/bin/sh", "-c", script])).unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    while processes_with("4715").len() < 5 {
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_tree(launched.pid).unwrap();
    assert_eq!(processes_with("4715"), Vec::<i32>::new());
    assert_eq!(read_exit(&launched.exit).unwrap(), Exit::Signal(9));
    wait_for_end(launched.pid);

    // One that stops its subreaper.
    let script = "kill -STOP $PPID; echo ready; setsid sleep 4716 & sleep 4716";
    let (launched, mut output) =
        sandbox.start_command(&sandbox.launch_of(&["/bin/sh", "-c", script])).unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    kill_tree(launched.pid).unwrap();
    wait_for_end(launched.pid);
    assert_eq!(processes_with("4716"), Vec::<i32>::new());
}

pub(super) fn a_fork_bomb(sandbox: &Sandbox) {
    // Processes that live for microseconds, each forking the next in a session of its own: they may outrun a look at
    // the tree, but not the end of the phase.
    let bomb = "import os\nprint('ready', flush=True)\nfor _ in range(30):\n if os.fork() == 0:\n  \
                while True:\n   if os.fork(): os._exit(0)\n   os.setsid()";
    let (launched, mut output) =
        sandbox.start_command(&sandbox.launch_of(&["/usr/bin/python3", "-c", bomb, "4719"])).unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    let result = kill_tree(launched.pid);
    println!(
        "    the tree: {} after {:?}",
        if result.is_ok() { "killed" } else { "outran us" },
        begun.elapsed()
    );
    // Said to be killed, it is.
    assert!(result.is_err() || processes_with("4719").is_empty());
    kill_all().unwrap();
    reap();
    assert_eq!(processes_with("4719"), Vec::<i32>::new());
}

pub(super) fn a_phase_ends_with_everything_killed(sandbox: &Sandbox) {
    let (_first, _pipe) = sandbox
        .start_command(&sandbox.launch_of(&["/bin/sh", "-c", "setsid sleep 4717 & sleep 4717"]))
        .unwrap();
    while processes_with("4717").len() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_all().unwrap();
    reap();
    assert_eq!(processes_with("4717"), Vec::<i32>::new());
    assert!(test_kill_process(sandbox.nursery.pid()).is_err());
    // The mediator's thread ends with the last process of its phase.
    let begun = Instant::now();
    while std::fs::read_dir("/proc/self/task").unwrap().count() > 1 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    let next = Sandbox::start(&sandbox.dir, Network::Loopback);
    assert_eq!(next.shell("exit 6").exit, Exit::Code(6));
}

/// Waits until a subreaper or nursery is gone and reaped.
fn wait_for_end(pid: Pid) {
    let begun = Instant::now();
    while test_kill_process(pid).is_ok() {
        reap();
        if begun.elapsed() > Duration::from_secs(10) {
            let _ = kill_process(pid, Signal::KILL);
            panic!("{pid:?} lives on");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
