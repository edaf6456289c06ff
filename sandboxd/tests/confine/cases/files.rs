//! Files, devices and what a process finds about itself.

use podwright_sandboxd::confine::Exit;

use crate::inside::Sandbox;

pub(super) fn files_outside_the_roots(sandbox: &Sandbox) {
    sandbox.probe(&[
        ("read(os.environ['DIR'] + '/outside/secret')", "EACCES"),
        ("write(os.environ['DIR'] + '/outside/secret', 'x')", "EACCES"),
        ("write(os.environ['DIR'] + '/outside/new', 'x')", "EACCES"),
        ("os.truncate(os.environ['DIR'] + '/outside/secret', 0)", "EACCES"),
        ("os.remove(os.environ['DIR'] + '/outside/secret')", "EACCES"),
        ("os.mkdir(os.environ['DIR'] + '/outside/d')", "EACCES"),
        ("os.mkfifo(os.environ['DIR'] + '/outside/f')", "EACCES"),
        ("os.symlink('/', os.environ['DIR'] + '/outside/l')", "EACCES"),
        ("os.link(os.environ['DIR'] + '/outside/secret', 'stolen')", "EXDEV"),
        ("os.rename(os.environ['DIR'] + '/outside/secret', 'stolen')", "EACCES"),
        ("os.symlink(os.environ['DIR'] + '/outside/secret', 'link') or read('link')", "EACCES"),
        ("read(os.environ['DIR'] + '/supervisor')", "EACCES"),
        ("os.execv(os.environ['DIR'] + '/supervisor', ['x'])", "EACCES"),
        ("write('/tmp/x', 'x')", "EACCES"),
        ("write('/etc/x', 'x')", "EACCES"),
        ("read('/dev/kmsg')", "EACCES"),
        // What has to work.
        ("write('own', 'x')", "ok 1"),
        ("write('/dev/shm/own', 'x')", "ok 1"),
        ("write('/dev/null', 'x')", "ok 1"),
        ("len(open('/dev/urandom', 'rb').read(4))", "ok 4"),
        ("read('/etc/hostname') != ''", "ok True"),
        ("len(os.listdir('/')) > 5", "ok True"),
        ("os.path.exists('/dev/ptmx')", "ok True"),
    ]);
    let own_program = sandbox.shell("cp /bin/echo ./mine && ./mine run");
    assert_eq!((own_program.exit, own_program.output.as_str()), (Exit::Code(0), "run\n"));
    assert_eq!(std::fs::read_to_string(sandbox.dir.join("outside/secret")).unwrap(), "canary");
}

pub(super) fn the_supervisors_proc_files(sandbox: &Sandbox) {
    let nursery = sandbox.nursery.pid().as_raw_pid().to_string();
    let mut table = Vec::new();
    for process in ["1", &nursery, "' + str(os.getppid()) + '/../' + str(SUBREAPER) + '"] {
        for file in ["environ", "mem", "maps", "fdinfo/0", "fd/0"] {
            table.push(format!("read('/proc/{process}/{file}')"));
        }
    }
    // The subreaper is the parent of the probe, which is the parent of the process that a line runs in.
    let table: Vec<String> = table
        .into_iter()
        .map(|line| {
            line.replace("str(SUBREAPER)", "read(f'/proc/{os.getppid()}/stat').rsplit(') ')[1].split()[1]")
        })
        .collect();
    let table: Vec<(&str, &str)> = table.iter().map(|line| (line.as_str(), "EACCES")).collect();
    sandbox.probe(&table);
    sandbox.probe(&[
        ("os.readlink('/proc/1/exe')", "EACCES"),
        ("os.listdir('/proc/1/fd')", "EACCES"),
        ("write('/proc/1/oom_score_adj', '1000')", "EACCES"),
        ("write('/proc/self/oom_score_adj', '0')", "EACCES"),
        ("write('/proc/self/mem', 'x')", "EACCES"),
        ("write('/proc/sys/kernel/hostname', 'x')", "EACCES"),
        ("'Name' in read('/proc/self/status')", "ok True"),
    ]);
}

pub(super) fn what_a_command_inherits(sandbox: &Sandbox) {
    let status = sandbox.shell("cat /proc/self/status").output;
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name}: {status}"));
        line.trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("CapEff:"), "0000000000000000");
    for signals in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        assert_eq!(field(signals), "0000000000000000", "{signals}");
    }
    assert_eq!(sandbox.shell("cat /proc/self/oom_score_adj").output, "1000\n");
    assert_eq!(
        sandbox.shell("umask; ulimit -c; pwd").output,
        format!("0022\n0\n{}/workspace\n", sandbox.dir.display())
    );
    assert_eq!(sandbox.output(&["/bin/ls", "/proc/self/fd"]).output, "0\n1\n2\n3\n");
    let mut names: Vec<String> = sandbox
        .output(&["/usr/bin/env"])
        .output
        .lines()
        .filter_map(|l| Some(l.split_once('=')?.0.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names, ["DIR", "HOME", "LOOPBACK_PORT", "PATH", "POD_PORT", "PYTHONDONTWRITEBYTECODE"]);
    // A session of its own, whose leader it is.
    let session = sandbox.shell("echo $$; ps -o sid=,pgid= -p $$").output;
    let numbers: Vec<&str> = session.split_whitespace().collect();
    assert_eq!(numbers, [numbers[0]; 3], "{session}");
}
