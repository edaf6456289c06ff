//! An API server that gives set answers.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::cluster::KubeCluster;

/// The cluster of a pod to whose requests `answer` gives code and body, by path and query. Without one there is no
/// answer, ever.
pub(super) fn cluster(answer: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) -> KubeCluster {
    let answer = Arc::new(answer);
    let service = service_fn(move |request: Request<Body>| {
        let answer = answer(&request.uri().to_string());
        async move {
            let Some((code, body)) = answer else { return std::future::pending().await };
            let response = Response::builder().status(code).header("content-type", "application/json");
            Ok::<_, Infallible>(response.body(Body::from(body.to_string().into_bytes())).unwrap())
        }
    });
    KubeCluster::new(Client::new(service, "default"), "default".into(), "pod-1".into())
}

/// The body of a refusal.
pub(super) fn refusal(code: u16) -> (u16, Value) {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code});
    (code, status)
}

/// An attempt.
pub(super) fn attempt(uid: &str) -> Value {
    json!({
        "apiVersion": "podwright.dev/v1alpha1",
        "kind": "AgentAttempt",
        "metadata": {"name": "fix-1", "namespace": "default", "uid": uid, "resourceVersion": "7"},
        "spec": {
            "taskName": "fix",
            "taskUID": "t",
            "index": 1,
            "job": {
                "prompt": "Mend it.",
                "repository": {"name": "app", "url": "https://git.example/app"},
                "environment": {},
                "model": {"providerName": "default", "name": "m", "api": "Responses", "baseURL": "http://model"},
                "limits": {},
                "patchArtifactName": "fix-1-patch",
            },
        },
    })
}
