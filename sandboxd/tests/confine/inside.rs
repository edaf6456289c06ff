//! The supervisor of a case: process 1 of its namespace, without privileges.

use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use podwright_sandboxd::confine::{
    self, Exit, Launch, LaunchError, Launched, Network, Nursery, Policy, Support,
};
use rustix::process::{Pid, WaitOptions};

use crate::cases;

/// What a case works with.
pub(crate) struct Sandbox {
    pub(crate) nursery: Nursery,
    pub(crate) dir: PathBuf,
    /// A listener of somebody else's on loopback.
    pub(crate) loopback: TcpListener,
    /// A listener of somebody else's on an address that is not loopback.
    pub(crate) pod: TcpListener,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) output: String,
}

pub(crate) fn run(case: &str, dir: &Path) -> ExitCode {
    assert_eq!(rustix::process::getpid(), Pid::INIT, "a case runs as process 1");
    let (_, case) = cases::ALL.iter().find(|(name, _)| *name == case).unwrap();
    case(&Sandbox::start(dir, Network::Loopback));
    ExitCode::SUCCESS
}

impl Sandbox {
    pub(crate) fn start(dir: &Path, network: Network) -> Self {
        Self::with(dir, Nursery::start(&policy(dir, network)).unwrap())
    }

    /// As on a node with an older kernel.
    pub(crate) fn reduced(&self, landlock_abi: i32) -> Self {
        self.in_mode(Network::Loopback, landlock_abi)
    }

    /// With another network, as on a node whose Landlock is no newer than this.
    pub(crate) fn in_mode(&self, network: Network, landlock_abi: i32) -> Self {
        let support = Support::probe().unwrap().at_most(landlock_abi).unwrap();
        Self::with(&self.dir, Nursery::start_with(&policy(&self.dir, network), support).unwrap())
    }

    fn with(dir: &Path, nursery: Nursery) -> Self {
        Self {
            nursery,
            dir: dir.to_owned(),
            loopback: TcpListener::bind("127.0.0.1:0").unwrap(),
            pod: TcpListener::bind("10.99.0.1:0").unwrap(),
        }
    }

    pub(crate) fn launch_of(&self, argv: &[&str]) -> Launch {
        let variable = |name: &str, value: String| (name.to_owned(), value);
        Launch {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: vec![
                variable("PATH", "/usr/bin:/bin".into()),
                variable("HOME", self.dir.join("workspace").display().to_string()),
                variable("DIR", self.dir.display().to_string()),
                variable("LOOPBACK_PORT", self.loopback.local_addr().unwrap().port().to_string()),
                variable("POD_PORT", self.pod.local_addr().unwrap().port().to_string()),
                // Its writes of compiled modules would only be refused.
                variable("PYTHONDONTWRITEBYTECODE", "1".into()),
            ],
            cwd: self.dir.join("workspace").display().to_string(),
            tty: false,
        }
    }

    /// Starts a command whose output goes to a pipe.
    pub(crate) fn start_command(&self, launch: &Launch) -> Result<(Launched, std::fs::File), LaunchError> {
        let (reader, writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let writer = OwnedFd::from(writer);
        let stdio = [OwnedFd::from(null), writer.try_clone().unwrap(), writer];
        Ok((self.nursery.launch(launch, stdio)?, std::fs::File::from(OwnedFd::from(reader))))
    }

    /// Runs a command to the end of its output.
    pub(crate) fn output(&self, argv: &[&str]) -> Outcome {
        let (launched, mut reader) = self.start_command(&self.launch_of(argv)).unwrap();
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        let exit = confine::read_exit(&launched.exit).unwrap();
        reap();
        Outcome { exit, output }
    }

    /// Runs a shell script to the end of its output.
    pub(crate) fn shell(&self, script: &str) -> Outcome {
        self.output(&["/bin/bash", "-c", script])
    }

    /// Runs a Python program to the end of its output.
    pub(crate) fn python(&self, source: &str) -> Outcome {
        self.output(&["/usr/bin/python3", "-c", source])
    }

    /// Runs one-liners of the probe and compares what each came to.
    pub(crate) fn probe(&self, table: &[(&str, &str)]) {
        let probe = self.dir.join("image/probe.py").display().to_string();
        let mut argv = vec!["/usr/bin/python3", &probe];
        argv.extend(table.iter().map(|(source, _)| *source));
        let outcome = self.output(&argv);
        assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.output);
        let lines: Vec<&str> = outcome.output.lines().collect();
        assert_eq!(lines.len(), table.len(), "{}", outcome.output);
        let wrong: Vec<String> = table
            .iter()
            .zip(lines)
            .filter(|((_, expected), got)| got != expected)
            .map(|((source, expected), got)| format!("{source}: expected {expected}, got {got}"))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

pub(crate) fn policy(dir: &Path, network: Network) -> Policy {
    let mut policy = Policy::sandbox(network).unwrap();
    // The case's directory lies in /tmp, so that takes part in no rule here.
    policy.readable.retain(|path| path != Path::new("/tmp"));
    policy.readable.push(dir.join("image"));
    policy.writable = vec![dir.join("workspace"), "/dev/shm".into()];
    policy
}

/// Reaps what has ended, as process 1 must. Returns how many.
pub(crate) fn reap() -> usize {
    let mut count = 0;
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {
        count += 1;
    }
    count
}

/// The processes whose command line contains a word.
pub(crate) fn processes_with(word: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(word) {
            found.push(pid);
        }
    }
    found
}
