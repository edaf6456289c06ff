//! Work trees that were made to hurt whoever reads them, and commands that change them meanwhile.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podwright::workspace::snapshot::Limits;
use podwright::workspace::{Fetched, Patch, PatchBody, ReadError, Reader, Worktree};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::support::{Server, Volumes, all_bytes, contains, git, spec};

const CANARY: &[u8] = b"MODEL-KEY-CANARY";

/// A prepared work tree with one file `a`, and beside it a secret that only the agent has.
struct Stage {
    _server: Server,
    volumes: Volumes,
    fetched: Fetched,
    worktree: Worktree,
}

impl Stage {
    async fn new() -> Self {
        let server = Server::start();
        server.repository("app.git").write("a", "x\n").write("dir/file", "in\n").commit("first");
        let volumes = Volumes::new();
        let (fetched, worktree) = volumes.prepare(&spec(server.url("open/app.git"), "main")).await;
        let secret = volumes.directory.path().join("state");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), CANARY).unwrap();
        Self { _server: server, volumes, fetched, worktree }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.volumes.worktree().join(path)
    }

    fn secret(&self) -> std::path::PathBuf {
        self.volumes.directory.path().join("state")
    }

    async fn patch(&mut self) -> Patch {
        self.worktree.patch(self.fetched.base_tree, 10 << 20).await.unwrap()
    }

    /// What can have left: the patch and the bare repository.
    fn assert_no_leak(&self, patch: &Patch) {
        if let PatchBody::Whole(bytes) = &patch.body {
            assert!(!contains(bytes, CANARY), "the secret is in the patch");
        }
        assert!(
            !contains(&all_bytes(&self.volumes.directory.path().join("repo")), CANARY),
            "the secret is in an object"
        );
    }
}

fn changed(patch: &Patch) -> Vec<String> {
    patch.files.iter().map(|file| file.path.to_string()).collect()
}

fn skipped(patch: &Patch) -> Vec<String> {
    patch.skipped.named.iter().map(|skipped| skipped.path.to_string()).collect()
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_bits_retain(0o666), 0).unwrap();
}

#[tokio::test]
async fn a_nested_repository_with_a_filter_runs_nothing_in_two_patches() {
    let mut stage = Stage::new().await;
    let marker = stage.secret().join("ran");
    let script = stage.path("evil.sh");
    fs::write(&script, format!("#!/bin/sh\ntouch {}\ncat\n", marker.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let nest = stage.path("nest");
    fs::create_dir(&nest).unwrap();
    git(&nest, &["init", "-q"]);
    fs::write(nest.join("tracked"), "one\n").unwrap();
    git(&nest, &["add", "-A"]);
    git(&nest, &["commit", "-q", "-m", "one"]);
    for name in
        ["filter.evil.clean", "filter.evil.process", "core.fsmonitor", "diff.external", "core.sshCommand"]
    {
        git(&nest, &["config", name, script.to_str().unwrap()]);
        git(&stage.volumes.worktree(), &["config", name, script.to_str().unwrap()]);
    }
    fs::write(nest.join(".gitattributes"), "tracked filter=evil diff=evil\n").unwrap();
    fs::write(stage.path(".gitattributes"), "* filter=evil diff=evil\n").unwrap();
    fs::write(nest.join("tracked"), "two\n").unwrap();
    for _ in 0..2 {
        let patch = stage.patch().await;
        assert_eq!(changed(&patch), [".gitattributes", "evil.sh", "nest/.gitattributes", "nest/tracked"]);
        assert_eq!(skipped(&patch), ["nest/.git"]);
        fs::write(nest.join("tracked"), "two\n").unwrap();
    }
    assert!(!marker.exists());
}

#[tokio::test]
async fn special_files_are_named_and_left_alone() {
    let mut stage = Stage::new().await;
    fifo(&stage.path("pipe"));
    fs::remove_file(stage.path("a")).unwrap();
    fifo(&stage.path("a"));
    let _socket = std::os::unix::net::UnixListener::bind(stage.path("socket")).unwrap();
    symlink(stage.secret().join("key"), stage.path("link")).unwrap();
    symlink(stage.secret(), stage.path("linked-directory")).unwrap();
    let patch = stage.patch().await;
    // Links come as links.
    assert_eq!(changed(&patch), ["link", "linked-directory"]);
    assert_eq!(skipped(&patch), ["a", "pipe", "socket"]);
    stage.assert_no_leak(&patch);
}

#[tokio::test]
async fn lookalikes_of_git_are_named_and_left_alone() {
    let mut stage = Stage::new().await;
    for name in [".GIT", "git~1", "dir/.git ", "dir/.g\u{200c}it", "back\\.git"] {
        fs::create_dir(stage.path(name)).unwrap();
        fs::write(stage.path(name).join("config"), "[core]\n").unwrap();
    }
    fs::write(stage.path("dir/.git"), "gitdir: /somewhere\n").unwrap();
    symlink("x", stage.path(".gitmodules")).unwrap();
    let patch = stage.patch().await;
    assert_eq!(changed(&patch), Vec::<String>::new());
    assert_eq!(patch.skipped.count, 7);
}

#[tokio::test]
async fn unreadable_is_never_deleted() {
    let mut stage = Stage::new().await;
    fs::write(stage.path("b"), "y\n").unwrap();
    let baseline = stage.worktree.snapshot().await.unwrap().tree;
    fs::remove_dir_all(stage.path("dir")).unwrap();
    fifo(&stage.path("dir"));
    fs::remove_file(stage.path("b")).unwrap();
    fifo(&stage.path("b"));
    let patch = stage.worktree.patch(baseline, 10 << 20).await.unwrap();
    assert_eq!(changed(&patch), Vec::<String>::new());
    assert_eq!(skipped(&patch), ["b", "dir"]);
}

/// The whole way as an ordinary user with no passwd entry, as in a pod; root is refused nothing.
#[test]
fn without_permission_is_skipped() {
    if rustix::process::getuid().is_root() {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=1234567", "--regid=1234567", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "hostile::without_permission_is_skipped", "--nocapture"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new().await;
        for path in ["a", "dir"] {
            fs::set_permissions(stage.path(path), fs::Permissions::from_mode(0o000)).unwrap();
        }
        let patch = stage.patch().await;
        fs::set_permissions(stage.path("dir"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!((changed(&patch), skipped(&patch)), (vec![], vec!["a".to_owned(), "dir".to_owned()]));
        assert!(patch.skipped.named.iter().all(|skipped| skipped.reason.contains("permission")));
    });
}

#[tokio::test]
async fn sizes_counts_and_depths_are_bounded() {
    let mut stage = Stage::new().await;
    File::create(stage.path("sparse")).unwrap().set_len(4 << 30).unwrap();
    let mut deep = stage.path("deep");
    fs::create_dir(&deep).unwrap();
    for _ in 0..300 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    fs::write(deep.join("file"), "far\n").unwrap();
    let patch = stage.patch().await;
    assert_eq!(changed(&patch), Vec::<String>::new());
    assert_eq!(patch.skipped.count, 2);
    assert!(patch.skipped.named.iter().any(|skipped| skipped.reason.contains("deeply")));
    assert!(patch.skipped.named.iter().any(|skipped| skipped.reason.contains("larger than")));
}

#[tokio::test]
async fn what_is_after_a_bound_keeps_its_former_state() {
    let stage = Stage::new().await;
    fs::remove_dir_all(stage.path("dir")).unwrap();
    fs::write(stage.path("a"), "changed\n").unwrap();
    for name in ["b", "c", "e"] {
        fs::write(stage.path(name), "new\n").unwrap();
    }
    let limits = Limits { total: 10, ..Limits::default() };
    let mut worktree = stage.worktree.with_limits(limits);
    let patch = worktree.patch(stage.fetched.base_tree, 10 << 20).await.unwrap();
    // "a" and "b" took 12 bytes; "dir", which comes after, is not said to be deleted.
    assert_eq!(changed(&patch), ["a", "b"]);
    assert_eq!(skipped(&patch), ["c"]);
    let many = Limits { entries: 3, ..Limits::default() };
    let patch = worktree.with_limits(many).patch(stage.fetched.base_tree, 10 << 20).await.unwrap();
    assert_eq!((changed(&patch), skipped(&patch)), (vec![], vec![".".to_owned()]));
}

/// They are made by one command within a second, and each of them is held in several trees.
#[tokio::test]
async fn very_many_long_paths_are_left_out() {
    let mut stage = Stage::new().await;
    fs::write(stage.path("a"), "changed\n").unwrap();
    let mut directory =
        rustix::fs::open(stage.volumes.worktree(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = "d".repeat(250);
    for _ in 0..14 {
        rustix::fs::mkdirat(&directory, &name, Mode::RWXU).unwrap();
        directory =
            rustix::fs::openat(&directory, &name, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    for number in 0..14_500 {
        rustix::fs::openat(&directory, format!("{number}"), flags, Mode::RWXU).unwrap();
    }
    let patch = stage.patch().await;
    assert_eq!(changed(&patch), ["a"]);
    assert_eq!(patch.skipped.count, 1);
    let skipped = &patch.skipped.named[0];
    assert_eq!(skipped.path.as_bytes(), vec![name; 14].join("/").as_bytes());
    assert!(skipped.reason.contains("more entries"), "{}", skipped.reason);
}

#[tokio::test]
async fn a_path_deeper_than_the_system_names_is_skipped() {
    let mut stage = Stage::new().await;
    // Made with descriptors, as a command can: no single call takes such a path.
    let name = "d".repeat(250);
    let mut directory =
        rustix::fs::open(stage.volumes.worktree(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&directory, &name, Mode::RWXU).unwrap();
        directory =
            rustix::fs::openat(&directory, &name, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let patch = stage.patch().await;
    assert_eq!((changed(&patch).len(), patch.skipped.count), (0, 1));
    // std cannot remove it either.
    std::process::Command::new("rm").arg("-rf").arg(stage.path(&name)).status().unwrap();
}

#[tokio::test]
async fn names_that_are_no_text_come_whole_and_are_shown_quoted() {
    let mut stage = Stage::new().await;
    for name in [&b"new\nline"[..], b"\x1b[2J", b"\xff\xfe", b"tab\t"] {
        fs::write(stage.volumes.worktree().join(std::ffi::OsStr::from_bytes(name)), "x\n").unwrap();
    }
    let patch = stage.patch().await;
    assert_eq!(changed(&patch), [r#""\033[2J""#, r#""new\nline""#, r#""tab\t""#, r#""\377\376""#]);
    let text = patch.text().unwrap();
    assert!(!text.contains('\x1b'), "no escape reaches a terminal");
}

#[tokio::test]
async fn the_whole_work_tree_may_be_gone_or_replaced() {
    let mut stage = Stage::new().await;
    fs::rename(stage.volumes.worktree(), stage.volumes.directory.path().join("workspace/moved")).unwrap();
    let patch = stage.patch().await;
    assert_eq!((changed(&patch), skipped(&patch)), (vec![], vec![".".to_owned()]));
    symlink(stage.secret(), stage.volumes.worktree()).unwrap();
    let patch = stage.patch().await;
    assert_eq!((changed(&patch), skipped(&patch)), (vec![], vec![".".to_owned()]));
    stage.assert_no_leak(&patch);
}

#[tokio::test]
async fn instructions_are_read_through_the_same_door() {
    let stage = Stage::new().await;
    let reader = Reader::open(stage.volumes.layout.workspace()).unwrap();
    let read = |path: &str| reader.read(Path::new(path), 8);
    fs::write(stage.path("AGENTS.md"), "be careful").unwrap();
    let content = read("app/AGENTS.md").unwrap();
    assert_eq!((content.bytes.as_slice(), content.truncated), (&b"be caref"[..], true));
    fs::remove_file(stage.path("AGENTS.md")).unwrap();
    assert_eq!(read("app/AGENTS.md"), Err(ReadError::Missing));
    symlink(stage.secret().join("key"), stage.path("AGENTS.md")).unwrap();
    assert_eq!(read("app/AGENTS.md"), Err(ReadError::Leads));
    symlink(stage.secret(), stage.path("out")).unwrap();
    assert_eq!(read("app/out/key"), Err(ReadError::Leads));
    assert_eq!(read("app/../../state/key"), Err(ReadError::Leads));
    assert_eq!(read("/etc/passwd"), Err(ReadError::Leads));
    fifo(&stage.path("PIPE.md"));
    assert_eq!(read("app/PIPE.md"), Err(ReadError::NotRegular));
    assert_eq!(read("app/dir"), Err(ReadError::NotRegular));
}

/// A thread that does `step` until it is told to stop.
struct Racer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Racer {
    fn start(mut step: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut steps = 0;
            while !told.load(Ordering::Relaxed) {
                step();
                steps += 1;
            }
            steps
        });
        Self { stop, thread: Some(thread) }
    }

    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn swap(one: &Path, other: &Path) -> impl FnMut() + Send + 'static {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let (one, other) = (path(one), path(other));
    move || {
        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Patches while the tree changes. Each must end, well, and tell nothing of the secret.
async fn race(stage: &mut Stage, racer: Racer) {
    let end = Instant::now() + Duration::from_secs(3);
    let mut runs = 0;
    while Instant::now() < end || runs < 5 {
        let patch = stage.patch().await;
        stage.assert_no_leak(&patch);
        runs += 1;
    }
    assert!(racer.finish() > runs, "there was a race");
}

#[tokio::test]
async fn a_directory_swapped_with_a_link_leaks_nothing() {
    let mut stage = Stage::new().await;
    fs::create_dir(stage.path("dd")).unwrap();
    fs::write(stage.path("dd/key"), "harmless\n").unwrap();
    symlink(stage.secret(), stage.path("ll")).unwrap();
    let racer = Racer::start(swap(&stage.path("dd"), &stage.path("ll")));
    race(&mut stage, racer).await;
}

#[tokio::test]
async fn a_file_swapped_with_a_pipe_or_link_blocks_and_leaks_nothing() {
    let mut stage = Stage::new().await;
    fs::write(stage.path("file"), "harmless\n").unwrap();
    fifo(&stage.path("pipe"));
    let pipes = Racer::start(swap(&stage.path("file"), &stage.path("pipe")));
    fs::write(stage.path("plain"), "harmless\n").unwrap();
    symlink(stage.secret().join("key"), stage.path("link")).unwrap();
    let links = Racer::start(swap(&stage.path("plain"), &stage.path("link")));
    race(&mut stage, pipes).await;
    links.finish();
}

#[tokio::test]
async fn a_file_cut_off_under_the_reading_does_no_harm() {
    let mut stage = Stage::new().await;
    let file = File::create(stage.path("shrinks")).unwrap();
    let mut long = false;
    let racer = Racer::start(move || {
        long = !long;
        file.set_len(if long { 8 << 20 } else { 1 }).unwrap();
    });
    race(&mut stage, racer).await;
}

#[tokio::test]
async fn a_tree_in_motion_still_gives_a_proved_patch() {
    let mut stage = Stage::new().await;
    let root = stage.volumes.worktree();
    let mut n = 0_u32;
    let racer = Racer::start(move || {
        n = n.wrapping_add(1);
        let name = root.join(format!("m{}", n % 7));
        match n % 5 {
            0 => drop(fs::remove_dir_all(&name)),
            1 => drop(fs::create_dir(&name)),
            2 => drop(fs::write(name.join("in"), n.to_string())),
            3 => drop(fs::remove_file(&name)),
            _ => drop(fs::write(&name, n.to_string())),
        }
    });
    race(&mut stage, racer).await;
}
