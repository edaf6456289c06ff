//! Fetching from a real server, and every way in which it fails.

use std::num::NonZeroU32;
use std::process::Command;
use std::time::Duration;

use podwright::workspace::fetch::{Found, Unreachable};
use podwright::workspace::{Bounds, Credential, Depth, FetchError, FetchSpec, checkout, fetch_beside};
use secrecy::SecretString;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{Server, Source, Volumes, all_bytes, confined_git, contains, git, spec};

fn two_commits(server: &Server, name: &str) -> (Source, String, String) {
    let source = server.repository(name);
    let first = source.write("a.txt", "one\n").commit("first");
    source.git(&["tag", "-a", "v1", "-m", "one"]);
    let second = source.write("a.txt", "two\n").commit("second");
    source.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    (source, first, second)
}

fn credential(username: &str, password: &str) -> Option<Credential> {
    Some(Credential { username: username.to_owned(), password: SecretString::from(password) })
}

fn history(volumes: &Volumes, commit: &str) -> String {
    git(&volumes.directory.path().join("repo/app/git"), &["rev-list", "--count", commit])
}

#[tokio::test]
async fn a_branch_a_tag_and_a_commit_are_found() {
    let server = Server::start();
    let (_source, first, second) = two_commits(&server, "app.git");
    let url = server.url("open/app.git");
    for (reference, found, commit) in [
        ("main", Found::Branch, &second),
        ("refs/heads/main", Found::Branch, &second),
        ("v1", Found::Tag, &first),
        ("refs/tags/v1", Found::Tag, &first),
        (first.as_str(), Found::Commit, &first),
    ] {
        let volumes = Volumes::new();
        let fetched = volumes.fetch(&spec(url.clone(), reference)).await.unwrap();
        assert_eq!((fetched.found, fetched.base_commit.to_string()), (found, commit.clone()), "{reference}");
    }
}

#[tokio::test]
async fn the_depth_is_what_was_asked_for() {
    let server = Server::start();
    let (_source, _, second) = two_commits(&server, "app.git");
    for (depth, count) in [(Depth::Shallow(NonZeroU32::MIN), "1"), (Depth::Full, "2")] {
        let volumes = Volumes::new();
        volumes.fetch(&FetchSpec { depth, ..spec(server.url("open/app.git"), "main") }).await.unwrap();
        assert_eq!(history(&volumes, &second), count);
    }
}

#[tokio::test]
async fn a_password_is_sent_and_kept_nowhere() {
    let server = Server::start();
    let (_source, _, second) = two_commits(&server, "app.git");
    let volumes = Volumes::new();
    let spec =
        FetchSpec { credential: credential("ada", "s3cret"), ..spec(server.url("private/app.git"), "main") };
    let fetched = volumes.fetch(&spec).await.unwrap();
    assert_eq!(fetched.base_commit.to_string(), second);
    let everything = all_bytes(volumes.directory.path());
    assert!(!contains(&everything, b"s3cret") && !contains(&everything, b"YWRhOnMzY3JldA"));
    assert!(!format!("{spec:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_second_fetch_uses_the_record() {
    let server = Server::start();
    let (source, ..) = two_commits(&server, "app.git");
    let volumes = Volumes::new();
    let spec = spec(server.url("open/app.git"), "main");
    let first = volumes.fetch(&spec).await.unwrap();
    source.write("a.txt", "three\n").commit("third");
    assert_eq!(volumes.fetch(&spec).await.unwrap(), first);
    drop(server);
    assert_eq!(volumes.fetch(&spec).await.unwrap(), first, "without a server too");
    let other = FetchSpec { reference: "v1".parse().unwrap(), ..spec };
    assert!(matches!(volumes.fetch(&other).await, Err(FetchError::OtherRepository)));
}

async fn failure(spec: FetchSpec) -> FetchError {
    let volumes = Volumes::new();
    let error = volumes.fetch(&spec).await.unwrap_err();
    let left: Vec<_> = std::fs::read_dir(volumes.directory.path().join("repo/app")).unwrap().collect();
    assert!(left.is_empty(), "a failed fetch leaves nothing: {left:?}");
    error
}

#[tokio::test]
async fn a_wrong_reference_names_those_that_are_near() {
    let server = Server::start();
    let (source, first, _) = two_commits(&server, "app.git");
    source.git(&["branch", "maintenance"]);
    let url = server.url("open/app.git");
    let error = failure(spec(url.clone(), "mian")).await;
    let FetchError::ReferenceNotFound { reference, nearest } = &error else { panic!("{error:?}") };
    assert_eq!((reference.as_str(), nearest[0].as_str()), ("mian", "main"));
    assert!(error.to_string().contains("\"mian\"; it has \"main\""), "{error}");
    let absent = first.replace(|c: char| c.is_ascii_hexdigit(), "d");
    let error = failure(spec(url, &absent)).await;
    assert!(matches!(error, FetchError::ReferenceNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn an_empty_repository_says_so() {
    let server = Server::start();
    server.repository("empty.git");
    let error = failure(spec(server.url("open/empty.git"), "main")).await;
    assert!(matches!(error, FetchError::Empty { .. }), "{error:?}");
    assert!(error.to_string().contains("push a first commit"), "{error}");
}

#[tokio::test]
async fn a_missing_repository_says_so() {
    let server = Server::start();
    let error = failure(spec(server.url("open/none.git"), "main")).await;
    assert!(matches!(error, FetchError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_or_wrong_password_shows_the_command_that_is_right() {
    let server = Server::start();
    two_commits(&server, "app.git");
    let private = spec(server.url("private/app.git"), "main");
    let error = failure(private.clone()).await;
    assert!(matches!(error, FetchError::AuthenticationRequired { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("kubectl create secret generic"), "{text}");
    assert!(text.contains("--from-literal=username=") && text.contains("--from-literal=password="), "{text}");
    assert!(text.contains("podwright.dev/hosts=127.0.0.1,"), "{text}");

    let error = failure(FetchSpec { credential: credential("ada", "wrong"), ..private }).await;
    assert!(matches!(error, FetchError::AuthenticationFailed { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");

    let forbidden = spec(server.url("forbidden/app.git"), "main");
    let error = failure(FetchSpec { credential: credential("ada", "s3cret"), ..forbidden }).await;
    assert!(matches!(error, FetchError::AuthenticationFailed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start();
    two_commits(&server, "app.git");
    let error = failure(spec(server.url("redirect/app.git"), "main")).await;
    assert!(matches!(error, FetchError::Redirected { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_git_server_says_so() {
    let server = Server::start();
    let error = failure(spec(server.url("html/app.git"), "main")).await;
    assert!(matches!(error, FetchError::NotGit { .. }), "{error:?}");
    let error = failure(spec(server.url("broken/app.git"), "main")).await;
    assert!(matches!(error, FetchError::Server { status: 503, .. }), "{error:?}");
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = Server::start();
    let bounds = Bounds { stall: Duration::from_secs(2), ..Bounds::default() };
    let error = failure(FetchSpec { bounds, ..spec(server.url("stall/app.git"), "main") }).await;
    assert!(matches!(error, FetchError::Stalled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_never_becomes_tls_is_given_up() {
    // Accepts connections (the kernel does) and never says a word.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/app.git", listener.local_addr().unwrap()).parse().unwrap();
    let bounds = Bounds { stall: Duration::from_secs(1), ..Bounds::default() };
    let error = failure(FetchSpec { bounds, ..spec(url, "main") }).await;
    assert!(matches!(error, FetchError::Stalled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/app.git", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = failure(spec(url, "main")).await;
    assert!(matches!(&error, FetchError::Unreachable { why: Unreachable::Connection(_), .. }), "{error:?}");
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_given_up() {
    // Once nobody takes the connections that wait, the kernel drops those that come.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(made) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        waiting.push(made.unwrap());
        assert!(waiting.len() < 16, "the queue never fills");
    }
    let connect = Duration::from_secs(1);
    let bounds = Bounds { connect, ..Bounds::default() };
    let url = format!("http://{address}/app.git").parse().unwrap();
    let error = failure(FetchSpec { bounds, ..spec(url, "main") }).await;
    let FetchError::Unreachable { why, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*why, Unreachable::NoAnswer(connect));
    assert!(error.to_string().contains("no answer within 1 s; check the repository's url"), "{error}");
}

#[tokio::test]
async fn urls_and_credentials_that_are_not_allowed_are_refused() {
    for url in
        ["ssh://git@example.com/a", "file:///etc", "https://ada:s3cret@example.com/a", "git://example.com/a"]
    {
        let error = failure(spec(url.parse().unwrap(), "main")).await;
        assert!(matches!(error, FetchError::Url { .. }), "{error:?}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    let plain = spec("http://git.example.com/a".parse().unwrap(), "main");
    let error = failure(FetchSpec { credential: credential("ada", "s3cret"), ..plain }).await;
    assert!(matches!(error, FetchError::InsecureCredential { .. }), "{error:?}");
}

#[tokio::test]
async fn a_private_authority_needs_its_certificate() {
    let directory = tempfile::TempDir::new().unwrap();
    let pem = directory.path().join("server.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&pem)
        .arg("-out")
        .arg(directory.path().join("ca.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let key = std::fs::read_to_string(&pem).unwrap();
    std::fs::write(&pem, format!("{key}{certificate}")).unwrap();

    let server = Server::start_tls(&pem);
    let (_source, _, second) = two_commits(&server, "app.git");
    let untrusted = spec(server.url("private/app.git"), "main");
    let untrusted = FetchSpec { credential: credential("ada", "s3cret"), ..untrusted };
    let error = failure(untrusted.clone()).await;
    assert!(matches!(error, FetchError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("caBundle"), "{error}");
    let trusted = FetchSpec { ca_bundle: Some(certificate), ..untrusted };
    assert_eq!(Volumes::new().fetch(&trusted).await.unwrap().base_commit.to_string(), second);
}

/// Processes whose arguments mention `text`.
fn processes(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap();
    let arguments = entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    arguments.filter(|arguments| contains(arguments, text.as_bytes())).count()
}

#[tokio::test]
async fn an_abandoned_fetch_leaves_no_process() {
    let server = Server::start();
    let url = server.url("stall/app.git");
    let volumes = Volumes::new();
    let spec = spec(url.clone(), "main");
    {
        let fetching = volumes.fetch(&spec);
        tokio::pin!(fetching);
        // Until git and its transport helper are there.
        while processes(url.as_str()) < 2 {
            let waited = tokio::time::timeout(Duration::from_millis(20), &mut fetching).await;
            assert!(waited.is_err(), "{waited:?}");
        }
    }
    while processes(url.as_str()) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_second_branch_is_fetched_beside_the_first_and_found_again() {
    let server = Server::start();
    let source = server.repository("app.git");
    let fork = source.write("a.txt", "one\n").commit("first");
    source.git(&["branch", "feature"]);
    let main = source.write("a.txt", "two\n").commit("second");
    source.git(&["checkout", "-q", "feature"]);
    let feature = source.write("b.txt", "three\n").commit("third");

    let volumes = Volumes::new();
    let fetched = volumes.fetch(&spec(server.url("open/app.git"), "feature")).await.unwrap();
    let base = spec(server.url("open/app.git"), "main");
    let fetched = fetch_beside(&base, fetched, &volumes.layout, &confined_git()).await.unwrap();
    let beside = fetched.beside.clone().unwrap();
    assert_eq!((fetched.base_commit.to_string(), beside.commit.to_string()), (feature.clone(), main.clone()));
    assert_eq!(beside.meets.unwrap().to_string(), fork);

    // Without a server, everything is there already.
    drop(server);
    let again =
        podwright::workspace::fetched(&base.url, &fetched.reference, &volumes.layout).unwrap().unwrap();
    assert_eq!(again, fetched);
    let again = fetch_beside(&base, again, &volumes.layout, &confined_git()).await.unwrap();
    checkout(&again, &volumes.layout, &confined_git()).await.unwrap();
    let tree = volumes.worktree();
    assert_eq!(git(&tree, &["diff", "--name-only", "origin/main...HEAD"]), "b.txt");
    assert_eq!(git(&tree, &["rev-parse", "origin/main", "HEAD"]), format!("{main}\n{feature}"));
    git(&tree, &["fsck", "--full", "--strict"]);
}
