//! The artifact store against a real S3 server, which each test starts for itself: signatures, errors and listings as
//! they come over the wire. `hack/tool versitygw` builds it.

// In an integration test Clippy takes everything outside the test functions for shipped code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

use podwright::artifacts::{ArtifactStore, ENCODED_MAX, ObjectKey, StoreError};
use podwright::names::ArtifactKind;

use self::server::{SECRET, Server};

const UID: &str = "5d1f7a52-5e8b-4f0a-8a35-3f1f0f6d9c11";

fn key(namespace: &str, kind: ArtifactKind) -> ObjectKey {
    ObjectKey::new(namespace, UID, kind, &"ab".repeat(32))
}

#[tokio::test]
async fn what_is_put_comes_back_and_again_changes_nothing() {
    let server = Server::start();
    let store = server.store("s3://artifacts/a/prefix", SECRET);
    let key = key("team", ArtifactKind::Patch);
    assert!(matches!(store.get(&key).await, Err(StoreError::Missing(_))));
    let content = vec![7; ENCODED_MAX];
    for _ in 0..2 {
        store.put(&key, content.clone()).await.unwrap();
    }
    assert_eq!(store.get(&key).await.unwrap(), content);
    assert_eq!(server.objects(), [format!("artifacts/a/prefix/team/{UID}/patch-{}.zst", "ab".repeat(32))]);
    assert!(store.url(&key).starts_with("s3://artifacts/a/prefix/team/"));
}

#[tokio::test]
async fn clearing_takes_the_objects_of_one_attempt() {
    let server = Server::start();
    let store = server.store("s3://artifacts", SECRET);
    for key in [
        key("team", ArtifactKind::Patch),
        key("team", ArtifactKind::Transcript),
        key("teams", ArtifactKind::Patch),
    ] {
        store.put(&key, b"x".to_vec()).await.unwrap();
    }
    assert_eq!(store.clear("team", UID).await.unwrap(), 2);
    assert_eq!(store.clear("team", UID).await.unwrap(), 0, "again is no error");
    assert!(store.get(&key("teams", ArtifactKind::Patch)).await.is_ok(), "another namespace's stay");
}

#[tokio::test]
async fn what_is_no_artifact_is_not_read() {
    let server = Server::start();
    let store = server.store("s3://artifacts", SECRET);
    let key = key("team", ArtifactKind::Patch);
    store.put(&key, vec![0; ENCODED_MAX + 1]).await.unwrap();
    assert!(matches!(store.get(&key).await, Err(StoreError::TooLarge(_))));
}

#[tokio::test]
async fn a_refusal_says_what_the_server_says() {
    let server = Server::start();
    let key = key("team", ArtifactKind::Patch);
    let refused = server.store("s3://artifacts", "wrong").put(&key, b"x".to_vec()).await.unwrap_err();
    assert!(refused.to_string().contains("SignatureDoesNotMatch"), "{refused}");
    let missing = server.store("s3://elsewhere", SECRET).put(&key, b"x".to_vec()).await.unwrap_err();
    assert!(missing.to_string().contains("NoSuchBucket"), "{missing}");
    assert!(!refused.to_string().contains(SECRET), "{refused}");
}

#[tokio::test]
async fn a_server_that_is_away_is_reached_when_it_is_back() {
    let mut server = Server::start();
    let store: ArtifactStore = server.store("s3://artifacts", SECRET);
    let key = key("team", ArtifactKind::Patch);
    store.put(&key, b"x".to_vec()).await.unwrap();
    server.stop();
    let away = store.put(&key, b"x".to_vec()).await.unwrap_err();
    assert!(matches!(away, StoreError::Failed(_) | StoreError::Timeout(_)), "{away}");
    assert!(
        store.get(&key).await.is_err_and(|error| !matches!(error, StoreError::Missing(_))),
        "away is not gone"
    );
    assert!(store.clear("team", UID).await.is_err());
    server.start_again();
    store.put(&key, b"x".to_vec()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), b"x"[..]);
}
