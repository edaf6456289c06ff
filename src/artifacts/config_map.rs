//! Artifacts in ConfigMaps.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use serde_json::json;

use super::encoding::Encoded;
use crate::api::attempt::ArtifactRef;
use crate::names;

/// Waits between tries. Together 12 s: an API server that is away longer is the caller's matter, who can
/// come again with the same content.
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(5),
];

/// The ConfigMaps of one namespace, as the agent may use them: it has the right `patch` on two that exist,
/// and not `create`.
#[derive(Clone)]
pub struct ConfigMapSink {
    api: Api<ConfigMap>,
}

/// Why an artifact was not kept.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The ConfigMap is not there, or this account has no right on it.
    #[error("the ConfigMap {name} is gone or this agent has lost its right on it: {message}")]
    Refused {
        /// The ConfigMap.
        name: String,
        /// What the API server said.
        message: String,
    },
    /// The API server failed.
    #[error("cannot reach the ConfigMap {name}: {source}")]
    Api {
        /// The ConfigMap.
        name: String,
        /// What went wrong.
        source: kube::Error,
    },
}

impl ConfigMapSink {
    /// The sink of a namespace's ConfigMaps.
    pub fn new(api: Api<ConfigMap>) -> Self {
        Self { api }
    }

    /// Fills the existing ConfigMap `name`. The same content again changes nothing.
    ///
    /// # Errors
    /// [`SinkError::Refused`] at once, [`SinkError::Api`] after about 12 s of tries.
    pub async fn put(&self, name: &str, key: &str, artifact: &Encoded) -> Result<ArtifactRef, SinkError> {
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name },
            "binaryData": { key: STANDARD.encode(&artifact.data) },
        }));
        let params = PatchParams::apply(names::AGENT_MANAGER).force();
        with_retries(name, || self.api.patch(name, &params, &patch)).await?;
        Ok(ArtifactRef {
            config_map_name: name.to_owned(),
            key: key.to_owned(),
            sha256: artifact.sha256.clone(),
            bytes: i64::try_from(artifact.bytes).unwrap_or(i64::MAX),
        })
    }
}

/// The call is idempotent, so whatever may pass is tried again.
async fn with_retries<T, F: Future<Output = kube::Result<T>>>(
    name: &str,
    mut call: impl FnMut() -> F,
) -> Result<T, SinkError> {
    let mut waits = BACKOFF.into_iter();
    loop {
        let source = match call().await {
            Ok(done) => return Ok(done),
            Err(source) => source,
        };
        if let Some(status) = lasting(&source) {
            return Err(SinkError::Refused { name: name.to_owned(), message: status.message.clone() });
        }
        match waits.next() {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(SinkError::Api { name: name.to_owned(), source }),
        }
    }
}

/// An answer that stays the same: everything in 4xx but for conflicts and too many requests.
fn lasting(error: &kube::Error) -> Option<&Status> {
    let kube::Error::Api(status) = error else { return None };
    (matches!(status.code, 400..=499) && !matches!(status.code, 409 | 429)).then_some(status)
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower_test::mock::{self, Handle};

    use super::*;
    use crate::artifacts::encode;

    type Api = Handle<Request<Body>, Response<Body>>;

    fn sink() -> (ConfigMapSink, Api) {
        let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "team");
        (ConfigMapSink::new(kube::Api::default_namespaced(client)), handle)
    }

    fn answer(status: StatusCode, body: &Value) -> Response<Body> {
        Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap()
    }

    fn failure(code: u16, reason: &str) -> Response<Body> {
        let body = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason });
        answer(StatusCode::from_u16(code).unwrap(), &body)
    }

    #[tokio::test]
    async fn filling_is_one_server_side_apply_of_the_data_alone() {
        let (sink, mut api) = sink();
        let artifact = encode(b"the patch").unwrap();
        let scenario = async {
            let (request, send) = api.next_request().await.unwrap();
            assert_eq!(request.method(), Method::PATCH);
            assert_eq!(request.uri().path(), "/api/v1/namespaces/team/configmaps/fix-1-patch");
            assert!(request.uri().query().unwrap().contains("fieldManager=podwright-agent"));
            assert_eq!(request.headers()["content-type"], "application/apply-patch+yaml");
            let body: Value =
                serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            let wanted = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "name": "fix-1-patch" },
                "binaryData": { "patch.zst": STANDARD.encode(&artifact.data) },
            });
            assert_eq!(body, wanted);
            send.send_response(answer(StatusCode::OK, &wanted));
        };
        let (reference, ()) = tokio::join!(sink.put("fix-1-patch", "patch.zst", &artifact), scenario);
        let reference = reference.unwrap();
        assert_eq!((reference.sha256, reference.bytes), (artifact.sha256.clone(), 9));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_stays_is_not() {
        let (sink, mut api) = sink();
        let artifact = encode(b"x").unwrap();
        let scenario = async {
            for code in [503, 409, 429] {
                let (_, send) = api.next_request().await.unwrap();
                send.send_response(failure(code, "Later"));
            }
            let (_, send) = api.next_request().await.unwrap();
            send.send_response(failure(403, "Forbidden"));
        };
        let (result, ()) = tokio::join!(sink.put("fix-1-patch", "patch.zst", &artifact), scenario);
        assert!(matches!(result, Err(SinkError::Refused { .. })), "{result:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn trying_ends() {
        let (sink, mut api) = sink();
        let artifact = encode(b"x").unwrap();
        let scenario = async {
            for _ in 0..=BACKOFF.len() {
                let (_, send) = api.next_request().await.unwrap();
                send.send_response(failure(500, "InternalError"));
            }
        };
        let (result, ()) = tokio::join!(sink.put("fix-1-patch", "patch.zst", &artifact), scenario);
        assert!(matches!(result, Err(SinkError::Api { .. })), "{result:?}");
    }
}
