//! Artifacts in an object store: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage, or a directory.

mod http;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, RetryConfig};
use url::Url;

use self::http::Connector;
use super::encoding::ENCODED_MAX;
use super::object::ObjectKey;

/// Bytes of the store's URL. With namespace, UID and digest the URL of an object stays far below the 512 of a status.
const URL_MAX: usize = 128;

/// How long one operation may take with its retries: a pass of the controller waits for it.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Retries of one request. A store that is away for longer is the caller's matter, who comes again.
const RETRIES: usize = 2;

/// Objects of one attempt that are deleted together: it has two, and one more for each that a broken pass left.
const OBJECTS_MAX: usize = 64;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL can't be used.
    #[error("the artifact store's URL {url} can't be used: {message}")]
    Url {
        /// As it was given.
        url: String,
        /// Why.
        message: String,
    },
    /// The object is not there.
    #[error("the artifact store has no object {0}")]
    Missing(String),
    /// The object is larger than an artifact.
    #[error("the object {0} is larger than an artifact may be")]
    TooLarge(String),
    /// The store refuses, fails, or can't be reached.
    #[error("the artifact store does not answer as it should: {0}")]
    Failed(#[source] Box<object_store::Error>),
    /// No answer in time.
    #[error("the artifact store did not answer within {0:?}")]
    Timeout(Duration),
}

/// A store. Cloning is cheap and shares the connections.
#[derive(Clone, Debug)]
pub struct ArtifactStore {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The URL of the prefix, without a slash at its end.
    base: String,
}

impl ArtifactStore {
    /// Opens the store of a URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or
    /// `file:///directory`, which must exist. `settings` are the variables by which the clouds' own tools are told
    /// endpoint, region and credentials (`AWS_…`, `GOOGLE_…`, `AZURE_…`); others are passed over.
    ///
    /// # Errors
    /// [`StoreError::Url`] when URL or settings can't be used. Nothing is sent yet.
    pub fn open(url: &str, settings: impl IntoIterator<Item = (String, String)>) -> Result<Self, StoreError> {
        let unusable = |message: String| StoreError::Url { url: url.to_owned(), message };
        let refused = |error: object_store::Error| unusable(error.to_string());
        if url.len() > URL_MAX {
            return Err(unusable(format!("it is longer than {URL_MAX} bytes")));
        }
        let parsed = Url::parse(url).map_err(|error| unusable(error.to_string()))?;
        if parsed.query().is_some() || parsed.fragment().is_some() || parsed.password().is_some() {
            return Err(unusable("it may have no user, query or fragment".to_owned()));
        }
        let connector = Connector::new().map_err(|error| unusable(error.to_string()))?;
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
            max_retries: RETRIES,
            retry_timeout: TIMEOUT,
        };
        let settings = settings.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let inner: Arc<dyn ObjectStore> = match parsed.scheme() {
            "s3" => {
                let builder = AmazonS3Builder::new().with_url(url);
                let builder = settings
                    .filter_map(|(name, value)| {
                        Some((name.starts_with("aws_").then(|| name.parse().ok())??, value))
                    })
                    .fold(builder, |builder, (key, value)| builder.with_config(key, value));
                Arc::new(builder.with_retry(retry).with_http_connector(connector).build().map_err(refused)?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::new().with_url(url);
                let builder = settings
                    .filter_map(|(name, value)| {
                        Some((name.starts_with("google_").then(|| name.parse().ok())??, value))
                    })
                    .fold(builder, |builder, (key, value)| builder.with_config(key, value));
                Arc::new(builder.with_retry(retry).with_http_connector(connector).build().map_err(refused)?)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::new().with_url(url);
                let builder = settings
                    .filter_map(|(name, value)| {
                        Some((name.starts_with("azure_").then(|| name.parse().ok())??, value))
                    })
                    .fold(builder, |builder, (key, value)| builder.with_config(key, value));
                Arc::new(builder.with_retry(retry).with_http_connector(connector).build().map_err(refused)?)
            }
            "file" => {
                let directory =
                    parsed.to_file_path().map_err(|()| unusable("it names no directory".to_owned()))?;
                let store = LocalFileSystem::new_with_prefix(directory).map_err(refused)?;
                // An answer means that the object is on the disk, as it does with the others.
                Arc::new(store.with_fsync(true).with_automatic_cleanup(true))
            }
            other => return Err(unusable(format!("{other} is none of s3, gs, az and file"))),
        };
        let prefix = match parsed.scheme() {
            "file" => Path::default(),
            _ => Path::from_url_path(parsed.path()).map_err(|error| unusable(error.to_string()))?,
        };
        Ok(Self { inner, prefix, base: url.trim_end_matches('/').to_owned() })
    }

    /// Where an object is, for people and programs.
    #[must_use]
    pub fn url(&self, key: &ObjectKey) -> String {
        format!("{}/{}", self.base, key.as_str())
    }

    /// The object with a URL of this store that belongs to a namespace; none when it is another's.
    #[must_use]
    pub fn key_of(&self, url: &str, namespace: &str) -> Option<ObjectKey> {
        ObjectKey::read(url.strip_prefix(&self.base)?.strip_prefix('/')?, namespace)
    }

    /// Puts an object. The same content again changes nothing.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn put(&self, key: &ObjectKey, content: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path(key.as_str());
        bounded(async { self.inner.put(&path, content.into()).await.map_err(refused) }).await.map(drop)
    }

    /// Reads an object of at most [`ENCODED_MAX`] bytes. What it is, its reader checks.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when it is not there, and whatever the store says.
    pub async fn get(&self, key: &ObjectKey) -> Result<Bytes, StoreError> {
        let path = self.path(key.as_str());
        bounded(async {
            let found = self.inner.get(&path).await.map_err(failed(&path))?;
            if found.meta.size > ENCODED_MAX as u64 {
                return Err(StoreError::TooLarge(path.to_string()));
            }
            found.bytes().await.map_err(failed(&path))
        })
        .await
    }

    /// Deletes all objects of an attempt. Where there are none, that is no error.
    ///
    /// # Errors
    /// When the store does not do it, or there are more than an attempt can have.
    pub async fn clear(&self, namespace: &str, attempt_uid: &str) -> Result<usize, StoreError> {
        let folder = self.path(&format!("{namespace}/{attempt_uid}"));
        bounded(async {
            let mut listed = self.inner.list(Some(&folder));
            let mut deleted = 0;
            while let Some(object) = listed.try_next().await.map_err(refused)? {
                if deleted == OBJECTS_MAX {
                    return Err(StoreError::TooLarge(folder.to_string()));
                }
                match self.inner.delete(&object.location).await.map_err(failed(&object.location)) {
                    Ok(()) | Err(StoreError::Missing(_)) => deleted += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok(deleted)
        })
        .await
    }

    fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).map(|part| part.as_ref().to_owned()).collect()
    }
}

async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or(Err(StoreError::Timeout(TIMEOUT)))
}

/// Of an object that is put, and of a list, "not found" says that the bucket is not there.
fn refused(error: object_store::Error) -> StoreError {
    StoreError::Failed(Box::new(error))
}

fn failed(path: &Path) -> impl FnOnce(object_store::Error) -> StoreError {
    let path = path.to_string();
    move |error| {
        let is_missing = matches!(error, object_store::Error::NotFound { .. });
        if is_missing { StoreError::Missing(path) } else { refused(error) }
    }
}

#[cfg(test)]
mod tests;
