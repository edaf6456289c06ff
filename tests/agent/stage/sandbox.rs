//! A real supervisor, without a container.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use podwright::sandbox::ChildDial;

use crate::supervisor::program;

/// The supervisor's program inside: the build may lie below the /tmp that the sandbox replaces.
const INSIDE: &str = "/mnt/podwright-sandboxd";

/// A supervisor in namespaces of its own.
pub(super) struct Sandbox {
    unshare: Child,
    pid: u32,
    /// Says where it is, to whoever dials.
    pid_file: PathBuf,
}

impl Sandbox {
    pub(super) fn boot(pid_file: PathBuf) -> Self {
        let script = format!(
            "mount -t tmpfs -o mode=755 tmpfs /mnt && cp {} {INSIDE} && mount -t tmpfs tmpfs /tmp \
             && mount -t tmpfs tmpfs /dev/shm && chmod 1777 /tmp /dev/shm \
             && mount -t tmpfs tmpfs /home && mkdir /home/agent && ip link set lo up \
             && exec setpriv --pdeathsig KILL {INSIDE}",
            program().display()
        );
        // Whatever becomes of the test, nothing is left running.
        let unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--mount-proc", "--net", "--ipc"])
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut sandbox = Self { unshare, pid: 0, pid_file };
        let children = format!("/proc/{0}/task/{0}/children", sandbox.unshare.id());
        while sandbox.pid == 0 {
            let pid: u32 = fs::read_to_string(&children).unwrap_or_default().trim().parse().unwrap_or(0);
            let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
            if sockets.contains("@podwright-sandboxd") {
                sandbox.pid = pid;
            }
            assert!(
                sandbox.unshare.try_wait().unwrap().is_none(),
                "the supervisor did not start; are we root?"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::write(&sandbox.pid_file, sandbox.pid.to_string()).unwrap();
        sandbox
    }

    pub(super) fn restart(&mut self) {
        self.kill();
        *self = Self::boot(self.pid_file.clone());
    }

    /// Joins the supervisor that is there at the time of the dialling.
    pub(super) fn dial(&self) -> ChildDial {
        let script = format!(
            "exec nsenter --target $(cat {}) --pid --mount --net --ipc {INSIDE} attach",
            self.pid_file.display(),
        );
        ChildDial::new(["sh", "-c", &script])
    }

    fn kill(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status();
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}
