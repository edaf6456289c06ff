//! One request to the API server, with a bound on its time.

use std::time::Duration;

use super::error::RequestError;

/// How long one request may take. The API server itself gives up after 60 s; a healthy one answers in
/// milliseconds, and a pass that is made again later costs less than one that holds its slot.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for the answer, at most [`TIMEOUT`]. Nothing is repeated here: a pass that failed is made again from
/// its beginning.
pub(super) async fn bounded<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| RequestError::Kube(Box::new(error))),
        Err(_) => Err(RequestError::Timeout(TIMEOUT)),
    }
}
