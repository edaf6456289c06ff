//! A git server on this machine, and the repositories that it serves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A smart HTTP git server. It ends with the value.
pub(crate) struct GitServer {
    child: Child,
    folder: TempDir,
    address: String,
}

impl GitServer {
    /// A server on a free port of `host`.
    pub(crate) fn start(host: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/git_server.py"))
            .args([folder.path().as_os_str(), host.to_string().as_ref()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        Self { child, folder, address: format!("{host}:{}", line.trim()) }
    }

    /// Address of a repository that everybody may read. A first part of the path that names a fault (`private/`,
    /// `stall/` …) is kept.
    pub(crate) fn url(&self, repository: &str) -> String {
        let path =
            if repository.contains('/') { repository.to_owned() } else { format!("open/{repository}") };
        format!("http://{}/{path}.git", self.address)
    }

    /// Makes a repository with one commit on `main` of these files.
    pub(crate) fn repository(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let bare = self.folder.path().join(format!("{name}.git"));
        git(self.folder.path(), &["init", "-q", "--bare", "-b", "main", path(&bare)]);
        if files.is_empty() {
            return bare;
        }
        let work = tempfile::tempdir().expect("a folder");
        git(work.path(), &["init", "-q", "-b", "main"]);
        for (name, content) in files {
            let file = work.path().join(name);
            fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
            fs::write(file, content).expect("a file");
        }
        git(work.path(), &["add", "-A"]);
        git(work.path(), &["commit", "-q", "-m", "Begin"]);
        git(work.path(), &["push", "-q", path(&bare), "main"]);
        bare
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs git in a folder, with none of the machine's configuration, and gives what it printed.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git is there");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
