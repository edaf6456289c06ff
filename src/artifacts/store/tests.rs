use super::*;
use crate::names::ArtifactKind;

const UID: &str = "5d1f7a52-5e8b-4f0a-8a35-3f1f0f6d9c11";

fn directory() -> (tempfile::TempDir, ArtifactStore) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}/", directory.path().display());
    let store = ArtifactStore::open(&url, []).unwrap();
    (directory, store)
}

fn key(namespace: &str, sha256: &str) -> ObjectKey {
    ObjectKey::new(namespace, UID, ArtifactKind::Patch, sha256)
}

#[tokio::test]
async fn what_is_put_comes_back_and_again_changes_nothing() {
    let (directory, store) = directory();
    let key = key("team", "ab");
    assert!(matches!(store.get(&key).await, Err(StoreError::Missing(_))));
    for _ in 0..2 {
        store.put(&key, b"packed".to_vec()).await.unwrap();
    }
    assert_eq!(store.get(&key).await.unwrap(), b"packed"[..]);
    let url = store.url(&key);
    assert_eq!(url, format!("file://{}/team/{UID}/patch-ab.zst", directory.path().display()));
    assert_eq!(std::fs::read(url.strip_prefix("file://").unwrap()).unwrap(), b"packed");
}

#[tokio::test]
async fn clearing_takes_the_objects_of_one_attempt() {
    let (directory, store) = directory();
    for key in [key("team", "ab"), key("team", "cd"), key("teams", "ab")] {
        store.put(&key, b"x".to_vec()).await.unwrap();
    }
    assert_eq!(store.clear("team", UID).await.unwrap(), 2);
    assert_eq!(store.clear("team", UID).await.unwrap(), 0);
    assert!(store.get(&key("teams", "ab")).await.is_ok(), "another namespace's stay");
    assert!(!directory.path().join("team").join(UID).exists(), "no empty directory is left");
}

#[tokio::test]
async fn what_is_no_artifact_is_not_read() {
    let (_directory, store) = directory();
    let key = key("team", "ab");
    store.put(&key, vec![0; ENCODED_MAX + 1]).await.unwrap();
    assert!(matches!(store.get(&key).await, Err(StoreError::TooLarge(_))));
}

#[test]
fn a_url_leads_to_its_own_object_only() {
    let (_directory, store) = directory();
    let key = key("team", "ab");
    let url = store.url(&key);
    assert_eq!(store.key_of(&url, "team"), Some(key));
    assert_eq!(store.key_of(&url, "tea"), None, "another namespace's");
    assert_eq!(store.key_of(&url.replace("/team/", "/team/../other/"), "team"), None);
    assert_eq!(store.key_of("s3://elsewhere/team/x", "team"), None);
}

#[test]
fn each_kind_of_url_is_understood_and_others_are_named() {
    let settings = || {
        [("AWS_REGION", "x"), ("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("UNRELATED", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    for url in ["s3://bucket/a/b", "gs://bucket", "az://container/a/"] {
        let store = ArtifactStore::open(url, settings()).unwrap();
        let wanted = format!("{}/team/{UID}/patch-ab.zst", url.trim_end_matches('/'));
        assert_eq!(store.url(&key("team", "ab")), wanted);
    }
    let long = format!("s3://bucket/{}", "x".repeat(URL_MAX));
    for url in
        ["bucket", "ftp://bucket", "file:///nowhere/at/all", "s3://a:b@bucket", "s3://bucket?x=1", &long]
    {
        let error = ArtifactStore::open(url, settings()).unwrap_err().to_string();
        assert!(error.contains(url), "{error}");
    }
}
