//! An S3 server of a test's own, on the loopback address.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use podwright::artifacts::ArtifactStore;
use tempfile::TempDir;

const ACCESS: &str = "podwright";
pub(crate) const SECRET: &str = "only-for-this-test";

/// How long the server may take to listen: it does in a tenth of a second, on a machine that has time.
const START: Duration = Duration::from_secs(60);

/// The server, with the bucket `artifacts`.
pub(crate) struct Server {
    directory: TempDir,
    port: u16,
    process: Child,
}

impl Server {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for folder in ["objects/artifacts", "metadata"] {
            std::fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        // Free a moment ago. Another test that is given the same one makes the server end at once, and a new one is asked for.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            if let Some(process) = run(directory.path(), port) {
                return Self { directory, port, process };
            }
        }
        panic!("the S3 server does not start");
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = run(self.directory.path(), self.port).expect("the S3 server starts again");
    }

    /// A store of this server.
    pub(crate) fn store(&self, url: &str, secret: &str) -> ArtifactStore {
        let settings = [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ACCESS_KEY_ID", ACCESS.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        ArtifactStore::open(url, settings.map(|(name, value)| (name.to_owned(), value))).unwrap()
    }

    /// Bucket and name of each object.
    pub(crate) fn objects(&self) -> Vec<String> {
        let root = self.directory.path().join("objects");
        let mut found = Vec::new();
        let mut open = vec![root.join("artifacts")];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the server until it listens; none when it ended before that.
fn run(directory: &Path, port: u16) -> Option<Child> {
    let program = std::env::var_os("PODWRIGHT_TEST_S3").map(PathBuf::from);
    let program =
        program.expect("PODWRIGHT_TEST_S3 names no program: set it to what `hack/tool versitygw` prints");
    let mut process = Command::new(program)
        .args(["--port", &format!("127.0.0.1:{port}"), "--quiet", "--keep-alive"])
        .args(["--access", ACCESS, "--secret", SECRET])
        // Beside the objects: not every file system has extended attributes.
        .arg("posix")
        .arg("--sidecar")
        .arg(directory.join("metadata"))
        .arg(directory.join("objects"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    loop {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Some(process);
        }
        assert!(began.elapsed() < START, "the S3 server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
