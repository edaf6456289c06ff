//! Hostile commands against the real kernel.
//!
//! The cases need what a sandbox container has: a process that is number 1 and has an ordinary UID, its own `/proc`,
//! terminals and network. So this file is several programs. As a test it makes namespaces (as root) and starts itself
//! in them for each case, from a copy that may be executed but not read, as in a pod. There it is the supervisor, and
//! starts itself again as the nursery.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod cases;
mod inside;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use podwright_sandboxd::confine;
use rustix::process::{Pid, Signal, kill_process_group};

/// An ordinary user without an entry in the image's passwd.
const UID: u32 = 1_234_567;
/// A case that takes longer hangs. The slowest needs about 15 s.
const LIMIT: Duration = Duration::from_secs(90);

/// Makes the namespaces look like a container: loopback with a second address as the pod's own, terminals and shared
/// memory of its own.
const CONTAINER: &str = r#"
set -e
/usr/bin/python3 - <<'PY'
import fcntl, socket, struct
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def up(name): fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", name, 0x49))
up(b"lo")
address = struct.pack("16sHH4s8x", b"lo:pod", socket.AF_INET, 0, socket.inet_aton("10.99.0.1"))
fcntl.ioctl(control, 0x8916, address)
PY
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /dev/pts
mount --bind /dev/pts/ptmx /dev/ptmx
# Through a shell: setpriv itself executes its program while it still has the right to read everything, and the kernel
# then takes the supervisor's file for readable.
exec setpriv --reuid "$1" --regid "$1" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    sh -c 'exec "$1/supervisor" inside "$0" "$1"' "$3" "$2"
"#;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [confine::NURSERY_COMMAND] => ExitCode::from(confine::nursery_main()),
        ["inside", case, dir] => inside::run(case, Path::new(dir)),
        words => test(words),
    }
}

/// The part of cargo's test interface that is used: words to select by, `--exact`, `--list`.
fn test(words: &[&str]) -> ExitCode {
    let wanted: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let exact = words.contains(&"--exact");
    let selected: Vec<&str> = cases::ALL
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| {
            wanted.is_empty()
                || wanted.iter().any(|word| if exact { name == word } else { name.contains(word) })
        })
        .collect();
    if words.contains(&"--list") {
        selected.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", selected.len());
    let failed: Vec<&str> = selected.iter().copied().filter(|name| !passes(name)).collect();
    println!("\ntest result: {} passed; {} failed: {failed:?}", selected.len() - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(case: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let begun = Instant::now();
    let mut child = Command::new("unshare")
        .args([
            "--pid",
            "--net",
            "--ipc",
            "--mount-proc",
            "--fork",
            "--kill-child=KILL",
            "sh",
            "-c",
            CONTAINER,
            "sh",
        ])
        .arg(UID.to_string())
        .arg(dir.path())
        .arg(case)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("unshare (util-linux) and root are needed");
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.to_string();
        }
        if begun.elapsed() > LIMIT {
            // Process 1 of the namespace is in this group, and everything else ends with it.
            kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
            child.wait().unwrap();
            break "hung".to_owned();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let passed = status == "exit status: 0";
    let word = if passed { "ok".to_owned() } else { format!("FAILED ({status})") };
    println!("test {case} ... {word} ({} ms)", begun.elapsed().as_millis());
    passed
}

/// Lays out what a case finds: the supervisor's program, the probe, a file that is nobody's business, a workspace.
fn prepare(dir: &Path) {
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(dir, 0o755);
    let supervisor = dir.join("supervisor");
    std::fs::copy(std::env::current_exe().unwrap(), &supervisor).unwrap();
    mode(&supervisor, 0o111);
    std::fs::create_dir(dir.join("image")).unwrap();
    std::fs::write(dir.join("image/probe.py"), include_str!("probe.py")).unwrap();
    for own in ["workspace", "outside"] {
        std::fs::create_dir(dir.join(own)).unwrap();
        chown(dir.join(own), Some(UID), Some(UID)).unwrap();
    }
    std::fs::write(dir.join("outside/secret"), "canary").unwrap();
    chown(dir.join("outside/secret"), Some(UID), Some(UID)).unwrap();
}
